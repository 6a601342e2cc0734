"""Chosen starts: one noise of a sampler that serves all images, the best of several on images with a known truth.

Ma, Yang, Yang, Fu, Liu, "Solving diffusion ODEs with optimal boundary conditions for better image super-resolution",
ICLR 2024: a deterministic sampler is a function of the measurement and its first noise x_T, and one x_T that does well
on the mean of a small set does well on others: argmin over K random ones of the mean error (their equation 9). Found by
`restore bench starts`, kept in a table beside the bundled priors, used with `--start best-of`, by `restore.front_door`
and the pipelines, and by nobody else. Reads tables and cards.

Differs from the paper:
- all noise of a run is chosen, not the first alone: later noise of a stochastic sampler comes from the same generator,
  so that every sampler is a function of its measurement. A chosen x_T under fresh noise does nothing that could be
  measured (docs/chosen-starts.md); where nothing is drawn later it is the paper's.
- the noise is a square field that is laid side by side over an image of any size, each time with a sign of its own so
  that nothing repeats, where the paper's is of one size. Its side is chosen with it: the smaller, the more the
  candidates differ, until the network sees that they are alike.
- the error is minus PSNR, so that every image counts alike; the paper's is LPIPS and PSNR.
- what was found is for one set of weights, sampler, all its settings and task, and for no other.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.json_text import read_json, write_json
from restore.errors import ConfigError, InputError, NotFoundError
from restore.method import Method
from restore.priors.store import read_card
from restore.problem import Problem
from restore.randomness import Draws, LaidDraws
from restore.registry import name_of
from restore.samplers.base import OperatorTraits, Sampler

FORMAT, KIND = 1, "chosen starts"
DRAWN, BEST = "drawn", "best-of"
LARGEST_TILE = 4096
_PROTOCOLS = {
    "image": "images PHOTOGRAPHS", "mri": "mri-simulated VOLUMES", "ct": "ct-sparse-view VOLUMES"
}  # fmt: skip
_WRITTEN = re.compile(r"(\d{1,18}):(\d{1,4})")


@dataclasses.dataclass(frozen=True)
class ChosenStart:
    """One noise for every image: fields of tile x tile pixels from a seed (`restore.randomness.LaidDraws`).

    origin: how it was found, empty for one that was written down. Raises ConfigError for a tile that is none.
    """

    seed: int
    tile: int
    origin: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.tile <= LARGEST_TILE:
            raise ConfigError(
                f"the tile of a start has a side of 1..{LARGEST_TILE} pixels, got {self.tile}"
            )

    @property
    def text(self) -> str:
        """As `--start` takes it: SEED:TILE."""
        return f"{self.seed}:{self.tile}"

    @property
    def record(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"noise": self.text, **self.origin}

    def draws(self, ids: Sequence[str]) -> Draws:
        """The noise of a run on items of these names, which all get the same."""
        return LaidDraws(self.seed, ids, self.tile)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A start with what it is for, and how it was found.

    kind, task: of the operator. found: candidates, images, volumes, mean PSNR of the chosen one and of all, their
    deviation, the gain on images that had no say, date, seed and options.
    """

    method: Method
    kind: str
    task: str
    start: ChosenStart
    found: dict[str, Any]

    @property
    def words(self) -> str:
        """What was measured."""
        return self.task or self.kind.upper()


def bundled_starts() -> Path:
    """The table for the bundled priors, beside the folder of their weights."""
    return Path(str(resources.files("restore.priors"))) / "starts.json"


def best(errors: NDArray[np.floating[Any]]) -> int:
    """The candidate whose mean error is least, the first of equal ones. errors: (candidates, images)."""
    return int(errors.mean(axis=1).argmin())


def left_out_gain(errors: NDArray[np.floating[Any]]) -> float | None:
    """By how much the error of an image is below the candidates' mean with the start that the other images choose, the
    mean over the images; None for one image. errors: (candidates, images)."""
    if errors.shape[1] < 2:
        return None
    picked = (errors.sum(axis=1, keepdims=True) - errors).argmin(axis=0)
    return float((errors.mean(axis=0) - errors[picked, range(errors.shape[1])]).mean())


def start_of(
    asked: str, sampler: Sampler, prior: str | Path | None, operator: OperatorTraits, samples: int
) -> ChosenStart | None:
    """The start that is asked for: "drawn" (None), "best-of" of the bundled table, a table's file, or SEED:TILE.

    prior: its name or file, whose card is read; None for one in memory, which no table knows. samples: of the run.
    Raises ConfigError (a sampler that takes none, several samples, no such start in the table), NotFoundError,
    InputError, WeightsError.
    """
    if asked == DRAWN:
        return None
    name = name_of(type(sampler))
    written = _WRITTEN.fullmatch(asked)
    if written is None and asked != BEST and not asked.endswith(".json"):
        raise ConfigError(
            f"the start is '{asked}'; it is {DRAWN}, {BEST}, a table of `restore bench starts` (TABLE.json) or "
            "SEED:TILE"
        )
    if not sampler.draws_noise:
        raise ConfigError(
            f"{name} draws no noise with these settings: it gives the same image whatever the seed, and there is no "
            "start to choose; leave --start out"
        )
    if not sampler.takes_start:
        raise ConfigError(
            f"{name} takes no chosen start: it draws nothing, or what it draws is to differ; leave --start out"
        )
    if samples > 1:
        raise ConfigError(
            f"a chosen start is one noise: {samples} samples with it would be the same image {samples} times; leave "
            "--start or --samples (--quality) out"
        )
    if sampler.couples_slices:
        raise ConfigError(
            f"{name} couples slices here, and a chosen start gives all of them the same noise; leave --start out"
        )
    if written is not None:
        return ChosenStart(int(written[1]), int(written[2]))
    if prior is None:
        raise ConfigError(
            "a start is chosen for the weights of a file: name the prior (a bundled name or a file) instead of a model "
            "in memory, or give the start itself, SEED:TILE"
        )
    card = read_card(prior)
    table = bundled_starts() if asked == BEST else Path(asked)
    method = Method.of(sampler, operator, str(card["name"]), str(card["sha256"]))
    return found_in(table, read_starts(table), method, operator)


