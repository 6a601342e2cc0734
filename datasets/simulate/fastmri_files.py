"""Simulate complete, fully sampled multi-coil k-space: a stand-in for a published fastMRI volume.

May be called by the command line, benchmarks and tests; writes nothing (`fastmri_write` does). The
published data may not be passed on; files of this kind have its layout and can be.

Model, per slice x (rows, W): y = F(pad(S x exp(i phase))) + n with the maps, phase and noise level
of `simulate_mri`, computed lazily from generators seeded by (seed, slice index). `pad` puts air
above and below the object where the readout is oversampled. Columns outside the measured ones are
zero.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from restore.datasets.mri.cropping import center_crop
from restore.datasets.mri.fastmri_files.fastmri_write import target_image
from restore.datasets.mri.pattern.masks import centre
from restore.datasets.mri.pattern.sampling import Mask
from restore.datasets.mri.scan import MRIScan
from restore.datasets.simulate.coils import birdcage
from restore.datasets.simulate.mri import NOISE_STREAM, phased_slice, volume_peak
from restore.datasets.simulate.source import chosen_slices, volume_affine
from restore.datasets.stack import LazyStack
from restore.datasets.volume.identity import geometry_record
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError

ACQUISITION = "SIMULATED"


def simulate_fastmri(
    volume: Volume,
    *,
    coils: int = 8,
    noise: float = 0.005,
    slices: slice | None = None,
    seed: int = 7,
    oversampling: int = 1,
    columns: int | None = None,
) -> MRIScan:
    """A fully sampled scan of the chosen slices (all by default), computed lazily.

    noise: relative to the maximum of the whole volume, per real channel. oversampling: how many
    times more rows k-space has than the image. columns: how many phase-encode columns around the
    centre are measured; the mask holds just these. The reference is the root sum of squares of the
    noisy, fully sampled k-space, as in the published data; there are no maps. Raises ConfigError
    for settings out of range, InputError for a volume that has no positive finite maximum.
    """
    if not (np.isfinite(noise) and noise >= 0):
        raise ConfigError(f"noise must be a number >= 0, got {noise}")
    rows, width = volume.data.shape[1:]
    if oversampling < 1:
        raise ConfigError(f"oversampling must be a whole number >= 1, got {oversampling}")
    if columns is not None and not 1 <= columns <= width:
        raise ConfigError(f"columns must lie between 1 and the {width} of a slice, got {columns}")
    indices = chosen_slices(volume, slices, seed)
    notes = list(volume.notes)
    std = noise * volume_peak(volume, notes)
    maps = birdcage((rows, width), coils)
    inside = np.zeros(width, bool)
    inside[centre(width, columns or width)] = True

    def acquire(position: int) -> NDArray[Any]:
        images = maps * phased_slice(volume, indices[position], seed)
        rng = np.random.default_rng([seed, NOISE_STREAM, indices[position]])
        return _measure(images, rows * oversampling, inside, std, rng)

    shape = (len(indices), coils, rows * oversampling, width)
    return MRIScan(
        path=Path("simulated"),
        kspace=LazyStack(shape, acquire),
        mask=inside,
        slice_indices=tuple(indices),
        recon_shape=(rows, width),
        noise_std=std,
        affine=volume_affine(volume, indices),
        reference=LazyStack(
            (len(indices), rows, width), lambda i: target_image(acquire(i), (rows, width))
        ),
        source=geometry_record(volume),
        settings={
            "acquisition": ACQUISITION,
            "coils": coils,
            "noise": noise,
            "seed": seed,
            "oversampling": oversampling,
            "columns": columns or width,
        },
        notes=notes,
    )


def _measure(
    images: NDArray[Any], height: int, inside: Mask, std: float, rng: np.random.Generator
) -> NDArray[np.complex64]:
    """One slice of k-space (coils, height, W) of coil images (coils, rows, W)."""
    padded = np.zeros((len(images), height, images.shape[-1]), images.dtype)
    center_crop(padded, images.shape[-2:])[:] = images
    axes = (-2, -1)
    spectrum = fft.fft2(fft.ifftshift(padded, axes=axes), norm="ortho")
    noise = rng.normal(scale=std, size=(2, *padded.shape)) if std else np.zeros((2, 1, 1, 1))
    kspace = fft.fftshift(spectrum, axes=axes) + noise[0] + 1j * noise[1]
    return np.where(inside, kspace, 0).astype(np.complex64)
