"""Simulate a parallel-beam CT acquisition of a volume in HU.

May be called by the command line, benchmarks and tests; writes nothing. The scan is computed slice
by slice when it is read, the counts from generators seeded by (seed, slice index of the source): a
slice comes out the same whatever other slices are chosen.

Against an inverse crime the object is resampled linearly to pixels of half the size and the
detector to bins of half the width; a measured bin averages its two halves in intensity, exp(-l), as
a real one does. Counts are Poisson with the mean photons * exp(-l), and the stored line integral is
-log(max(counts, 0.5) / photons): a ray without any count is taken as half a count, so that its
logarithm exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom

from restore.datasets.ct.scan import CTScan
from restore.datasets.simulate.source import chosen_slices, volume_affine
from restore.datasets.stack import LazyStack
from restore.datasets.volume.identity import geometry_record
from restore.datasets.volume.padding import padding_of
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.operators.ct.geometry import AIR_HU, MU_WATER_PER_MM, ParallelBeam, hu_to_mu
from restore.operators.ct.parallel_beam import ParallelBeamCT

FINER = 2
BORDER = 1  # pixels of air around: the object fades to it linearly, as the projector's interpolation does
"""How many times finer the simulated object and detector are."""

MIN_COUNTS = 0.5
MAX_PHOTONS = 1e15
LONGEST_ARC = 3600.0
"""Degrees: ten turns."""
LOWEST_TOP_HU = 200.0
"""A volume of a patient in HU has bone above this; one below is probably in other units."""

HIGHEST_BOTTOM_HU = -200.0
"""Nor is there a slice without air or fat; values without any were probably shifted, such as by 1024."""


def simulate_ct(
    volume: Volume,
    *,
    views: int = 60,
    arc: float = 180.0,
    photons: float = 1e5,
    slices: slice | None = None,
    seed: int = 7,
    mu_water: float = MU_WATER_PER_MM,
) -> CTScan:
    """A simulated scan of the chosen slices (all by default), computed lazily.

    views: equally spaced over `arc` degrees, its end left out. photons: unattenuated counts per
    ray. Values below -1000 HU and padding outside the field of view count as air. The reference is
    the source, in HU. Raises ConfigError for settings out of range, InputError for values that are
    not finite.
    """
    check_settings(arc, photons)
    height, width = volume.data.shape[1:]
    indices = chosen_slices(volume, slices, seed)
    notes = [*volume.notes, *remarks(volume)]
    affine = volume_affine(volume, indices)
    across, down = (float(length) for length in np.linalg.norm(affine[:3, :2], axis=0))
    geometry = ParallelBeam.covering(
        shape=(height, width), views=views, pixel_mm=(down, across), arc_deg=arc
    )
    project = fine_projector(geometry)

    padding = padding_of(volume)

    def acquire(position: int) -> NDArray[Any]:
        index = indices[position]
        intensity = project(attenuation(volume, padding, index, mu_water))
        return counted(intensity, photons, [seed, index])

    return made_scan(
        volume, indices, geometry, acquire, photons=photons, mu_water=mu_water,
        reference=LazyStack(
            (len(indices), height, width), lambda i: volume.data[indices[i]].astype(np.float32)
        ),
        settings={"views": views, "arc": arc, "photons": float(photons), "seed": seed}, notes=notes,
    )  # fmt: skip


def made_scan(
    volume: Volume,
    indices: range,
    geometry: ParallelBeam,
    acquire: Callable[[int], NDArray[Any]],
    *,
    photons: float,
    mu_water: float,
    settings: dict[str, Any],
    notes: list[str],
    reference: LazyStack | None = None,
) -> CTScan:
    """A scan of chosen slices by parallel rays. acquire: line integrals of the n-th of them, (views, detectors)."""
    return CTScan(
        path=Path("simulated"),
        sinogram=LazyStack((len(indices), *geometry.sinogram_shape), acquire),
        geometry=geometry,
        mu_water=mu_water,
        slice_indices=tuple(indices),
        photons=float(photons),
        noise_std=float(photons) ** -0.5,
        affine=volume_affine(volume, indices),
        reference=reference,
        source=geometry_record(volume),
        settings=settings,
        notes=notes,
    )


def check_settings(arc: float, photons: float) -> None:
    """Raises ConfigError for an arc in degrees and counts a ray that no scan has."""
    if not 0 < photons <= MAX_PHOTONS:
        raise ConfigError(f"photons must lie above 0 and at most {MAX_PHOTONS:g}, got {photons}")
    if not 0 < abs(arc) <= LONGEST_ARC:
        raise ConfigError(
            f"the arc must be degrees other than 0, at most {LONGEST_ARC:g}, got {arc}"
        )


def attenuation(
    volume: Volume, padding: NDArray[np.bool_] | None, index: int, mu_water: float
) -> NDArray[np.float64]:
    """One slice (rows, columns) in 1/mm; below air and padded voxels are air. padding: `padding_of` the volume."""
    hu = np.maximum(volume.data[index].astype(np.float64), AIR_HU)
    if padding is not None:
        hu[padding[index]] = AIR_HU  # some pad with a number above all tissue
    return hu_to_mu(hu, mu_water)


def counted(
    intensity: NDArray[np.float64], photons: float, seed: Sequence[int]
) -> NDArray[np.float32]:
    """Line integrals as they are measured: Poisson counts with the mean photons x intensity, and their logarithm.

    intensity: the transmitted fraction, any shape.
    """
    counts = np.random.default_rng(seed).poisson(photons * intensity)
    return -np.log(np.maximum(counts, MIN_COUNTS) / photons).astype(np.float32)


def finer(geometry: ParallelBeam) -> ParallelBeam:
    """The same scan with pixels and detector bins divided by `FINER`, and `BORDER` pixels more around."""
    down, across = geometry.pixel_mm
    rows, columns = geometry.shape
    return ParallelBeam(
        geometry.angles,
        n_det=FINER * geometry.n_det,
        det_spacing_mm=geometry.det_spacing_mm / FINER,
        shape=(FINER * (rows + 2 * BORDER), FINER * (columns + 2 * BORDER)),
        pixel_mm=(down / FINER, across / FINER),
        det_offset_mm=geometry.det_offset_mm,
    )


def fine_projector(
    geometry: ParallelBeam,
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """mu (H, W) in 1/mm -> mean transmitted fraction (views, detectors) of each measured bin."""
    operator = ParallelBeamCT(finer(geometry))

    def project(mu: NDArray[np.float64]) -> NDArray[np.float64]:
        fine = zoom(np.pad(mu, BORDER), FINER, order=1, mode="nearest", grid_mode=True)
        lines = operator(torch.from_numpy(fine.astype(np.float32))).numpy().astype(np.float64)
        return np.exp(-lines).reshape(geometry.views, geometry.n_det, FINER).mean(axis=-1)

    return project


def remarks(volume: Volume) -> list[str]:
    """What looks odd about the volume as HU. Raises InputError for values that are not finite."""
    bad = int(np.count_nonzero(~np.isfinite(volume.data)))
    if bad:
        raise InputError(volume.source or "volume", f"{bad} voxels are NaN or infinite")
    notes = []
    below = int(np.count_nonzero(volume.data < AIR_HU))
    if below:
        notes.append(f"{below} voxels below {AIR_HU:g} HU are taken as air ({AIR_HU:g} HU)")
    top, bottom = float(np.max(volume.data)), float(np.min(volume.data))
    odd = top < LOWEST_TOP_HU or bottom > HIGHEST_BOTTOM_HU
    if volume.modality not in ("CT", "", None) or odd:
        found = f"modality {volume.modality or 'unknown'}, values {bottom:g} to {top:g}"
        notes.append(
            f"the volume may not be in HU ({found}; air is -1000, bone above 200): taken as HU"
        )
    return notes
