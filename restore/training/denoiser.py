"""Train the EDM-preconditioned U-Net denoiser: `restore train denoiser`, and the denoiser of codes.

Source of the loss, noise distribution and weighting: Karras and others, "Elucidating the design space of
diffusion-based generative models", NeurIPS 2022, section 5.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from restore.config import check_settings, setting
from restore.errors import ConfigError
from restore.precision import autocast
from restore.priors.edm import EDMDenoiser, build_unet_denoiser
from restore.priors.unet import UNet, UNetConfig
from restore.training.identity import identity_of
from restore.training.loop import Budget, Progress, Report, train
from restore.training.precision import Precision, dtype_of
from restore.training.slices import COMPLEX
from restore.training.validation import denoising_psnr
from restore.training.workers import ALONE, Workers


class Batches(Protocol):
    """Where clean images come from: a `Corpus`, or codes of one. fingerprint: changes with what may be drawn."""

    @property
    def fingerprint(self) -> str:
        """A text that changes with the content of what is drawn from."""

    def batch(self, step: int, size: int) -> Tensor:
        """(size, channels, H, W), depending on the step's number alone."""


@dataclasses.dataclass(frozen=True)
class DenoiserTraining:
    """Hyper-parameters of one training. Noise in units of an image in [0, 1]."""

    budget: Budget = dataclasses.field(default_factory=Budget)
    batch: int = setting(12, "crops a step", between=(1, 4096))
    crop: int = setting(56, "side of a crop in pixels", between=(8, 4096))
    log_sigma_mean: float = setting(-2.0, "mean of the log of the noise level")
    log_sigma_std: float = setting(1.1, "its deviation", above=0)
    wide_share: float = setting(
        0.15, "share of crops whose noise is log-uniform over the whole range", between=(0, 1)
    )
    sigma_min: float = setting(0.002, "lowest noise level", above=0)
    sigma_max: float = setting(40.0, "highest noise level", above=0)
    sigma_data: float = setting(0.5, "deviation of the images, in the preconditioning", above=0)
    precision: Precision = setting("float32", "numbers inside the network and in Muon")
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self)
        if self.sigma_min >= self.sigma_max:
            raise ConfigError(f"noise range {self.sigma_min}..{self.sigma_max} is empty")


def train_denoiser(
    corpus: Batches,
    validation: list[Tensor],
    settings: DenoiserTraining,
    config: UNetConfig,
    state_file: Path,
    *,
    device: str = "cpu",
    init: EDMDenoiser | None = None,
    workers: Workers = ALONE,
    show: Callable[[EDMDenoiser], None] = lambda prior: None,
    report: Report = lambda record: None,
) -> tuple[EDMDenoiser, Progress]:
    """Train until the budget is used up; state is saved and validation reported every few minutes.

    config: with two channels for complex images, as re and im. A `state_file` that exists is continued. show: is handed
    the denoiser of every validation. Returns the denoiser with averaged weights. Raises DivergenceError when the loss
    stops being finite, ConfigError for the state of another training, WeightsError for a damaged one, OutputError,
    LostWorkerError.
    """
    prior = build_unet_denoiser(config, sigma_data=settings.sigma_data, seed=settings.seed)
    network = prior.network
    assert isinstance(network, UNet)  # noqa: S101  (for the type checker)
    if init is not None:
        network.load_state_dict(
            adapted_weights(init.network.state_dict(), init.channels, config.channels)
        )
    network.to(device)

    def with_network(trained: UNet) -> EDMDenoiser:
        made = EDMDenoiser(
            trained, sigma_data=settings.sigma_data, channels=config.channels, multiple=config.multiple,
            sigma_min=settings.sigma_min, sigma_max=settings.sigma_max,
            complex_mode="channels" if config.channels == COMPLEX else "separate",
        )  # fmt: skip
        return made

    def figures(trained: UNet) -> dict[str, dict[str, float]]:
        validated = with_network(trained)
        show(validated)
        return {"psnr": denoising_psnr(validated, validation)} if validation else {}

    averaged, progress = train(
        network, _loss(prior, corpus, settings, device, workers), settings.budget, state_file,
        identity=identity_of(corpus.fingerprint, settings, config, None if init is None else init.network),
        figures=figures, dtype=dtype_of(settings.precision), workers=workers, report=report,
    )  # fmt: skip
    return with_network(averaged), progress


def _loss(
    prior: EDMDenoiser, corpus: Batches, settings: DenoiserTraining, device: str, workers: Workers
) -> Callable[[int], Tensor]:
    def loss(step: int) -> Tensor:
        clean = corpus.batch(step, settings.batch)
        g = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        levels = noise_levels(settings, settings.batch, g)[:, None, None, None]
        noise = torch.randn(clean.shape, generator=g)
        clean, levels, noise = workers.share(clean, levels, noise)
        x0, s = clean.to(device, memory_format=torch.channels_last), levels.to(device)
        x = x0 + s * noise.to(device)
        with autocast(dtype_of(settings.precision), device):
            denoised = prior(x, s.flatten())
        _, c_out, _ = prior.preconditioning(s)
        return ((denoised - x0) / c_out).square().mean()  # unit weight on the network's own output

    return loss


class NoiseRange(Protocol):
    """What `noise_levels` is told: the fields of `DenoiserTraining` that concern noise."""

    @property
    def log_sigma_mean(self) -> float:
        """Mean of the log-normal part."""

    @property
    def log_sigma_std(self) -> float:
        """Its deviation."""

    @property
    def wide_share(self) -> float:
        """Share of draws that are log-uniform over the range."""

    @property
    def sigma_min(self) -> float:
        """Least noise."""

    @property
    def sigma_max(self) -> float:
        """Most noise."""


def noise_levels(settings: NoiseRange, count: int, generator: torch.Generator) -> Tensor:
    """Noise standard deviations: log-normal, with a share spread over the whole range so that no level is unseen."""
    narrow = settings.log_sigma_mean + settings.log_sigma_std * torch.randn(
        count, generator=generator
    )
    low, high = math.log(settings.sigma_min), math.log(settings.sigma_max)
    wide = low + (high - low) * torch.rand(count, generator=generator)
    use_wide = torch.rand(count, generator=generator) < settings.wide_share
    return torch.where(use_wide, wide, narrow).clamp(low, high).exp()


def adapted_weights(weights: dict[str, Tensor], found: int, wanted: int) -> dict[str, Tensor]:
    """Weights of a grey denoiser for a colour one: every channel starts as the grey one does. Raises ConfigError."""
    if found == wanted:
        return weights
    if found != 1:
        raise ConfigError(f"cannot start a {wanted}-channel network from one with {found} channels")
    return weights | {
        "enter.weight": weights["enter.weight"].repeat(1, wanted, 1, 1) / wanted,
        "leave.weight": weights["leave.weight"].repeat(wanted, 1, 1, 1),
        "leave.bias": weights["leave.bias"].repeat(wanted),
    }
