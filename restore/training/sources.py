"""Training images from files: pictures, NIfTI and DICOM volumes, HDF5 scans, as lists of 2-D slices.

Used by `restore train` and the validation. Everything is normalised to [0, 1] on loading: photographs by
their bit depth, MR volumes by their 99.9 % quantile, CT by the window -1000..1500 HU.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from restore.datasets.open import open_scan, read, read_image
from restore.datasets.picture.images import SUFFIXES, Picture
from restore.datasets.scan import Scan
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, NotFoundError
from restore.scaling import CT_MINIMUM_HU, CT_WINDOW_HU

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as the denoising literature's grey images


@dataclasses.dataclass(frozen=True)
class Source:
    """One folder or file with its share of the crops. `photographs` are never scaled or negated on drawing."""

    images: tuple[np.ndarray, ...]
    weight: float
    photographs: bool
    name: str
    notes: tuple[str, ...] = ()


def load_source(path: str | Path, weight: float, channels: int, modality: str = "") -> Source:
    """Read a folder of pictures, of NIfTI or HDF5 files, or of a DICOM series; or a single file of these kinds.

    modality: "MR" or "CT" of a NIfTI file, which does not say; by default one that reaches below -500 is CT in HU. An
    HDF5 file is a scan: its reference images where it holds them, else the root sum of squares of its coils.
    Raises InputError, NotFoundError, ConfigError.
    """
    path = Path(path)
    if not path.exists():
        raise NotFoundError(f"{path}: no such file or folder")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    pictures = [p for p in files if _is_picture(p)]
    if pictures:
        found = [read_image(p) for p in pictures]
        images = tuple(_channels(p.data, channels) for p in found)
        return Source(images, weight, True, path.name, _said_of(found))
    if channels != 1:
        raise ConfigError(
            f"{path}: volumes train one-channel models; give --channels 1 or a folder of photographs"
        )
    several = [p for p in files if _is_volume_file(p)] if path.is_dir() else []
    slices = tuple(image for p in several or [path] for image in _slices(p, _volume(p, modality)))
    return Source(slices, weight, False, path.name)


def _said_of(pictures: Sequence[Picture]) -> tuple[str, ...]:
    """What reading changed or left out, once with the number of pictures; transparency, which no crop knows of."""
    said = [note for p in pictures for note in p.notes]
    clear = sum(p.alpha is not None for p in pictures)
    said += ["partly transparent: colours are learnt as if nothing were clear"] * clear
    return tuple(
        f"{count} of {len(pictures)} pictures: {note}" for note, count in Counter(said).items()
    )


def check_learnable(sources: Iterable[Source]) -> None:
    """Refuse images that teach nothing: a single one, or all of a source without any variation. Raises ConfigError."""
    sources = list(sources)
    if sum(len(s.images) for s in sources) < 2:
        raise ConfigError(
            f"{', '.join(s.name for s in sources)}: one image is no training set: its prior would know nothing else"
        )
    for source in sources:
        if source.images and all(i.min() == i.max() for i in source.images):
            raise ConfigError(
                f"{source.name}: every one of its {len(source.images)} images is constant; there is nothing to learn"
            )


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _is_volume_file(path: Path) -> bool:
    # LoDoPaB-CT's ground truth is read with its observation.
    truth = path.name.startswith("ground_truth_")
    return path.name.lower().endswith((".nii", ".nii.gz", ".h5", ".hdf5")) and not truth


def _channels(image: np.ndarray, channels: int) -> np.ndarray:
    if channels == 1 and image.shape[0] == 3:
        image = np.tensordot(LUMINANCE, image, axes=1)[None]
    elif channels == 3 and image.shape[0] == 1:
        image = np.repeat(image, 3, axis=0)
    return np.round(image * 255).astype(np.uint8)


def _volume(path: Path, modality: str) -> Volume:
    if path.suffix.lower() in (".h5", ".hdf5"):
        return _scan_volume(open_scan(path))
    volume = read(path) if path.is_dir() else read(path, modality=modality)
    if not volume.modality and volume.data.real.min() <= CT_MINIMUM_HU:
        return dataclasses.replace(volume, modality="CT")
    return volume


def _scan_volume(scan: Scan) -> Volume:
    """The slices of a scan as they can be seen without a reconstruction."""
    data = np.stack([scan.image_of(i) for i in range(scan.n_slices)])
    # Slices of a scan are trained on in their own plane only: a tall voxel keeps the other planes out.
    return Volume(data, np.diag([1.0, 1.0, 1e3, 1.0]), scan.modality)


def _slices(path: Path, volume: Volume) -> Iterable[np.ndarray]:
    """Slices along each axis whose in-plane spacing is near isotropic, without the empty ones, as float16."""
    if not np.isfinite(volume.data).all():
        bad = int((~np.isfinite(volume.data)).sum())
        raise InputError(
            path,
            f"{bad} of its {volume.data.size} voxels are not finite",
            "leave the file out or mend it",
        )
    data = np.abs(volume.data).astype(np.float32) if volume.modality != "CT" else volume.data
    if volume.modality == "CT":
        low, high = CT_WINDOW_HU
        data = np.clip((data - low) / (high - low), 0, None)
    else:
        data = data / max(float(np.quantile(data, 0.999)), np.finfo(np.float32).tiny)
    spacing = np.array(volume.spacing_mm)[::-1]  # (z, y, x), as the data
    for axis in range(3):
        plane = np.delete(spacing, axis)
        if plane.max() > 1.6 * plane.min():
            continue
        for image in np.moveaxis(data, axis, 0):
            if (image > 0.05).mean() > 0.1:
                yield image[None].astype(np.float16)
