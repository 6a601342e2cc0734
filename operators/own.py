"""Somebody's own operator, tried on two random images before a run: what would spoil every result is refused.

Called by `restore.solve` for operators that are not of this package; a handful of products. `restore.operators.check`
tries everything that the contract promises. Draws from a generator of its own, touches nothing.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor

from restore.errors import ConfigError, RestoreError
from restore.operators.base import LinearOperator
from restore.operators.contract import Operator
from restore.operators.nonlinear import NonlinearOperator

OWN_PACKAGE = __name__.partition(".")[0]
ROUNDING = 1e-3
"""Of |A x|^2, and of A x: single precision over long sums has 1e-5; what a sampler makes of less does not show."""
ROUNDING_OF_RANDOM = 1e-4
"""Of |A x| |y|, y random: of a million numbers <A x, y> itself is 1e-3 of that; single precision has 1e-6."""
STEP, ROUGHLY = 1e-2, 0.5
"""Of random images of deviation 1, where a gradient is held against differences; of these, which kinks do not reach."""
_IN_TORCH = "compute it with torch throughout (no numpy, no .detach(), no rounding), or give it a _vjp of its own"
_CHECK = "`restore.operators.check` says more"


def check_own(operator: Any) -> None:
    """Refuse what is no operator, and an own one that breaks its contract on random images (ConfigError)."""
    if not isinstance(operator, Operator):
        raise ConfigError(_what_is_no_operator(operator))
    if not _is_own(operator):
        return
    name = type(operator).__name__
    try:
        fault = _fault(operator)
    except (RestoreError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # its own, of any kind: the caller is told whose
        told = str(error).strip().splitlines()
        raise ConfigError(
            f"operator {name} failed on random images: {type(error).__name__}: {told[0] if told else ''}"
        ) from error
    if fault:
        raise ConfigError(f"operator {name}: {fault}; {_CHECK}")


def _what_is_no_operator(given: Any) -> str:
    expected = "expected an operator: one of restore.operators, of your own (restore.operators.LinearOperator)"
    if inspect.isclass(given):
        return f"operator is the class {given.__name__}, {expected}; make an instance of it: {given.__name__}(...)"
    others = "of another library (restore.operators.interop)"
    return f"operator is a {type(given).__name__}, {expected}, or one {others}"


def _is_own(operator: Operator) -> bool:
    """Whether it, or one inside it, is a class of somebody else."""
    if type(operator).__module__.partition(".")[0] != OWN_PACKAGE:
        return True
    return any(_is_own(part) for part in operator._parts() if isinstance(part, Operator))


def _fault(operator: Operator) -> str:
    """What is wrong, in words; nothing where all is well."""
    number = operator.dtype.to_complex() if operator.is_complex else operator.dtype
    shape = tuple(operator.in_shape)
    x, z = (_random(shape, number, operator.device, seed) for seed in (0, 1))
    if not isinstance(operator, LinearOperator):
        x = x.abs()  # counts and intensities: what is not linear need not know negative ones
    kept = x.clone()
    ax = operator(x)
    if not isinstance(ax, Tensor):
        return f"A(x) is a {type(ax).__name__}, expected a torch.Tensor"
    if tuple(ax.shape) != tuple(operator.out_shape):
        return f"A(x) has shape {tuple(ax.shape)}, and out_shape is {tuple(operator.out_shape)}"
    if ax.dtype.to_real() != x.dtype.to_real():
        return f"A(x) is {_name(ax)} for x of {_name(x)}, expected the same precision (.to(x.dtype) at its end)"
    if not bool(torch.isfinite(ax).all()):
        return "A(x) is not finite for random numbers x"
    if not torch.equal(x, kept):
        return "A(x) changes x, which it must leave as it is (no in-place work on its input)"
    if not torch.equal(operator(x), ax):
        return "A(x) gives another result the second time"
    if isinstance(operator, LinearOperator):
        return _linear_fault(operator, x, z, ax)
    return _gradient_fault(operator, x, z) if isinstance(operator, NonlinearOperator) else ""


def _gradient_fault(operator: NonlinearOperator, x: Tensor, z: Tensor) -> str:
    """Samplers follow the gradient: one that is cut (numpy, detach, rounding), or another's, leads nowhere."""
    x = x + 10 * STEP  # within the domain also where z is negative
    change = (operator(x + STEP * z) - operator(x - STEP * z)) / (2 * STEP)
    size = float(torch.linalg.vector_norm(change)) ** 2
    if not math.isfinite(size) or size == 0:
        return ""
    try:
        back = operator.vjp(x, change)
    except RuntimeError as error:
        return f"no gradient goes through it ({str(error).strip().splitlines()[0]}): {_IN_TORCH}"
    told = float(torch.vdot(back.flatten(), z.flatten()).real)
    if abs(told - size) <= ROUGHLY * size:
        return ""
    return f"its gradient tells a change of {told / size:.2g} where the measurement changes by 1: {_IN_TORCH}"


def _linear_fault(operator: LinearOperator, x: Tensor, z: Tensor, ax: Tensor) -> str:
    y = _random(tuple(ax.shape), ax.dtype, ax.device, 2)
    kept = y.clone()
    back = operator.adjoint(y)
    if tuple(back.shape) != tuple(x.shape):
        return f"A^H y has shape {tuple(back.shape)}, and in_shape is {tuple(x.shape)}"
    if back.dtype != x.dtype:
        how = (
            "give it is_complex, or take the real part"
            if back.is_complex()
            else ".to(...) at its end"
        )
        return f"A^H y is {_name(back)} for y of {_name(y)}, and images are {_name(x)} ({how})"
    if not torch.equal(y, kept):
        return "A^H y changes y, which it must leave as it is (no in-place work on its input)"
    norm = torch.linalg.vector_norm
    both = operator(2 * x + z)
    off = float(norm(both - 2 * ax - operator(z)) / norm(both).clamp(min=1e-30))
    if off > ROUNDING:
        return (
            f"A(2 x + z) differs from 2 A(x) + A(z) by {off:.2g} of it: it is not linear; make it a NonlinearOperator, "
            "and take an offset out of A and of the measurement"
        )
    for v, rounding in ((ax, ROUNDING), (y, ROUNDING_OF_RANDOM)):
        left = torch.vdot(v.flatten(), ax.flatten())
        right = torch.vdot(operator.adjoint(v).flatten(), x.flatten())
        if float((left - right).abs()) > rounding * float(norm(ax) * norm(v)):
            return (
                f"<A x, y> is {_number(left)} and <x, A^H y> is {_number(right)} for the same x and y: its adjoint is "
                "not that of A"
            )
    return ""


def _name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _number(value: Tensor) -> str:
    plain = value.item()
    return f"{plain:.4g}"


def _random(shape: tuple[int, ...], number: torch.dtype, device: torch.device, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=number, device="cpu").to(device)
