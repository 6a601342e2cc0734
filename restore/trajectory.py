"""How far the last estimates of a run moved: the trajectory map, a deviation over the steps of one sample.

Filled by `restore.draining` step by step for `restore.front_door`. It costs two images and no call of network or
operator. It orders pixels by how unsettled they are and is no deviation of the posterior (docs/uncertainty-map.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.operators.base import Operator
from restore.problem import Step

HALVINGS = 12
"""Of an estimate's weight in a run: a twelfth of the steps later it counts half. That tells about what equal weights of
the last half of the steps do, and a run may end at any of them."""


class Trajectory:
    """Mean and variance of the estimates of one run, later ones weighing more.

    With a = 1 - 2^(-12/n) for n steps and d = x - m: m' = m + a d, v' = (1 - a)(v + a d^2), the exact variance under
    these weights (West, "Updating mean and variance estimates", Communications of the ACM 1979). Magnitudes of complex
    images.
    """

    def __init__(self, operator: Operator) -> None:
        self.operator, self.steps = operator, 0
        self.mean: Tensor = torch.empty(0)
        self.variance: Tensor = torch.empty(0)

    def add(self, step: Step) -> None:
        """The next estimate, in unit intensities."""
        x = self.operator.shown(step.x0)
        x = x.abs() if x.is_complex() else x
        if self.steps == 0:
            self.mean, self.variance = x.clone(), torch.zeros_like(x)
        else:
            a, d = 1 - 0.5 ** (HALVINGS / max(step.n, HALVINGS)), x - self.mean
            self.mean = self.mean + a * d
            self.variance = (1 - a) * (self.variance + a * d.square())
        self.steps += 1


def deviation(runs: list[Trajectory]) -> Tensor:
    """The root of the mean variance of all runs, (*batch, *image) in unit intensities."""
    return torch.stack([run.variance for run in runs]).mean(0).sqrt()


def said_of(runs: list[Trajectory]) -> list[str]:
    """What a user must know of a map that holds nothing."""
    if any(run.steps > 1 for run in runs):
        return []
    return [
        "where a run had a single step, nothing could move: the trajectory map is 0 and says nothing"
    ]
