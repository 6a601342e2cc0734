"""Measure conformal factors on volumes or photographs with a known truth, or try out a table on others.

Called by `restore calibrate`. A protocol of the benchmarks measures, the sampler of a method draws, and the scores of
all pixels (and regions) give the factors of that number of samples. Nothing is written here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
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
from restore.conformal import (
    LEVELS,
    PLAIN,
    SCALES,
    UNITS,
    Scale,
    Spread,
    Unit,
    conformal_factor,
    of_object,
    spread_of,
)
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
Scores = dict[Unit, dict[Scale, NDArray[np.float64]]]
WORTH = 0.0025
"""A quarter of a point of coverage, by which another scale must be nearer to its levels than the plain deviation."""
JUDGED = (0.8, 0.9)
"""The levels by which scales are compared."""
ENOUGH = 3
"""Volumes, below which nothing tells scales apart."""


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

    samples: K; seed: of their noise. on_progress: hears how much of the running volume is done. scales: those that
    scores are wanted for. Raises ConfigError for fewer than 2 samples.
    """

    protocol: Protocol
    compared: Compared
    samples: int
    device: torch.device
    seed: int = 0
    on_progress: OnProgress | None = None
    scales: Sequence[Scale] = SCALES
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
        drawn, measured = self.drawn(volume, setting, case, sampler, self.models.get(prior))
        truth = case.reference
        if drawn is None or truth is None:
            raise ConfigError(f"{volume}: there is one image and no samples of it")
        magnitudes = measured.kind == "mri"
        scores = scores_of(drawn, truth, magnitudes, self.scales)
        if not all(found.size for by_scale in scores.values() for found in by_scale.values()):
            raise InputError(path, "all samples agree everywhere: there is nothing to calibrate")
        method = Method.of(sampler, case.operator, str(card["name"]), str(card["sha256"]))
        images = 1 if case.place.modality == "photograph" else len(drawn[0])
        return Scored(volume, method, measured, self.samples, scores, images)

    def drawn(
        self, volume: str, setting: Setting, case: Case, sampler: Sampler, model: Model | None
    ) -> tuple[NDArray[Any] | None, Circumstances]:
        """The samples of a case, (K, slices or channels, H, W), and how it was measured. Raises what running raises."""
        outcome = case.run(
            sampler, model, samples=self.samples, seed=self.seed, device=self.device, on_progress=self.on_progress
        )  # fmt: skip
        return outcome.samples, outcome.circumstances

    def _chosen(self, case: Case, setting: Setting) -> tuple[Sampler, str]:
        """The configured sampler, and the name of its prior."""
        asked = self.compared.sampler_for(setting.name, case.operator)
        sampler, _ = asked.for_samples(self.samples)
        names = case.prior_names or self.protocol.default_prior
        default = next((names[kind] for kind in sampler.prior_kinds if kind in names), "")
        return sampler, self.compared.prior_for(demand_of(sampler, case.operator), default)


