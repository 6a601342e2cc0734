"""Batches of augmented crops from training images, drawn from a seed and a step number alone.

Used by the training loops; a resumed training sees the same crops. Images come from `sources` and stay in memory; crops
are cut there and turned (`augmentation`) on the training's device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from restore.errors import ConfigError
from restore.training.augmentation import Augmentation
from restore.training.identity import digest_of_arrays
from restore.training.phases import real_part, smooth_phase, turned
from restore.training.slices import COMPLEX
from restore.training.sources import Source


class Corpus:
    """Draws batches of augmented crops from weighted sources. Raises ConfigError for nothing to draw from.

    channels: of the crops; 2 for complex ones, to which real images are turned.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        crop: int,
        seed: int,
        augmentation: Augmentation | None = None,
        device: str | torch.device = "cpu",
        channels: int = 1,
    ) -> None:
        self.sources, self.crop, self.seed = tuple(sources), crop, seed
        self.complex = channels == COMPLEX
        self.augmentation, self.device = augmentation or Augmentation(), device
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

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the images, their order and their shares, and with what crops are deformed."""
        parts = [
            f"{digest_of_arrays(s.images)} {share} {s.photographs}"
            for s, share in zip(self.sources, self._share.tolist(), strict=True)
        ]
        if self.augmentation.deformed or self.augmentation.phase:
            parts.append(repr(self.augmentation))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def batch(self, step: int, size: int) -> Tensor:
        """Crops of one step: (size, channels, crop, crop) float32, on the device.

        Depends on the seed and the step only.
        """
        rng = np.random.default_rng([self.seed, step])
        chosen = rng.choice(len(self.sources), size=size, p=self._share)
        squares = torch.stack([self._square(self.sources[i], rng) for i in chosen])
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        return self.augmentation(squares.to(self.device), self.crop, generator)

    def _square(self, source: Source, rng: np.random.Generator) -> Tensor:
        image = source.images[rng.integers(len(source.images))]
        # Scanners often interpolate their slices: every third crop of a volume is magnified to know such images.
        zoom = 1.0 if source.photographs or rng.random() > 1 / 3 else rng.uniform(1.0, 2.0)
        wanted = self.augmentation.side(self.crop)
        side = int(np.ceil(wanted / zoom))
        crop = torch.from_numpy(_cut(image, side, rng).copy())
        crop = crop.float() / 255 if crop.dtype == torch.uint8 else crop.float()
        if side != wanted:
            size = (wanted, wanted)
            crop = F.interpolate(crop[None], size=size, mode="bicubic", align_corners=False)[0]
        if self.complex or (self.augmentation.phase and source.modality == "MR"):
            return self._with_phase(crop, rng)
        return crop if source.photographs else crop * _gain(rng)

    def _with_phase(self, crop: Tensor, rng: np.random.Generator) -> Tensor:
        """A complex crop, or of a one-channel corpus its real part; only a share of them is given a phase."""
        phase = torch.zeros(crop.shape[-2:])
        if rng.random() < self.augmentation.phase:
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
            phase = smooth_phase((crop.shape[-2], crop.shape[-1]), generator)
        elif not self.complex:
            return crop * _gain(rng)
        crop = crop * rng.uniform(*BRIGHTNESS)
        return turned(crop, phase) if self.complex else real_part(crop, phase)


BRIGHTNESS = (0.5, 1.1)
"""Of crops of volumes, whose brightest places are 1 in few slices only."""


def _gain(rng: np.random.Generator) -> float:
    """Brightness of a volume's crop: real parts are near the image itself, imaginary parts small and of any sign."""
    return rng.uniform(*BRIGHTNESS) if rng.random() < 0.75 else rng.uniform(-0.4, 0.4)


def _cut(image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A square of the image; where the image is smaller it is extended by reflection."""
    pad = [(0, 0)] + [(0, max(0, side - n)) for n in image.shape[1:]]
    if any(after for _, after in pad):
        image = np.pad(image, pad, mode="symmetric")
    top, left = (int(rng.integers(n - side + 1)) for n in image.shape[1:])
    return image[:, top : top + side, left : left + side]
