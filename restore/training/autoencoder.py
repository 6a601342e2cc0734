"""Train the small KL autoencoder: `restore train autoencoder`; and hand its codes to the training of a latent denoiser.

Loss: mean square error of the image and a small Kullback-Leibler term that keeps codes near unit size; Rombach and
others, "High-resolution image synthesis with latent diffusion models", CVPR 2022, without the perceptual and
adversarial terms. The decoder sees codes with the encoder's own noise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from restore.config import check_settings, setting, shared
from restore.errors import ConfigError
from restore.precision import autocast
from restore.priors.autoencoder import Autoencoder, AutoencoderConfig, new_autoencoder
from restore.training.denoiser import Batches, DenoiserTraining
from restore.training.identity import digest_of_weights, identity_of
from restore.training.loop import Budget, Progress, Report, train
from restore.training.precision import Precision, dtype_of
from restore.training.workers import ALONE, Workers


@dataclasses.dataclass(frozen=True)
class AutoencoderTraining:
    """Hyper-parameters of one training."""

    budget: Budget = dataclasses.field(default_factory=Budget)
    batch: int = shared(DenoiserTraining, "batch")
    crop: int = shared(DenoiserTraining, "crop")
    kl_weight: float = setting(
        1e-5, "of the mean Kullback-Leibler divergence of a code's entry", at_least=0
    )
    precision: Precision = shared(DenoiserTraining, "precision")
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self)
        if self.crop % 4:
            raise ConfigError(f"training needs a crop that is a multiple of 4, got {self.crop}")


def train_autoencoder(
    corpus: Batches,
    validation: Sequence[Tensor],
    settings: AutoencoderTraining,
    config: AutoencoderConfig,
    state_file: Path,
    *,
    device: str = "cpu",
    workers: Workers = ALONE,
    report: Report = lambda record: None,
) -> tuple[Autoencoder, Progress]:
    """Train until the budget is used up; a `state_file` that exists is continued.

    Raises DivergenceError, ConfigError for the state of another training, WeightsError, OutputError, LostWorkerError.
    """
    network = new_autoencoder(config, settings.seed).to(device)
    return train(
        network, _loss(network, corpus, settings, device, workers), settings.budget, state_file,
        identity=identity_of(corpus.fingerprint, settings, config),
        figures=lambda trained: {"psnr": round_trip_psnr(trained, validation)},
        adam_names=("enter", "leave", "to_code", "from_code"), dtype=dtype_of(settings.precision),
        workers=workers, report=report,
    )  # fmt: skip


def _loss(
    network: Autoencoder,
    corpus: Batches,
    settings: AutoencoderTraining,
    device: str,
    workers: Workers,
) -> Callable[[int], Tensor]:
    def loss(step: int) -> Tensor:
        (clean,) = workers.share(corpus.batch(step, settings.batch))
        x0 = clean.to(device, memory_format=torch.channels_last)
        g = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        with autocast(dtype_of(settings.precision), device):
            mean, log_variance = (code.float() for code in network.encode(x0))
            (noise,) = workers.share(torch.randn(settings.batch, *mean.shape[1:], generator=g))
            decoded = network.decode(mean + (0.5 * log_variance).exp() * noise.to(device)).float()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return (decoded - x0).square().mean() + settings.kl_weight * divergence

    return loss


@torch.no_grad()
def round_trip_psnr(network: Autoencoder, images: Sequence[Tensor]) -> float:
    """PSNR in dB of decode(encode(x)), mean over images (channels, H, W) in [0, 1], sides divisible by 4."""
    device, total = next(network.parameters()).device, 0.0
    for image in images:
        error = network(image[None].to(device)).cpu()[0] - image
        total -= 10 * math.log10(float(error.square().mean()))
    return round(total / max(1, len(images)), 3)


MEASURED = 256  # crops for the mean and the deviation of codes


class Codes:
    """Normalised codes of a corpus's crops: what a latent denoiser is trained on.

    shift, scale: (latent_channels,), mean and deviation of the codes of `MEASURED` crops.
    """

    def __init__(self, corpus: Batches, network: Autoencoder, device: str = "cpu") -> None:
        self.corpus, self.network, self.device = corpus, network.to(device).eval(), device
        codes = self._codes(0, MEASURED)
        self.shift, self.scale = codes.mean((0, 2, 3)), codes.std((0, 2, 3))
        self.fingerprint = f"{corpus.fingerprint} by {digest_of_weights(network)}"

    def batch(self, step: int, size: int) -> Tensor:
        """(size, latent_channels, crop/4, crop/4)."""
        codes = self._codes(step, size)
        return (codes - self.shift[:, None, None]) / self.scale[:, None, None]

    @torch.no_grad()
    def _codes(self, step: int, size: int) -> Tensor:
        x0 = self.corpus.batch(step, size).to(self.device, memory_format=torch.channels_last)
        return self.network.encode(x0)[0]
