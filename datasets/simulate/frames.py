"""Simulate scans over time: a volume that beats and breathes, or the frames of a series, a few readouts or views each.

May be called by the command line, benchmarks and tests; writes nothing. The models are those of `simulate.noncartesian`
and `simulate.ct`, frame by frame; spokes and views follow each other by the golden angle, over all frames, so that any
number of neighbouring frames covers all directions about evenly. A slice comes out the same whatever others are chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.datasets.mri.noncartesian import NonCartesianScan
from restore.datasets.over_time import DEFAULT_S, FRAME_S, FRAMES, SeriesScan, series_of
from restore.datasets.simulate.coils import birdcage, smooth_phase
from restore.datasets.simulate.ct import (
    attenuation,
    check_settings,
    counted,
    fine_projector,
    made_scan,
    remarks,
)
from restore.datasets.simulate.frame_readouts import Lines, readouts_of_frames
from restore.datasets.simulate.motion import Motion
from restore.datasets.simulate.mri import NOISE_STREAM, PHASE_STREAM, volume_peak
from restore.datasets.simulate.source import chosen_slices, volume_affine
from restore.datasets.stack import LazyStack
from restore.datasets.volume.identity import geometry_record
from restore.datasets.volume.padding import padding_of
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError
from restore.operators.ct.geometry import MU_WATER_PER_MM, ParallelBeam, mu_to_hu
from restore.operators.mri.nonuniform import nufft, require_finufft
from restore.operators.mri.trajectories import Trajectory

GOLDEN_RAD = np.pi * (np.sqrt(5) - 1) / 2
"""From a view to the next."""

MOST_FRAMES = 10_000


@dataclasses.dataclass(frozen=True, eq=False)
class Moving:
    """What is measured: frames of a volume in motion, or of a series as it is.

    volume: of one frame, or of the series. frame_s: from a frame to the next, in seconds.
    """

    volume: Volume
    frames: int
    frame_s: float
    motion: Motion | None

    @classmethod
    def of(cls, volume: Volume, frames: int, frame_s: float | None, seed: int) -> Moving:
        """frame_s: by default the series' own, else `DEFAULT_S`. Raises ConfigError for fewer than two frames, more
        than a series has, or a time that is none."""
        known = volume.frames if volume.frames > 1 else MOST_FRAMES
        if not 2 <= frames <= known:
            raise ConfigError(
                f"{frames} frames: two at least, and at most {known}"
                + (f", as {volume.source or 'the series'} has" if volume.frames > 1 else "")
            )
        seconds = frame_s or volume.frame_s or DEFAULT_S
        if not (np.isfinite(seconds) and seconds > 0):
            raise ConfigError(f"a frame of {seconds} s; expected a time above 0")
        motion = None if volume.frames > 1 else Motion.of_seed(seed)
        return cls(volume, frames, float(seconds), motion)

    @property
    def first(self) -> Volume:
        """The volume of one frame: its place, and at rest what is moved."""
        return self.volume.frame(0)

    def frame(
        self, still: Callable[[int], NDArray[np.float64]], index: int, t: int
    ) -> NDArray[np.float64]:
        """Slice `index` at frame t. still: a slice of `volume`, by its place along z, in what is measured of it."""
        if self.motion is None:
            return still(t * self.first.n_slices + index)
        return self.motion.moved(still(index), t * self.frame_s)

    @property
    def settings(self) -> dict[str, Any]:
        """For the record of a scan."""
        told: dict[str, Any] = {FRAMES: self.frames, FRAME_S: self.frame_s}
        return told if self.motion is None else told | {"motion": dataclasses.asdict(self.motion)}


def simulate_mri_frames(
    volume: Volume,
    frames: int,
    trajectory: str | Lines = "radial:8",
    *,
    frame_s: float | None = None,
    coils: int = 8,
    noise: float = 0.005,
    slices: slice | None = None,
    seed: int = 7,
) -> SeriesScan:
    """Frames of k-space along spokes or Cartesian lines, computed lazily.

    volume: one that is set in motion (`Motion.of_seed`), or a series over time. trajectory: "radial:N" for N
    golden-angle spokes a frame, lines of the grid, or a file of all readouts' points in the order of
    time. noise: relative to the maximum of the volume, per real channel. Raises ConfigError for settings out of range,
    other trajectories or no finufft, InputError for a volume that has no positive finite maximum and for a file of
    other points.
    """
    if not (np.isfinite(noise) and noise >= 0):
        raise ConfigError(f"noise must be a number >= 0, got {noise}")
    require_finufft()
    moving = Moving.of(volume, frames, frame_s, seed)
    first, notes = moving.first, list(volume.notes)
    indices = chosen_slices(first, slices, seed)
    height, width = first.data.shape[1:]
    sizes = len(indices), height, width
    points, told = readouts_of_frames(trajectory, frames, sizes, seed, notes)
    std = noise * volume_peak(volume, notes)
    maps = birdcage((height, width), coils)

    def truth(index: int, t: int) -> NDArray[np.float64]:
        return moving.frame(lambda z: volume.data[z].astype(np.float64), index, t)

    runs = [Trajectory(part) for part in np.split(points, frames)]

    def acquire(position: int) -> NDArray[Any]:
        index = indices[position]
        rng = np.random.default_rng([seed, PHASE_STREAM])
        phase = smooth_phase((height, width), index / max(first.n_slices - 1, 1), rng)
        seen = maps * np.exp(1j * phase)
        parts = [
            nufft(torch.from_numpy((seen * truth(index, t)).astype(np.complex128)), run, 2).numpy()
            for t, run in enumerate(runs)
        ]
        clean = np.concatenate(parts, axis=1)
        draw = np.random.default_rng([seed, NOISE_STREAM, index])
        n = draw.normal(scale=std, size=(2, *clean.shape)) if std else np.zeros((2, 1, 1, 1))
        return (clean + n[0] + 1j * n[1]).astype(np.complex64)

    measured = NonCartesianScan(
        path=Path("simulated"),
        kspace=LazyStack((len(indices), coils, *points.shape[:2]), acquire),
        points=points,
        matrix=(height, width),
        recon_shape=(height, width),
        slice_indices=tuple(indices),
        noise_std=std,
        maps=LazyStack((len(indices), *maps.shape), lambda _: maps),
        affine=volume_affine(first, indices),
        source=geometry_record(volume),
        settings={
            "acquisition": "SIMULATED", "coils": coils, **told, "noise": noise,
            "seed": seed, **moving.settings,
        },
        notes=notes,
    )  # fmt: skip
    reference = _reference(truth, indices, frames, (height, width))
    return series_of(measured, frames, moving.frame_s, reference)


def simulate_ct_frames(
    volume: Volume,
    frames: int,
    *,
    frame_s: float | None = None,
    views: int = 6,
    photons: float = 1e5,
    slices: slice | None = None,
    seed: int = 7,
    mu_water: float = MU_WATER_PER_MM,
) -> SeriesScan:
    """Frames of parallel views, computed lazily.

    volume: in HU, set in motion (`Motion.of_seed`), or a series over time. views: of a frame, each turned by the golden
    angle from the one before. photons: unattenuated counts a ray. Values below -1000 HU and padding count as air.
    Raises ConfigError for settings out of range, InputError for values that are not finite.
    """
    check_settings(180.0, photons)
    moving = Moving.of(volume, frames, frame_s, seed)
    first, notes = moving.first, [*volume.notes, *remarks(volume)]
    indices = chosen_slices(first, slices, seed)
    height, width = first.data.shape[1:]
    affine = volume_affine(first, indices)
    across, down = (float(length) for length in np.linalg.norm(affine[:3, :2], axis=0))
    even = ParallelBeam.covering(
        shape=(height, width), views=views * frames, pixel_mm=(down, across)
    )
    angles = np.mod(np.arange(views * frames) * GOLDEN_RAD, np.pi)
    geometry = dataclasses.replace(even, angles=tuple(angles.tolist()))
    padding = padding_of(volume)

    def truth(index: int, t: int) -> NDArray[np.float64]:
        return moving.frame(lambda z: attenuation(volume, padding, z, mu_water), index, t)

    parts = [tuple(part.tolist()) for part in np.split(angles, frames)]

    def acquire(position: int) -> NDArray[Any]:
        index = indices[position]
        seen = [
            fine_projector(dataclasses.replace(geometry, angles=part))(truth(index, t))
            for t, part in enumerate(parts)
        ]
        return counted(np.concatenate(seen), photons, [seed, index])

    measured = made_scan(
        volume, indices, geometry, acquire, photons=photons, mu_water=mu_water,
        settings={"views": views, "photons": float(photons), "seed": seed, **moving.settings},
        notes=notes,
    )  # fmt: skip
    reference = _reference(
        lambda index, t: mu_to_hu(truth(index, t), mu_water), indices, frames, (height, width)
    )
    return series_of(measured, frames, moving.frame_s, reference)


def _reference(
    truth: Callable[[int, int], NDArray[np.float64]], indices: range, frames: int, shape: tuple[int, int]
) -> LazyStack:  # fmt: skip
    """The frames as they were, items as `SeriesScan` has them."""
    count = len(indices)
    return LazyStack(
        (frames * count, *shape),
        lambda item: truth(indices[item % count], item // count).astype(np.float32),
    )
