"""Train low-rank factors that make a denoiser one of regions, told a noise level for every pixel: `restore train rad`.

Kim, Suh, Lee, "RAD: region-aware diffusion models for image inpainting", CVPR 2025: maps of noise levels are drawn from
Perlin noise, and an ordinary model is fine-tuned by low-rank factors.

Differs from the paper:
- known pixels are also drawn with little noise, which measurements have.
- some maps are of single pixels, of which Perlin noise has none, and some of one level, so that the model stays a
  denoiser.
- EDM's loss, unit weight on the network's own output, where there is noise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from restore.config import check_settings, setting, shared
from restore.operators.image.masks import box, strokes
from restore.precision import autocast
from restore.priors.edm import EDMDenoiser
from restore.priors.low_rank import LAYERS, Adapter, factors_of, fresh_adapter, trainable
from restore.priors.region import Adapts, RegionDenoiser, region_denoiser, with_factors
from restore.training.denoiser import Batches, DenoiserTraining, noise_levels
from restore.training.identity import identity_of
from restore.training.loop import Budget, Progress, Report, train
from restore.training.perlin import perlin_noise
from restore.training.precision import Precision, dtype_of
from restore.training.workers import ALONE, Workers

SHOWN = 128
"""Side of the middle part of validation images on which the card's figures are taken."""
SMALLEST_CELL = 3.0
"""Of the Perlin lattice, in pixels; its largest is the crop."""


@dataclasses.dataclass(frozen=True)
class RegionTraining:
    """Hyper-parameters of one training. Noise in units of an image in [0, 1]."""

    budget: Budget = dataclasses.field(default_factory=Budget)
    batch: int = shared(DenoiserTraining, "batch", 8)
    crop: int = shared(DenoiserTraining, "crop", 64)
    rank: int = setting(8, "of the factors of every layer", between=(1, 64))
    log_sigma_mean: float = shared(DenoiserTraining, "log_sigma_mean", -0.5)
    log_sigma_std: float = shared(DenoiserTraining, "log_sigma_std", 1.5)
    wide_share: float = shared(DenoiserTraining, "wide_share", 0.6)
    soft_share: float = setting(0.2, "share of maps that rise smoothly", between=(0, 1))
    single_share: float = setting(0.25, "share of maps of single pixels", between=(0, 1))
    whole_share: float = setting(0.1, "share of maps of one level", between=(0, 1))
    known_noise: float = setting(0.2, "most noise of known pixels, in half of the maps", above=0)
    precision: Precision = shared(DenoiserTraining, "precision")
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class _Range:
    """What `noise_levels` is told."""

    log_sigma_mean: float
    log_sigma_std: float
    wide_share: float
    sigma_min: float
    sigma_max: float


def train_region(
    corpus: Batches,
    validation: Sequence[Tensor],
    settings: RegionTraining,
    base: EDMDenoiser,
    adapts: Adapts,
    state_file: Path,
    *,
    device: str = "cpu",
    workers: Workers = ALONE,
    report: Report = lambda record: None,
) -> tuple[RegionDenoiser, Progress]:
    """Train the factors until the budget is used up; a `state_file` that exists is continued.

    base, adapts: the denoiser and what its card says of itself. validation: clean images (C, H, W) in [0, 1]. Returns
    the model with averaged factors. Raises ConfigError for a base that cannot be adapted and for the state of another
    training, DivergenceError, WeightsError, OutputError, LostWorkerError.
    """
    start = region_denoiser(base)
    first = fresh_adapter(start, settings.rank, settings.seed, LAYERS)
    twin, sums = trainable(start.to(device), first)
    factors = nn.ModuleList(sums.values())

    def learnt(trained: nn.ModuleList) -> RegionDenoiser:
        return with_factors(start, _adapter(tuple(sums), trained), adapts)

    averaged, progress = train(
        factors, _loss(twin, corpus, settings, device, workers), settings.budget, state_file,
        identity=identity_of(corpus.fingerprint, settings, adapts, base.network),
        figures=lambda trained: {"psnr": inpainting_psnr(learnt(trained), validation)} if validation else {},
        dtype=dtype_of(settings.precision), workers=workers, report=report,
    )  # fmt: skip
    return learnt(averaged), progress


