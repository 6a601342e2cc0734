"""The training loop that every family shares: budget, learning rate, averaged weights, state files, reports.

A family gives a network and a loss of a step; what it draws depends on the step's number alone, so that a resumed
training sees the same batches. The learning rate follows a cosine over the budget, which is steps or minutes, whichever
is used up first; so a training on a shared machine anneals in time.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from restore.errors import ConfigError, DivergenceError, OutputError
from restore.training.checkpoint import load_state, save_state
from restore.training.identity import Identity
from restore.training.muon import MuonAdam, split_parameters

Report = Callable[[dict[str, Any]], None]
N = TypeVar("N", bound=nn.Module)
HIGHEST_RATE = 100.0  # far above any that trains, which is near 1


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long and how fast.

    rate: of the learning rate; below 1 for fine-tuning. ema: of the averaged weights, 0 to 1. warmup: steps over which
    the learning rate rises. Raises ConfigError.
    """

    steps: int = 1_000_000
    minutes: float = 60.0
    rate: float = 1.0
    ema: float = 0.999
    warmup: int = 100

    def __post_init__(self) -> None:
        if not (self.steps >= 1 and self.minutes > 0 and 0 < self.rate <= HIGHEST_RATE):
            raise ConfigError(
                f"training needs steps >= 1, minutes > 0 and rate above 0 up to {HIGHEST_RATE:g}, got steps "
                f"{self.steps}, minutes {self.minutes:g}, rate {self.rate:g}"
            )
        if not (0 <= self.ema < 1 and self.warmup >= 1):
            raise ConfigError(
                f"training needs ema from 0 to below 1 and warmup >= 1, got {self.ema}, {self.warmup}"
            )


@dataclasses.dataclass
class Progress:
    """How far a training has come; stored in its state file."""

    step: int = 0
    seconds: float = 0.0


def train(
    network: N,
    loss: Callable[[int], Tensor],
    budget: Budget,
    state_file: Path,
    *,
    identity: Identity,
    figures: Callable[[N], dict[str, Any]],
    adam_names: tuple[str, ...] = ("enter", "leave"),
    every_s: float = 180.0,
    report: Report = lambda record: None,
) -> tuple[N, Progress]:
    """Train `network` in place until the budget is used up; a `state_file` that exists is continued.

    loss: of the step of this number, with `network`'s present weights. identity: what the training is made of; a state
    of another is refused. figures: validation of a network, reported with the loss whenever the state is saved, every
    `every_s` seconds. adam_names: parameters that Muon must not touch. Returns a copy with averaged weights. Raises
    DivergenceError when the loss or the weights stop being finite, ConfigError for the state of another training,
    WeightsError for a damaged one, OutputError before the work where the state cannot be written.
    """
    optimiser = split_parameters(network, adam_names)
    ema = {k: v.detach().clone() for k, v in network.state_dict().items()}
    progress = Progress()

    def save() -> None:
        record = {"progress": dataclasses.asdict(progress), "identity": dict(identity)}
        save_state(state_file, network, ema, optimiser, record)

    if state_file.exists():
        progress = Progress(*load_state(state_file, network, ema, optimiser, identity))
    else:
        save()  # shows before the work that the disk takes it
    start, saved = time.monotonic() - progress.seconds, time.monotonic()
    loss_sum, count = 0.0, 0
    while (done := _fraction(progress, budget)) < 1:
        rise = min(1.0, (progress.step + 1) / budget.warmup)
        optimiser.factor = budget.rate * rise * 0.5 * (1 + math.cos(math.pi * done))
        loss_sum, count = loss_sum + _step(network, loss, optimiser, progress.step), count + 1
        decay = min(budget.ema, (1 + progress.step) / (10 + progress.step))
        for k, v in network.state_dict().items():
            ema[k].lerp_(v, 1 - decay)
        progress = Progress(progress.step + 1, time.monotonic() - start)
        if time.monotonic() - saved > every_s or _fraction(progress, budget) >= 1:
            _check_weights(ema, progress.step)
            save()
            report({
                "step": progress.step, "minutes": round(progress.seconds / 60, 2), "loss": loss_sum / count,
                **figures(_averaged(network, ema)),
            })  # fmt: skip
            saved, loss_sum, count = time.monotonic(), 0.0, 0
    return _averaged(network, ema), progress


def _step(
    network: nn.Module, loss: Callable[[int], Tensor], optimiser: MuonAdam, step: int
) -> float:
    value = loss(step)
    if not torch.isfinite(value):
        raise DivergenceError(
            f"training loss is {float(value.detach())} at step {step}; start again from the last state"
        )
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    return float(value.detach())


def _check_weights(weights: dict[str, Tensor], step: int) -> None:
    """Weights that are not finite never replace a state that can be continued. Raises DivergenceError."""
    if not all(bool(torch.isfinite(v).all()) for v in weights.values() if v.is_floating_point()):
        raise DivergenceError(
            f"the weights are not finite after {step} steps; continue from the last state with a lower --rate"
        )


def _fraction(progress: Progress, budget: Budget) -> float:
    return max(progress.step / budget.steps, progress.seconds / (60 * budget.minutes))


def _averaged(network: N, weights: dict[str, Tensor]) -> N:
    averaged = copy.deepcopy(network)
    averaged.load_state_dict(weights)
    return averaged.eval()


def append_json_line(path: Path, record: dict[str, Any]) -> None:
    """Add one record to a training log. Raises OutputError."""
    try:
        with path.open("a", encoding="utf-8") as f:
            f.write(json.dumps(record) + "\n")
    except OSError as error:
        raise OutputError(f"{path}: could not be written: {error.strerror or error}") from error
