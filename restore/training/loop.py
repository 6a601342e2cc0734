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

from restore.config import check_settings, setting
from restore.errors import ConfigError, DivergenceError, OutputError
from restore.training.checkpoint import load_state, save_state
from restore.training.identity import Identity
from restore.training.muon import MuonAdam, split_parameters
from restore.training.workers import ALONE, Workers

Report = Callable[[dict[str, Any]], None]
N = TypeVar("N", bound=nn.Module)
SAVE_EVERY_S = 180.0  # what a killed training loses at most
HIGHEST_RATE = 100.0  # far above any that trains, which is near 1


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long and how fast; whichever of steps and minutes ends first. Raises ConfigError."""

    steps: int = setting(1_000_000, "steps at most", between=(1, 10**9))
    minutes: float = setting(60.0, "minutes at most", above=0)
    rate: float = setting(
        1.0, "of the learning rate; below 1 for fine-tuning", above=0, at_most=HIGHEST_RATE
    )
    ema: float = setting(0.999, "decay of the averaged weights", at_least=0, below=1)
    warmup: int = setting(100, "steps over which the learning rate rises", between=(1, 10**9))

    def __post_init__(self) -> None:
        check_settings(self)


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
    dtype: torch.dtype = torch.float32,
    workers: Workers = ALONE,
    report: Report = lambda record: None,
) -> tuple[N, Progress]:
    """Train `network` in place until the budget is used up; a `state_file` that exists is continued.

    loss: of the step of this number, with `network`'s present weights. identity: what the training is made of; a
    state of another is refused. figures: validation of a network, reported with the loss whenever the state is saved,
    every `SAVE_EVERY_S` seconds. adam_names: what Muon must not touch; dtype: in which it computes. workers: the
    processes that train together, of which the first writes and reports. Returns a copy with averaged weights. Raises
    DivergenceError when loss or weights stop being finite, ConfigError for the state of another training, WeightsError
    for a damaged one, OutputError before the work where the state cannot be written, LostWorkerError.
    """
    run = _Run(network, split_parameters(network, adam_names, dtype), state_file, identity)
    progress = run.begun(workers)
    shared = workers.together(network, loss)
    start, saved = time.monotonic() - progress.seconds, progress.seconds
    loss_sum, count = 0.0, 0
    while (done := _fraction(progress, budget)) < 1:
        rise = min(1.0, (progress.step + 1) / budget.warmup)
        run.optimiser.factor = budget.rate * rise * 0.5 * (1 + math.cos(math.pi * done))
        with workers.kept():
            loss_sum, count = (
                loss_sum + _step(network, shared, run.optimiser, progress.step),
                count + 1,
            )
        run.average(min(budget.ema, (1 + progress.step) / (10 + progress.step)))
        (seconds,) = workers.agreed(time.monotonic() - start)
        progress = Progress(progress.step + 1, seconds)
        if seconds - saved > SAVE_EVERY_S or _fraction(progress, budget) >= 1:
            _check_weights(run.ema, progress.step)
            mean = workers.mean(loss_sum / count)
            if workers.first:
                run.save(progress)
                report({
                    "step": progress.step, "minutes": round(seconds / 60, 2), "loss": mean,
                    **figures(_averaged(network, run.ema)),
                })  # fmt: skip
            saved, loss_sum, count = time.monotonic() - start, 0.0, 0
    workers.mean(0)  # nobody goes on before the first has written the state
    return _averaged(network, run.ema), progress


@dataclasses.dataclass
class _Run:
    """What a state file holds of a training, and the way there and back."""

    network: nn.Module
    optimiser: MuonAdam
    state_file: Path
    identity: Identity

    def __post_init__(self) -> None:
        self.ema = {k: v.detach().clone() for k, v in self.network.state_dict().items()}

    def begun(self, workers: Workers) -> Progress:
        """How far the state has come; without one it is written, which shows before the work that the disk takes it."""
        found, progress = self.state_file.exists(), Progress()
        if found:
            progress = Progress(
                *load_state(self.state_file, self.network, self.ema, self.optimiser, self.identity)
            )
        if (
            workers.mean(progress.step) != progress.step
        ):  # all have looked, before one of them writes
            raise ConfigError(
                f"{self.state_file}: not all processes find the same state there; give a folder that they share"
            )
        if not found and workers.first:
            self.save(progress)
        return progress

    def save(self, progress: Progress) -> None:
        """Write the state. Raises OutputError."""
        record = {"progress": dataclasses.asdict(progress), "identity": dict(self.identity)}
        save_state(self.state_file, self.network, self.ema, self.optimiser, record)

    def average(self, decay: float) -> None:
        """Move the averaged weights towards the present ones."""
        for k, v in self.network.state_dict().items():
            self.ema[k].lerp_(v, 1 - decay)


def _step(
    network: nn.Module, loss: Callable[[int], Tensor], optimiser: MuonAdam, number: int
) -> float:
    value = loss(number)
    if not torch.isfinite(value):
        raise DivergenceError(
            f"training loss is {float(value.detach())} at step {number}; start again from the last state"
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
