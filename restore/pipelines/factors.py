"""Tables of conformal factors: what a factor was measured under, and whether it is for this run.

A factor is for one set of weights, one sampler with all its settings, one number of samples, and one way of measuring.
`restore calibrate` writes tables, `interval` looks factors up; one for the bundled priors lies beside their weights. A
table is read with suspicion: whatever is damaged in it is one InputError.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from restore.conformal import PLAIN, UNITS, Scale, Unit
from restore.datasets.json_text import read_json, write_json
from restore.errors import InputError
from restore.method import Method

FORMAT, KIND = 3, "factors of intervals"
READ = (1, 2, FORMAT)
"""Tables of format 1 know no scale but the deviation, those before 3 not with what settings a mean was made: their
factors are for samplers that give their own."""
AGAIN = "make it again with `restore calibrate`"
NEAR = 0.1
"""Part by which numbers of a difficulty may differ: an acceleration of 3.9 is one of 4."""
AT_LEAST = "centre"
"""The number of a difficulty that may be larger than a factor's: maps of more lines are better, and its interval is
then rather too wide. Of entries that differ in it alone, a run takes the one that comes nearest from below."""
SAME_CENTRE = 0.25
"""Part by which such numbers may differ where a new entry takes an older one's place."""
NOISE_ROOM = 1.5
"""Times the noise that a factor was measured at, up and down, at which it still is for."""

Factors = dict[int, dict[Unit, dict[float, float]]]
"""By number of samples, unit and level."""


@dataclasses.dataclass(frozen=True)
class Circumstances:
    """How something was measured.

    kind, task: of the operator. difficulty: numbers and words by name, as scans and degradations tell them. noise:
    standard deviation in unit intensities, 0 where there is none or it is unknown.
    """

    kind: str
    task: str
    difficulty: Mapping[str, float | str]
    noise: float

    @property
    def centre(self) -> float:
        """Lines in the centre of k-space that were all measured, 0 where that is not asked."""
        return float(self.difficulty.get(AT_LEAST, 0))

    def words(self) -> str:
        """In one line."""
        told = (
            f"{k} {v if isinstance(v, str) else f'{v:.3g}'}" for k, v in self.difficulty.items()
        )
        return ", ".join([self.task or self.kind.upper(), *told])


@dataclasses.dataclass(frozen=True)
class Entry:
    """Factors of one method under one set of circumstances. noise: lowest and highest that they are for.

    held_out: with two volumes or more, the lowest and highest coverage of one by the factors of the others, by unit and
    level. measured_on: names and counts, date, seed. scales: what the factors are of, by unit. tried: on volumes that
    it was not measured on, the mean, lowest and highest coverage, and tried_on: names and counts, date.
    """

    method: Method
    measured: Circumstances
    noise: tuple[float, float]
    factors: Factors
    held_out: dict[Unit, dict[float, tuple[float, float]]]
    measured_on: dict[str, Any]
    scales: dict[Unit, Scale] = dataclasses.field(default_factory=dict)
    tried: dict[Unit, dict[float, tuple[float, float, float]]] = dataclasses.field(
        default_factory=dict
    )
    tried_on: dict[str, Any] = dataclasses.field(default_factory=dict)

    def scale(self, unit: Unit) -> Scale:
        """What its factors are of."""
        return self.scales.get(unit, PLAIN)


@dataclasses.dataclass(frozen=True)
class Found:
    """A factor, or why there is none; `entry` it stands in."""

    factor: float | None
    why: str = ""
    entry: Entry | None = None


def bundled_table() -> Path:
    """The table for the bundled priors, beside the folder of their weights."""
    return Path(str(resources.files("restore.priors"))) / "calibration.json"


def find(
    entries: Sequence[Entry],
    method: Method,
    measured: Circumstances,
    samples: int,
    unit: Unit,
    level: float,
) -> Found:
    """The factor for a run, where everything matches; else the first thing that does not, in words."""
    stages: tuple[tuple[Callable[[Entry], bool], str], ...] = (
        (lambda e: e.method.weights == method.weights, f"for the weights of '{method.prior or 'no prior'}'"),
        (lambda e: e.method.sampler == method.sampler, f"for the sampler {method.sampler}"),
        (lambda e: e.method.fingerprint == method.fingerprint, f"for these settings of {method.words}"),
        (lambda e: alike(e.measured, measured), f"for {measured.words()}"),
        (lambda e: e.measured.centre <= measured.centre, f"for only {measured.centre:g} lines in the centre"),
        (lambda e: e.noise[0] <= measured.noise <= e.noise[1], f"for noise of {measured.noise:.3g} (unit intensities)"),
        (lambda e: samples in e.factors, f"for {samples} samples"),
    )  # fmt: skip
    left = list(entries)
    for fits, words in stages:
        left = [entry for entry in left if fits(entry)]
        if not left:
            return Found(None, f"it has none {words}")
    # Of several the one with the most lines in the centre, of those the one measured last
    best = max(reversed(left), key=lambda e: e.measured.centre)
    levels = best.factors[samples].get(unit, {})
    factor = next((f for at, f in levels.items() if math.isclose(at, level)), None)
    if factor is None:
        there = ", ".join(f"{at:g}" for at in levels)
        return Found(None, f"it has the levels {there or 'of no ' + unit}")
    return Found(factor, entry=best)


def scales_of(entries: Sequence[Entry]) -> tuple[Scale, ...]:
    """All scales that a table's factors are of, each once."""
    return tuple(dict.fromkeys(entry.scale(unit) for entry in entries for unit in UNITS))


