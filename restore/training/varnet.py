"""Train an unrolled network on simulated acquisitions: `restore train varnet`.

Every crop is measured anew, as `datasets/simulate` measures a slice: birdcage coils, a mask of its own, complex noise.
Source of the network: `restore.priors.varnet`; coil maps are those of the simulation and are not learnt.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restore.config import check_settings, setting, shared
from restore.datasets.mri.pattern.masks import make_mask
from restore.datasets.simulate.coils import birdcage
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.acquisition import Acquisition
from restore.priors.cascade import CascadePrior, LeastSquares
from restore.priors.varnet import Cascades, VarNet, VarNetConfig, new_varnet
from restore.solvers.proximal import DataTerm
from restore.training.denoiser import Batches, DenoiserTraining
from restore.training.identity import identity_of
from restore.training.loop import Budget, Progress, Report, train
from restore.training.precision import Precision, dtype_of
from restore.training.workers import ALONE, Workers

FADING = 0.7
"""Weight of a step's error against that of the step after it: early steps learn sooner for it, and a run that a time
limit ends has an image."""


@dataclasses.dataclass(frozen=True)
class VarNetTraining:
    """Hyper-parameters of one training."""

    acquisition: Acquisition = dataclasses.field(default_factory=Acquisition)
    budget: Budget = dataclasses.field(default_factory=Budget)
    batch: int = setting(4, "crops a step", between=(1, 4096))
    crop: int = setting(96, "side of a crop in pixels", between=(16, 4096))
    seed: int = 0
    precision: Precision = shared(DenoiserTraining, "precision")

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Simulated measurements of a batch. masks: (N, 1 | H, W); noise: (N, coils, H, W), complex, unit intensities."""

    masks: Tensor
    noise: Tensor

    @classmethod
    def drawn(
        cls, acquisition: Acquisition, count: int, shape: tuple[int, int], seed: list[int]
    ) -> Measured:
        """One acquisition for each of `count` images (H, W), all with the same number of coils."""
        rng = np.random.default_rng(seed)
        coils = int(rng.choice(acquisition.coils))
        masks, levels = [], []
        low, high = np.log(acquisition.noise)
        for _ in range(count):
            kind = acquisition.masks[rng.integers(len(acquisition.masks))]
            times = acquisition.accelerations[rng.integers(len(acquisition.accelerations))]
            mask = make_mask(
                kind, shape, times, acquisition.center / times, int(rng.integers(2**31))
            )
            masks.append(np.broadcast_to(mask, shape) if acquisition.has_points else mask[None])
            levels.append(math.exp(rng.uniform(low, high)))
        parts = rng.standard_normal((2, count, coils, *shape), dtype=np.float32)
        parts *= np.array(levels, np.float32).reshape(-1, 1, 1, 1)
        return cls(torch.from_numpy(np.stack(masks)), torch.from_numpy(parts[0] + 1j * parts[1]))

    def term(self, images: Tensor) -> DataTerm:
        """Least squares of images (N, H, W), complex, on their device."""
        shape = (images.shape[-2], images.shape[-1])
        maps = _maps(shape, self.noise.shape[1]).to(images.device)
        operator = MultiCoilMRI(maps.expand(len(images), *maps.shape), self.masks.to(images.device))
        return DataTerm(operator, operator.project(operator(images) + self.noise.to(images.device)))


@functools.lru_cache(maxsize=16)
def _maps(shape: tuple[int, int], coils: int) -> Tensor:
    return torch.from_numpy(birdcage(shape, coils))


