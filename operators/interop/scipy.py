"""scipy: a sparse matrix or a `LinearOperator` as our operator, and ours as a `LinearOperator`.

Called by users through `restore.operators.interop` and by the files of the libraries whose operators act like scipy's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator as ScipyOperator
from scipy.sparse.linalg import aslinearoperator
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.base import LinearOperator
from restore.operators.interop.arrays import (
    BatchTimes,
    NumpyProducts,
    array_of,
    harmless,
    takes_complex,
    tensor_of,
)
from restore.operators.interop.foreign import Foreign, wrapped


def from_scipy(
    operator: Any,
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    *,
    is_complex: bool | None = None,
    kind: str = "image",
    allow_unmatched: bool = False,
) -> Foreign:
    """A matrix (dense, sparse) or a `scipy.sparse.linalg.LinearOperator` of shape (m, n) as an operator.

    in_shape, out_shape: what its vectors of n and of m numbers are as arrays, row by row. A matrix multiplies a whole
    batch at once, a `LinearOperator` item by item. is_complex: whether images are complex; by default by its dtype.
    Raises ShapeError (sizes other than m and n), ConfigError (no adjoint; one that is none unless `allow_unmatched`).
    """
    before, after = tuple(map(int, in_shape)), tuple(map(int, out_shape))
    sizes = (math.prod(after), math.prod(before))
    if not hasattr(operator, "shape") or min((*before, *after), default=1) < 1:
        raise ShapeError(
            f"from_scipy: expected a matrix or a LinearOperator and shapes of positive numbers, got a "
            f"{type(operator).__name__}, in_shape {before} and out_shape {after}"
        )
    if tuple(operator.shape) != sizes:
        raise ShapeError(
            f"from_scipy: the operator is {tuple(operator.shape)}, but out_shape {after} and in_shape {before} "
            f"hold {sizes} numbers"
        )
    if issparse(operator) or isinstance(operator, np.ndarray):
        complex_ = np.iscomplexobj(operator) if is_complex is None else is_complex
        products = _matrix_products(operator, before, after, complex_)
    else:
        products = _vector_products(aslinearoperator(operator), before, after, is_complex)
    name = f"scipy {type(operator).__name__}"
    found = Foreign(products, name, before, after, products.is_complex, kind)
    return wrapped(found, allow_unmatched=allow_unmatched)


def to_scipy(operator: LinearOperator) -> ScipyOperator:
    """An operator as a `scipy.sparse.linalg.LinearOperator` on flat vectors, m = out_shape, n = in_shape, row by row.

    Its dtype is the operator's own; vectors keep theirs where it is higher. matmat is one batch.
    """
    return _Restored(operator)


class _Restored(ScipyOperator):
    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator
        number = operator.dtype.to_complex() if operator.is_complex else operator.dtype
        shape = (math.prod(operator.out_shape), math.prod(operator.in_shape))
        super().__init__(np.dtype(str(number).removeprefix("torch.")), shape)

    def _matvec(self, x: NDArray[Any]) -> NDArray[Any]:
        return self._matmat(x.reshape(-1, 1)).ravel()

    def _rmatvec(self, y: NDArray[Any]) -> NDArray[Any]:
        return self._rmatmat(y.reshape(-1, 1)).ravel()

    def _matmat(self, x: NDArray[Any]) -> NDArray[Any]:
        return self._columns(self.operator, x, self.operator.in_shape)

    def _rmatmat(self, y: NDArray[Any]) -> NDArray[Any]:
        return self._columns(self.operator.adjoint, y, self.operator.out_shape)

    def _columns(
        self, product: Callable[[Tensor], Tensor], columns: NDArray[Any], shape: tuple[int, ...]
    ) -> NDArray[Any]:
        batch = tensor_of(columns.T).to(self.operator.device).reshape(-1, *shape)
        return array_of(product(batch)).reshape(len(batch), -1).T


@dataclasses.dataclass(frozen=True)
class FlatMap:
    """A map of flat vectors as one of arrays."""

    product: Callable[[NDArray[Any]], NDArray[Any]]
    shape: tuple[int, ...]

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """The product of x, row by row."""
        return np.asarray(self.product(x.ravel())).reshape(self.shape)


def _matrix_products(
    matrix: Any, before: tuple[int, ...], after: tuple[int, ...], is_complex: bool
) -> NumpyProducts:
    back = matrix.conj().T
    if issparse(matrix):
        matrix, back = matrix.tocsr(), back.tocsr()  # row by row is the quick order for products
    maps = BatchTimes(matrix, after), BatchTimes(back, before)
    return NumpyProducts(*maps, before, after, is_complex, batched=True)


def _vector_products(
    operator: ScipyOperator,
    before: tuple[int, ...],
    after: tuple[int, ...],
    is_complex: bool | None,
) -> NumpyProducts:
    apply, adjoint = FlatMap(operator.matvec, after), FlatMap(operator.rmatvec, before)
    if is_complex is None:
        stated = getattr(operator, "dtype", None)
        is_complex = takes_complex(apply, before) if stated is None else stated.kind == "c"
    try:
        maps = harmless(apply, before, is_complex), harmless(adjoint, after, is_complex)
    except NotImplementedError as error:
        raise ConfigError(
            "from_scipy: the operator has no adjoint; give it rmatvec, or wrap its matrix"
        ) from error
    return NumpyProducts(*maps, before, after, is_complex)
