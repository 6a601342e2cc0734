"""A denoiser whose images are shared out among helpers that hold the same weights elsewhere.

Made by the engines of lists of jobs (`restore.many.engines`) for one volume on several devices: the caller keeps its
share, so that everything else of a step stays in one place. Touches nothing but the network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.precision import word_of
from restore.priors.base import Denoiser

Planes = NDArray[Any]
SAID = (
    "channels", "sigma_min", "sigma_max", "intensity", "complex_mode", "turnable", "foreign", "local", "halves", "name",
    "scaling", "tiling",
)  # fmt: skip
"""What a denoiser says of itself: see `Denoiser`."""


class Helper(Protocol):
    """Holds the same weights in another place."""

    def ask(self, planes: Planes, sigma: float, precision: str) -> Callable[[], Planes | None]:
        """Begin D(x, sigma) of planes (N, C, H, W), its network in numbers of that word; the function waits for the
        answer, None where the helper is lost."""


class SpreadDenoiser(Denoiser):
    """D(x, sigma) of about N / (1 + helpers) images here and of the others by helpers.

    It says of itself what the one inside says. Batches are smaller than of the one inside alone, so that roundings of
    its convolutions may differ. A helper that is lost is left out from then on. Where gradients are followed, all of it
    is done here.
    """

    def __init__(self, inner: Denoiser, helpers: Sequence[Helper]) -> None:
        self.inner, self.helpers, self._given = inner, list(helpers), len(helpers)
        for name in SAID:
            setattr(self, name, getattr(inner, name))

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """As of the one inside."""
        follows = torch.is_grad_enabled() and x.requires_grad
        if isinstance(sigma, Tensor) or follows or not self.helpers or len(x) < 2:
            return self.inner(x, sigma)
        parts = x.tensor_split(min(len(x), 1 + len(self.helpers)))
        return torch.cat(self._answered(parts, sigma))

    def _answered(self, parts: Sequence[Tensor], sigma: float) -> list[Tensor]:
        """D of each part (N, C, H, W), the first one here; of at most one more than there are helpers."""
        first, *rest = parts
        word, asked = _precision(first), []
        for helper, part in zip(self.helpers, rest, strict=False):
            planes = np.ascontiguousarray(part.detach().cpu().numpy())
            asked.append((helper, part, helper.ask(planes, sigma, word)))
        out = [self.inner(first, sigma).to(first.dtype)]
        for helper, part, wait in asked:
            found = wait()
            if found is None:
                self.helpers.remove(helper)
                out.append(self.inner(part, sigma).to(first.dtype))
            else:
                out.append(torch.from_numpy(np.array(found)).to(first.device, first.dtype))
        return out

    @property
    def knows_error(self) -> bool:
        """That of the one inside."""
        return self.inner.knows_error

    def error_power(self, sigma: float, shape: tuple[int, ...]) -> Tensor | None:
        """That of the one inside."""
        return self.inner.error_power(sigma, shape)

    @property
    def knows_images(self) -> bool:
        """That of the one inside."""
        return self.inner.knows_images

    def image_law(self, shape: tuple[int, ...], *, centred: bool = True) -> tuple[Tensor, Tensor]:
        """That of the one inside."""
        return self.inner.image_law(shape, centred=centred)

    def remarks(self) -> tuple[str, ...]:
        """How many helpers were lost, and those of the one inside."""
        lost = self._given - len(self.helpers)
        said = f"{lost} of {self._given} helpers of the prior were lost on the way: their share was done here"
        return (*((said,) if lost else ()), *self.inner.remarks())

    def __deepcopy__(self, memo: dict[int, Any]) -> SpreadDenoiser:
        """With a copy of the one inside, and the same helpers."""
        return SpreadDenoiser(copy.deepcopy(self.inner, memo), self.helpers)


def _precision(x: Tensor) -> str:
    """The word for the numbers in which networks compute where this is called."""
    kind = x.device.type
    lower = torch.is_autocast_enabled(kind)
    return word_of(torch.get_autocast_dtype(kind) if lower else torch.float32)