def alike(a: Circumstances, b: Circumstances) -> bool:
    """Whether two things were measured alike but for noise and the centre: words equal, numbers within `NEAR`."""
    one, other = ({k: v for k, v in c.difficulty.items() if k != AT_LEAST} for c in (a, b))
    if (a.kind, a.task) != (b.kind, b.task) or one.keys() != other.keys():
        return False
    return all(_near(value, other[name]) for name, value in one.items())


def _near(a: float | str, b: float | str, part: float = NEAR) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return abs(a - b) <= part * max(abs(a), abs(b))


def replaced(entries: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    """A table with new entries, without the older ones of the same prior's name, sampler, samples and circumstances.

    Older ones whose number of lines in the centre is another by more than `SAME_CENTRE` stay: they serve other scans.
    """

    def same(a: Entry, b: Entry) -> bool:
        names = (a.method.prior, a.method.sampler), (b.method.prior, b.method.sampler)
        counted = a.factors.keys() == b.factors.keys()
        near = _near(a.measured.centre, b.measured.centre, SAME_CENTRE)
        return names[0] == names[1] and counted and near and alike(a.measured, b.measured)

    return [e for e in entries if not any(same(e, n) for n in new)] + list(new)


def write_table(path: Path, entries: Sequence[Entry]) -> None:
    """Write a table. Raises OutputError."""
    write_json(path, {"format": FORMAT, "kind": KIND, "entries": [_record(e) for e in entries]})


def read_table(path: Path) -> list[Entry]:
    """The entries of a table. Raises NotFoundError, InputError for anything but a whole table."""
    record = read_json(path)
    if record.get("kind") != KIND or record.get("format") not in READ:
        raise InputError(
            path, "is no table of factors", f"expected what `restore calibrate` writes, format {FORMAT}"
        )  # fmt: skip
    entries = record.get("entries")
    if not isinstance(entries, list) or not entries:
        raise InputError(path, "a table of factors without an entry", AGAIN)
    found = []
    for i, entry in enumerate(entries, 1):
        try:
            found.append(_entry(entry))
        except (KeyError, TypeError, ValueError, AttributeError) as cause:
            raise InputError(
                path, f"entry {i} is damaged ({type(cause).__name__}: {cause})", AGAIN
            ) from cause
    return found


def _record(entry: Entry) -> dict[str, Any]:
    method, measured = entry.method, entry.measured
    return {
        "prior": {"name": method.prior, "sha256": method.weights},
        "sampler": {"name": method.sampler, "settings": method.settings, "fingerprint": method.fingerprint},
        **({"mean_by": method.mean_by} if method.mean_by else {}),
        "kind": measured.kind, "task": measured.task, "difficulty": measured.difficulty, "noise": list(entry.noise),
        "measured_noise": measured.noise, "factors": entry.factors, "held_out": entry.held_out,
        "measured_on": entry.measured_on, "scales": {u: dataclasses.asdict(s) for u, s in entry.scales.items()},
        **({"tried": entry.tried, "tried_on": entry.tried_on} if entry.tried else {}),
    }  # fmt: skip


def _entry(record: Mapping[str, Any]) -> Entry:
    prior, sampler = record["prior"], record["sampler"]
    settings, mean_by = dict(sampler["settings"]), record.get("mean_by")
    if mean_by is not None:
        mean_by = {"sampler": str(mean_by["sampler"]), "settings": dict(mean_by["settings"])}
    method = Method(
        str(prior["name"]), str(prior["sha256"]), str(sampler["name"]), settings, mean_by
    )
    if method.fingerprint != sampler["fingerprint"]:
        raise ValueError("the settings are not those of the fingerprint")
    low, high = (_number(v) for v in record["noise"])
    difficulty = {
        str(k): v if isinstance(v, str) else _number(v) for k, v in record["difficulty"].items()
    }
    noise = _number(record["measured_noise"])
    measured = Circumstances(str(record["kind"]), str(record["task"]), difficulty, noise)
    factors = {int(k): _by_level(v, _number) for k, v in record["factors"].items()}
    held_out = _by_level(record["held_out"], _pair)
    scales = _by_unit(record.get("scales", {}), _scale)
    tried, tried_on = _by_level(record.get("tried", {}), _three), dict(record.get("tried_on", {}))
    if not factors or not low <= high:
        raise ValueError("no factors, or a noise range that is none")
    about = dict(record["measured_on"])
    return Entry(method, measured, (low, high), factors, held_out, about, scales, tried, tried_on)


def _by_unit(record: Mapping[str, Any], value: Callable[[Any], Any]) -> dict[Unit, Any]:
    unknown = set(record) - set(UNITS)
    if unknown:
        raise ValueError(f"'{min(unknown)[:40]}' is neither {' nor '.join(UNITS)}")
    return {unit: value(record[unit]) for unit in UNITS if unit in record}


def _by_level(record: Mapping[str, Any], value: Callable[[Any], Any]) -> dict[Unit, Any]:
    return _by_unit(
        record, lambda levels: {_probability(level): value(v) for level, v in levels.items()}
    )


def _scale(record: Mapping[str, Any]) -> Scale:
    if set(record) != {"pooled", "contrast"}:
        raise ValueError("a scale has a pooled share and a contrast")
    pooled, contrast = _number(record["pooled"]), _number(record["contrast"])
    if pooled > 1:
        raise ValueError(f"the pooled share {pooled:g} does not lie in 0..1")
    return Scale(pooled, contrast)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{str(value)[:40]!r} is no number of zero or more")
    return float(value)


def _pair(value: Any) -> tuple[float, float]:
    low, high = (_number(v) for v in value)
    return low, high


def _three(value: Any) -> tuple[float, float, float]:
    mean, low, high = (_number(v) for v in value)
    return mean, low, high


def _probability(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise ValueError(f"the level {text[:40]} does not lie between 0 and 1")
    return value
