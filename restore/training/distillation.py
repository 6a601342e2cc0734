"""Distil a denoiser to a few steps for one family of operators, end to end: `restore distill`.

The chain of the sampler `fewstep` is a network of n evaluations with a data step behind each; its answer is compared
with the clean crop, and weights, levels, weights of the data and wires are learnt together, from a denoiser's. After
Chen and others, "Invertible diffusion models for compressed sensing", IEEE TPAMI 2025; gradients go back by
`restore.training.reversible`.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from restore.config import check_settings, setting, shared
from restore.errors import ConfigError
from restore.precision import autocast
from restore.priors.distilled import (
    LEAST_MIX,
    MOST_MIX,
    DistilledModel,
    DistilledPrior,
    FewSteps,
)
from restore.priors.edm import EDMDenoiser
from restore.priors.unet import UNet
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.fewstep import CG_ITERS, FewStep
from restore.samplers.toolbox.levels import geometric
from restore.samplers.toolbox.smooth_start import smoothest
from restore.samplers.toolbox.wired import moved
from restore.solvers.differentiable_step import DifferentiableStep
from restore.training.degradations import TrainingTask
from restore.training.denoiser import Batches, DenoiserTraining
from restore.training.identity import identity_of
from restore.training.loop import Budget, Progress, Report, train
from restore.training.precision import Precision, dtype_of
from restore.training.reversible import reversibly
from restore.training.workers import ALONE, Workers

QUICKER = 10.0
"""The numbers of the steps are learnt so many times as fast as Adam's rate: they have far to go and are few."""
SIDE = 128
"""Of validation images."""


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Hyper-parameters of one training. Levels, and noise of the task, in units of an image in [0, 1]."""

    task: TrainingTask
    evaluations: int = setting(3, "network evaluations of a run", between=(1, 100))
    budget: Budget = dataclasses.field(default_factory=Budget)
    batch: int = shared(DenoiserTraining, "batch")
    crop: int = setting(56, "side of a crop in pixels", between=(16, 4096))
    seed: int = 0
    sigma_start: float = setting(0.1, "first level of the first chain", above=0)
    sigma_end: float = setting(0.03, "its last level", above=0)
    weight: float = setting(30.0, "of its data, and more by 1/sigma^2", above=0)
    mix: float = setting(0.2, "of its wires", between=(LEAST_MIX, MOST_MIX))
    precision: Precision = shared(DenoiserTraining, "precision")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.sigma_end > self.sigma_start:
            raise ConfigError(
                f"levels from {self.sigma_start} up to {self.sigma_end}; they descend"
            )

    @property
    def first(self) -> FewSteps:
        """The chain that the training begins with."""
        sigmas = geometric(self.evaluations, self.sigma_start, self.sigma_end)
        weights = [self.weight * (sigmas[0] / s) ** 2 for s in sigmas]
        return FewSteps(tuple(sigmas), tuple(weights), (self.mix,) * (self.evaluations - 1))

    def measured(self, x0: Tensor, generator: torch.Generator) -> Problem:
        """Clean crops (N, channels, H, W) seen by one operator of the family, with its noise."""
        operator = self.task.operator(tuple(x0.shape[1:]), generator).to(x0.device).to(x0.dtype)
        y = operator(x0)
        noise = self.task.noise * torch.randn(y.shape, generator=generator)
        return Problem(operator.project(y + noise.to(y)), operator)


class FewStepNetwork(nn.Module):
    """A denoiser's network and the numbers of its steps, as parameters that are learnt together.

    Kept are the logarithms of levels and weights and the logits of mixes, divided by `QUICKER`.
    """

    def __init__(self, network: nn.Module, steps: FewSteps) -> None:
        super().__init__()
        self.network = network

        def kept(values: Sequence[float], inverse: Callable[[float], float]) -> nn.Parameter:
            return nn.Parameter(torch.tensor([inverse(v) / QUICKER for v in values]))

        self.sigma, self.weight = kept(steps.sigmas, math.log), kept(steps.weights, math.log)
        self.mix = kept(steps.mixes, _mix_to_logit)

    def numbers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Levels, weights and mixes, with gradients."""
        share = (QUICKER * self.mix).sigmoid()
        sigma, weight = (QUICKER * self.sigma).exp(), (QUICKER * self.weight).exp()
        return sigma, weight, LEAST_MIX + (MOST_MIX - LEAST_MIX) * share

    @torch.no_grad()
    def steps(self) -> FewSteps:
        """The numbers as they are now."""
        sigma, weight, mix = (tuple(v.tolist()) for v in self.numbers())
        return FewSteps(sigma, weight, tuple(min(max(m, LEAST_MIX), MOST_MIX) for m in mix))


