"""Fit low-rank factors of a denoiser to one measurement, without a true image: adaptation at test time.

After Chung, Ye, "Deep diffusion image prior for efficient OOD adaptation in 3D inverse problems", ECCV 2024: the
residual that the denoiser's answer leaves in the data teaches the weights. Called by pipelines for `restore recon
--adapt fit`; touches no files, and changes no weights but those of its own copy.

Differs from the paper:
- one adapter for the whole scan, fitted on a few slices at a few levels at once. Level by level, as published, the last
  low levels, whose answers hardly depend on the weights, spoil the high ones (by 14 dB on the micro-CT, 15 views).
- rows of the measurement are held out and say when to stop; the factors that foretold them best are kept, those that
  change nothing included.
- the residual that teaches is that of the answer itself. After our data step, which converges where the paper's takes
  one CG step, next to nothing of it is left: 30-view micro-CT lost 0.1 dB that way and gains 0.2 dB this way. What
  decides on stopping is the held-out residual after the data step.
- the optimiser keeps its moments over all steps.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from restore.config import check_settings, setting
from restore.errors import ConfigError
from restore.priors.base import Denoiser
from restore.priors.image_prior import ImagePrior
from restore.priors.low_rank import Adapter, factors_of, fresh_adapter, trainable
from restore.priors.networks import in_eval_mode
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.dds import DDS
from restore.samplers.toolbox.chain import renoised
from restore.samplers.toolbox.consistency import weighted_term
from restore.solvers.proximal import DataTerm, data_step
from restore.training.held_out import HeldOut, hold_out

PATIENCE = 2
"""Steps in which the held-out residual may fail to fall before the fit ends."""


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """How an adapter is fitted. Raises ConfigError for values out of range."""

    rank: int = setting(4, "of the factors of every convolution", between=(1, 64))
    levels: int = setting(3, "noise levels", between=(3, 5))
    slices: int = setting(3, "slices, evenly spaced", between=(1, 64))
    steps: int = setting(20, "steps at most", between=(1, 1000))
    rate: float = setting(3e-4, "of AdamW", above=0)
    held_out: float = setting(
        0.05, "share of lines or views that say when to stop", between=(0.01, 0.5)
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def passes(self, slices: int) -> int:
        """Network calls and their gradients, each as dear as three calls, at most."""
        return (self.steps + 1) * self.levels * min(self.slices, slices)


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """An adapter, and how it came about: levels, rows held out, and the residuals after every step."""

    adapter: Adapter
    record: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class _Case:
    """A noisy slice at one level, with the data step that belongs to it. x: one item."""

    split: HeldOut
    term: DataTerm
    x: Tensor
    sigma: float
    turn: int
    weight: float
    cg_iters: int

    def answer(self, model: Denoiser) -> Tensor:
        """D(x, sigma)."""
        whole = self.split.whole
        images = ImagePrior(model, whole.item_shape, whole.operator.is_complex)
        return images(self.x, self.sigma, turn=self.turn)

    def consistent(self, x0: Tensor) -> Tensor:
        """argmin_v weight f(v) + ||v - x0||^2 / 2, f of the rows that are used."""
        return data_step(self.term, x0, self.weight, iters=self.cg_iters).x

    def teach(self, model: Denoiser) -> tuple[float, float]:
        """Add the gradient of sigma^2 f(D(x)), a sample's share, to that of the factors; the misfits before, of the
        consistent image."""
        with torch.enable_grad():
            x0 = self.answer(model)
        with torch.no_grad():
            pull = self.term.gradient(x0.detach()) * (self.sigma**2 / self.term.y.numel())
            misfits = self.split.misfits(self.consistent(x0.detach()))
        x0.backward(pull)
        return misfits


@torch.inference_mode(False)
@torch.no_grad()
def fit_adapter(
    model: Denoiser,
    problems: Sequence[Problem],
    settings: Adaptation = Adaptation(),
    *,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> Fitted:
    """Fit an adapter to measurements of single slices.

    problems: one a slice, with the ids by which noise and held-out rows are drawn. on_step hears the number of the step
    and the held-out residual before it. The same seed gives the same adapter on the same machine. Raises ConfigError
    for a model without convolutions, operators that are not linear, and too few lines or views.
    """
    if not problems or any(p.items != 1 for p in problems):
        raise ConfigError("an adapter is fitted to problems of one slice each, one or more")
    with in_eval_mode(model):
        cases = [case for p in problems for case in _chain(model, p, settings, seed)]
    twin, sums = trainable(model, fresh_adapter(model, settings.rank, seed))
    optimiser = torch.optim.AdamW(
        [f for s in sums.values() for f in s.parameters()], lr=settings.rate, weight_decay=0.0
    )
    best, used, aside = (0, factors_of(sums)), list[float](), list[float]()
    with in_eval_mode(twin):
        for step in range(settings.steps + 1):
            optimiser.zero_grad()
            misfits = [case.teach(twin) for case in cases]
            fit, held = (sum(m) / len(cases) for m in zip(*misfits, strict=True))
            if not aside or held < min(aside):
                best = (step, factors_of(sums))
            used.append(fit)
            aside.append(held)
            if on_step is not None:
                on_step(step, held)
            if step - best[0] >= PATIENCE:
                break
            optimiser.step()
    record = {
        **dataclasses.asdict(settings), "seed": seed, "sigmas": sorted({c.sigma for c in cases}, reverse=True),
        "rows_held_out": [c.split.rows for c in cases[:: settings.levels]], "kept_step": best[0],
        "residuals": used, "held_out_residuals": aside,
    }  # fmt: skip
    return Fitted(best[1], record)


def _chain(model: Denoiser, problem: Problem, settings: Adaptation, seed: int) -> list[_Case]:
    """The states of a short chain of tuned DDS on the rows that are used."""
    split = hold_out(problem, settings.held_out, seed)
    part = split.problem
    dds = DDS.configured("tuned", part.operator, {"n_steps": settings.levels})
    highest = max(dds.noise_range(part) or (dds.highest,))  # with what few data add to it
    dds = dataclasses.replace(dds, sigma_start=highest, few_data=0.0)
    levels, draws = dds.levels(), Draws(seed, [f"adapt/{name}" for name in problem.ids])
    x, cases = dds.first(part, draws, levels[0]), list[_Case]()
    for level in levels:
        case = _Case(
            split, weighted_term(part, level.sigma), x, level.sigma, level.i, dds.gamma * level.sigma**2, dds.cg_iters
        )  # fmt: skip
        cases.append(case)
        if level.next:
            xh = case.consistent(case.answer(model))
            x = renoised(xh, None, draws.normal_like(xh, problem.item_ndim), level.next, 1)
    return cases


@torch.inference_mode(False)
def cost_of_a_pass(model: Denoiser, problem: Problem, rank: int) -> tuple[int, float]:
    """Bytes that one slice holds for its gradient, and the seconds of a network call with it, by trying one."""
    twin, _ = trainable(model, fresh_adapter(model, rank, 0))
    held: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        held[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    images = ImagePrior(twin, problem.item_shape, problem.operator.is_complex)
    start = time.perf_counter()
    with (
        in_eval_mode(twin),
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(note, lambda t: t),
    ):
        images(torch.zeros_like(problem.degraded), 0.1).abs().sum().backward()
    return sum(held.values()), time.perf_counter() - start
