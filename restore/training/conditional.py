"""Train a conditional model: `restore train conditional`, and for one bridge `restore train resshift|rddm|mrs`.

The network is told sigma = c/a and shown x_t - (1 - a) y with y beside it, so that one set of weights serves every
bridge (`restore.priors.bridge_edm`). What a family decides is which levels are drawn and how errors are weighed:
`restore.training.families`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from restore.bridges.base import Level
from restore.config import check_settings, setting, shared
from restore.errors import ConfigError
from restore.precision import autocast
from restore.priors.bridge_edm import BridgeDenoiser, build_bridge_denoiser
from restore.priors.edm import EDMDenoiser
from restore.priors.unet import UNet, UNetConfig
from restore.training.degradations import TrainingTask
from restore.training.denoiser import Batches, DenoiserTraining, adapted_weights
from restore.training.families import Drawn, Family
from restore.training.identity import identity_of
from restore.training.loop import Budget, Progress, Report, train
from restore.training.precision import Precision, dtype_of
from restore.training.workers import ALONE, Workers


@dataclasses.dataclass(frozen=True)
class ConditionalTraining:
    """Hyper-parameters of one training."""

    tasks: tuple[TrainingTask, ...]
    budget: Budget = dataclasses.field(default_factory=Budget)
    batch: int = shared(DenoiserTraining, "batch")
    crop: int = setting(56, "side of a crop in pixels", between=(16, 4096))
    seed: int = 0
    sigma_data: float = shared(DenoiserTraining, "sigma_data", 0.2)
    precision: Precision = shared(DenoiserTraining, "precision")

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.tasks:
            raise ConfigError("a conditional model needs a task, such as superres:4")

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks without their strengths, each once."""
        return tuple(dict.fromkeys(t.task for t in self.tasks))

    def pairs(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        """Degraded partners of clean crops (N, channels, H, W), a random task each."""
        chosen = torch.randint(len(self.tasks), (len(x0),), generator=generator).tolist()
        return torch.stack(
            [self.tasks[k].degrade(x, generator) for k, x in zip(chosen, x0, strict=True)]
        )


def train_conditional(
    corpus: Batches,
    validation: Sequence[Tensor],
    settings: ConditionalTraining,
    family: Family,
    config: UNetConfig,
    state_file: Path,
    *,
    device: str = "cpu",
    init: EDMDenoiser | BridgeDenoiser | None = None,
    workers: Workers = ALONE,
    report: Report = lambda record: None,
) -> tuple[BridgeDenoiser, Progress]:
    """Train until the budget is used up; a `state_file` that exists is continued.

    config: with as many condition channels as image channels. init: a denoiser or a conditional model to start from.
    validation: clean images (channels, H, W) in [0, 1]. Raises DivergenceError, ConfigError for
    the state of another training, WeightsError, OutputError, LostWorkerError.
    """
    model = build_bridge_denoiser(config, sigma_data=settings.sigma_data, seed=settings.seed)
    network = model.network
    if init is not None:
        weights = init.network.state_dict()
        known = isinstance(init, BridgeDenoiser)
        network.load_state_dict(weights if known else _shown_twice(weights, init.channels, config))
    network.to(device)

    def with_network(trained: UNet) -> BridgeDenoiser:
        return BridgeDenoiser(
            trained,
            sigma_data=settings.sigma_data,
            bridge=family.bridge,
            tasks=settings.task_names,
            families=tuple(t.family(config.channels) for t in settings.tasks),
        )

    averaged, progress = train(
        network, _loss(model, corpus, settings, family, device, workers), settings.budget, state_file,
        identity=identity_of(
            corpus.fingerprint, settings, config, None if init is None else init.network,
            bridge=family.bridge,
        ),
        figures=lambda trained: {"psnr": restoration_psnr(with_network(trained), validation, settings.tasks)},
        dtype=dtype_of(settings.precision), workers=workers, report=report,
    )  # fmt: skip
    return with_network(averaged), progress


def _shown_twice(weights: dict[str, Tensor], found: int, config: UNetConfig) -> dict[str, Tensor]:
    """Weights of a denoiser for a network that also sees y: both images enter alike, the exit starts at zero.

    The denoiser's exit answers another question (the image, not the residual), its inner layers know images.
    """
    weights = adapted_weights(weights, found, config.channels)
    half = weights["enter.weight"] / 2
    ends = {k: torch.zeros_like(weights[k]) for k in ("leave.weight", "leave.bias")}
    return weights | ends | {"enter.weight": torch.cat([half, half], dim=1)}


def _loss(
    model: BridgeDenoiser,
    corpus: Batches,
    settings: ConditionalTraining,
    family: Family,
    device: str,
    workers: Workers,
) -> Callable[[int], Tensor]:
    def loss(step: int) -> Tensor:
        g = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        clean = corpus.batch(step, settings.batch)
        degraded = settings.pairs(clean, g)
        drawn = family.draw(settings.batch, g)
        noise = torch.randn(clean.shape, generator=g)
        clean, degraded, noise, *levels = workers.share(clean, degraded, noise, *drawn)
        drawn = Drawn(*levels)
        x0, y = (v.to(device, memory_format=torch.channels_last) for v in (clean, degraded))
        a, c = (v.to(device)[:, None, None, None] for v in (drawn.a, drawn.c))
        u = a * x0 + c * noise.to(device)
        with autocast(dtype_of(settings.precision), device):
            estimate = model.denoise(u, a, c, y)
        return family.loss(estimate, u + (1 - a) * y, x0, y, drawn)

    return loss


@torch.no_grad()
def restoration_psnr(
    model: BridgeDenoiser, images: Sequence[Tensor], tasks: Sequence[TrainingTask]
) -> dict[str, float]:
    """PSNR in dB per task of the model's answer to the degraded image alone (a = 0), mean over images of 128 x 128."""
    figures = {}
    device = next(model.network.parameters()).device
    for task in tasks:
        total = 0.0
        for seed, image in enumerate(images):
            x0 = image[:, :128, :128]
            y = task.degrade(x0, torch.Generator().manual_seed(seed))[None].to(device)
            start = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)).to(device)
            found = model(start + y, Level(0, 0.0, 1.0), y)[0][0].cpu()
            total -= 10 * math.log10(float((found - x0).square().mean()))
        figures[str(task)] = round(total / max(1, len(images)), 3)
    return figures
