"""Tune methods on volumes of their own: the best value of one setting for each method and setting of the benchmark.

Called by `restore bench tune`. Every trial is a row of an ordinary run in the same folder, so that tuning can be
stopped, continued and looked at; the chosen values stand in `tuned.json`, with the volumes that they were chosen on. A
benchmark that is given this file uses the values and leaves those volumes out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from restore.bench import results
from restore.bench.case import Case
from restore.bench.method import Method
from restore.bench.protocol import Protocol, Setting
from restore.bench.runner import RunOptions, Told, run_benchmark
from restore.bench.table import summarise
from restore.datasets.json_text import read_json, write_json
from restore.errors import ConfigError, InputError, NotFoundError
from restore.registry import load_sampler

FORMAT, FILE_NAME, ROUNDS = 1, "tuned.json", 4


@dataclasses.dataclass(frozen=True)
class Grid:
    """Values of one setting of one method. refine: look between and beyond them, on a logarithmic scale."""

    setting: str
    values: tuple[str, ...]
    refine: bool


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was chosen for a method under a setting of the benchmark, and every trial: (value, mean PSNR)."""

    method: str
    setting: str
    name: str
    value: str
    psnr: float
    tried: tuple[tuple[str, float], ...]


def default_grid(sampler: str) -> Grid:
    """The grid that a sampler's class suggests. Raises ConfigError where it has none."""
    suggested = load_sampler(sampler).tunable
    if not suggested:
        raise ConfigError(
            f"{sampler} suggests nothing to tune; name a grid: --grid {sampler}.SETTING=VALUE,VALUE"
        )
    name, values = next(iter(suggested.items()))
    return Grid(name, tuple(f"{v:g}" for v in values), refine=True)


def parse_grids(items: Sequence[str], samplers: Sequence[str]) -> dict[str, Grid]:
    """`tv.weight=1e-4,1e-3` for one sampler each. Raises ConfigError."""
    grids = {}
    for item in items:
        left, equals, right = item.partition("=")
        sampler, dot, setting = left.strip().partition(".")
        values = tuple(v.strip() for v in right.split(",") if v.strip())
        if not (equals and dot and setting and values) or sampler not in samplers:
            raise ConfigError(
                f"--grid takes SAMPLER.SETTING=VALUE,VALUE with one of {', '.join(samplers)}, got '{item}'"
            )
        grids[sampler] = Grid(setting, values, refine=False)
    return grids


def tune(
    protocol: Protocol, grids: Mapping[str, Grid], run: Path, options: RunOptions, told: Told
) -> list[Choice]:
    """Try the grids, choose by mean PSNR over the volumes, write `run`/tuned.json. grids: by sampler.

    Raises ConfigError, InputError (every trial of a method failed), OutputError.
    """
    options = dataclasses.replace(options, keep=0)
    chosen = []
    for setting in protocol.settings():
        one = _OneSetting(protocol, setting)
        for sampler, grid in grids.items():
            tried = _search(one, sampler, grid, run, options, told)
            if not tried:
                raise InputError(run, f"no trial of {sampler} under {setting.name} could be scored")
            value = max(tried, key=lambda v: tried[v])
            told.note(
                f"{sampler} under {setting.name}: {grid.setting}={value}, {tried[value]:.2f} dB"
            )
            chosen.append(
                Choice(
                    sampler, setting.name, grid.setting, value, tried[value], tuple(tried.items())
                )
            )
    _write(run / FILE_NAME, protocol, chosen)
    return chosen


