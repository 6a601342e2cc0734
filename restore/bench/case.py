"""The contract between a protocol and the runner: one measurement, what it depends on, and how an image is scored.

`ScanCase` serves every protocol on scans; photographs have their own case in `images`. A case is opened lazily, lives
while its methods run, and holds no results.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.bench.store import Place
from restore.conformal import FOREGROUND
from restore.datasets.scan import MapsSource, Scan
from restore.pipelines.factors import Circumstances
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.scan_to_volume import reconstruct
from restore.precision import Word
from restore.priors.traits import Model
from restore.problem import Step
from restore.registry import name_of
from restore.samplers.base import OperatorTraits, Sampler
from restore.starts import DRAWN

OnProgress = Callable[[float], None]
"""Told how much of the case is done, from 0 to 1."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What a figure depends on besides the method, written beside it.

    target: what the reference is ("RSS of the full k-space", ...). mask, mask_seed: pattern and what seeded it.
    noise_std: in the measurement's units, or None; noise_rule: where it comes from. details: the rest by name.
    """

    target: str
    mask: str = ""
    mask_seed: str = ""
    noise_std: float | None = None
    noise_rule: str = ""
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Figures:
    """How near an image is to the reference. per_slice: lists by name, with "slice"; extra: further figures."""

    psnr: float
    ssim: float
    nmse: float
    data_range: float
    data_range_rule: str
    ssim_variant: str
    per_slice: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    extra: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What a method made: image (slices or channels, H, W) in the reference's units, samples (K, ...) or None, the
    data misfit with its rule, network evaluations per image and sample, the curve of the misfit, how it was measured,
    the precision of networks, "" where there is none."""

    image: NDArray[Any]
    samples: NDArray[Any] | None
    misfit: float
    misfit_rule: str
    evaluations: int
    curve: list[list[float]]
    circumstances: Circumstances
    precision: str = ""


class Case(ABC):
    """One volume (or photograph) under one setting.

    operator: the forward operator, or what is known of it: samplers and presets go by it. prior_names: bundled priors
    by kind where the protocol's own do not serve (a grey photograph).
    """

    conditions: Conditions
    place: Place
    reference: NDArray[Any] | None
    operator: OperatorTraits
    prior_names: dict[str, str] | None = None

    def remarks(self) -> list[str]:
        """What must be known of the measurement and of the images made so far, in sentences."""
        return []

    @abstractmethod
    def first_look(self) -> NDArray[Any]:
        """The measurement as an image of the reference's shape: zero-filled, FBP, the degraded photograph."""

    @abstractmethod
    def run(
        self,
        sampler: Sampler,
        prior: Model | None,
        *,
        samples: int,
        seed: int,
        device: torch.device,
        precision: Word = "auto",
        on_progress: OnProgress | None = None,
        start: str = DRAWN,
    ) -> Outcome:
        """Restore it. start: as `chosen_start` of `restore.solve`. Raises what `restore.solve` raises."""

    @abstractmethod
    def score(self, image: NDArray[Any]) -> Figures:
        """The protocol's figures of an image. Only called where there is a reference."""

    def compared(self) -> NDArray[np.bool_]:
        """Where uncertainty is compared with errors: everywhere; air is left out of magnitude images."""
        if self.reference is None:
            raise ValueError("a case without a reference has nothing to compare with")
        if self.place.modality != "MR":
            return np.ones(self.reference.shape, bool)
        return np.asarray(self.reference > FOREGROUND * self.reference.max())


ROUTINE = (
    "no mask in the file", "noise_std ", "the file tells no orientation", "no ismrmrd_header",
)  # fmt: skip
"""How notes begin that say nothing of a benchmark's figures."""

Score = Callable[[NDArray[Any]], Figures]


@dataclasses.dataclass(frozen=True, eq=False)
class ScanCase(Case):
    """A scan with the protocol's rule of scoring. maps: where coil sensitivities come from ("file": the scan's).
    noise_std: as in `ReconOptions`, 0 for a measurement without noise. divisor: (slices,), from the scan's units to the
    reference's where slices have scales of their own; the scan keeps one, so that its noise is the same in all."""

    scan: Scan
    conditions: Conditions
    place: Place
    reference: NDArray[Any] | None
    scoring: Score
    maps: MapsSource = "auto"
    noise_std: float | None = None
    divisor: NDArray[Any] | None = None
    said: list[str] = dataclasses.field(default_factory=list)

    def remarks(self) -> list[str]:
        """The notes of the scan and of the reconstructions, without those that every published file has."""
        return [note for note in self.said if not note.startswith(ROUTINE)]

    @property
    def operator(self) -> OperatorTraits:  # type: ignore[override]
        """The scan says what its operators are."""
        return self.scan

    def first_look(self) -> NDArray[Any]:
        """The classical image that the kind of scan names: zero-filled, filtered back-projection."""
        from restore.registry import load_sampler

        classical = load_sampler(self.scan.first_look).configured("tuned", self.operator, {})
        return self.run(classical, None, samples=1, seed=0, device=torch.device("cpu")).image

    def run(
        self,
        sampler: Sampler,
        prior: Model | None,
        *,
        samples: int,
        seed: int,
        device: torch.device,
        precision: Word = "auto",
        on_progress: OnProgress | None = None,
        start: str = DRAWN,
    ) -> Outcome:
        """Reconstruct all slices."""
        total = self.scan.n_slices * samples
        done = 0.0

        def on_step(before: int, size: int, step: Step) -> None:
            nonlocal done
            done += size / step.n
            if on_progress is not None:
                on_progress(done / total)

        options = ReconOptions(
            samples=samples,
            seed=seed,
            maps=self.maps,
            noise_std=self.noise_std,
            trace=True,
            precision=precision,
            start=start,
        )
        result = reconstruct(self.scan, sampler, prior, options, device=device, on_step=on_step)
        # Of the image that is looked at first nobody expects that it explains its data.
        first = name_of(type(sampler)) == self.scan.first_look
        notes = self.scan.notes if first else result.record["notes"]
        self.said.extend(note for note in notes if note not in self.said)
        chunks = result.record["chunks"]
        weights = [len(chunk["slices"]) for chunk in chunks]
        misfit = np.average([chunk["misfit"] ** 2 for chunk in chunks], weights=weights) ** 0.5
        known = result.record["noise_known"]
        units = 1 if self.divisor is None else self.divisor[:, None, None]
        return Outcome(
            image=result.volume.data / units, samples=None if result.drawn is None else result.drawn.whole() / units,
            misfit=float(misfit),
            misfit_rule="||Ax-y|| / (std sqrt(m)), rms over slices" if known else "||Ax-y|| / ||y||, rms over slices",
            evaluations=int(chunks[0]["evaluations"]), curve=result.record["curve"],
            precision=chunks[0].get("precision") or "",
            circumstances=Circumstances(**result.record["circumstances"]),
        )  # fmt: skip

    def score(self, image: NDArray[Any]) -> Figures:
        """The protocol's figures."""
        return self.scoring(image)
