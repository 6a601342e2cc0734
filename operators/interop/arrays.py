"""Tensors and numpy arrays: linear maps that a library writes on arrays, as maps on tensors.

Called by the files of this folder; knows neither operators nor libraries. Pure functions and one class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.errors import ConfigError

ArrayMap = Callable[[NDArray[Any]], NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class NumpyProducts:
    """A and A^H of a library that computes with numpy arrays on the CPU.

    apply: one array of shape before -> one of shape after; adjoint: back. batched: both take (n, *shape) instead.
    precision: the only one in which the library computes; None where it takes single and double alike, and then
    computes in that of the tensor. is_complex: the maps see complex arrays, else real ones.

    A tensor on the CPU is handed over as a view of its memory (a copy where the map was seen to change its input); the
    answer is copied once, into the tensor that is returned, since a library may answer with its input or with a
    buffer that it uses again.
    """

    apply: ArrayMap
    adjoint: ArrayMap
    before: tuple[int, ...]
    after: tuple[int, ...]
    is_complex: bool = False
    batched: bool = False
    precision: torch.dtype | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(n, *before) -> (n, *after). Raises ConfigError where the library answers with another shape."""
        return self._product(self.apply, x, self.after)

    def backward(self, y: Tensor) -> Tensor:
        """(n, *after) -> (n, *before). Raises ConfigError where the library answers with another shape."""
        return self._product(self.adjoint, y, self.before)

    def to(self, target: torch.device | torch.dtype) -> Self:
        """Itself: arrays lie on the CPU, and their precision is that of the tensor or the library's own."""
        return self

    def _product(self, apply: ArrayMap, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        out = torch.empty((len(x), *shape), dtype=x.dtype)
        source = array_of(x if self.precision is None else x.to(_number(x, self.precision)))
        target = out.numpy()
        if self.batched:
            target[...] = _shaped(apply(source), target.shape)
        else:
            for one, answer in zip(source, target, strict=True):
                answer[...] = _shaped(apply(one), shape)
        return out.to(x.device)


@dataclasses.dataclass(frozen=True)
class OnCopies:
    """A map that changes its input, kept from doing so."""

    apply: ArrayMap

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """The map of a copy of x."""
        return self.apply(x.copy())


@dataclasses.dataclass(frozen=True)
class BatchTimes:
    """A matrix, dense or sparse, times every item of a batch, as arrays of a shape."""

    matrix: Any
    shape: tuple[int, ...]

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """(n, ...) -> (n, *shape)."""
        return (self.matrix @ x.reshape(len(x), -1).T).T.reshape(len(x), *self.shape)


def harmless(apply: ArrayMap, shape: tuple[int, ...], is_complex: bool) -> ArrayMap:
    """The map itself, or on copies where it changes what it is given."""
    number = torch.complex64 if is_complex else torch.float32
    generator = torch.Generator().manual_seed(1)
    given = torch.randn(shape, generator=generator, dtype=number).numpy()
    kept = given.copy()
    apply(given)
    return apply if np.array_equal(given, kept) else OnCopies(apply)


def takes_complex(apply: ArrayMap, shape: tuple[int, ...]) -> bool:
    """Whether a map's images are complex: it answers a real array with a complex one, or refuses it."""
    real = torch.randn(shape, generator=torch.Generator().manual_seed(1)).numpy()
    try:
        return bool(np.iscomplexobj(apply(real)))
    except (TypeError, ValueError, RuntimeError):
        return True


def array_of(x: Tensor) -> NDArray[Any]:
    """The numbers of a tensor as an array: a view of its memory where it lies on the CPU."""
    return x.detach().resolve_conj().resolve_neg().cpu().numpy()


def tensor_of(x: NDArray[Any]) -> Tensor:
    """An array as a tensor: a view of its memory where that can be written and read forwards."""
    number = x if x.dtype.kind in "fc" else x.astype(np.float32)
    viewable = number.flags.writeable and all(step >= 0 for step in number.strides)
    return torch.from_numpy(number if viewable else number.copy())


def _number(x: Tensor, precision: torch.dtype) -> torch.dtype:
    return precision.to_complex() if x.is_complex() else precision


def _shaped(answer: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    found = np.asarray(answer)
    if found.shape != shape:
        raise ConfigError(f"the library answered with shape {found.shape}, expected {shape}")
    return found
