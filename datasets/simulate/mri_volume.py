"""Simulate a multi-coil Cartesian MRI acquisition of a volume that is undersampled along both phase encodings.

May be called by the command line, benchmarks and tests; writes only what it is asked to write. The model is that of
`simulate.mri` with a transform along three axes and maps that change along z: y = mask (F(S x exp(i phase)) + n).
K-space is computed when the first partition is read; its noise is drawn partition by partition.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.pattern.volume_masks import volume_mask
from restore.datasets.simulate.coils import two_rings
from restore.datasets.simulate.mri import NOISE_STREAM, phased_slice, volume_peak
from restore.datasets.simulate.source import chosen_slices, volume_affine
from restore.datasets.stack import LazyStack
from restore.datasets.volume.identity import geometry_record
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError


def simulate_mri_volume(
    volume: Volume,
    *,
    coils: int = 8,
    acceleration: float = 4,
    center_fraction: float = 0.2,
    mask: str = "poisson2d",
    noise: float = 0.005,
    slices: slice | None = None,
    seed: int = 7,
) -> CartesianVolumeScan:
    """A simulated scan of the chosen slices (all by default) as one volume, computed lazily.

    mask: of `volume_masks.volume_mask`. noise: relative to the maximum of the whole volume, per real channel. The
    reference is the source itself. Raises ConfigError for settings out of range, InputError for a volume that has no
    positive finite maximum.
    """
    if not (np.isfinite(noise) and noise >= 0):
        raise ConfigError(f"noise must be a number >= 0, got {noise}")
    height, width = volume.data.shape[1:]
    indices, notes = chosen_slices(volume, slices, seed), list(volume.notes)
    depth = len(indices)
    std = noise * volume_peak(volume, notes)
    plane = volume_mask(mask, (depth, width), acceleration, center_fraction, seed)
    maps = two_rings((depth, height, width), coils)
    acquire = _acquisition(volume, indices, maps, plane, std, seed)
    return CartesianVolumeScan(
        path=Path("simulated"),
        partitions=LazyStack((depth, coils, height, width), acquire),
        mask=plane[:, None, :],
        recon_shape=(height, width),
        slice_indices=tuple(indices),
        noise_std=std,
        slice_maps=LazyStack((depth, coils, height, width), lambda i: maps[:, i]),
        affine=volume_affine(volume, indices),
        reference=LazyStack(
            (depth, height, width), lambda i: volume.data[indices[i]].astype(np.float32)
        ),
        source=geometry_record(volume),
        settings={
            "acquisition": "SIMULATED", "encoding": "3d", "coils": coils, "acceleration": acceleration,
            "center_fraction": center_fraction, "mask": mask, "noise": noise, "seed": seed,
        },
        notes=notes,
    )  # fmt: skip


def _acquisition(
    volume: Volume, indices: range, maps: NDArray[np.complex64], plane: NDArray[np.bool_], std: float, seed: int
) -> Callable[[int], NDArray[Any]]:  # fmt: skip
    """Measures partition i, (coils, H, W)."""

    @lru_cache(maxsize=1)
    def spectrum() -> NDArray[Any]:
        image = np.stack([phased_slice(volume, i, seed) for i in indices])
        axes = (-3, -2, -1)
        coils = [
            fft.fftn(fft.ifftshift(one * image), norm="ortho").astype(np.complex64) for one in maps
        ]
        return np.asarray(fft.fftshift(np.stack(coils), axes=axes))

    def acquire(position: int) -> NDArray[Any]:
        rng = np.random.default_rng([seed, NOISE_STREAM, indices[position]])
        clean = spectrum()[:, position]
        noise = rng.normal(scale=std, size=(2, *clean.shape)) if std else np.zeros((2, 1, 1, 1))
        return np.where(plane[position], clean + noise[0] + 1j * noise[1], 0).astype(np.complex64)

    return acquire