def read_tuned(
    path: Path, protocol: str
) -> tuple[dict[str, dict[str, dict[str, Any]]], frozenset[str]]:
    """Values by method and setting, and the volumes they were chosen on. path: tuned.json or its folder.

    Raises InputError for another kind of file or another protocol.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        record = read_json(file)
        if record["format"] != FORMAT or record["kind"] != "tuned settings":
            raise ValueError("another format")
        values: dict[str, dict[str, dict[str, Any]]] = {}
        for entry in record["chosen"]:
            words = [entry[k] for k in ("method", "setting", "name", "value")]
            if not all(isinstance(word, str) for word in words):
                raise ValueError(f"no texts in 'chosen': {words}")
            method, setting, name, value = words
            values.setdefault(method, {})[setting] = {name: value}
        found, volumes = str(record["protocol"]), frozenset(map(str, record["volumes"]))
    except (NotFoundError, InputError, ValueError, KeyError, TypeError) as cause:
        raise InputError(file, f"is not what `restore bench tune` writes ({cause})") from cause
    if found != protocol:
        raise InputError(file, f"was tuned under {found}, this run is {protocol}", "tune again")
    return values, volumes


class _OneSetting(Protocol):
    """A protocol with one of its settings alone; in everything else the same, so that its record says the same."""

    def __init__(self, whole: Protocol, setting: Setting) -> None:
        self.whole, self.only = whole, setting
        for name in Protocol.__annotations__:
            setattr(self, name, getattr(whole, name))

    def volumes(self) -> dict[str, Path]:
        return self.whole.volumes()

    def settings(self) -> tuple[Setting, ...]:
        return (self.only,)

    def describe(self) -> dict[str, Any]:
        return self.whole.describe()

    def open(self, volume: str, setting: Setting, run: Path) -> Case | None:
        return self.whole.open(volume, setting, run)

    def mark(self, path: Path) -> str:
        return self.whole.mark(path)

    def close(self, volume: str, setting: Setting, run: Path) -> None:
        self.whole.close(volume, setting, run)


def _search(
    protocol: _OneSetting, sampler: str, grid: Grid, run: Path, options: RunOptions, told: Told
) -> dict[str, float]:
    """Mean PSNR by value: the grid, then between and beyond its best values."""
    tried: dict[str, float] = {}
    wanted = list(grid.values)
    for _ in range(ROUNDS if grid.refine else 1):
        methods = [
            Method(f"{sampler}-{grid.setting}-{value}", sampler, settings={grid.setting: value})
            for value in wanted
        ]
        run_benchmark(protocol, methods, run, options, told)
        named = dict(zip((m.name for m in methods), wanted, strict=True))
        tried |= _scores(run, protocol, named, set(protocol.volumes()))
        wanted = _next_values(tried) if grid.refine and tried else []
        if not wanted:
            break
    return tried


def _scores(
    run: Path, protocol: _OneSetting, values: Mapping[str, str], volumes: set[str]
) -> dict[str, float]:
    """Mean PSNR, as the table of a run shows it, of the methods that were scored on every volume. values: by method."""
    rows = [
        row
        for row in results.load(run)
        if (row.setting == protocol.only.name and row.method in values and row.volume in volumes)
        and (row.status == "done" and row.psnr is not None)
    ]
    lines = summarise(rows, protocol.average_over)
    most = max((line.volumes for line in lines), default=0)
    return {values[line.method]: line.cells["psnr"].mean for line in lines if line.volumes == most}


def _next_values(tried: Mapping[str, float]) -> list[str]:
    """The geometric means of the best value with its neighbours; beyond the end where the best lies at one."""
    values = sorted(float(v) for v in tried)
    best = float(max(tried, key=lambda v: tried[v]))
    at = values.index(best)
    ratio = values[-1] / values[0] if len(values) < 2 else values[1] / values[0]
    left = math.sqrt(best * values[at - 1]) if at > 0 else best / ratio
    right = math.sqrt(best * values[at + 1]) if at + 1 < len(values) else best * ratio
    return [text for v in (left, right) if v > 0 and (text := f"{v:.3g}") not in tried]


def _write(path: Path, protocol: Protocol, chosen: Sequence[Choice]) -> None:
    record = {
        "format": FORMAT, "kind": "tuned settings", "protocol": protocol.name, "options": protocol.describe(),
        "volumes": list(protocol.volumes()), "chosen": [dataclasses.asdict(c) for c in chosen],
    }  # fmt: skip
    write_json(path, record)