def level_maps(
    settings: RegionTraining, sigma_range: tuple[float, float], count: int, side: int, generator: torch.Generator
) -> Tensor:  # fmt: skip
    """Noise levels of every pixel, (count, 1, side, side), zero where there is none.

    With b = ln(1 + s^2), which is -ln of the paper's alpha-bar, a pixel of the share m in 0..1 has m b of the map's
    highest level: the paper's first phase. Half of the maps have `known_noise` at most on what would be without.
    """
    s = noise_levels(
        _Range(settings.log_sigma_mean, settings.log_sigma_std, settings.wide_share, *sigma_range),
        count, generator,
    )[:, None, None, None]  # fmt: skip
    m = torch.stack([_share_map(settings, side, generator) for _ in range(count)])[:, None]
    levels = torch.expm1(m * torch.log1p(s**2)).sqrt()
    known = _known_noise(settings, sigma_range[0], count, generator)[:, None, None, None]
    return levels.maximum(known.minimum(s))


def _known_noise(
    settings: RegionTraining, least: float, count: int, generator: torch.Generator
) -> Tensor:
    """None for half of the maps, else log-uniform."""
    drawn = torch.rand(2, count, generator=generator)
    low, high = math.log(least), math.log(max(settings.known_noise, least))
    return torch.where(drawn[0] < 0.5, 0.0, (low + (high - low) * drawn[1]).exp())


def _share_map(settings: RegionTraining, side: int, generator: torch.Generator) -> Tensor:
    """m of one map, (side, side)."""
    kind, size, covered = torch.rand(3, generator=generator).tolist()
    if kind < settings.whole_share:
        return torch.ones(side, side)
    kind -= settings.whole_share
    if kind < settings.single_share:
        return (torch.rand(side, side, generator=generator) < covered).float()
    cell = SMALLEST_CELL * max(side / SMALLEST_CELL, 1) ** size
    field = perlin_noise(side, cell, generator)
    if kind - settings.single_share < settings.soft_share:
        low, high = field.min(), field.max()
        return (field - low) / (high - low)
    return (field <= field.quantile(covered)).float()


def _adapter(names: Sequence[str], factors: nn.ModuleList) -> Adapter:
    return factors_of(dict(zip(names, factors, strict=True)))  # type: ignore[arg-type]


def _loss(
    model: RegionDenoiser, corpus: Batches, settings: RegionTraining, device: str, workers: Workers
) -> Callable[[int], Tensor]:
    known = (model.sigma_min, model.sigma_max)

    def loss(step: int) -> Tensor:
        clean = corpus.batch(step, settings.batch)
        g = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        levels = level_maps(settings, known, settings.batch, settings.crop, g)
        noise = torch.randn(clean.shape, generator=g)
        clean, levels, noise = workers.share(clean, levels, noise)
        x0, s = clean.to(device, memory_format=torch.channels_last), levels.to(device)
        with autocast(dtype_of(settings.precision), device):
            denoised = model(x0 + s * noise.to(device), s)
        c_out = model.error_scale(s.clamp(min=model.sigma_min))
        counts = (s > 0).to(x0)
        return (counts * ((denoised - x0) / c_out).square()).sum() / (
            x0.shape[1] * counts.sum().clamp(min=1)
        )

    return loss


@torch.no_grad()
def inpainting_psnr(model: RegionDenoiser, images: Sequence[Tensor]) -> dict[str, float]:
    """PSNR in dB inside the hole, by kind of hole, of one answer to nothing but the known pixels; mean over images.

    images: (C, H, W) in [0, 1], of which the middle 128 x 128 pixels are taken. box: three eighths of the side;
    strokes: six of them; random: 70 % of the pixels.
    """
    figures = {"box": 0.0, "strokes": 0.0, "random": 0.0}
    for seed, image in enumerate(images):
        top, left = (max(n - SHOWN, 0) // 2 for n in image.shape[-2:])
        x0 = image[:, top : top + SHOWN, left : left + SHOWN]
        for word, known in _masks(x0.shape[-2], x0.shape[-1], seed).items():
            levels = model.sigma_max * (1 - known)
            noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
            found = model((x0 * known + levels * noise)[None], levels[None, None])[0]
            error = ((found - x0) * (1 - known)).square().sum() / (len(x0) * (1 - known).sum())
            figures[word] -= 10 * math.log10(float(error)) / len(images)
    return {word: round(value, 3) for word, value in figures.items()}


def _masks(height: int, width: int, seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    rows, columns = (slice(n * 5 // 16, n * 5 // 16 + n * 3 // 8) for n in (height, width))
    return {
        "box": box(height, width, rows, columns), "strokes": strokes(height, width, 6, g),
        "random": (torch.rand(height, width, generator=g) < 0.3).float(),
    }  # fmt: skip
