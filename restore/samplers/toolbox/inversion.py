"""From a clean code upward to the noise that it would have come from: by DDIM, or by steps that can be taken back.

Called by samplers that start from an inverted code. Codes are z = z0 + sigma n; `predict` asks the model, (z, level) ->
(zh, e) with z = zh + sigma e, and DDIM goes from z to zh + sigma' e. Draws nothing, touches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from restore.samplers.toolbox.levels import NoiseLevel, place

Inversion = Literal["ddim", "bdia", "edict"]
Predict = Callable[[Tensor, NoiseLevel], tuple[Tensor, Tensor]]

CALLS = {"ddim": 1, "bdia": 1, "edict": 2}
"""Network evaluations between two levels."""
MIXING = 0.93
"""EDICT's p, of each code in its mixture with the other one."""


def inversion_levels(levels: list[NoiseLevel], steps: int) -> list[float]:
    """steps + 1 ascending sigmas from the lowest to the highest of a chain, equally spaced along its steps."""
    sigmas = torch.tensor([level.sigma for level in reversed(levels)], dtype=torch.float64).log()
    there = torch.linspace(0, len(levels) - 1, steps + 1, dtype=torch.float64)
    low = there.floor().long().clamp(max=max(len(levels) - 2, 0))
    high = (low + 1).clamp(max=len(levels) - 1)
    return torch.lerp(sigmas[low], sigmas[high], there - low).exp().tolist()


def inverted(predict: Predict, z: Tensor, sigmas: Sequence[float], rule: Inversion) -> Tensor:
    """The code at the highest level whose path leads to z, a clean code; "ddim": near z. sigmas: ascending."""
    if rule == "bdia":
        return bdia_up(predict, z, sigmas)[0]
    if rule == "edict":
        return edict_up(predict, z, sigmas)[0]
    for i, (s, higher) in enumerate(
        pairwise(sigmas)
    ):  # e of the lower level stands for that of the higher one
        zh, e = predict(z, place(i, len(sigmas) - 1, s))
        z = torch.add(zh, e, alpha=higher)
    return z


def bdia_up(predict: Predict, z: Tensor, sigmas: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The codes at the highest level and at the one below, from z at the lowest of two levels or more.

    Zhang, Lewis, Kleijn, "Exact diffusion inversion via bi-directional integration approximation", ECCV 2024, with
    gamma 1: with z' the code a level above z, and 'below' the one below it, all in variance-preserving
    coordinates, below = DDIM(z to its level) + z' - DDIM(z to the level of z'). The first step up is DDIM's.
    """
    count = len(sigmas) - 1
    zh, e = predict(z, place(0, count, sigmas[0]))
    below, z = z, torch.add(zh, e, alpha=sigmas[1])
    for i in range(1, count):
        zh, e = predict(z, place(i, count, sigmas[i]))
        back = torch.add(zh, e, alpha=sigmas[i - 1])
        ahead = torch.add(zh, e, alpha=sigmas[i + 1])
        below, z = z, torch.add(ahead, below - back, alpha=1 / _kept(sigmas[i - 1], sigmas[i + 1]))
    return z, below


def bdia_down(predict: Predict, highest: Tensor, below: Tensor, sigmas: Sequence[float]) -> Tensor:
    """The code at the lowest level, from what `bdia_up` gave."""
    count = len(sigmas) - 1
    above, z = highest, below
    for i in range(count - 1, 0, -1):
        zh, e = predict(z, place(i, count, sigmas[i]))
        back = torch.add(zh, e, alpha=sigmas[i - 1])
        ahead = torch.add(zh, e, alpha=sigmas[i + 1])
        above, z = z, torch.add(back, above - ahead, alpha=_kept(sigmas[i - 1], sigmas[i + 1]))
    return z


def edict_up(predict: Predict, z: Tensor, sigmas: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The two coupled codes at the highest level, from z at the lowest for both.

    Wallace, Gokul, Naik, "EDICT: exact diffusion inversion via coupled transformations", CVPR 2023; two calls a step,
    both at the higher level.
    """
    x, y, count = z, z, len(sigmas) - 1
    for i, (s, higher) in enumerate(pairwise(sigmas)):
        y = (y - (1 - MIXING) * x) / MIXING
        x = (x - (1 - MIXING) * y) / MIXING
        level = place(i, count, higher)
        y = torch.add(y, predict(x, level)[1], alpha=higher - s)
        x = torch.add(x, predict(y, level)[1], alpha=higher - s)
    return x, y


def edict_down(
    predict: Predict, x: Tensor, y: Tensor, sigmas: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """The two codes at the lowest level, from what `edict_up` gave (the same paper)."""
    count = len(sigmas) - 1
    for i in range(count - 1, -1, -1):
        level, s, higher = place(i, count, sigmas[i + 1]), sigmas[i], sigmas[i + 1]
        x = torch.add(x, predict(y, level)[1], alpha=s - higher)
        y = torch.add(y, predict(x, level)[1], alpha=s - higher)
        x = MIXING * x + (1 - MIXING) * y
        y = MIXING * y + (1 - MIXING) * x
    return x, y


def _kept(low: float, high: float) -> float:
    """What a difference at the higher level counts at the lower one, in variance-preserving coordinates."""
    return ((1 + low**2) / (1 + high**2)) ** 0.5