def scores_of(
    drawn: NDArray[Any], truth: NDArray[Any], magnitudes: bool, scales: Sequence[Scale] = SCALES
) -> Scores:
    """Scores of samples (K, slices, H, W) by unit and scale, those of each slice thinned to `MOST_SCORES`.

    magnitudes: of MRI, of whose truth the air does not count.
    """
    found: Scores = {}
    for unit in UNITS:
        spread = spread_of(drawn, unit)
        counted = spread.counted & of_object(truth, unit) if magnitudes else spread.counted
        parts: dict[Scale, list[NDArray[np.float64]]] = {scale: [] for scale in scales}
        for i in range(len(truth)):
            one = Spread(spread.mean[i], spread.deviation[i], counted[i], unit)
            for scale, of_slices in parts.items():
                scores = one.scores(truth[i], scale)
                of_slices.append(scores[:: max(1, -(-scores.size // MOST_SCORES))])
        found[unit] = {scale: np.concatenate(of_slices) for scale, of_slices in parts.items()}
    return found


def factors_from(scored: Sequence[Scored], protocol: Protocol, seed: int) -> list[Entry]:
    """The entries of a table: one for each method and set of circumstances that agree but for noise.

    Raises ConfigError where there are too few scores for a level.
    """
    entries = []
    for group in _groups(scored):
        noise = [s.measured.noise for s in group]
        scales = {unit: chosen_scale([s.scores[unit] for s in group]) for unit in UNITS}
        together = {unit: [s.scores[unit][scales[unit]] for s in group] for unit in UNITS}
        factors: Factors = {group[0].samples: {u: _factors(of) for u, of in together.items()}}
        several = len(group) > 1
        held_out = {unit: _held_out(of) for unit, of in together.items()} if several else {}
        entries.append(Entry(
            group[0].method, _least([s.measured for s in group]), (min(noise) / NOISE_ROOM, max(noise) * NOISE_ROOM),
            factors, held_out, {
                "protocol": protocol.name, "volumes": [s.name for s in group], "images": sum(s.images for s in group),
                "options": protocol.describe(), "seed": seed, "version": restore.__version__,
                "date": today(),
            }, scales,
        ))  # fmt: skip
    return entries


def chosen_scale(scores: Sequence[Mapping[Scale, NDArray[np.float64]]]) -> Scale:
    """Of the scales that all volumes have scores for, the one whose factors hold best on a volume left out.

    Judged by the mean distance of its coverage from the level; the plain deviation unless another is better by `WORTH`,
    and of fewer than `ENOUGH` volumes.
    """
    if len(scores) < ENOUGH:
        return PLAIN
    off = {scale: _mean_distance([of_volume[scale] for of_volume in scores]) for scale in scores[0]}
    best = min(off, key=lambda scale: off[scale])
    return best if off[best] < off.get(PLAIN, np.inf) - WORTH else PLAIN


def _mean_distance(scores: Sequence[NDArray[np.float64]]) -> float:
    covered = each_left_out(scores, JUDGED)
    return float(np.mean([np.abs(np.array(c) - level).mean() for level, c in covered.items()]))


def coverage_of(scored: Scored, entries: Sequence[Entry]) -> dict[Unit, dict[float, float]]:
    """How often the intervals of a table hold the truth of a volume, by unit and level, for all of its samples.

    Raises ConfigError where the table has no factor for it.
    """
    found: dict[Unit, dict[float, float]] = {}
    for unit in UNITS:
        for level in LEVELS:
            factor = find(entries, scored.method, scored.measured, scored.samples, unit, level)
            if factor.factor is None or factor.entry is None:
                raise ConfigError(f"{scored.name}: the table serves it not: {factor.why}")
            within = scored.scores[unit][factor.entry.scale(unit)] <= factor.factor
            found.setdefault(unit, {})[level] = float(within.mean())
    return found


def with_trial(entries: Sequence[Entry], scored: Sequence[Scored]) -> list[Entry]:
    """The entries, those that serve these volumes with what their intervals held of them.

    Raises ConfigError where the table has no factor for a volume.
    """
    covered = [coverage_of(one, entries) for one in scored]
    serving = [
        find(entries, one.method, one.measured, one.samples, UNITS[0], LEVELS[0]).entry
        for one in scored
    ]
    found = []
    for entry in entries:
        on = [i for i, there in enumerate(serving) if there is entry]
        if not on:
            found.append(entry)
            continue
        tried = {
            unit: {level: _summary([covered[i][unit][level] for i in on]) for level in LEVELS}
            for unit in UNITS
        }
        about = {
            "volumes": [scored[i].name for i in on], "images": sum(scored[i].images for i in on), "date": today(),
        }  # fmt: skip
        found.append(dataclasses.replace(entry, tried=tried, tried_on=about))
    return found


def _summary(covered: Sequence[float]) -> tuple[float, float, float]:
    return round(float(np.mean(covered)), 4), round(min(covered), 4), round(max(covered), 4)


def today() -> str:
    """The date, as tables have it."""
    return datetime.now(UTC).date().isoformat()


def _least(measured: Sequence[Circumstances]) -> Circumstances:
    """Those with the fewest lines in the centre."""
    return min(measured, key=lambda one: one.centre)


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
    covered = each_left_out(scores, LEVELS)
    return {level: (round(min(c), 4), round(max(c), 4)) for level, c in covered.items()}


def each_left_out(
    scores: Sequence[NDArray[np.float64]], levels: Sequence[float]
) -> dict[float, list[float]]:
    """By level how much of each volume the factors of the others cover."""
    found = {level: list[float]() for level in levels}
    for i, own in enumerate(scores):
        others = np.concatenate([s for j, s in enumerate(scores) if j != i])
        for level, covered in found.items():
            covered.append(float((own <= conformal_factor(others, level)).mean()))
    return found
