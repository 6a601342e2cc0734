"""Turned, mirrored and slightly deformed crops, made on the training's device from a generator that is passed in.

Used by `restore.training.corpus`. kornia is imported when crops are deformed. Its own random augmentations draw from
the global generator, which nothing here may: the numbers are drawn by this file and given to kornia's geometry.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from restore.config import check_settings, setting
from restore.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens to a crop, beside being one of its eight orientations, each as likely as the others.

    A share `deformed` of the crops is turned by up to `rotation_deg`, magnified by a factor within `magnification` of
    one, and sheared by up to `shear_deg` along both axes, all even over their ranges and about the middle of the crop,
    with bicubic values between the pixels (bilinear ones would teach a network that edges are soft). For images that
    may come at any angle and size; scans of one protocol are better left as they are. A share `phase` of the crops of
    MR images, before all this, gets a smooth random phase (`restore.training.phases`): a one-channel network then sees
    the real part, as one that is shown real and imaginary parts of complex images will. Raises ConfigError.
    """

    deformed: float = setting(0.0, "share of the crops that is deformed", between=(0, 1))
    rotation_deg: float = setting(10.0, "largest turn either way", between=(0, 45))
    magnification: float = setting(0.1, "largest departure of the scale from one", between=(0, 0.5))
    shear_deg: float = setting(5.0, "largest shear either way", between=(0, 20))
    phase: float = setting(
        0.0, "share of the crops of MR images that get a smooth random phase", between=(0, 1)
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def side(self, crop: int) -> int:
        """Side of the square that a crop is cut from: large enough to be deformed without showing its border."""
        if not self.deformed:
            return crop
        turn, shear = (math.radians(v) for v in (self.rotation_deg, self.shear_deg))
        # Half a side h reaches h (cos + sin) when turned, more when sheared and shrunk; two pixels for the cubic.
        reach = (math.cos(turn) + math.sin(turn)) * (1 + math.tan(shear)) / (1 - self.magnification)
        return crop + 2 * math.ceil((reach - 1) * crop / 2 + 2)

    def __call__(self, squares: Tensor, crop: int, generator: torch.Generator) -> Tensor:
        """Crops (N, C, crop, crop) of squares (N, C, side, side), float, on any device.

        generator: on the CPU, so that every device sees the same crops. Raises ConfigError for squares of another side.
        """
        count, side = len(squares), self.side(crop)
        if squares.shape[-2:] != (side, side):
            raise ConfigError(
                f"crops of {crop} are made from squares of {side}, got {tuple(squares.shape[-2:])}"
            )
        turns = torch.randint(4, (count,), generator=generator).tolist()
        mirrors = torch.randint(2, (count,), generator=generator).tolist()
        if self.deformed:
            squares = self._deform(squares, generator)
            border = (side - crop) // 2
            squares = squares[..., border : border + crop, border : border + crop]
        turned = [torch.rot90(s, k, (-2, -1)) for s, k in zip(squares, turns, strict=True)]
        return torch.stack([s.flip(-1) if m else s for s, m in zip(turned, mirrors, strict=True)])

    def _deform(self, squares: Tensor, generator: torch.Generator) -> Tensor:
        """Squares of the same side, a share of them deformed about their middle."""
        from kornia.geometry.transform import get_affine_matrix2d, warp_affine

        count, side = len(squares), squares.shape[-1]
        even = 2 * torch.rand(4, count, generator=generator) - 1
        chosen = torch.rand(count, generator=generator) < self.deformed
        if not bool(chosen.any()):
            return squares
        angle, scale, shear = self.rotation_deg, self.magnification, math.radians(self.shear_deg)
        matrices = get_affine_matrix2d(
            torch.zeros(count, 2), torch.full((count, 2), (side - 1) / 2),
            (1 + scale * even[0])[:, None].expand(-1, 2), angle * even[1], shear * even[2], shear * even[3],
        )[chosen, :2]  # fmt: skip
        place = chosen.to(squares.device)
        moved = warp_affine(
            squares[place], matrices.to(squares), (side, side), mode="bicubic", padding_mode="reflection"
        )  # fmt: skip
        return squares.masked_scatter(place[:, None, None, None].expand_as(squares), moved)
