"""Simulate a multi-coil Cartesian MRI acquisition of a volume.

May be called by the command line, benchmarks and tests; writes only what it is asked to write. The
scan is computed slice by slice when it is read, from generators seeded by (seed, slice index of the
source): a slice comes out the same whatever other slices are chosen.

Model, per slice x (H, W) in the units of the source: y = mask (F(S x exp(i phase)) + n), F the
centred orthonormal 2-D FFT, S birdcage maps with sum |S|^2 = 1, n complex Gaussian with the
standard deviation `noise` times the maximum of the whole volume in its real and in its imaginary
part.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from restore.datasets.mri.pattern.masks import make_mask
from restore.datasets.mri.pattern.sampling import Mask
from restore.datasets.mri.scan import MRIScan
from restore.datasets.simulate.coils import birdcage, smooth_phase
from restore.datasets.simulate.source import chosen_slices, volume_affine
from restore.datasets.stack import LazyStack
from restore.datasets.volume.identity import geometry_record
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError

PHASE_STREAM, NOISE_STREAM = 1, 2
"""Which random stream of a seed: the image phase (one for the volume), the noise (one a slice)."""


def simulate_mri(
    volume: Volume,
    *,
    coils: int = 8,
    acceleration: float = 4,
    center_fraction: float = 0.08,
    mask: str = "random",
    noise: float = 0.005,
    slices: slice | None = None,
    seed: int = 7,
) -> MRIScan:
    """A simulated scan of the chosen slices (all by default), computed lazily.

    noise: relative to the maximum of the whole volume, per real channel. mask: a name in
    `masks.MASKS`. The reference is the source itself. Raises ConfigError for settings out of range,
    InputError for a volume that has no positive finite maximum.
    """
    if not (np.isfinite(noise) and noise >= 0):
        raise ConfigError(f"noise must be a number >= 0, got {noise}")
    height, width = volume.data.shape[1:]
    indices = chosen_slices(volume, slices, seed)
    notes = list(volume.notes)
    std = noise * volume_peak(volume, notes)
    pattern = make_mask(mask, (height, width), acceleration, center_fraction, seed)
    maps = birdcage((height, width), coils)

    def acquire(position: int) -> NDArray[Any]:
        index = indices[position]
        rng = np.random.default_rng([seed, NOISE_STREAM, index])
        return _measure(phased_slice(volume, index, seed), maps, pattern, std, rng)

    return MRIScan(
        path=Path("simulated"),
        kspace=LazyStack((len(indices), coils, height, width), acquire),
        mask=pattern,
        slice_indices=tuple(indices),
        recon_shape=(height, width),
        noise_std=std,
        maps=LazyStack((len(indices), *maps.shape), lambda _: maps),
        affine=volume_affine(volume, indices),
        reference=LazyStack(
            (len(indices), height, width), lambda i: volume.data[indices[i]].astype(np.float32)
        ),
        source=geometry_record(volume),
        settings={
            "acquisition": "SIMULATED",
            "coils": coils,
            "acceleration": acceleration,
            "center_fraction": center_fraction,
            "mask": mask,
            "noise": noise,
            "seed": seed,
        },
        notes=notes,
    )


def phased_slice(volume: Volume, index: int, seed: int) -> NDArray[Any]:
    """Slice `index` times the smooth phase of the seed, complex (H, W)."""
    depth, height, width = volume.data.shape
    rng = np.random.default_rng([seed, PHASE_STREAM])
    phase = smooth_phase((height, width), index / max(depth - 1, 1), rng)
    return np.asarray(volume.data[index] * np.exp(1j * phase))


def _measure(
    image: NDArray[Any],
    maps: NDArray[np.complex64],
    mask: Mask,
    std: float,
    rng: np.random.Generator,
) -> NDArray[np.complex64]:
    """One slice of k-space (coils, H, W); the noise is drawn for all samples, whatever the mask."""
    axes = (-2, -1)
    spectrum = fft.fft2(fft.ifftshift(maps * image, axes=axes), norm="ortho")
    noise = rng.normal(scale=std, size=(2, *maps.shape)) if std else np.zeros((2, 1, 1, 1))
    kspace = fft.fftshift(spectrum, axes=axes) + noise[0] + 1j * noise[1]
    return np.where(mask, kspace, 0).astype(np.complex64)


def volume_peak(volume: Volume, notes: list[str]) -> float:
    """The maximum of the volume; negative intensities are kept and noted.

    Raises InputError unless it is finite and above zero.
    """
    low, peak = float(np.min(volume.data)), float(np.max(volume.data))
    if not (np.isfinite(low) and np.isfinite(peak) and peak > 0):
        raise InputError(
            volume.source or "volume",
            f"intensities from {low:g} to {peak:g} cannot be simulated",
            "an MR volume needs finite values and a maximum above zero",
        )
    if low < 0:
        count = int(np.count_nonzero(volume.data < 0))
        notes.append(f"{count} voxels are negative (down to {low:g}): kept, sign becomes phase")
    return peak
