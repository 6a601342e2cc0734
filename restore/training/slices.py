"""Which slices of a volume or a scan are worth training on, with intensities in [0, 1], and what was left out and why.

Called by `restore.training.sources`. Reads through `restore.datasets`; keeps half precision, which is enough for images
that get noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from restore.datasets.mri.cropping import center_crop
from restore.datasets.mri.scan import MRIScan
from restore.datasets.open import open_scan, read
from restore.datasets.scan import Scan
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.scaling import CT_MINIMUM_HU, CT_WINDOW_HU, PEAK_RULE, WINDOW_RULE

COMPLEX = 2
"""Channels of complex images: re and im."""
CONTENT, AIR = 0.1, 0.05
"""A slice is used where this share of its pixels is brighter than this share of the volume's brightness."""
ANISOTROPIC = 1.6
"""Times that voxels may be longer than wide in the plane of a slice."""


@dataclasses.dataclass(frozen=True)
class Slices:
    """Slices of one file: images (channels, H, W) float16, in [0, 1] by `scaling`, and what became of the others.

    modality: "MR" or "CT". scaling: the rule in words, as on a card. left_out: numbers of slices by reason. notes: what
    was assumed about the file.
    """

    images: tuple[NDArray[np.float16], ...]
    modality: str
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def scaling(self) -> str:
        """The rule by which intensities became [0, 1]."""
        return WINDOW_RULE if self.modality == "CT" else PEAK_RULE


def slices_of(path: Path, channels: int, modality: str = "") -> Slices:
    """The slices of a volume file, of the folder of a DICOM series, or of an HDF5 scan.

    channels: 1, or 2 for complex images: those of complex volumes and of k-space have re and im, real ones keep one
    channel. modality: "MR" or "CT" of a NIfTI file, which does not say. Raises InputError, NotFoundError, ConfigError.
    """
    if path.suffix.lower() in (".h5", ".hdf5"):
        scan = open_scan(path)
        if channels == COMPLEX and isinstance(scan, MRIScan):
            return _combined(scan)
        volume = _as_images(scan)
    else:
        volume = read(path) if path.is_dir() else read(path, modality=modality)
    notes: tuple[str, ...] = ()
    if not volume.modality and volume.data.real.min() <= CT_MINIMUM_HU:
        volume = dataclasses.replace(volume, modality="CT")
        notes = (
            f"reaches {volume.data.real.min():.0f}: taken for CT in HU (PATH:SHARE:mr if not)",
        )
    if channels == COMPLEX and volume.modality == "CT":
        raise ConfigError(
            f"{path}: CT, whose images are real, and complex ones are to be learnt; for CT train a denoiser of real "
            "images"
        )
    return _of_volume(path, volume, channels, notes)


def _as_images(scan: Scan) -> Volume:
    """The slices of a scan as seen without a reconstruction: the reference, else the root sum of squares."""
    if isinstance(scan, MRIScan) and scan.reference is None:
        _require_whole(scan)
    data = np.stack([scan.image_of(i) for i in range(scan.n_slices)])
    # Slices of a scan are trained on in their own plane only: a tall voxel keeps the other planes out.
    return Volume(data, np.diag([1.0, 1.0, 1e3, 1.0]), scan.modality)


def _require_whole(scan: MRIScan) -> None:
    """Refuse k-space with holes, whose images are aliased. Zeros around the measured samples only soften an image."""
    for mask in scan.mask if scan.mask.ndim == 3 else [scan.mask]:
        there = np.argwhere(np.atleast_2d(mask))
        box = tuple(
            slice(low, high + 1) for low, high in zip(there.min(0), there.max(0), strict=True)
        )
        share = float(np.atleast_2d(mask)[box].mean())
        if share < 1:
            raise InputError(
                scan.path,
                f"{share:.0%} of the samples of its k-space were measured: the images are aliased, and a prior would "
                "learn that",
                "train on fully sampled scans, or on volumes reconstructed from this one",
            )


def _combined(scan: MRIScan) -> Slices:
    """Complex images of fully sampled k-space: its coils combined by their maps, as `restore recon` sees an image.

    Intensity scale, maps and the phase that goes into them are those of a reconstruction.
    """
    _require_whole(scan)
    setup = scan.setup()
    images, empty = [], 0
    for i in range(scan.n_slices):
        problem = setup.problem(range(i, i + 1), torch.device("cpu"))
        image = center_crop(problem.linear.adjoint(problem.unit_y)[0].numpy(), scan.recon_shape)
        if _is_full(np.abs(image)):
            images.append(np.stack([image.real, image.imag]).astype(np.float16))
        else:
            empty += 1
    return Slices(tuple(images), scan.modality, _counted(empty, 0), tuple(scan.notes))


def _of_volume(path: Path, volume: Volume, channels: int, notes: tuple[str, ...]) -> Slices:
    _require_finite(path, volume)
    spacing = np.array(volume.spacing_mm)[::-1]  # (z, y, x), as the data
    planes = [np.delete(spacing, axis) for axis in range(3)]
    flat = [
        a
        for a, plane in enumerate(planes)
        if float(plane.max()) <= ANISOTROPIC * float(plane.min())
    ]
    if not flat:
        notes += ("no plane of its voxels is near square: nothing of it is used",)
    data, said = _in_unit_range(volume, channels)
    images, empty, even = [], 0, 0
    for plane in _planes(data, flat):
        size = np.linalg.norm(plane, axis=0) if len(plane) == COMPLEX else plane[0]
        if not _is_full(size):
            empty += 1
        elif size.min() == size.max():
            even += 1
        else:
            images.append(plane.astype(np.float16))
    modality = volume.modality or "MR"
    return Slices(tuple(images), modality, _counted(empty, even), (*notes, *said))


def _require_finite(path: Path, volume: Volume) -> None:
    if not np.isfinite(volume.data).all():
        bad = int((~np.isfinite(volume.data)).sum())
        raise InputError(
            path,
            f"{bad} of its {volume.data.size} voxels are not finite",
            "leave the file out or mend it",
        )


def _in_unit_range(volume: Volume, channels: int) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """(channels, z, y, x): CT by the window, others by the quantile of the magnitude; and what was dropped for it."""
    if volume.modality == "CT":
        low, high = CT_WINDOW_HU
        return np.clip((volume.data - low) / (high - low), 0, None)[None].astype(np.float32), ()
    size = np.abs(volume.data).astype(np.float32)
    peak = max(float(np.quantile(size, 0.999)), float(np.finfo(np.float32).tiny))
    if np.iscomplexobj(volume.data):
        if channels == COMPLEX:
            planes = np.stack([volume.data.real, volume.data.imag]) / peak
            return planes.astype(np.float32), ()
        return size[None] / peak, (
            "complex: its magnitude is learnt (--target complex learns both parts)",
        )
    if volume.data.min() < -AIR * peak:
        return size[None] / peak, ("has negative intensities: their magnitude is learnt",)
    return size[None] / peak, ()


def _planes(data: NDArray[np.float32], axes: list[int]) -> Iterator[NDArray[np.float32]]:
    """Slices (channels, H, W) of data (channels, z, y, x) along each of the axes."""
    for axis in axes:
        yield from np.moveaxis(data, axis + 1, 0)


def _is_full(size: NDArray[np.float32]) -> bool:
    return bool((size > AIR).mean() > CONTENT)


def _counted(empty: int, even: int) -> dict[str, int]:
    reasons = {
        f"air or nearly empty (less than {CONTENT:.0%} of the pixels above {AIR:.0%} of full intensity)": empty,
        "constant": even,
    }
    return {reason: count for reason, count in reasons.items() if count}
