"""What arithmetic with operators asks of its parts: whether they can be combined, and what the combination is.

Called by `restore.operators.base`, where the combinations lie. Imports only the contract, torch and the package's
errors: nothing here makes an operator.
"""

from __future__ import annotations

import cmath
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.contract import Operator


def no_operand(left: Operator, sign: str, right: object) -> ConfigError:
    """The error for what stands to the right of `left sign` and is no linear operator, with what to write instead."""
    if isinstance(right, Operator):
        why = "only linear operators are combined"
    elif isinstance(right, Tensor) and sign == "@":
        why = "apply an operator to a tensor by calling it: A(x)"
    else:
        why = "a number multiplies an operator by *"
    what = f"{left} {sign} {type(right).__name__}"
    return ConfigError(f"{what}: expected a linear operator on the right; {why}")


def finite_number(operator: Operator, factor: object) -> float | complex:
    """A finite Python number of what multiplies an operator. Raises ConfigError."""
    if isinstance(factor, Operator):
        raise ConfigError(f"{operator} * {factor}: the product of operators is written with @")
    value = factor
    if isinstance(factor, np.generic) or (isinstance(factor, Tensor) and factor.ndim == 0):
        value = factor.item()
    if isinstance(value, bool) or not isinstance(value, int | float | complex):
        raise ConfigError(
            f"{operator} * {type(factor).__name__}: expected one number; for a weight of each sample "
            "use Diagonal(weight, shape) @ A"
        )
    if not cmath.isfinite(value):
        raise ConfigError(f"{operator} * {value}: expected a finite number")
    return value if isinstance(value, complex) else float(value)


def shared_kind(operators: Iterable[Operator]) -> str:
    """The kind of a combination: that of the first part that is no plain image."""
    return next((op.kind for op in operators if op.kind != "image"), "image")


def shared_task(operators: Iterable[Operator]) -> str:
    """The task of a combination: that of all parts, "" where they differ."""
    tasks = {op.task for op in operators}
    return tasks.pop() if len(tasks) == 1 else ""


def shared_periodicity(operators: Iterable[Operator]) -> frozenset[str]:
    """The ability "periodic" where all parts have it, else none."""
    return frozenset({"periodic"} if all("periodic" in op.abilities for op in operators) else ())


def gain(operator: Operator) -> float:
    """What becomes of a flat image of one: the median magnitude of what is not zero; 1 where all is."""
    flat = torch.ones(operator.in_shape, dtype=operator._number, device=operator.device)
    size = operator(flat).abs()
    return float(size[size > 0].median()) if bool((size > 0).any()) else 1.0
