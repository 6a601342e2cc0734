"""The denoiser contract: `prior(x, sigma)` is the posterior mean of x0 given x = x0 + sigma n.

Samplers see nothing else of a prior. Wrappers for the field's parametrisations stand in `wrappers.py`, the bundled
network in `edm.py`, exact ones for tests in `analytic.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

ComplexMode = Literal["separate", "channels", "magnitude"]


class Denoiser(ABC):
    """A prior, seen through its minimum-mean-square-error denoiser (Tweedie's formula).

    `channels`: channels of the images it was trained on. `sigma_min`, `sigma_max`: noise range it is valid in, in
    units of its own images. `intensity`: what range the images had (stated, never enforced: nothing is clipped).
    `complex_mode`: how complex images pass through it: re and im one after the other ("separate"), as two
    channels ("channels"), or the magnitude alone with the phase kept ("magnitude"). `turnable`: images were
    trained in all eight orientations, so that a sampler may show them turned.
    """

    kind: ClassVar[str] = "denoiser"
    channels: int = 1
    sigma_min: float = 0.0
    sigma_max: float = float("inf")
    intensity: tuple[float, float] = (0.0, 1.0)
    complex_mode: ComplexMode = "separate"
    turnable: bool = False
    name: str = ""

    @abstractmethod
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """E[x0 | x]. x: (N, channels, H, W) real; sigma: a number or (N,). Returns the shape of x."""

    def to(self, target: torch.device | str | torch.dtype) -> Denoiser:
        """The same prior on another device or in another precision (no tensors: itself)."""
        return self


def per_item(sigma: float | Tensor, x: Tensor) -> Tensor:
    """`sigma` as a tensor of shape (N, 1, 1, ...) beside x (N, ...), in x's real precision."""
    real = x.real.dtype if x.is_complex() else x.dtype
    s = torch.as_tensor(sigma, dtype=real, device=x.device)
    return s.expand(x.shape[0]).reshape(-1, *[1] * (x.ndim - 1))


def pad_sides(x: Tensor, multiple: int) -> Tensor:
    """Grow the sides to a multiple: by reflection, or by repeating the edge where the image is too small."""
    right, below = -x.shape[-1] % multiple, -x.shape[-2] % multiple
    if not (right or below):
        return x
    small = right >= x.shape[-1] or below >= x.shape[-2]
    return F.pad(x, (0, right, 0, below), mode="replicate" if small else "reflect")
