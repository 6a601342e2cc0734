"""One training from files to a weight file with its card: what `restore train` does, for every family of models.

Reads the training images, runs the family's loop and writes weights, card and log. A second call with the same output
continues an unfinished training from its state file.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import torch
from torch import Tensor

from restore.datasets.atomic import check_writable
from restore.datasets.locks import one_at_a_time
from restore.datasets.picture.images import write_image
from restore.errors import ConfigError, OutputError
from restore.priors.autoencoder import AutoencoderConfig
from restore.priors.bridge_edm import BridgeDenoiser
from restore.priors.edm import EDMDenoiser
from restore.priors.error_spectrum import measured
from restore.priors.latent_edm import LatentEDM
from restore.priors.store import (
    load_autoencoder,
    load_denoiser,
    load_prior,
    read_card,
    save_prior,
)
from restore.priors.unet import UNetConfig
from restore.training.augmentation import Augmentation
from restore.training.autoencoder import (
    AutoencoderTraining,
    Codes,
    round_trip_psnr,
    train_autoencoder,
)
from restore.training.conditional import (
    ConditionalTraining,
    restoration_psnr,
    train_conditional,
)
from restore.training.corpus import Corpus
from restore.training.degradations import parse_task
from restore.training.denoiser import DenoiserTraining, train_denoiser
from restore.training.families import family
from restore.training.loop import Budget, Progress, Report, append_json_line
from restore.training.precision import Precision
from restore.training.sources import Source, check_learnable, load_source
from restore.training.validation import denoising_picture, denoising_psnr, validation_images
from restore.training.workers import ALONE, Workers

P = ParamSpec("P")


@dataclasses.dataclass(frozen=True)
class TrainSource:
    """A folder or file, its share of the crops and, for NIfTI, its modality ("MR", "CT" or "")."""

    path: str
    share: float = 1.0
    modality: str = ""


@dataclasses.dataclass(frozen=True)
class TrainJob:
    """What every family is told.

    channels: of the images, 2 for complex ones. say: gets every record of the log. restart: throw away what stands
    under OUT. augment, phase: shares of the crops that are deformed or get a phase (`restore.training.augmentation`).
    precision: inside the network. workers: the processes that train together, of which the first writes.
    """

    sources: tuple[TrainSource, ...]
    out: Path
    channels: int
    validation: Path | None
    budget: Budget
    batch: int
    crop: int
    seed: int
    licence: str
    device: str
    say: Callable[[dict[str, Any]], None]
    restart: bool = False
    augment: float = 0.0
    phase: float = 0.0
    precision: Precision = "float32"
    workers: Workers = ALONE

    def __post_init__(self) -> None:
        if self.out.suffix != ".safetensors":
            raise ConfigError(f"{self.out}: weights are written as .safetensors")

    @property
    def state(self) -> Path:
        """Where an unfinished training is kept."""
        return self.out.with_suffix(".state.safetensors")

    @property
    def picture(self) -> Path:
        """One validation image noisy, denoised and clean; its name says nothing of the data."""
        return self.out.with_suffix(".validation.png")

    @property
    def log(self) -> Path:
        """The log beside the weights."""
        return self.out.with_suffix(".log.jsonl")

    def load(self, channels: int) -> tuple[list[Source], list[Tensor]]:
        """Training sources and validation images, after the output was checked and before it is touched.

        Raises OutputError and what reading raises.
        """
        self.workers.check(self.batch)
        check_writable(self.out.parent)
        for path in (self.out, self.state, self.log, self.picture, self.out.with_suffix(".json")):
            if os.path.lexists(path) and not path.is_file():
                raise OutputError(f"{path}: is no file; move it away, or choose another name")
        if self.out.exists() and not self.state.exists() and not self.restart:
            raise OutputError(
                f"{self.out}: exists, and no training state lies beside it to go on from; choose another name or "
                "add --restart"
            )
        self.say({"device": self.device, "precision": self.precision})
        sources = [load_source(s.path, s.share, channels, s.modality) for s in self.sources]
        for s in sources:
            rules = "; ".join(f"{what}: {rule}" for what, rule in s.scaling.items())
            self.say(
                {"source": s.name, "images": len(s.images), "share": s.weight, "unit range": rules}
            )
            for note in s.notes:
                self.say({"source": s.name, "note": note})
        for note in check_learnable(sources, self.crop):
            self.say({"note": note})
        images = validation_images(self.validation, channels) if self.validation else []
        if self.restart and self.workers.first:
            self.state.unlink(missing_ok=True)
        self.workers.mean(0)  # nobody looks for the state before it is gone
        return sources, images

    def corpus(self, sources: Sequence[Source]) -> Corpus:
        """The crops that the training draws, on its device."""
        changes = Augmentation(self.augment, phase=self.phase)
        return Corpus(sources, self.crop, self.seed, changes, self.device, self.channels)

    @property
    def report(self) -> Report:
        """Every record goes to the log beside the weights, and to whoever listens."""

        def report(record: dict[str, Any]) -> None:
            append_json_line(self.log, record)
            self.say(record)

        return report

    def show(self, images: Sequence[Tensor]) -> Callable[[EDMDenoiser], None]:
        """Draws what a denoiser makes of the middle one of validation images, into the picture beside the log."""

        def show(prior: EDMDenoiser) -> None:
            if images:
                drawn = denoising_picture(prior, images[len(images) // 2])
                write_image(drawn.numpy(), self.picture)

        return show

    def save(
        self, model: Any, sources: Sequence[Source], progress: Progress, figures: Callable[[], dict[str, Any]]
    ) -> Path:  # fmt: skip
        """Write weights and card, from the first process; figures: what was measured, asked for by that one alone."""
        if self.workers.first:
            save_prior(self.out, model, self.card(sources, progress) | figures())
        return self.out

    def card(self, sources: Sequence[Source], progress: Progress) -> dict[str, Any]:
        """The entries of a card that every family has."""
        words = ["restore", *[Path(a).name if "/" in a else a for a in sys.argv[1:]]]
        return {
            "data": [
                {"name": s.name, "images": len(s.images), "share": s.weight, "notes": list(s.notes)}
                for s in sources
            ],
            "licence": self.licence, "date": datetime.date.today().isoformat(), "command": shlex.join(words),
            "trained_on": {
                "device": self.device, "torch": torch.__version__, "steps": progress.step,
                "minutes": round(progress.seconds / 60, 1), "batch": self.batch, "crop": self.crop,
                "precision": self.precision,
                **{k: v for k, v in (("augment", self.augment), ("phase", self.phase)) if v},
                **({"processes": self.workers.count} if self.workers.count > 1 else {}),
            },
        }  # fmt: skip


def _alone(
    train: Callable[Concatenate[TrainJob, P], Path],
) -> Callable[Concatenate[TrainJob, P], Path]:
    """A training that holds the lock of its OUT: two at once would write over each other's states."""

    @functools.wraps(train)
    def alone(job: TrainJob, *given: P.args, **named: P.kwargs) -> Path:
        with one_at_a_time(job.out) if job.workers.first else nullcontext():
            return train(job, *given, **named)

    return alone