def train_varnet(
    corpus: Batches,
    validation: Sequence[Tensor],
    settings: VarNetTraining,
    config: VarNetConfig,
    state_file: Path,
    *,
    device: str = "cpu",
    workers: Workers = ALONE,
    report: Report = lambda record: None,
) -> tuple[VarNet, Progress]:
    """Train until the budget is used up; a `state_file` that exists is continued.

    corpus, validation: complex images as re and im, (N, 2, H, W) and (2, H, W). Raises DivergenceError, ConfigError for
    the state of another training, WeightsError, OutputError, LostWorkerError.
    """
    model = new_varnet(config, settings.seed)
    model.network.to(device)
    ends = tuple(
        f"networks.{k}.{end}"
        for k in range(len(model.network.networks))
        for end in ("enter", "leave")
    )

    def with_network(trained: Cascades) -> VarNet:
        found = VarNet(trained)
        found.acquisition = settings.acquisition
        return found

    averaged, progress = train(
        model.network, _loss(model, corpus, settings, device, workers), settings.budget, state_file,
        identity=identity_of(corpus.fingerprint, settings, config),
        figures=lambda trained: reconstruction_psnr(with_network(trained), validation),
        adam_names=ends, dtype=dtype_of(settings.precision), workers=workers, report=report,
    )  # fmt: skip
    return with_network(averaged), progress


def _loss(
    model: VarNet, corpus: Batches, settings: VarNetTraining, device: str, workers: Workers
) -> Callable[[int], Tensor]:
    def loss(step: int) -> Tensor:
        clean = corpus.batch(step, settings.batch)
        shape = (clean.shape[-2], clean.shape[-1])
        made = Measured.drawn(settings.acquisition, len(clean), shape, [settings.seed, step])
        clean, masks, noise = workers.share(clean, made.masks, made.noise)
        truth = _complex(clean).to(device)
        term = Measured(masks, noise).term(truth)
        prior = CascadePrior(model, dtype_of(settings.precision))
        steps = list(prior.walk(term.operator.pinv(term.y), LeastSquares(term)))
        weights = [FADING ** (len(steps) - 1 - k) for k in range(len(steps))]
        errors = [w * _distance(x, truth) for w, x in zip(weights, steps, strict=True)]
        return torch.stack(errors).sum() / sum(weights)

    return loss


def _distance(x: Tensor, truth: Tensor) -> Tensor:
    """Mean over images of the root mean square error, in which a dark image counts as much as in decibels."""
    squares = torch.view_as_real(x - truth).square().flatten(1).mean(1)
    return (squares + _SOFT**2).sqrt().mean()


_SOFT = 1e-4
"""Keeps the slope of the root finite where nothing is left to learn."""


@torch.no_grad()
def reconstruction_psnr(model: VarNet, images: Sequence[Tensor]) -> dict[str, Any]:
    """PSNR in dB of magnitudes at the model's first acquisition, and of its start, CG-SENSE; data range each one's
    maximum. images: (2, H, W). Nothing for no images.
    """
    if not images or model.acquisition is None:
        return {}
    own = model.acquisition
    low, high = own.noise
    level = math.sqrt(low * high)
    first = dataclasses.replace(
        own, accelerations=own.accelerations[:1], masks=own.masks[:1], coils=own.coils[:1], noise=(level, level)
    )  # fmt: skip
    device = model.network.weights.device
    totals = [0.0, 0.0]
    for seed, image in enumerate(images):
        truth = _complex(image[None])
        shape = (truth.shape[-2], truth.shape[-1])
        term = Measured.drawn(first, 1, shape, [seed]).term(truth.to(device))
        start = term.operator.pinv(term.y)
        *_, end = CascadePrior(model).walk(start, LeastSquares(term))
        for k, found in enumerate((end, start)):
            error = float((found.abs().cpu() - truth.abs()).square().mean())
            totals[k] -= 10 * math.log10(error / float(truth.abs().max()) ** 2)
    end_db, start_db = (round(total / len(images), 3) for total in totals)
    return {"psnr": {"varnet": end_db, "cgsense": start_db, "at": str(first)}}


def _complex(planes: Tensor) -> Tensor:
    """(N, 2, H, W) -> (N, H, W)."""
    return torch.complex(planes[:, 0], planes[:, 1])
