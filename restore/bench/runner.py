"""Drain a protocol: every method on every volume under every setting, one row and one image each, resumable.

Called by the command line and the tuning. A row is written as soon as its method is done; a second call finds it and
goes on where the first was stopped. A method that fails leaves a row that says why and is tried again next time.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import restore
from restore.bench import results, store
from restore.bench.case import Case, Outcome
from restore.bench.coverage import calibration
from restore.bench.method import Method, prior_mark
from restore.bench.protocol import Protocol, Setting, hash_of
from restore.bench.record import record_path, write_record
from restore.bench.results import Row
from restore.config import check_settings, shared
from restore.datasets.atomic import check_writable, make_folder, sweep
from restore.datasets.locks import one_at_a_time
from restore.errors import ConfigError, DivergenceError, OutputError, RestoreError
from restore.front_door import demand_of
from restore.pipelines.meter import measured
from restore.pipelines.recon_options import ReconOptions
from restore.precision import Word, resolve, word_of
from restore.priors.store import load_prior
from restore.priors.traits import Model
from restore.samplers.base import Planned, Sampler


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """part: (k, n), every n-th volume from the k-th, for many machines on one folder. keep: how many volumes keep their
    images, None for all."""

    device: torch.device
    samples: int = shared(ReconOptions, "samples")
    seed: int = shared(ReconOptions, "seed")
    part: tuple[int, int] | None = None
    keep: int | None = None
    precision: Word = shared(ReconOptions, "precision")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.keep is not None and self.keep < 0:
            raise ConfigError(f"the volumes to keep must be zero or more, got {self.keep}")
        if self.part is not None and not 1 <= self.part[0] <= self.part[1]:
            k, n = self.part
            raise ConfigError(f"a part is k of n with 1 <= k <= n, got {k} of {n}")


@dataclasses.dataclass(frozen=True, eq=False)
class Told:
    """What the consumer hears: every finished row with its number, how far the running method is (0 to 1), remarks."""

    row: Callable[[Row, int, int], None] = lambda row, done, total: None
    progress: Callable[[float], None] = lambda part: None
    note: Callable[[str], None] = lambda text: None


@dataclasses.dataclass(frozen=True)
class Summary:
    """Rows made now, of which failed; rows that were there already."""

    made: int
    failed: int
    found: int


def run_benchmark(
    protocol: Protocol, methods: Sequence[Method], run: Path, options: RunOptions, told: Told
) -> Summary:
    """Make every row that is missing in the folder `run`, which is made where its parent exists.

    A method's own errors become rows. Raises ConfigError, NotFoundError, OutputError.
    """
    for setting in protocol.settings():
        for method in methods:  # slips in names and values are found before any work
            method.sampler_for(setting.name, Planned(""), check=False)
    work = _Work(protocol, tuple(methods), run, options, told, protocol.volumes())
    if not work.mine:
        k, n = options.part or (1, 1)
        raise ConfigError(
            f"part {k} of {n} has none of the {len(work.volumes)} volumes; choose fewer parts"
        )
    _check_place(run, work.volumes)
    make_folder(run)
    with one_at_a_time(results.results_path(run, options.part)):
        return _missing_rows(work)


def _check_place(run: Path, volumes: Mapping[str, Path]) -> None:
    """Refuse a folder that cannot hold the run, or that holds the data (OutputError)."""
    if not run.parent.is_dir():
        raise OutputError(f"{run.parent}: there is no such folder; make it first")
    if os.path.lexists(run) and not run.is_dir():
        raise OutputError(f"{run}: is no folder; give the run another name")
    inside = [v for v in volumes.values() if run.exists() and run.resolve() in v.resolve().parents]
    if inside:
        raise OutputError(
            f"{run}: holds the data ({inside[0].name}); give the run a folder of its own"
        )
    check_writable(run if run.is_dir() else run.parent)
    for folder in (run / store.FOLDER).rglob("*"):
        if folder.is_dir():
            sweep(folder)  # what killed calls left half-written


def _missing_rows(work: _Work) -> Summary:
    """Make the rows that are not there yet."""
    protocol, methods, run, options = work.protocol, work.methods, work.run, work.options
    told = work.told
    rows = results.load(run) if any(run.glob("results*.csv")) else []
    have = {row.key for row in rows if row.status == "done"}
    write_record(
        record_path(run, options.part), protocol, methods, samples=options.samples, seed=options.seed,
        device=str(options.device), volumes=work.mine,
    )  # fmt: skip
    pairs = [(v, s) for v in work.mine for s in protocol.settings()]
    total, made, failed, found = len(pairs) * len(methods), 0, 0, 0
    for volume, setting in pairs:
        missing = [m for m in methods if work.key(m, volume, setting) not in have]
        found += len(methods) - len(missing)
        for row in work.rows(volume, setting, missing):
            results.append(results.results_path(run, options.part), row)
            made, failed = made + 1, failed + (row.status == "failed")
            told.row(row, found + made, total)
    work.check_every_method_served()
    if not made + found:
        names = ", ".join(s.name for s in protocol.settings())
        raise ConfigError(
            f"none of the {len(work.mine)} volumes takes part in the settings {names}; test files are measured at "
            "their own acceleration: name that"
        )
    return Summary(made, failed, found)


@dataclasses.dataclass(eq=False)
class _Work:
    """One call of `run_benchmark`: what was asked for, and what is kept between cases."""

    protocol: Protocol
    methods: tuple[Method, ...]
    run: Path
    options: RunOptions
    told: Told
    volumes: dict[str, Path]
    unfit: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    models: dict[str, Model] = dataclasses.field(default_factory=dict)
    marks: dict[str, str] = dataclasses.field(default_factory=dict)
    remarked: set[tuple[str, str]] = dataclasses.field(default_factory=set)

    @property
    def mine(self) -> list[str]:
        """The volumes of this part."""
        k, n = self.options.part or (1, 1)
        return list(self.volumes)[k - 1 :: n]

    @functools.cached_property
    def kept(self) -> frozenset[str]:
        """The volumes whose images are kept."""
        return frozenset(list(self.volumes)[: self.options.keep])

    @functools.cached_property
    def prior_marks(self) -> dict[str, str]:
        """Names and hashes of the protocol's priors: their cards are read once."""
        return {kind: prior_mark(name) for kind, name in self.protocol.default_prior.items()}

    def key(self, method: Method, volume: str, setting: Setting) -> str:
        """Hash of everything that shapes a row."""
        if volume not in self.marks:
            self.marks[volume] = self.protocol.mark(self.volumes[volume])
        used = word_of(resolve(self.options.precision, self.options.device))
        rounded = {} if used == "float32" else {"precision": used}
        return hash_of(
            {
                "protocol": self.protocol.name, "options": self.protocol.describe(), "volume": volume,
                "content": self.marks[volume], "setting": [setting.name, setting.values],
                "method": method.identity(setting.name), "priors": self.prior_marks,
                "samples": self.options.samples, "seed": self.options.seed, **rounded,
            }
        )  # fmt: skip

    def rows(self, volume: str, setting: Setting, missing: Sequence[Method]) -> Iterator[Row]:
        """The missing rows of one volume under one setting; the measurement is opened only if there are any."""
        wanted = [m for m in missing if (m.name, setting.name) not in self.unfit]
        if not wanted:
            return
        try:
            case = self.protocol.open(volume, setting, self.run)
            if case is None:
                return
            jobs = [job for m in wanted if (job := self.job(m, case, setting)) is not None]
            if jobs and volume in self.kept:
                self.keep_first_images(case, volume, setting)
        except OutputError:
            raise  # a full disk is not this volume's fault: the run ends
        except RestoreError as error:
            yield from (self.failed(m, volume, setting, error) for m in wanted)
            return
        for method, sampler, prior in jobs:
            yield self.row(method, sampler, prior, case, volume, setting)
            for text in case.remarks():
                if (volume, text) not in self.remarked:
                    self.remarked.add((volume, text))
                    self.told.note(f"{volume}: {text}")
        self.protocol.close(volume, setting, self.run)

    def job(
        self, method: Method, case: Case, setting: Setting
    ) -> tuple[Method, Sampler, str] | None:
        """The configured sampler and its prior; None, with one remark, where the method cannot serve this setting."""
        try:
            sampler = method.sampler_for(setting.name, case.operator)
            names = case.prior_names or self.protocol.default_prior
            default = next((names[kind] for kind in sampler.prior_kinds if kind in names), "")
            if sampler.prior_kinds and method.prior == "auto" and not default:
                kinds = " or ".join(sampler.prior_kinds)
                raise ConfigError(
                    f"there is no bundled {kinds} prior for it; train one and name it with --prior"
                )
            asked = demand_of(sampler, case.operator)
            return method, sampler, method.prior_for(asked, default)
        except ConfigError as error:
            self.unfit[method.name, setting.name] = str(error)
            self.told.note(f"{method.name} is left out under {setting.name}: {error}")
            return None

    def row(
        self,
        method: Method,
        sampler: Sampler,
        prior: str,
        case: Case,
        volume: str,
        setting: Setting,
    ) -> Row:
        """Run one method and keep what it made; its failure becomes the row."""
        options = self.options
        begun = dataclasses.replace(
            self.begun(method, volume, setting), settings=dataclasses.asdict(sampler), prior=prior_mark(prior)
        )  # fmt: skip
        try:
            model = self.model(prior)
            with measured(options.device) as cost:
                outcome = case.run(
                    sampler, model, samples=options.samples, seed=options.seed, device=options.device,
                    precision=options.precision, on_progress=self.told.progress,
                )  # fmt: skip
            if not np.isfinite(outcome.image).all():
                raise DivergenceError(f"{method.name}: the result is not finite")
            figures = _figures(case, outcome)
        except OutputError:
            raise
        except RestoreError as error:
            return self.failed(method, volume, setting, error)
        if volume in self.kept:
            spread = None if outcome.samples is None else outcome.samples.std(0, ddof=1)
            path = store.image_path(self.run, setting.name, method.name, volume)
            store.save(path, outcome.image, case.place, spread)
        told = case.conditions
        return dataclasses.replace(
            begun, status="done", target=told.target if case.reference is not None else "", mask=told.mask,
            mask_seed=told.mask_seed, noise_std=told.noise_std, noise_rule=told.noise_rule,
            conditions=told.details | ({"precision": outcome.precision} if outcome.precision else {}),
            slices=len(case.place.slices), misfit=outcome.misfit, misfit_rule=outcome.misfit_rule,
            evaluations=outcome.evaluations * options.samples, seconds=round(cost.seconds, 3),
            peak_memory_mb=cost.peak_memory_mb, curve=outcome.curve, **figures,
        )  # fmt: skip

    def keep_first_images(self, case: Case, volume: str, setting: Setting) -> None:
        """The reference, and what a reader of the measurement sees first."""
        look = store.image_path(self.run, setting.name, store.INPUT, volume)
        if not look.exists():
            store.save(look, case.first_look(), case.place)
        target = store.image_path(self.run, "", store.REFERENCE, volume)
        if case.reference is not None and not target.exists():
            store.save(target, case.reference, case.place)

    def failed(self, method: Method, volume: str, setting: Setting, error: RestoreError) -> Row:
        """A row that says why; folders of this machine stay out of it."""
        reason = str(error).replace(f"{self.volumes[volume].parent}/", "")
        return dataclasses.replace(
            self.begun(method, volume, setting), status="failed", reason=reason
        )

    def begun(self, method: Method, volume: str, setting: Setting) -> Row:
        """A row with what is known before the work."""
        return Row(
            key=self.key(method, volume, setting), protocol=self.protocol.name, volume=volume, setting=setting.name,
            method=method.name, status="", sampler=method.sampler, preset=method.preset, seed=self.options.seed,
            samples=self.options.samples, device=str(self.options.device), version=restore.__version__,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip

    def model(self, prior: str) -> Model | None:
        """The loaded prior, loaded once."""
        if prior and prior not in self.models:
            self.models[prior] = load_prior(prior)
        return self.models[prior] if prior else None

    def check_every_method_served(self) -> None:
        """Raise ConfigError for a method that was left out under every setting: most likely a slip."""
        settings = [s.name for s in self.protocol.settings()]
        for method in self.methods:
            reasons = [self.unfit.get((method.name, name)) for name in settings]
            if all(reasons):
                raise ConfigError(f"{method.name} serves no setting of this run: {reasons[0]}")


def _figures(case: Case, outcome: Outcome) -> dict[str, Any]:
    """The columns that need a reference."""
    if case.reference is None:
        return {}
    figures = dataclasses.asdict(case.score(outcome.image))
    if outcome.samples is None:
        return figures
    found = calibration(outcome.samples, case.reference, case.compared())
    return figures | {
        "coverage": found.coverage, "coverage_nominal": found.nominal,
        "spread_ratio": found.spread_ratio, "calibration": found.bins,
    }  # fmt: skip
