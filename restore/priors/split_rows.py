"""One image shared out among helpers as strips of rows: each strip goes with the rows beyond its borders.

Li, Cai, Cao and others, "DistriFusion: distributed parallel inference for high-resolution diffusion models", CVPR 2024:
every device has a patch of the image, sees the other patches as they were at the step before, and the first steps are
synchronous. Made by the engines of lists of jobs (`restore.many.engines`); touches nothing but the network.

Differs from the paper: there activations of the whole image are passed on at every layer, since attention and group
norms couple all of it. The bundled U-Net has neither, and depends on `UNetConfig.reach` pixels around one (94): so many
rows of the *state* beyond a strip give its answer as of the whole, to rounding. So the default borders are those of
now. Borders of the step before (`borders="before"`) are what strips would use that do not wait for each other; here the
data step does, and they gain nothing: measured in docs/network-options.md.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from restore.priors.base import Denoiser
from restore.priors.edm import EDMDenoiser
from restore.priors.spread import Helper, SpreadDenoiser
from restore.priors.unet import UNet

Borders = Literal["now", "before"]
SYNCHRONOUS = 4
"""Calls of a run whose borders are of now whatever is asked: where noise falls fastest (the paper's warm-up)."""


class SplitDenoiser(SpreadDenoiser):
    """D(x, sigma) of strips of rows here and by helpers, where there are fewer images than places.

    Only of denoisers with a bundled U-Net; others, gradients and images of few rows are done as `SpreadDenoiser` does.
    borders: of the state that is asked about, or of the one before it in the run, from its fifth call on.
    """

    def __init__(
        self, inner: Denoiser, helpers: Sequence[Helper], borders: Borders = "now"
    ) -> None:
        super().__init__(inner, helpers)
        self.borders, self._places = borders, 1 + len(helpers)
        self._forget()

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """As of the one inside."""
        self._calls += 1
        follows = torch.is_grad_enabled() and x.requires_grad
        strips = self._strips(x.shape[-2])
        if isinstance(sigma, Tensor) or follows or len(x) > len(self.helpers) or len(strips) < 2:
            self._whole += (
                bool(self.helpers) and len(x) > 1 and not follows and not isinstance(sigma, Tensor)
            )
            return super().__call__(x, sigma)
        self._split += 1
        around, reach = self._around(x, sigma), self._reach()
        tops = [min(reach, strip.start) for strip in strips]
        pieces = [_piece(x, around, strip, reach) for strip in strips]
        answers = self._answered(pieces, sigma)
        kept = [
            answer[..., top : top + strip.stop - strip.start, :]
            for answer, top, strip in zip(answers, tops, strips, strict=True)
        ]
        return torch.cat(kept, dim=-2)

    def remarks(self) -> tuple[str, ...]:
        """How many calls were split, and those of the one inside."""
        calls, split, whole = self._calls, self._split, self._whole
        self._forget()
        said = f"images were split among {self._places} places in {split} of {calls} network calls"
        said += f" and given to them whole in {whole}" if whole else ""
        lost = self._places - 1 - len(self.helpers)
        said += f", {lost} of them lost on the way" if lost else ""
        if not (split or whole):
            said += (
                f": it needs a bundled U-Net, {2 * self._rows()} rows or more, and a sampler that does not follow "
                "gradients through the network"
            )
        return (*((said,) if calls else ()), *self.inner.remarks())

    def __deepcopy__(self, memo: dict[int, Any]) -> SplitDenoiser:
        """With a copy of the one inside, and the same helpers."""
        return SplitDenoiser(copy.deepcopy(self.inner, memo), self.helpers, self.borders)

    def _forget(self) -> None:
        self._calls, self._split, self._whole = 0, 0, 0
        self._levels, self._sigma, self._alone = 0, float("inf"), True
        self._last: Tensor | None = None

    def _around(self, x: Tensor, sigma: float) -> Tensor:
        """The image that the rows beyond strips are taken from: itself, or that of the level before.

        Several calls at one level (tiles, chunks) are images of their own: then always itself.
        """
        before, self._last = self._last, x if self.borders == "before" else None
        self._alone &= sigma != self._sigma
        self._levels = 1 if sigma > self._sigma else self._levels + 1
        self._sigma = sigma
        late = self._levels > SYNCHRONOUS and self._alone
        return before if late and before is not None and before.shape == x.shape else x

    def _strips(self, height: int) -> list[slice]:
        """The rows of every place, beginning at multiples of what the network shrinks by."""
        rows = self._rows()
        if not rows or not self.helpers:
            return []
        places = 1 + len(self.helpers)
        each = max(rows, -(-height // places // rows) * rows)
        return [slice(a, min(a + each, height)) for a in range(0, height, each)]

    def _rows(self) -> int:
        """What strips are multiples of; 0 for a denoiser that cannot be split."""
        inner = self.inner
        split = isinstance(inner, EDMDenoiser) and isinstance(inner.network, UNet)
        return inner.network.config.multiple if split else 0  # type: ignore[attr-defined]

    def _reach(self) -> int:
        """Rows beyond a strip that its answer depends on, a multiple of what the network shrinks by."""
        rows, config = self._rows(), self.inner.network.config  # type: ignore[attr-defined]
        return int(-(-config.reach // rows) * rows)


def _piece(x: Tensor, around: Tensor, strip: slice, reach: int) -> Tensor:
    """A strip of x with the rows beyond it, of another image of the same shape."""
    above = around[..., max(0, strip.start - reach) : strip.start, :]
    below = around[..., strip.stop : strip.stop + reach, :]
    return torch.cat([above, x[..., strip, :], below], dim=-2)