def train_distilled(
    corpus: Batches,
    validation: Sequence[Tensor],
    settings: Distillation,
    prior: EDMDenoiser,
    state_file: Path,
    *,
    device: str = "cpu",
    workers: Workers = ALONE,
    report: Report = lambda record: None,
) -> tuple[DistilledModel, Progress]:
    """Train until the budget is used up; a `state_file` that exists is continued.

    prior: the denoiser to start from, which is left as it is. validation: clean images (channels, H, W) in [0, 1].
    Raises DivergenceError, ConfigError for the state of another training and for a prior whose network is not the
    package's own, WeightsError, OutputError, LostWorkerError.
    """
    if not isinstance(prior.network, UNet):
        raise ConfigError(f"{prior.name}: its network is not of the kind that is trained here")
    fresh = copy.deepcopy(prior.network).requires_grad_(True)
    network = FewStepNetwork(fresh, settings.first).to(device)

    def with_network(trained: FewStepNetwork) -> DistilledModel:
        own = denoiser_around(prior, trained.network)
        return DistilledModel(own, trained.steps(), settings.task.family(prior.channels))

    def figures(trained: FewStepNetwork) -> dict[str, Any]:
        model = with_network(trained)
        psnr = {"psnr": few_step_psnr(model, validation, settings)} if validation else {}
        return psnr | {k: _rounded(v) for k, v in dataclasses.asdict(model.steps).items()}

    averaged, progress = train(
        network, _loss(network, prior, corpus, settings, device, workers), settings.budget, state_file,
        identity=identity_of(
            corpus.fingerprint, settings, prior.network.config, prior.network, bridge="fewstep"
        ),
        figures=figures, adam_names=("network.enter", "network.leave"),
        dtype=dtype_of(settings.precision), workers=workers, report=report,
    )  # fmt: skip
    return with_network(averaged), progress


def denoiser_around(prior: EDMDenoiser, network: nn.Module) -> EDMDenoiser:
    """A denoiser of the prior's form around another network."""
    made = EDMDenoiser(
        network, sigma_data=prior.sigma_data, channels=prior.channels, multiple=prior.multiple,
        sigma_min=prior.sigma_min, sigma_max=prior.sigma_max, intensity=prior.intensity,
        complex_mode=prior.complex_mode,
    )  # fmt: skip
    made.scaling = prior.scaling
    return made


def restored(
    network: FewStepNetwork, denoise: Callable[[Tensor, Tensor], Tensor], problem: Problem
) -> Tensor:
    """The chain's answer to a problem, (N, channels, H, W), with gradients for all of the network.

    denoise: D(x, sigma) around `network.network`. All steps but the last are reversible.
    """
    consistent = DifferentiableStep(problem.unweighted, CG_ITERS)

    def step(k: int, x: Tensor) -> tuple[Tensor, Tensor]:
        sigma, weight, mix = network.numbers()
        x0 = denoise(x, sigma[k])
        return moved(x, x0, consistent(x0, weight[k]), sigma[k + 1] / sigma[k]), mix[k]

    last = len(network.sigma) - 1
    x = reversibly(step, last, smoothest(problem), list(network.parameters()))
    sigma, weight, _ = network.numbers()
    return consistent(denoise(x, sigma[last]), weight[last])


def _loss(
    network: FewStepNetwork,
    prior: EDMDenoiser,
    corpus: Batches,
    settings: Distillation,
    device: str,
    workers: Workers,
) -> Callable[[int], Tensor]:
    own = denoiser_around(prior, network.network)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        with autocast(dtype_of(settings.precision), device):
            return own(x, sigma)

    def loss(step: int) -> Tensor:
        g = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        clean = corpus.batch(step, settings.batch).to(device)
        whole = settings.measured(clean, g)
        clean, y = workers.share(clean, whole.y)
        return (restored(network, denoise, Problem(y, whole.operator)) - clean).abs().mean()

    return loss


@torch.no_grad()
def few_step_psnr(model: DistilledModel, images: Sequence[Tensor], settings: Distillation) -> float:
    """PSNR in dB of the sampler `fewstep` with a model, the mean over images, the corners of 128 x 128 of them."""
    total = 0.0
    for seed, image in enumerate(images):
        x0 = image[:, :SIDE, :SIDE]
        problem = settings.measured(x0[None], torch.Generator().manual_seed(seed))
        prior = DistilledPrior(model, problem.item_shape, complex_=False)
        *_, last = FewStep(n_steps=model.steps.count).steps(problem, prior, Draws(0, problem.ids))
        total -= 10 * math.log10(float((last.x0[0] - x0).square().mean()))
    return round(total / max(1, len(images)), 3)


def _mix_to_logit(mix: float) -> float:
    share = (mix - LEAST_MIX) / (MOST_MIX - LEAST_MIX)
    return math.log(share / (1 - share))


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{v:.4g}") for v in values]
