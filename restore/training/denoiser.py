"""Train the EDM-preconditioned U-Net denoiser: `restore train denoiser`.

Source of the loss, noise distribution and weighting: Karras and others, "Elucidating the design space of
diffusion-based generative models", NeurIPS 2022, section 5. The learning rate follows a cosine over the budget, which
is steps or minutes, whichever is used up first; so a training on a shared machine anneals in time.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restore.errors import ConfigError, DivergenceError
from restore.priors.edm import EDMDenoiser, build_unet_denoiser
from restore.priors.unet import UNetConfig
from restore.training.checkpoint import load_state, save_state
from restore.training.corpus import Corpus
from restore.training.muon import split_parameters
from restore.training.validation import denoising_psnr

Report = Callable[[dict[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class DenoiserTraining:
    """Hyper-parameters of one training. Noise in units of an image in [0, 1]."""

    steps: int = 1_000_000
    minutes: float = 60.0
    batch: int = 12
    crop: int = 56
    log_sigma_mean: float = -2.0
    log_sigma_std: float = 1.1
    wide_share: float = 0.15  # share of crops whose noise is log-uniform over the whole range
    sigma_min: float = 0.002
    sigma_max: float = 40.0
    sigma_data: float = 0.5
    ema: float = 0.999
    warmup: int = 100
    rate: float = 1.0  # of the learning rate; below 1 for fine-tuning from `init`
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.minutes <= 0 or self.batch < 1 or self.crop < 8:
            raise ConfigError("training needs steps >= 1, minutes > 0, batch >= 1 and crop >= 8")
        if not 0 < self.sigma_min < self.sigma_max:
            raise ConfigError(f"noise range {self.sigma_min}..{self.sigma_max} is empty")


@dataclasses.dataclass
class Progress:
    """How far a training has come; stored in its state file."""

    step: int = 0
    seconds: float = 0.0


def train_denoiser(
    corpus: Corpus,
    validation: list[Tensor],
    settings: DenoiserTraining,
    config: UNetConfig,
    state_file: Path,
    *,
    device: str = "cpu",
    init: EDMDenoiser | None = None,
    every_s: float = 180.0,
    report: Report = lambda record: None,
) -> tuple[EDMDenoiser, Progress]:
    """Train until the budget is used up; state is saved and validation reported every `every_s` seconds.

    A `state_file` that exists is continued. Returns the denoiser with averaged weights. Raises DivergenceError when the
    loss stops being finite, WeightsError for a state of another shape.
    """
    prior = build_unet_denoiser(config, sigma_data=settings.sigma_data, seed=settings.seed)
    prior = prior.to(device)
    network = prior.network
    if init is not None:
        network.load_state_dict(
            _for_channels(init.network.state_dict(), init.channels, config.channels)
        )
    optimiser = split_parameters(network)
    ema = {k: v.detach().clone() for k, v in network.state_dict().items()}
    progress = Progress()
    if state_file.exists():
        progress = Progress(**load_state(state_file, network, ema, optimiser)["progress"])
    start, saved = time.monotonic() - progress.seconds, time.monotonic()
    loss_sum, count = 0.0, 0
    while (done := _fraction(progress, settings)) < 1:
        rise = min(1.0, (progress.step + 1) / settings.warmup)
        optimiser.factor = settings.rate * rise * 0.5 * (1 + math.cos(math.pi * done))
        loss = _step(prior, corpus, settings, optimiser, progress.step, device)
        _average(
            ema, network.state_dict(), min(settings.ema, (1 + progress.step) / (10 + progress.step))
        )
        loss_sum, count = loss_sum + loss, count + 1
        progress = Progress(progress.step + 1, time.monotonic() - start)
        if time.monotonic() - saved > every_s or _fraction(progress, settings) >= 1:
            save_state(
                state_file, network, ema, optimiser, {"progress": dataclasses.asdict(progress)}
            )
            averaged = _with_weights(prior, ema, config, settings)
            report({
                "step": progress.step, "minutes": round(progress.seconds / 60, 2), "loss": loss_sum / count,
                "psnr": denoising_psnr(averaged, validation),
            })  # fmt: skip
            saved, loss_sum, count = time.monotonic(), 0.0, 0
    return _with_weights(prior, ema, config, settings), progress


def _step(
    prior: EDMDenoiser,
    corpus: Corpus,
    settings: DenoiserTraining,
    optimiser: torch.optim.Optimizer,
    step: int,
    device: str,
) -> float:
    """One gradient step; returns the weighted loss."""
    x0 = corpus.batch(step, settings.batch).to(device, memory_format=torch.channels_last)
    g = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    s = noise_levels(settings, settings.batch, g).to(device)[:, None, None, None]
    x = x0 + s * torch.randn(x0.shape, generator=g).to(device)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=device != "cpu"):
        denoised = prior(x, s.flatten())
    _, c_out, _ = prior.preconditioning(s)
    loss = (
        ((denoised - x0) / c_out).square().mean()
    )  # EDM weighting: unit weight on the network's own output
    if not torch.isfinite(loss):
        raise DivergenceError(
            f"training loss is {float(loss.detach())} at step {step}; start again from the last state"
        )
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(prior.network.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def noise_levels(settings: DenoiserTraining, count: int, generator: torch.Generator) -> Tensor:
    """Noise standard deviations: log-normal, with a share spread over the whole range so that no level is unseen."""
    narrow = settings.log_sigma_mean + settings.log_sigma_std * torch.randn(
        count, generator=generator
    )
    low, high = math.log(settings.sigma_min), math.log(settings.sigma_max)
    wide = low + (high - low) * torch.rand(count, generator=generator)
    use_wide = torch.rand(count, generator=generator) < settings.wide_share
    return torch.where(use_wide, wide, narrow).clamp(low, high).exp()


def _fraction(progress: Progress, settings: DenoiserTraining) -> float:
    return max(progress.step / settings.steps, progress.seconds / (60 * settings.minutes))


def _average(ema: dict[str, Tensor], weights: dict[str, Tensor], decay: float) -> None:
    for k, v in weights.items():
        ema[k].lerp_(v, 1 - decay)


def _with_weights(
    prior: EDMDenoiser, weights: dict[str, Tensor], config: UNetConfig, settings: DenoiserTraining
) -> EDMDenoiser:
    averaged = build_unet_denoiser(config, sigma_data=prior.sigma_data)
    averaged.network.load_state_dict(weights)
    averaged.network.to(next(iter(weights.values())).device).eval()
    averaged.sigma_min, averaged.sigma_max = settings.sigma_min, settings.sigma_max
    return averaged


def _for_channels(weights: dict[str, Tensor], found: int, wanted: int) -> dict[str, Tensor]:
    """Weights of a grey network for a colour one: every channel starts as the grey one does."""
    if found == wanted:
        return weights
    if found != 1:
        raise ConfigError(f"cannot start a {wanted}-channel network from one with {found} channels")
    enter = weights["enter.weight"].repeat(1, wanted, 1, 1) / wanted
    leave, bias = (
        weights["leave.weight"].repeat(wanted, 1, 1, 1),
        weights["leave.bias"].repeat(wanted),
    )
    return weights | {"enter.weight": enter, "leave.weight": leave, "leave.bias": bias}


def append_json_line(path: Path, record: dict[str, Any]) -> None:
    """Add one record to a training log."""
    with path.open("a", encoding="utf-8") as f:
        f.write(json.dumps(record) + "\n")
