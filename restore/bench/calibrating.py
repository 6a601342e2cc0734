"""Measure conformal factors on volumes or photographs with a known truth, or try out a table on others.

Called by `restore calibrate`. A protocol of the benchmarks measures, the sampler of a method draws, and the scores of
all pixels (and regions) give the factors of that number of samples. Nothing is written here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import restore
from restore.bench.case import Case, OnProgress
from restore.bench.method import Method as Compared
from restore.bench.protocol import Protocol, Setting
from restore.bench.with_truth import known_cases
from restore.conformal import LEVELS, UNITS, Spread, Unit, conformal_factor, spread_of
from restore.errors import ConfigError, InputError
from restore.front_door import demand_of
from restore.method import Method
from restore.pipelines.factors import (
    NOISE_ROOM,
    Circumstances,
    Entry,
    Factors,
    alike,
    find,
)
from restore.priors.store import load_prior, read_card
from restore.priors.traits import Model
from restore.samplers.base import Sampler

MOST_SCORES = 1 << 14
"""Of one slice, evenly chosen: neighbours are alike, and every slice of every volume counts the same."""
Scores = dict[Unit, NDArray[np.float64]]


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """One volume or photograph under one setting: how it was measured and drawn, and its scores."""

    name: str
    method: Method
    measured: Circumstances
    samples: int
    scores: Scores
    images: int


@dataclasses.dataclass(frozen=True, eq=False)
class Drawing:
    """Draws samples of every volume of a protocol under every setting, and scores them.

    samples: K; seed: of their noise. on_progress: hears how much of the running volume is done. Raises ConfigError for
    fewer than 2 samples.
    """

    protocol: Protocol
    compared: Compared
    samples: int
    device: torch.device
    seed: int = 0
    on_progress: OnProgress | None = None
    models: dict[str, Model] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ConfigError(
                f"a calibration needs 2 samples or more, got {self.samples}: --samples 8"
            )

    def volumes(self) -> Iterator[Scored]:
        """Of every volume and setting.

        Raises ConfigError (a sampler that cannot serve), InputError (a volume without a truth, or where nothing
        counts), and what reconstructing raises.
        """
        for volume, path, setting, case in known_cases(self.protocol):
            yield self._scored(volume, path, case, setting)

    def _scored(self, volume: str, path: Path, case: Case, setting: Setting) -> Scored:
        sampler, prior = self._chosen(case, setting)
        if prior and prior not in self.models:
            self.models[prior] = load_prior(prior)
        card = read_card(prior) if prior else {"name": "", "sha256": ""}
        outcome = case.run(
            sampler, self.models.get(prior), samples=self.samples, seed=self.seed, device=self.device,
            on_progress=self.on_progress,
        )  # fmt: skip
        drawn, truth = outcome.samples, case.reference
        if drawn is None or truth is None:
            raise ConfigError(f"{volume}: there is one image and no samples of it")
        magnitudes = outcome.circumstances.kind == "mri"
        scores = scores_of(drawn, truth, magnitudes)
        if not all(found.size for found in scores.values()):
            raise InputError(path, "all samples agree everywhere: there is nothing to calibrate")
        method = Method.of(sampler, str(card["name"]), str(card["sha256"]))
        images = 1 if case.place.modality == "photograph" else len(drawn[0])
        return Scored(volume, method, outcome.circumstances, self.samples, scores, images)

    def _chosen(self, case: Case, setting: Setting) -> tuple[Sampler, str]:
        """The configured sampler, and the name of its prior."""
        asked = self.compared.sampler_for(setting.name, case.operator)
        sampler, _ = asked.for_samples(self.samples)
        names = case.prior_names or self.protocol.default_prior
        default = next((names[kind] for kind in sampler.prior_kinds if kind in names), "")
        return sampler, self.compared.prior_for(demand_of(sampler, case.operator), default)


def scores_of(drawn: NDArray[Any], truth: NDArray[Any], magnitudes: bool) -> Scores:
    """Scores of samples (K, slices, H, W) by unit, those of each slice thinned to `MOST_SCORES`."""
    found: Scores = {}
    for unit in UNITS:
        spread = spread_of(drawn, unit, magnitudes)
        parts = []
        for i in range(len(truth)):
            one = Spread(spread.mean[i], spread.deviation[i], spread.counted[i], unit)
            scores = one.scores(truth[i])
            parts.append(scores[:: max(1, -(-scores.size // MOST_SCORES))])
        found[unit] = np.concatenate(parts)
    return found


def factors_from(scored: Sequence[Scored], protocol: Protocol, seed: int) -> list[Entry]:
    """The entries of a table: one for each method and set of circumstances that agree but for noise.

    Raises ConfigError where there are too few scores for a level.
    """
    entries = []
    for group in _groups(scored):
        noise = [s.measured.noise for s in group]
        together = {unit: [s.scores[unit] for s in group] for unit in UNITS}
        factors: Factors = {group[0].samples: {u: _factors(of) for u, of in together.items()}}
        several = len(group) > 1
        held_out = {unit: _held_out(of) for unit, of in together.items()} if several else {}
        entries.append(Entry(
            group[0].method, group[0].measured, (min(noise) / NOISE_ROOM, max(noise) * NOISE_ROOM), factors,
            held_out, {
                "protocol": protocol.name, "volumes": [s.name for s in group], "images": sum(s.images for s in group),
                "options": protocol.describe(), "seed": seed, "version": restore.__version__,
                "date": datetime.now(UTC).date().isoformat(),
            },
        ))  # fmt: skip
    return entries


def coverage_of(scored: Scored, entries: Sequence[Entry]) -> dict[Unit, dict[float, float]]:
    """How often the intervals of a table hold the truth of a volume, by unit and level, for all of its samples.

    Raises ConfigError where the table has no factor for it.
    """
    found: dict[Unit, dict[float, float]] = {}
    for unit in UNITS:
        for level in LEVELS:
            factor = find(entries, scored.method, scored.measured, scored.samples, unit, level)
            if factor.factor is None:
                raise ConfigError(f"{scored.name}: the table serves it not: {factor.why}")
            within = scored.scores[unit] <= factor.factor
            found.setdefault(unit, {})[level] = float(within.mean())
    return found


def _groups(scored: Sequence[Scored]) -> list[list[Scored]]:
    groups: list[list[Scored]] = []
    for one in scored:
        for group in groups:
            if group[0].method == one.method and alike(group[0].measured, one.measured):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _factors(scores: Sequence[NDArray[np.float64]]) -> dict[float, float]:
    together = np.concatenate(scores)
    found = {level: conformal_factor(together, level) for level in LEVELS}
    if not all(map(np.isfinite, found.values())):
        raise ConfigError(
            f"{together.size} pixels or regions count, too few for an interval of {max(found):g}; give more slices"
        )
    return {level: round(factor, 4) for level, factor in found.items()}


def _held_out(scores: Sequence[NDArray[np.float64]]) -> dict[float, tuple[float, float]]:
    """Lowest and highest coverage of one volume by the factors of the others."""
    found = {level: list[float]() for level in LEVELS}
    for i, own in enumerate(scores):
        others = np.concatenate([s for j, s in enumerate(scores) if j != i])
        for level, covered in found.items():
            covered.append(float((own <= conformal_factor(others, level)).mean()))
    return {level: (round(min(c), 4), round(max(c), 4)) for level, c in found.items()}
