"""The steps of one sample, drained: the last of them, a record of every step, and where a time limit ended them.

Called by `restore.front_door` for every sample, and by nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from restore.errors import DivergenceError
from restore.priors.choosing import Prior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.time_limit import Pace, TimeLimit
from restore.trajectory import Trajectory


def drain(
    sampler: Sampler,
    problem: Problem,
    prior: Prior | None,
    draws: Draws,
    *,
    on_step: Callable[[Step], None] | None = None,
    trace: bool = False,
    limit: TimeLimit | None = None,
    trajectory: Trajectory | None = None,
) -> tuple[Step, list[dict[str, Any]]]:
    """The last step, whose estimate is the result, and a record of every step, the last with its misfit.

    limit: no step is begun that would not be done in time; the first always is. Where it ended the run, the last record
    has "ended_after": [steps done, of how many]. trajectory: is given every
    estimate. Raises DivergenceError for a result that is not finite.
    """
    start, last, records = time.perf_counter(), None, []
    pace = None if limit is None else Pace(limit)
    for step in sampler.steps(problem, prior, draws):
        last = step
        records.append(
            {"step": step.i, "sigma": step.sigma, "evaluations": step.evaluations, **step.info}
        )
        if trace:
            records[-1]["misfit"] = problem.without(step.structured).misfit(step.x0)
        if trajectory is not None:
            trajectory.add(step)
        if on_step is not None:
            on_step(step)
        if pace is not None and pace.over() and step.i + 1 < step.n:
            records[-1]["ended_after"] = [step.i + 1, step.n]
            break
    if last is None or not bool(torch.isfinite(last.x0).all()):
        raise DivergenceError(f"{type(sampler).__name__}: the result is not finite")
    misfit = problem.without(last.structured).misfit(last.x0)
    if not math.isfinite(misfit):
        raise DivergenceError(
            f"{type(sampler).__name__}: the misfit of the result is not finite, its values reach "
            f"{float(last.x0.abs().max()):.3g}; a step size or weight is too large"
        )
    records[-1] |= {"misfit": misfit, "seconds": time.perf_counter() - start}
    return last, records
