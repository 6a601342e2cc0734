"""sigpy: a `Linop` as our operator and ours as a `Linop`.

Called by users through `restore.operators.interop`, and by the samplers that run sigpy's reconstructions. sigpy is
optional and imported on first use.
"""

from __future__ import annotations

import functools
from typing import Any

from restore.errors import ConfigError
from restore.extras import load_extra
from restore.operators.base import LinearOperator
from restore.operators.interop.arrays import (
    NumpyProducts,
    array_of,
    harmless,
    takes_complex,
    tensor_of,
)
from restore.operators.interop.foreign import Foreign, wrapped


def from_sigpy(
    linop: Any,
    *,
    is_complex: bool | None = None,
    kind: str | None = None,
    allow_unmatched: bool = False,
) -> Foreign:
    """A `sigpy.linop.Linop` as an operator: images of its ishape, measurements of its oshape, item by item on the CPU.

    is_complex: whether images are complex; by default whether the Linop answers a real image with a complex
    measurement. kind: by default "mri" for complex images, else "image". Computes in the tensor's precision.
    Raises ConfigError (no Linop, no sigpy, an adjoint that is none unless `allow_unmatched`).
    """
    sigpy = load_extra("sigpy", "sigpy", "from_sigpy")
    if not isinstance(linop, sigpy.linop.Linop):
        raise ConfigError(f"from_sigpy: got a {type(linop).__name__}, expected a sigpy.linop.Linop")
    before, after = tuple(map(int, linop.ishape)), tuple(map(int, linop.oshape))
    complex_ = takes_complex(linop, before) if is_complex is None else is_complex
    maps = harmless(linop, before, complex_), harmless(linop.H, after, complex_)
    products = NumpyProducts(*maps, before, after, complex_)
    found = kind or ("mri" if complex_ else "image")
    operator = Foreign(products, f"sigpy {linop.repr_str}", before, after, complex_, found)
    return wrapped(operator, allow_unmatched=allow_unmatched)


def to_sigpy(operator: LinearOperator) -> Any:
    """An operator as a `sigpy.linop.Linop` on numpy arrays; its H is our adjoint, its N our fused normal operator.

    Arrays go to the operator's device and back, in their own precision. Raises ConfigError where sigpy is missing.
    """
    return _restored()(operator)


@functools.cache
def _restored() -> Any:
    base: Any = load_extra("sigpy.linop", "sigpy", "to_sigpy").Linop

    class Restored(base):
        """One of our operators."""

        def __init__(self, operator: LinearOperator) -> None:
            self.operator = operator
            super().__init__(operator.out_shape, operator.in_shape, repr_str=repr(operator))

        def _apply(self, x: Any) -> Any:
            return array_of(self.operator(tensor_of(x).to(self.operator.device)))

        def _adjoint_linop(self) -> Any:
            return Restored(self.operator.H)

        def _normal_linop(self) -> Any:
            return Normal(self.operator)

    class Normal(base):
        """A^H A of one of our operators."""

        def __init__(self, operator: LinearOperator) -> None:
            self.operator = operator
            super().__init__(operator.in_shape, operator.in_shape, repr_str=f"{operator}.N")

        def _apply(self, x: Any) -> Any:
            return array_of(self.operator.normal(tensor_of(x).to(self.operator.device)))

        def _adjoint_linop(self) -> Any:
            return self

    return Restored
