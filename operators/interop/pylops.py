"""pylops: its `LinearOperator` with dims and dimsd as our operator, and ours as one of its.

Called by users through `restore.operators.interop`. pylops is optional and imported on first use.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from restore.errors import ConfigError
from restore.extras import load_extra
from restore.operators.base import LinearOperator
from restore.operators.interop.foreign import Foreign
from restore.operators.interop.scipy import from_scipy, to_scipy


def from_pylops(
    operator: Any,
    *,
    is_complex: bool | None = None,
    kind: str = "image",
    allow_unmatched: bool = False,
) -> Foreign:
    """A `pylops.LinearOperator` as an operator: images of its dims, measurements of its dimsd, item by item on the CPU.

    is_complex: whether images are complex; by default by its dtype. Raises ConfigError (no pylops operator; one that is
    linear over real numbers only, such as a real FFT; an adjoint that is none unless `allow_unmatched`).
    """
    pylops = load_extra("pylops", "pylops", "from_pylops")
    if not isinstance(operator, pylops.LinearOperator):
        raise ConfigError(
            f"from_pylops: got a {type(operator).__name__}, expected a pylops.LinearOperator"
        )
    if not operator.clinear:
        raise ConfigError(
            f"from_pylops: {type(operator).__name__} is linear over real numbers only; use its complex form"
        )
    found = from_scipy(
        operator,
        operator.dims,
        operator.dimsd,
        is_complex=is_complex,
        kind=kind,
        allow_unmatched=allow_unmatched,
    )
    return dataclasses.replace(found, name=f"pylops {type(operator).__name__.strip('_')}")


def to_pylops(operator: LinearOperator) -> Any:
    """An operator as a `pylops.LinearOperator` with dims = in_shape and dimsd = out_shape.

    Raises ConfigError where pylops is missing.
    """
    return _restored()(operator)


@functools.cache
def _restored() -> Any:
    base: Any = load_extra("pylops", "pylops", "to_pylops").LinearOperator

    class Restored(base):
        """One of our operators."""

        def __init__(self, operator: LinearOperator) -> None:
            self._flat = to_scipy(operator)
            super().__init__(
                dtype=self._flat.dtype, dims=operator.in_shape, dimsd=operator.out_shape
            )

        def _matvec(self, x: Any) -> Any:
            return self._flat.matvec(x)

        def _rmatvec(self, y: Any) -> Any:
            return self._flat.rmatvec(y)

    return Restored