@_alone
def train_denoiser_job(
    job: TrainJob, widths: tuple[int, ...], blocks: tuple[int, ...], init: str
) -> Path:
    """A pixel denoiser; init: a denoiser to start from, or "". Raises what reading and training raise."""
    sources, images = job.load(job.channels)
    settings = DenoiserTraining(
        job.budget, job.batch, job.crop, seed=job.seed, precision=job.precision
    )
    config = UNetConfig(job.channels, widths, blocks)
    prior, progress = train_denoiser(
        job.corpus(sources), images, settings, config, job.state, device=job.device,
        init=load_denoiser(init) if init else None, workers=job.workers, show=job.show(images), report=job.report,
    )  # fmt: skip
    prior.scaling = {what: rule for s in sources for what, rule in s.scaling.items()}

    def figures() -> dict[str, Any]:
        prior.error_spectrum = measured(prior, images) if images else None
        return {"denoising_psnr_db": denoising_psnr(prior, images)}

    return job.save(prior, sources, progress, figures)


def measure_spectrum_job(out: Path, prior: str, folder: Path, count: int) -> Path:
    """A copy of a denoiser whose card knows the denoiser's error on `count` images of a folder of images or volumes.

    prior: bundled name or weight file. Raises ConfigError, WeightsError, OutputError and what reading raises.
    """
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: weights are written as .safetensors")
    check_writable(out.parent)
    if os.path.lexists(out):
        raise OutputError(f"{out}: exists; choose another name")
    model = load_denoiser(prior)
    images = validation_images(folder, model.channels, count)
    model.error_spectrum = measured(model, images)
    told = {"images": len(images), "of": folder.name}
    return save_prior(out, model, read_card(prior) | {"name": out.stem, "error_measured_on": told})


