"""Simulate a multi-coil MRI acquisition of a volume along a trajectory.

May be called by the command line, benchmarks and tests; writes only what it is asked to write. The model is that of
`simulate.mri` with samples at the points of the trajectory: y = F(S x exp(i phase)) + n, slice by slice, or of the
whole volume where the trajectory has three dimensions. Slices are computed when they are read, from generators
seeded by (seed, slice index of the source).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.datasets.mri.files.given_points import checked_points
from restore.datasets.mri.noncartesian import NonCartesianScan
from restore.datasets.simulate.coils import birdcage
from restore.datasets.simulate.mri import NOISE_STREAM, phased_slice, volume_peak
from restore.datasets.simulate.source import chosen_slices, volume_affine
from restore.datasets.stack import LazyStack
from restore.datasets.volume.identity import geometry_record
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.operators.mri.nonuniform import nufft, require_finufft
from restore.operators.mri.trajectories import (
    Points,
    Trajectory,
    cones,
    radial,
    spiral,
    stack_of_stars,
)

OVERSAMPLING = 2
"""Samples of a readout over the pixels of the longer axis."""

KINDS = ("radial", "spiral", "stars", "cones")
"""What can be made by a number: spokes, interleaves, spokes of each partition, readouts."""


def simulate_noncartesian(
    volume: Volume,
    trajectory: str,
    *,
    coils: int = 8,
    noise: float = 0.005,
    slices: slice | None = None,
    seed: int = 7,
) -> NonCartesianScan:
    """A simulated scan of the chosen slices (all by default), computed lazily.

    trajectory: "radial:64" and so on (see `made_points`), or a file of points. noise: relative to the maximum of
    the whole volume, per real channel. Raises ConfigError for settings out of range or no finufft, InputError for a
    volume that has no positive finite maximum and for a file of other points.
    """
    if not (np.isfinite(noise) and noise >= 0):
        raise ConfigError(f"noise must be a number >= 0, got {noise}")
    require_finufft()
    indices, notes = chosen_slices(volume, slices, seed), list(volume.notes)
    affine = volume_affine(volume, indices)
    height, width = volume.data.shape[1:]
    pixel_mm = float(np.linalg.norm(affine[:3, 0]))
    points = made_points(trajectory, (len(indices), height, width), pixel_mm, notes)
    whole = points.shape[-1] == 3
    matrix = (len(indices), height, width) if whole else (height, width)
    std = noise * volume_peak(volume, notes)
    maps = birdcage((height, width), coils)
    acquire = _acquisition(volume, indices, maps, Trajectory(points), whole, std, seed)
    items = 1 if whole else len(indices)
    item_maps = np.repeat(maps[:, None], len(indices), axis=1) if whole else maps
    return NonCartesianScan(
        path=Path("simulated"),
        kspace=LazyStack((items, coils, *points.shape[:2]), acquire),
        points=points,
        matrix=matrix,
        recon_shape=(height, width),
        slice_indices=tuple(indices),
        noise_std=std,
        maps=LazyStack((items, *item_maps.shape), lambda _: item_maps),
        affine=affine,
        reference=LazyStack(
            (len(indices), height, width), lambda i: volume.data[indices[i]].astype(np.float32)
        ),
        source=geometry_record(volume),
        settings={
            "acquisition": "SIMULATED", "coils": coils, "trajectory": Path(trajectory).name,
            "noise": noise, "seed": seed,
        },
        notes=notes,
    )  # fmt: skip


def made_points(
    trajectory: str, shape: tuple[int, int, int], pixel_mm: float, notes: list[str]
) -> Points:
    """Points (readouts, samples, 2 or 3) by a kind and a number, or from a file.

    "radial:N" N golden-angle spokes through the centre; "spiral:N" interleaves, by the gradients that `spiral` has;
    "stars:N" a stack of N golden-angle spokes; "cones:N" readouts. Anything else is a .npy file of real numbers.
    shape: (slices, rows, columns). Raises ConfigError, InputError, NotFoundError.
    """
    kind, colon, number = trajectory.partition(":")
    if kind not in KINDS or not colon:
        return _points_of(Path(trajectory), shape, notes)
    if not number.isdecimal() or int(number) < 1:
        raise ConfigError(
            f"trajectory {trajectory!r}: expected a number of readouts, such as {kind}:64"
        )
    count, samples = int(number), OVERSAMPLING * max(shape[1:])
    if kind == "radial":
        return radial(count, samples, shape[1:], full=True)
    if kind == "stars":
        return stack_of_stars(count, samples, shape)
    if kind == "cones":
        return cones(count, samples, shape)
    size = max(shape[1:])
    points = spiral(count, size, size * pixel_mm)
    return points * (np.array(shape[1:]) / size)


def _points_of(path: Path, shape: tuple[int, int, int], notes: list[str]) -> Points:
    """The array of a file, as it is. Raises ConfigError, InputError."""
    if not path.exists():
        raise ConfigError(
            f"trajectory {str(path)!r} is no file, and none of {', '.join(f'{k}:N' for k in KINDS)}"
        )
    try:
        points = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as cause:
        raise InputError(
            path, f"cannot be read as a .npy array ({cause})", "save the points by numpy.save"
        ) from cause
    if (
        not isinstance(points, np.ndarray)
        or points.dtype.kind not in "fiu"
        or points.ndim not in (2, 3)
    ):
        found = getattr(points, "shape", type(points).__name__)
        raise InputError(
            path, f"holds {found}", "expected real points (readouts, samples, 2 or 3), in cycles per field of view"
        )  # fmt: skip
    points = points.astype(np.float64).reshape(-1, *points.shape[-2:])
    matrix = shape if points.shape[-1] == 3 else shape[1:]
    return checked_points(points, points.shape[:2], matrix, path, notes)


def _acquisition(
    volume: Volume, indices: range, maps: NDArray[np.complex64], trajectory: Trajectory, whole: bool,
    std: float, seed: int,
) -> Callable[[int], NDArray[Any]]:  # fmt: skip
    """Measures item i, (coils, readouts, samples)."""

    def acquire(position: int) -> NDArray[Any]:
        if whole:
            image = np.stack([phased_slice(volume, i, seed) for i in indices])
            coils, index = maps[:, None] * image, indices[0]
        else:
            index = indices[position]
            coils = maps * phased_slice(volume, index, seed)
        rng = np.random.default_rng([seed, NOISE_STREAM, index])
        clean = nufft(torch.from_numpy(coils.astype(np.complex128)), trajectory, trajectory.ndim)
        noise = rng.normal(scale=std, size=(2, *clean.shape)) if std else np.zeros((2, 1, 1, 1))
        return (clean.numpy() + noise[0] + 1j * noise[1]).astype(np.complex64)

    return acquire
