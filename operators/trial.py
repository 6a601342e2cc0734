"""A trial: one operator before one law, with random images for it and a list of what was found.

Called by `restore.operators.laws`; imports only the contract. Draws from generators of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from restore.errors import RestoreError
from restore.operators.contract import Operator

ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Relative errors that count as rounding: some thousand operations with the least digit of each precision."""


class Trial:
    """One operator before one law: random images for it, and what was found."""

    def __init__(self, operator: Operator, tolerance: float | None, seed: int) -> None:
        self.operator, self.tolerance, self.seed = operator, tolerance, seed
        self.failures: list[str] = []
        self.error = 0.0
        self.real = (
            operator.dtype
        )  # of the numbers that are drawn; operators without tensors take any

    def run(self, law: Callable[[Trial], None]) -> None:
        """Try; whatever the operator raises is a finding."""
        try:
            law(self)
        except RestoreError as error:
            self.failures.append(f"was refused: {error}")
        except Exception as error:  # the operator's own, of any kind
            told = str(error).strip().splitlines()
            self.failures.append(f"raised {type(error).__name__}: {told[0] if told else ''}")

    def double(self) -> Operator:
        """The operator in double precision, in which numbers are drawn from here on."""
        return self.of(torch.float64)

    def of(self, real: torch.dtype) -> Operator:
        """The operator in a precision, in which numbers are drawn from here on."""
        self.real = real
        return self.operator.to(real)

    def image(self, op: Operator, *batch: int, number: int = 0, positive: bool = False) -> Tensor:
        """Random numbers of the shape and kind of an image; in 0..1 for operators that are not linear."""
        return self._draw(op, (*batch, *op.in_shape), op.is_complex, number, positive)

    def measurement(self, op: Operator, *batch: int, number: int = 7) -> Tensor:
        """Random numbers of the shape and kind of a measurement."""
        single = op(self.image(op))
        return self._draw(op, (*batch, *op.out_shape), single.is_complex(), number, False)

    def _draw(
        self, op: Operator, shape: tuple[int, ...], complex_: bool, number: int, positive: bool
    ) -> Tensor:
        g = torch.Generator().manual_seed(self.seed * 1000 + number)
        dtype = self.real.to_complex() if complex_ else self.real
        if positive or "linear" not in op.abilities:
            x = torch.rand(shape, generator=g, dtype=self.real).to(dtype)
        else:
            x = torch.randn(shape, generator=g, dtype=dtype)
        return x.to(op.device)

    def expect(self, holds: bool, sentence: str) -> bool:
        """Note the sentence unless it holds."""
        if not holds:
            self.failures.append(sentence)
        return holds

    def same(
        self,
        got: Tensor,
        wanted: Tensor,
        what: str,
        *,
        scale: float | None = None,
        loss: float = 1,
        least: float = 0,
    ) -> None:
        """Note where two tensors differ by more than rounding, relative to `scale` or the second one's length.

        loss: how many times more than a product's rounding is to be expected. least: the error of the comparison.
        """
        if not self.expect(
            got.shape == wanted.shape,
            f"{what}: shapes {shape_of(got)} and {shape_of(wanted)} differ",
        ):
            return
        length = float(torch.linalg.vector_norm(wanted)) if scale is None else scale
        error = float(torch.linalg.vector_norm(got - wanted)) / (length or 1.0)
        limit = max(loss * (self.tolerance or ROUNDING[wanted.dtype.to_real()]), least)
        self.error = max(self.error, error) if math.isfinite(error) else math.inf
        self.expect(
            error <= limit, f"{what} (relative error {error:.1e}, expected below {limit:.0e})"
        )


def shape_of(x: Tensor) -> str:
    """The shape, as people write it."""
    return str(tuple(x.shape))