@_alone
def train_conditional_job(
    job: TrainJob, bridge: str, tasks: Sequence[str], widths: tuple[int, ...], blocks: tuple[int, ...], init: str
) -> Path:  # fmt: skip
    """A conditional model for a bridge ("any" for all of them). init: a denoiser or a conditional model, or ""."""
    sources, images = job.load(job.channels)
    chosen = tuple(parse_task(t) for t in tasks)
    settings = ConditionalTraining(
        chosen, job.budget, job.batch, job.crop, job.seed, precision=job.precision
    )
    config = UNetConfig(job.channels, widths, blocks, condition=job.channels)
    start = load_prior(init) if init else None
    if start is not None and not isinstance(start, EDMDenoiser | BridgeDenoiser):
        raise ConfigError(f"{init}: a conditional model starts from a denoiser or another one")
    model, progress = train_conditional(
        job.corpus(sources), images, settings, family(bridge), config, job.state,
        device=job.device, init=start, workers=job.workers, report=job.report,
    )  # fmt: skip
    return job.save(
        model,
        sources,
        progress,
        lambda: {"restoration_psnr_db": restoration_psnr(model, images, chosen)},
    )


@_alone
def train_autoencoder_job(
    job: TrainJob, widths: tuple[int, ...], blocks: tuple[int, ...], latent_channels: int
) -> Path:
    """The KL autoencoder."""
    sources, images = job.load(job.channels)
    settings = AutoencoderTraining(
        job.budget, job.batch, job.crop, seed=job.seed, precision=job.precision
    )
    config = AutoencoderConfig(job.channels, latent_channels, _pair(widths), _pair(blocks))
    network, progress = train_autoencoder(
        job.corpus(sources), images, settings, config, job.state,
        device=job.device, workers=job.workers, report=job.report,
    )  # fmt: skip
    return job.save(
        network, sources, progress, lambda: {"round_trip_psnr_db": round_trip_psnr(network, images)}
    )


@_alone
def train_latent_job(
    job: TrainJob, autoencoder: Path, widths: tuple[int, ...], blocks: tuple[int, ...]
) -> Path:
    """The denoiser of an autoencoder's codes, saved together with it."""
    network = load_autoencoder(autoencoder)
    sources, images = job.load(network.config.channels)
    codes = Codes(job.corpus(sources), network, job.device)
    settings = DenoiserTraining(
        job.budget, job.batch, job.crop, log_sigma_mean=-0.7, log_sigma_std=1.3, sigma_max=80.0,
        sigma_data=1.0, seed=job.seed, precision=job.precision,
    )  # fmt: skip
    config = UNetConfig(network.config.latent_channels, widths, blocks, unshuffle=1)
    denoiser, progress = train_denoiser(
        codes,
        [],
        settings,
        config,
        job.state,
        device=job.device,
        workers=job.workers,
        report=job.report,
    )
    model = LatentEDM(network, denoiser, codes.shift.cpu(), codes.scale.cpu()).to("cpu")
    return job.save(
        model, sources, progress, lambda: {"round_trip_psnr_db": round_trip_psnr(network, images)}
    )


def parse_source(entry: str) -> TrainSource:
    """PATH, PATH:SHARE or PATH:SHARE:ct."""
    parts = entry.split(":")
    modality = parts.pop().upper() if len(parts) > 2 and parts[-1].lower() in ("ct", "mr") else ""
    share = 1.0
    if len(parts) > 1:
        try:
            share = float(parts[-1])
            parts.pop()
        except ValueError:
            share = 1.0  # a colon in a file's own name
    return TrainSource(":".join(parts), share, modality)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    if len(values) != 2:
        raise ConfigError(f"an autoencoder has two levels, got {values}")
    return values[0], values[1]
