"""Find one noise that serves many images: every candidate is tried on all of them, and the best on their mean is kept.

Called by `restore bench starts`. A protocol of the benchmarks measures and scores; what a start is and how one is
chosen stands in `restore.starts`. Nothing is written here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import restore
from restore.bench.case import Case
from restore.bench.method import Method as Compared
from restore.bench.protocol import Protocol, Setting
from restore.bench.with_truth import known_cases
from restore.errors import ConfigError
from restore.front_door import demand_of
from restore.method import Method
from restore.pipelines.factors import Circumstances
from restore.priors.store import load_prior, read_card
from restore.priors.traits import Model
from restore.starts import ChosenStart, Entry, best, left_out_gain, start_of

DIFFERENT = 1e-6
"""dB: candidates whose PSNR differ by less on every image are one image: float32 rounds above it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tried:
    """One volume or photograph under one setting: what was run on it, how it was measured, PSNR (candidates,)."""

    name: str
    method: Method
    measured: Circumstances
    psnr: NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """Runs every candidate on every volume of a protocol under every setting.

    candidates: how many, of the seeds 0, 1, ...; tile: the side of their fields. on_run: hears of every run that is
    done. Raises ConfigError for fewer than 2 candidates.
    """

    protocol: Protocol
    compared: Compared
    candidates: int
    tile: int
    device: torch.device
    on_run: Callable[[], None] | None = None
    models: dict[str, Model] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.candidates < 2:
            raise ConfigError(f"a choice needs 2 candidates or more, got {self.candidates}")
        _ = self.starts

    @property
    def starts(self) -> list[ChosenStart]:
        """The candidates."""
        return [ChosenStart(seed, self.tile) for seed in range(self.candidates)]

    def volumes(self) -> Iterator[Tried]:
        """Of every volume and setting.

        Raises ConfigError (a sampler that takes no start), InputError (a volume without a truth), and what
        reconstructing raises.
        """
        for volume, _, setting, case in known_cases(self.protocol):
            yield self._tried(volume, case, setting)

    def _tried(self, volume: str, case: Case, setting: Setting) -> Tried:
        sampler = self.compared.sampler_for(setting.name, case.operator)
        names = case.prior_names or self.protocol.default_prior
        default = next((names[kind] for kind in sampler.prior_kinds if kind in names), "")
        prior = self.compared.prior_for(demand_of(sampler, case.operator), default)
        start_of(self.starts[0].text, sampler, prior, case.operator, 1)  # refused before the work
        if prior not in self.models:
            self.models[prior] = load_prior(prior)
        card, figures, measured = read_card(prior), [], None
        for start in self.starts:
            outcome = case.run(
                sampler, self.models[prior], samples=1, seed=0, device=self.device, start=start.text
            )
            figures.append(case.score(outcome.image).psnr)
            measured = outcome.circumstances
            if self.on_run is not None:
                self.on_run()
        method = Method.of(sampler, case.operator, str(card["name"]), str(card["sha256"]))
        assert measured is not None  # noqa: S101  (for the type checker: there are candidates)
        return Tried(f"{volume} {setting.name}", method, measured, np.array(figures))


def starts_from(tried: Sequence[Tried], trial: Trial) -> list[Entry]:
    """The entries of a table, one for each method, kind and task. Raises ConfigError where nothing was drawn."""
    groups: dict[tuple[str, ...], list[Tried]] = {}
    for one in tried:
        key = (one.method.weights, one.method.fingerprint, one.measured.kind, one.measured.task)
        groups.setdefault(key, []).append(one)
    return [_entry(group, trial) for group in groups.values()]


def _entry(group: Sequence[Tried], trial: Trial) -> Entry:
    one, psnr = group[0], np.stack([t.psnr for t in group], axis=1)
    if float(np.ptp(psnr, axis=0).max()) < DIFFERENT:
        raise ConfigError(
            f"{one.method.sampler}: all {trial.candidates} candidates give the same images: it draws nothing with "
            "these settings, and no start needs choosing"
        )
    means, chosen, gain = psnr.mean(axis=1), best(-psnr), left_out_gain(-psnr)
    found: dict[str, Any] = {
        "candidates": trial.candidates, "images": len(group), "volumes": [t.name for t in group],
        "psnr": round(float(means[chosen]), 3), "mean_psnr": round(float(means.mean()), 3),
        "deviation": round(float(means.std(ddof=1)), 4),
        "left_out_gain": None if gain is None else round(gain, 3),
        "protocol": trial.protocol.name, "options": trial.protocol.describe(), "version": restore.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip
    return Entry(one.method, one.measured.kind, one.measured.task, trial.starts[chosen], found)
