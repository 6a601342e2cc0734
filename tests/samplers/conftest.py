"""Stand-ins for sampler tests: dense operators, stored noise, a denoiser that knows the truth."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

import pytest
import torch
from torch import Tensor

from restore.operators.base import LinearOperator
from restore.priors.base import Denoiser
from restore.randomness import Draws


@dataclass(frozen=True, eq=False, repr=False)
class Dense(LinearOperator):
    """A matrix on flattened images whose adjoint may be another matrix, as in published pairs."""

    matrix: Tensor
    back: Tensor
    image: tuple[int, ...]

    @property
    def in_shape(self) -> tuple[int, ...]:
        return self.image

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.matrix.shape[0],)

    def _apply(self, x: Tensor) -> Tensor:
        return x.flatten(x.ndim - len(self.image)) @ self.matrix.mT

    def _adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.back.mT).reshape(*y.shape[:-1], *self.image)

    def _pinv(self, y: Tensor) -> Tensor:
        inverse = torch.linalg.pinv(self.matrix)
        return (y @ inverse.mT).reshape(*y.shape[:-1], *self.image)


@pytest.fixture
def dense() -> Callable[..., Dense]:
    def build(matrix: Tensor, image: tuple[int, ...], back: Tensor | None = None) -> Dense:
        assert matrix.shape[1] == prod(image)
        return Dense(matrix, matrix.mH if back is None else back, image)

    return build


class Replay(Draws):
    """Hands out stored noise instead of drawing it."""

    def __init__(self, noises: Iterable[Tensor]) -> None:
        super().__init__(0, ())
        self._stored = iter(noises)

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        return next(self._stored).reshape(x.shape).to(x.dtype)


class Watched(Denoiser):
    """Another denoiser whose inputs and outputs are kept."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.channels, self.complex_mode = inner, inner.channels, inner.complex_mode
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        self.inputs.append(x)
        self.outputs.append(self.inner(x, sigma))
        return self.outputs[-1]


class Oracle(Denoiser):
    """Answers with the truth, whatever it is shown. truth: (*batch, H, W), unit intensities."""

    name = "oracle"

    def __init__(self, truth: Tensor) -> None:
        parts = torch.stack([truth.real, truth.imag]) if truth.is_complex() else truth
        self.planes = parts.reshape(-1, 1, *truth.shape[-2:])

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        assert x.shape[1:] == self.planes.shape[1:]
        if len(x) != len(self.planes):  # tried on one picture before the run
            return self.planes[:1].to(x).expand_as(x).clone()
        return self.planes.to(x)


class Nan(Denoiser):
    """Sound for the two calls by which a prior is tried, then never a number."""

    def __init__(self) -> None:
        self.calls = itertools.count()

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return x * torch.nan if next(self.calls) >= 2 else 0.5 * x


@pytest.fixture
def nan() -> type[Nan]:
    return Nan


@pytest.fixture
def replay() -> type[Replay]:
    return Replay


@pytest.fixture
def watched() -> type[Watched]:
    return Watched


@pytest.fixture
def oracle() -> type[Oracle]:
    return Oracle
