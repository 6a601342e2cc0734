"""Runs of a measurement that a fit is not shown: how well it foresees them tells one model from another.

Called by samplers that choose a size of their model from the data. Pure functions of problems and tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from restore.problem import Problem
from restore.randomness import Draws
from restore.solvers.proximal import DataTerm

SHARE = 0.08
"""Of the runs, on the average over the items."""

ENOUGH = 0.01
"""Of the least error: a smaller model whose error is no more above it is preferred."""

LATER_FAULTS = 2
"""Sizes in a row that foresee less than one before them, after which no larger one is tried."""


def held_out_runs(problem: Problem, draws: Draws) -> Tensor:
    """True where samples are held out, to be broadcast to y: whole runs along the last axis of every item, for single
    samples say nothing that their neighbours in the same view or readout would not say.

    Which: drawn; how many: `SHARE` of them over the items, at most one more in an item than in another.
    """
    y, lead = problem.y, len(problem.image_shape) - problem.item_ndim
    shape, own = y.shape[:lead], y.ndim - lead
    runs = y.shape[-2] if own > 1 else y.shape[-1]
    places = torch.arange(math.prod(shape) + 1, dtype=torch.float64)
    counts = torch.floor(places * SHARE * runs + 0.5).diff().reshape(*shape, 1)
    drawn = draws.normal_like(torch.empty(*shape, runs), 1)
    held = drawn.argsort(-1).argsort(-1) < counts
    tail = (*[1] * (own - 2), runs, 1) if own > 1 else (runs,)
    return held.reshape(*shape, *tail).to(y.device)


def without_runs(term: DataTerm, held: Tensor) -> DataTerm:
    """The data term of what is not held out."""
    weight = 1.0 if term.precision is None else term.precision
    return DataTerm(term.operator, term.y, (~held).to(term.y.real.dtype) * weight)


def unforeseen(term: DataTerm, held: Tensor, x: Tensor) -> float:
    """Of images x: the mean of the weighted squares of what is held out and not explained."""
    weight = 1.0 if term.precision is None else term.precision
    squares = (held * weight * term.residual(x).abs().square()).sum(dtype=torch.float64)
    return float(squares) / max(int(held.broadcast_to(term.y.shape).sum()), 1)


def best_size(sizes: Iterable[int], error: Callable[[int], float]) -> int:
    """The smallest of rising sizes whose error is within `ENOUGH` of the least; those that follow `LATER_FAULTS` in
    a row which are above an earlier one are not tried."""
    errors: dict[int, float] = {}
    faults = 0
    for size in sizes:
        found = error(size)
        faults = faults + 1 if errors and found >= min(errors.values()) else 0
        errors[size] = found
        if faults == LATER_FAULTS:
            break
    return next(s for s, e in errors.items() if e <= (1 + ENOUGH) * min(errors.values()))
