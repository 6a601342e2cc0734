"""Fewer questions to a network about the imaginary part of images that are nearly real.

Called by samplers that walk complex images down noise levels with a network of real ones. Once the phase of a scan is
in its coil maps the imaginary part is noise and a little of what the maps have wrong, and its estimate hardly changes
from level to level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.priors.image_prior import ImagePrior

_LITTLE = 0.1
"""Of the real part's size, up to which an imaginary part is spared: 1 % of the energy, a phase of 0.1 everywhere. The
heads of benchmarks/recon_time.py have 0.02 (4x) and 0.04 (8x)."""

_STEADY = 0.5
"""Of the level's noise, the most that an answer may be away from the one before: 0.1 to 0.4 there."""


class SparedImaginary:
    """A prior that is asked for the imaginary part of an item at every `every`-th call only, while it carries little.

    Between them the last answer stands. Little: by its size against the real part's, and by how far the answer is from
    the one that stood before, against the noise of the level; each item is judged by itself, at every answer. Priors
    of complex images, and real images, are asked as ever. `spared` counts the answers that were not asked for.
    """

    def __init__(self, prior: ImagePrior, every: int) -> None:
        self.prior, self.every, self.spared = prior, every, 0
        self._kept: Tensor | None = None
        self._left: list[int] = []

    def __call__(self, x: Tensor, sigma: float, *, turn: int = 0) -> Tensor:
        """As `ImagePrior`, of one level; always of the same items."""
        if not x.is_complex() or self.prior.prior.complex_mode != "separate" or self.every == 1:
            return self.prior(x, sigma, turn=turn)
        items = x.reshape(-1, *self.prior.item_shape)
        self._left = self._left or [0] * len(items)
        asked = [i for i, left in enumerate(self._left) if left == 0]
        self.spared += len(items) - len(asked)
        real, fresh = self._answers(x, items, asked, sigma, turn)
        self._left = [left - 1 for left in self._left]
        for i, spared in zip(asked, self._spared(real, fresh, asked, sigma), strict=True):
            self._left[i] = self.every - 1 if spared else 0
        if self._kept is None:
            self._kept = fresh.clone()
        self._kept[asked] = fresh
        return torch.complex(real, self._kept).reshape(x.shape)

    def _answers(
        self, x: Tensor, items: Tensor, asked: list[int], sigma: float, turn: int
    ) -> tuple[Tensor, Tensor]:
        """The real parts of all items of x, and the imaginary parts of those that are asked for."""
        if len(asked) == len(items):
            whole = self.prior(x, sigma, turn=turn).reshape(items.shape)
            return whole.real, whole.imag
        parts = self.prior(torch.cat([items.real, items.imag[asked]]), sigma, turn=turn)
        return parts[: len(items)], parts[len(items) :]

    def _spared(self, real: Tensor, fresh: Tensor, asked: list[int], sigma: float) -> list[bool]:
        """Of each item that was asked for, whether its answer may stand for the calls to come."""
        if self._kept is None:
            return [False] * len(asked)
        change = _size(fresh - self._kept[asked])
        little = _size(fresh) <= _LITTLE * _size(real[asked])
        return (little & (change <= _STEADY * sigma)).tolist()


def _size(items: Tensor) -> Tensor:
    """Root mean square of each."""
    return items.flatten(1).square().mean(1).sqrt()
