"""Images too large for a network in one piece: cut into overlapping tiles, answered one by one, joined without seams.

Called by image and conditional priors for planes above `TILED_ABOVE` pixels; touches no files. Tiles begin at multiples
of 64 in the plane, so that a network that shrinks its images sees the same grid in a tile as in the whole. Nothing is
random: the same call of a run cuts the same plane in the same way.

The answers D_i of tiles are joined as the least-squares solution of Bar-Tal, Yariv, Lipman, Dekel, "MultiDiffusion:
fusing diffusion paths for controlled image generation", ICML 2023, equation 3: argmin_D sum_i |W_i^(1/2) (D - D_i)|^2
= sum_i W_i D_i / sum_i W_i, at every call, hence at every noise level. The paper joins the states after the step; steps
of samplers are affine in D with one pair of coefficients and one noise for all tiles, so that both are the same, and
the data step sees the whole. Differs from the paper:
- the usual weights W_i rise smoothly from zero at the border of a tile, where a network knows only one side. The
  paper's are one everywhere (window "uniform"), of tiles that overlap by seven eighths; Gaussian ones are those of
  Jimenez, "Mixture of diffusers", 2023.
- tiles may begin elsewhere at every call (shift), so that seams do not add up in one place; the paper's lie still.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from restore.config import check_settings, setting
from restore.errors import ConfigError

TILED_ABOVE = 2**21
"""Pixels of a plane that still goes through in one piece: 2 GB of activations for the bundled U-Net."""
SIDE, OVERLAP = 1216, 192
"""Pixels, multiples of 64. A tile takes 1.4 GB of activations in the bundled U-Net, whose answer at a pixel depends on
94 pixels around it: half of the overlap. With an overlap of 128 seams of 4e-3 showed at noise of 5."""
_MARGIN = (80, 192)
"""Share of the overlap, a fraction, along a tile's border that does not count: the smooth window rises after it."""
_GRID = 8
"""Pixels: tiles that are told begin at multiples of it, as the bundled U-Net shrinks by it."""
_WIDTH = 0.1
"""Deviation of the Gaussian window, in sides of a tile (the published variance of 0.01)."""
_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo one, fall evenly into any number of parts: where tiles of successive calls begin."""

Network = Callable[..., tuple[Tensor, ...]]


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How planes are cut. side, overlap: 0 for `SIDE` and `OVERLAP`, above `TILED_ABOVE` pixels only; a side that is
    told cuts every plane that is longer or wider. Raises ConfigError for sides that are no multiples of 8, or that do
    not exceed their overlap.
    """

    side: int = setting(
        0, "pixels of a tile's side; 0: 1216, of planes above 2 million pixels", at_least=0
    )
    overlap: int = setting(
        0, "pixels that neighbouring tiles share; 0: 192, or a quarter of the side", at_least=0
    )
    window: Literal["smooth", "uniform", "gaussian"] = setting(
        "smooth",
        "weights where tiles overlap: smooth (zero at the border), uniform (MultiDiffusion) or gaussian",
    )
    shift: bool = setting(False, "tiles begin elsewhere at every call, so that seams do not add up")  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
        if self.side % _GRID or self.overlap % _GRID or (self.side and not self.shared < self.side):
            raise ConfigError(
                f"tiles of {self.side} pixels that overlap by {self.overlap}: both must be multiples of {_GRID}, the "
                "overlap below the side"
            )
        if self.overlap and not self.side:
            raise ConfigError("an overlap of tiles needs their side; add tile=1216, or another")

    @property
    def length(self) -> int:
        """Pixels of a tile's side."""
        return self.side or SIDE

    @property
    def shared(self) -> int:
        """Pixels that neighbours share."""
        return self.overlap or (
            OVERLAP if not self.side else max(_GRID, self.side // 4 // _GRID * _GRID)
        )

    def cuts(self, height: int, width: int) -> bool:
        """Whether a plane of this size is cut."""
        return max(height, width) > self.side if self.side else height * width > TILED_ABOVE

    def at_once(self, height: int, width: int) -> int:
        """Pixels of the largest piece of a plane."""
        if not self.cuts(height, width):
            return height * width
        return min(self.length, height) * min(self.length, width)

    def remarks(self, name: str, height: int, width: int) -> tuple[str, ...]:
        """What has to be said of an image that a prior of this name sees in tiles."""
        if not self.cuts(height, width):
            return ()
        return (
            f"the prior '{name}' sees the image of {width} x {height} pixels in tiles of {self.length} x {self.length} "
            f"that overlap by {self.shared}: what it knows of a pixel lies within half of that",
        )

    def spans(self, length: int, call: int = 0) -> list[slice]:
        """The tiles along an axis of `length` pixels; the last ends with the axis. call: its number in the run."""
        stride, grid = self.length - self.shared, _GRID if self.side else 64
        first = round(call * _GOLDEN % 1 * stride) // grid * grid if self.shift else 0
        starts = [*([0] if first else []), *range(first, max(length - self.shared, 1), stride)]
        stops = [min(s + self.shared, length) for s in starts[1:]] + [length]
        return [slice(a, b) for a, b in zip(starts, stops, strict=True)]

    def windows(self, spans: list[slice], length: int) -> list[Tensor]:
        """Weights along one axis of each tile, float64; those of all tiles sum to one at every pixel."""
        raw = [self._raw(part, length) for part in spans]
        if self.window == "smooth" and 2 * self.shared <= self.length:
            return raw  # two tiles at most meet at a pixel, and their weights sum to one
        total = torch.zeros(length, dtype=torch.float64)
        for part, weights in zip(spans, raw, strict=True):
            total[part] += weights
        return [weights / total[part] for part, weights in zip(spans, raw, strict=True)]

    def _raw(self, part: slice, length: int) -> Tensor:
        if self.window == "smooth":
            return self._smooth(part, length)
        place = torch.arange(part.stop - part.start, dtype=torch.float64) + 0.5
        if self.window == "uniform":
            return torch.ones_like(place)
        return torch.exp(-(((place - len(place) / 2) / (_WIDTH * self.length)) ** 2) / 2)

    def _smooth(self, part: slice, length: int) -> Tensor:
        size = part.stop - part.start
        place = torch.arange(size, dtype=torch.float64) + 0.5
        weights = torch.ones(size, dtype=torch.float64)
        if part.start > 0:
            weights *= self._rise(place)
        if part.stop < length:
            weights *= self._rise(size - place)
        return weights

    def _rise(self, distance: Tensor) -> Tensor:
        """From 0 at a tile's border to 1 where the neighbour ends; rise(d) + rise(overlap - d) = 1."""
        margin = self.shared * _MARGIN[0] / _MARGIN[1]
        t = ((distance - margin) / (self.shared - 2 * margin)).clamp(0, 1)
        return t * t * (3 - 2 * t)


USUAL = Tiling()


def tiled(network: Network, tiling: Tiling = USUAL, call: int = 0) -> Network:
    """The network for planes of any size: planes (N, C, H, W) that `tiling` cuts go through in tiles.

    Smaller ones go through untouched. With gradients a tile's activations are computed again on the way back, so that
    memory stays bounded there too. call: number of the call of a run, for tiles that move.
    """

    def through(*planes: Tensor) -> tuple[Tensor, ...]:
        if not tiling.cuts(*planes[0].shape[-2:]):
            return network(*planes)
        return _in_tiles(network, planes, tiling, call)

    return through


def _in_tiles(
    network: Network, planes: tuple[Tensor, ...], tiling: Tiling, call: int
) -> tuple[Tensor, ...]:
    height, width = planes[0].shape[-2:]
    down, across = tiling.spans(height, call), tiling.spans(width, call)
    joined: tuple[Tensor, ...] = ()
    for rows, falling in zip(down, tiling.windows(down, height), strict=True):
        for columns, level in zip(across, tiling.windows(across, width), strict=True):
            answers = _answered(network, [p[..., rows, columns] for p in planes])
            window = falling.to(answers[0])[:, None] * level.to(answers[0])
            if not joined:
                joined = tuple(a.new_zeros(*a.shape[:-2], height, width) for a in answers)
            for whole, answer in zip(joined, answers, strict=True):
                whole[..., rows, columns] += window * answer
    return joined


def _answered(network: Network, tile: list[Tensor]) -> tuple[Tensor, ...]:
    if torch.is_grad_enabled() and any(p.requires_grad for p in tile):
        answer: tuple[Tensor, ...] = checkpoint(network, *tile, use_reentrant=False)
        return answer
    return network(*tile)
