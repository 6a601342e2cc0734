"""The second unknown of a measurement y = A x + B u + e beside its image x: structured noise, and its prior's contract.

What `restore.samplers.joint` is given. Kinds by name lie in `structured`; whoever has others writes a `StructuredNoise`
of his own. Touches no files.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from restore.operators.base import LinearOperator
from restore.priors.sought import Sought


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """What a prior says of u = u0 + sigma n: mean, E[u0 | u], like u; root, the square root of the covariance of u0
    given u, over sigma: a linear map on tensors like u, its own adjoint. The identity where nobody knows better."""

    mean: Tensor
    root: Callable[[Tensor], Tensor] = torch.clone


class Seen(NamedTuple):
    """What the data show of u where the image is what its prior says: u + B^H (y - A x0 - B u), and a deviation that it
    has at least, a number or one of each item, broadcasting to u: of the level and of the measurement's noise."""

    u: Tensor
    sigma: float | Tensor


class StructuredNoise(ABC):
    """A prior of structured noise, seen through its minimum-mean-square-error denoiser and the error of that.

    The covariance that Tweedie's formula gives is sigma^2 dE/du. Where it is small the data move nothing: numbers that
    are known to be zero stay zero and take nothing of what belongs to the image.
    """

    @abstractmethod
    def estimate(self, u: Tensor, sigma: float, seen: Seen | None = None) -> Estimate:
        """Of u (*batch, *shape), in the unit intensities of the image; sigma above 0, of re and of im each.

        seen: for a prior that may take u for zero where the data say otherwise, and so would never be moved again: its
        root may be wider for it. The mean is of u alone.
        """


class FromFunction(StructuredNoise):
    """Any function D(u, sigma) that takes noise out of structured noise; what it does not know of its error is taken as
    the level itself."""

    def __init__(self, denoiser: Callable[[Tensor, float], Tensor]) -> None:
        self.denoiser = denoiser

    def estimate(self, u: Tensor, sigma: float, seen: Seen | None = None) -> Estimate:
        """D(u, sigma), with the identity as root."""
        return Estimate(self.denoiser(u, sigma))


class Known(StructuredNoise):
    """What was found before the chain: u itself, which nothing moves any more."""

    def __init__(self, noise: Tensor) -> None:
        self.noise = noise

    def estimate(self, u: Tensor, sigma: float, seen: Seen | None = None) -> Estimate:
        """The noise, without error."""
        return Estimate(self.noise.to(u).expand_as(u), torch.zeros_like)


@dataclasses.dataclass(frozen=True, eq=False)
class SecondUnknown:
    """u of y = A x + B u + e, for the measurements of one operator A.

    operator: B, whose measurements have the shape of A's, and images of the same kind of number. prior: of u, shape
    (*batch, *B.in_shape); a `Sought` is sought before the chain. name: in words.
    """

    operator: LinearOperator
    prior: StructuredNoise | Sought
    name: str = "structured noise"
