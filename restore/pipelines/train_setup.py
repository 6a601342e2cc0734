"""What every training is told and does around its loop: images, output, log, picture and card of one `TrainJob`.

Used by `train_job`, which knows the families of models, and made by the command line. Touches what stands under OUT.
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
from restore.priors.edm import EDMDenoiser
from restore.priors.store import read_card, save_prior
from restore.training.augmentation import Augmentation
from restore.training.corpus import Corpus
from restore.training.loop import Budget, Progress, Report, append_json_line
from restore.training.precision import Precision
from restore.training.sources import Source, check_learnable, load_source
from restore.training.validation import denoising_picture, validation_images
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
        self, model: Any, sources: Sequence[Source], progress: Progress, init: str,
        figures: Callable[[], dict[str, Any]],
    ) -> Path:  # fmt: skip
        """Write weights and card, from the first process; init: the prior that was started from, or "".

        figures: measures on the validation images; called by the first process, where there are any.
        """
        if self.workers.first:
            card = self.card(sources, progress)
            if init:
                first = read_card(init)
                card["started_from"] = {k: first.get(k, "") for k in ("name", "sha256", "licence")}
            save_prior(self.out, model, card | (figures() if self.validation else {}))
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


def alone(
    train: Callable[Concatenate[TrainJob, P], Path],
) -> Callable[Concatenate[TrainJob, P], Path]:
    """A training that holds the lock of its OUT: two at once would write over each other's states."""

    @functools.wraps(train)
    def locked(job: TrainJob, *given: P.args, **named: P.kwargs) -> Path:
        with one_at_a_time(job.out) if job.workers.first else nullcontext():
            return train(job, *given, **named)

    return locked


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
