"""Training images: folders of photographs, NIfTI and DICOM volumes and HDF5 files as one pool of 2-D slices.

Used by the training loops. Everything is normalised to [0, 1] on loading (photographs by their bit depth, MR volumes by
their 99.9 % quantile, CT by the window -1000..1500 HU) and kept in memory; crops are drawn from a seed and a step
number alone, so that a resumed training sees the same crops.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from restore.datasets.images import SUFFIXES, read_image
from restore.datasets.open import read
from restore.datasets.volume import Volume
from restore.errors import ConfigError, NotFoundError
from restore.scaling import CT_MINIMUM_HU, CT_WINDOW_HU

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as the denoising literature's grey images


@dataclasses.dataclass(frozen=True)
class Source:
    """One folder or file with its share of the crops. `photographs` are never scaled or negated on drawing."""

    images: tuple[np.ndarray, ...]
    weight: float
    photographs: bool
    name: str


def load_source(path: str | Path, weight: float, channels: int, modality: str = "") -> Source:
    """Read a folder of images, a volume file or a DICOM folder.

    modality: "MR" or "CT" of a NIfTI file, which does not say; by default one that reaches below -500 is CT in HU.
    Raises InputError, NotFoundError, ConfigError.
    """
    path = Path(path)
    if not path.exists():
        raise NotFoundError(f"{path}: no such file or folder")
    files = sorted(p for p in path.iterdir() if _is_picture(p)) if path.is_dir() else [path]
    if files and all(_is_picture(p) for p in files):
        images = tuple(_channels(read_image(p).data, channels) for p in files)
        return Source(images, weight, True, path.name)
    if channels != 1:
        raise ConfigError(
            f"{path}: volumes train one-channel models; give --channels 1 or a folder of photographs"
        )
    return Source(tuple(_slices(_volume(path, modality))), weight, False, path.name)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _channels(image: np.ndarray, channels: int) -> np.ndarray:
    if channels == 1 and image.shape[0] == 3:
        image = np.tensordot(LUMINANCE, image, axes=1)[None]
    elif channels == 3 and image.shape[0] == 1:
        image = np.repeat(image, 3, axis=0)
    return np.round(image * 255).astype(np.uint8)


def _volume(path: Path, modality: str) -> Volume:
    volume = read(path) if path.is_dir() else read(path, modality=modality)
    if not volume.modality and volume.data.real.min() <= CT_MINIMUM_HU:
        return dataclasses.replace(volume, modality="CT")
    return volume


def _slices(volume: Volume) -> Iterable[np.ndarray]:
    """Slices along each axis whose in-plane spacing is near isotropic, without the empty ones, as float16."""
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


class Corpus:
    """Draws batches of augmented crops from weighted sources. Raises ConfigError for nothing to draw from."""

    def __init__(self, sources: Iterable[Source], crop: int, seed: int) -> None:
        self.sources, self.crop, self.seed = tuple(sources), crop, seed
        weights = np.array([s.weight for s in self.sources], dtype=float)
        if not self.sources or not (np.isfinite(weights).all() and (weights > 0).all()):
            raise ConfigError(
                f"training needs sources with positive shares, got {weights.tolist()}"
            )
        for source in self.sources:
            if not source.images:
                raise ConfigError(
                    f"{source.name}: no usable images in it (empty, or slices of very unequal spacing)"
                )
        self._share = weights / weights.sum()

    def batch(self, step: int, size: int) -> Tensor:
        """Crops of one step: (size, channels, crop, crop) float32. Depends on the seed and the step only."""
        rng = np.random.default_rng([self.seed, step])
        chosen = rng.choice(len(self.sources), size=size, p=self._share)
        return torch.stack([self._draw(self.sources[i], rng) for i in chosen])

    def _draw(self, source: Source, rng: np.random.Generator) -> Tensor:
        image = source.images[rng.integers(len(source.images))]
        # Scanners often interpolate their slices: every third crop of a volume is magnified to know such images.
        zoom = 1.0 if source.photographs or rng.random() > 1 / 3 else rng.uniform(1.0, 2.0)
        side = int(np.ceil(self.crop / zoom))
        crop = torch.from_numpy(_cut(image, side, rng).copy())
        crop = crop.float() / 255 if crop.dtype == torch.uint8 else crop.float()
        if side != self.crop:
            crop = F.interpolate(
                crop[None], size=(self.crop, self.crop), mode="bicubic", align_corners=False
            )[0]
        if not source.photographs:
            crop = crop * _gain(rng)
        crop = torch.rot90(crop, int(rng.integers(4)), (1, 2))
        return crop.flip(-1) if rng.random() < 0.5 else crop


def _gain(rng: np.random.Generator) -> float:
    """Brightness of a volume's crop: real parts are near the image itself, imaginary parts small and of any sign."""
    return rng.uniform(0.5, 1.1) if rng.random() < 0.75 else rng.uniform(-0.4, 0.4)


def _cut(image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A square of the image; where the image is smaller it is extended by reflection."""
    pad = [(0, 0)] + [(0, max(0, side - n)) for n in image.shape[1:]]
    if any(after for _, after in pad):
        image = np.pad(image, pad, mode="symmetric")
    top, left = (int(rng.integers(n - side + 1)) for n in image.shape[1:])
    return image[:, top : top + side, left : left + side]