def found_in(
    table: Path, entries: Sequence[Entry], method: Method, operator: OperatorTraits
) -> ChosenStart:
    """The start of an entry where everything matches.

    Raises ConfigError naming the first thing that does not, and the command that finds a start.
    """
    what = operator.task or operator.kind.upper()
    stages: tuple[tuple[Callable[[Entry], bool], str], ...] = (
        (lambda e: e.method.weights == method.weights, f"for the weights of '{method.prior}'"),
        (lambda e: e.method.sampler == method.sampler, f"for {method.sampler} with '{method.prior}'"),
        (lambda e: (e.kind, e.task) == (operator.kind, operator.task), f"for {method.sampler} on {what}"),
        (lambda e: e.method.fingerprint == method.fingerprint, f"for these settings of {method.sampler} on {what}"),
    )  # fmt: skip
    left = list(entries)
    for fits, words in stages:
        left = [entry for entry in left if fits(entry)]
        if not left:
            raise ConfigError(f"{table.name} holds no start {words}; {_remedy(method, operator)}")
    entry = left[-1]  # of several, the one found last
    said = {"table": table.name, "for": entry.words, **entry.found}
    return dataclasses.replace(entry.start, origin=said)


def check_laid(problem: Problem) -> None:
    """Refuse items over which no field is laid: volumes whose slices would all have the same noise (ConfigError)."""
    if problem.has_volumes or problem.item_ndim < 2:
        raise ConfigError(
            f"a chosen start is laid over slices and pictures, not over items of {problem.item_shape}; leave --start "
            "out"
        )


def replaced(entries: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    """A table with new entries, without the older ones that they stand for: prior's name, sampler, settings, task."""

    def key(e: Entry) -> tuple[str, ...]:
        return e.method.prior, e.method.sampler, e.method.fingerprint, e.kind, e.task

    fresh = {key(e) for e in new}
    return [e for e in entries if key(e) not in fresh] + list(new)


def write_starts(path: Path, entries: Sequence[Entry]) -> None:
    """Write a table. Raises OutputError."""
    write_json(path, {"format": FORMAT, "kind": KIND, "entries": [_record(e) for e in entries]})


def read_starts(path: Path) -> list[Entry]:
    """The entries of a table. Raises NotFoundError, InputError for anything but a whole table."""
    if not path.is_file():
        raise NotFoundError(
            f"{path}: there is no such table of starts; `restore bench starts` makes one"
        )
    record = read_json(path)
    entries = record.get("entries")
    if (
        record.get("kind") != KIND
        or record.get("format") != FORMAT
        or not isinstance(entries, list)
    ):
        raise InputError(
            path, "is no table of starts", f"expected what `restore bench starts` writes, format {FORMAT}"
        )  # fmt: skip
    found = []
    for i, entry in enumerate(entries, 1):
        try:
            found.append(_entry(entry))
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as cause:
            raise InputError(
                path, f"entry {i} is damaged ({type(cause).__name__}: {cause})",
                "make it again with `restore bench starts`",
            ) from cause  # fmt: skip
    return found


def _remedy(method: Method, operator: OperatorTraits) -> str:
    """The command that finds what is missing."""
    protocol = _PROTOCOLS[operator.kind]
    task = f" --tasks {operator.task}" if operator.kind == "image" and operator.task else ""
    return (
        f"`restore bench starts {protocol} -o starts.json --sampler {method.sampler}{task}`, with the same --prior, "
        "--preset, --steps and --set, finds one, and --start starts.json takes it"
    )


def _record(entry: Entry) -> dict[str, Any]:
    method = entry.method
    return {
        "prior": {"name": method.prior, "sha256": method.weights},
        "sampler": {"name": method.sampler, "settings": method.settings, "fingerprint": method.fingerprint},
        "kind": entry.kind, "task": entry.task, "start": {"seed": entry.start.seed, "tile": entry.start.tile},
        "found": entry.found,
    }  # fmt: skip


def _entry(record: Mapping[str, Any]) -> Entry:
    prior, sampler, start = record["prior"], record["sampler"], record["start"]
    method = Method(
        str(prior["name"]), str(prior["sha256"]), str(sampler["name"]), dict(sampler["settings"])
    )
    if method.fingerprint != sampler["fingerprint"]:
        raise ValueError("the settings are not those of the fingerprint")
    seed, tile = start["seed"], start["tile"]
    if not all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in (seed, tile)):
        raise ValueError(f"seed {seed!r} and tile {tile!r} are no whole numbers")
    chosen = ChosenStart(seed, tile)
    return Entry(method, str(record["kind"]), str(record["task"]), chosen, dict(record["found"]))
