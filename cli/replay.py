"""Repeating a run from the record beside its result: `restore recon --config OUT.json`.

Used by `cli/config_option.py` only. The record holds the options in full (`restore/pipelines/replay_entries.py`),
names its files without their folders and knows their sha256. A file is looked for by its name beside the record and
in the working folder, and one folder up and down from either; what is typed wins. Other content than the recorded is
refused where the record names it, and noted where it was typed.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore.cli import console
from restore.datasets.plain_yaml import words_of
from restore.errors import InputError, NotFoundError, OutputError, WeightsError

if TYPE_CHECKING:
    from restore.datasets.plain_yaml import Value

FOLDERS_LOOKED_INTO = 1000
REDEFINING = {"sampler", "preset"}
"""Typed, these choose settings of their own: those of the record are then left out."""

BRINGING = {"scan", "projections", "trajectory", "pattern", "maps", "field_map", "readout_times"}
"""Options whose files bring others with them; typed, they may bring others than the recorded."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A record with what its run was told. values: as a run file would give them, files found where they lie."""

    path: Path
    content: dict[str, Any]
    values: dict[str, Value]

    def keeps_settings(self, typed: set[str]) -> bool:
        """Whether the recorded settings of the sampler stand; says so where they do not."""
        redefined = sorted(REDEFINING & typed)
        if redefined:
            console.say(f"note: --{redefined[0]} was given: settings of {self.path.name} left out")
        return not redefined

    def check(self, typed: set[str], options: dict[str, Any]) -> None:
        """Compare what will be used with what was used.

        Raises InputError, NotFoundError, WeightsError for what the record names and is not as it was, OutputError.
        """
        for option, sources in _by_option(self.content).items():
            name = option.replace("-", "_")
            given = options.get(name)
            if given is None or (name == "prior" and name in typed):
                continue
            paths = given if isinstance(given, list) else [given]
            for path, source in zip(paths, sources, strict=False):
                self._check_file(Path(path), option, source["SHA256"], name in typed)
        self._check_weights(typed, options)
        self._check_versions()
        limit = self.content.get("time_limit")
        if (
            isinstance(limit, dict)
            and limit.get("repeatable") is False
            and "time_limit" not in typed
        ):
            console.say(
                f"note: a time limit ended {self.path.name} early; this run has the same limit and may end elsewhere"
            )
        out = options.get("out")
        if "out" not in typed and out is not None and out.exists() and not options.get("overwrite"):
            raise OutputError(f"{out}: exists already; name another with -o, or add --overwrite")

    def check_beside(self, found: dict[str, Any], typed: set[str]) -> None:
        """Compare what is read beside the inputs (frames, projections, the other halves of pairs) with what was.

        found: as `ReconJob.beside_record` gives it. A record that says nothing of such files is not compared. Raises
        InputError where the inputs are those of the record.
        """
        was, now = self.content.get("beside"), found.get("beside")
        if not isinstance(was, dict) or was == now:
            return
        count = 0 if now is None else now["Files"]
        what = f"files read beside it ({count}, recorded {was.get('Files')})"
        named = [s for s in _sources(self.content) if s["Option"] == "scan"]
        scan = named[0]["File"] if named else "the scan"
        if typed & BRINGING:
            console.say(f"note: {scan}: {what} are not those that {self.path.name} was made from")
            return
        raise InputError(
            self.path, f"{scan}: {what} are not those that it was made from: another sha256",
            "put the right ones there, or name SCAN on the command line, to use these all the same",
        )  # fmt: skip

    def _check_file(self, path: Path, option: str, wanted: str, typed: bool) -> None:
        from restore.datasets.content_hash import sha256_of

        if not path.exists():
            if typed:
                return  # the verb itself says what it misses
            raise NotFoundError(
                f"{self.path}: was made from {path.name} (sha256 {wanted[:12]}...), which lies neither near the record "
                f"nor near the working folder; name it ({option})"
            )
        if sha256_of(path) == wanted:
            return
        if not typed:
            raise InputError(
                path, f"is not the file that {self.path.name} was made from: another sha256",
                f"name the right one, or this one, to use it all the same ({option})",
            )  # fmt: skip
        console.say(f"note: {path.name} is not the {option} that {self.path.name} was made from")

    def _check_weights(self, typed: set[str], options: dict[str, Any]) -> None:
        from restore.priors.store import read_card

        recorded = self.content.get("prior")
        if not isinstance(recorded, dict) or options.get("prior") is None:
            return
        if read_card(options["prior"])["sha256"] == recorded.get("sha256"):
            return
        if "prior" in typed:
            console.say(f"note: {options['prior']} is not the prior of {self.path.name}")
            return
        raise WeightsError(
            f"{options['prior']}: other weights than those of {self.path.name}; name the right file with --prior, or "
            f"'--prior {options['prior']}' to use these all the same"
        )

    def _check_versions(self) -> None:
        from restore.datasets.sidecar import environment

        then, now = self.content.get("environment"), environment()
        packages = then.get("Packages") if isinstance(then, dict) else None
        if not (isinstance(then, dict) and isinstance(packages, dict)):
            return
        pairs = {"restore": (then.get("restore"), now["restore"])}
        pairs |= {k: (packages.get(k), now["Packages"].get(k)) for k in ("torch", "numpy", "scipy")}
        others = [f"{k} {a}, now {b}" for k, (a, b) in pairs.items() if a != b]
        if others:
            console.say(f"note: made with {'; '.join(others)}: the last digits may differ")


def read_record(path: Path) -> Record | None:
    """The record at a path, None where a JSON file is none and may be a run file. Raises InputError, NotFoundError."""
    from restore.datasets.sidecar import read_sidecar

    content = read_sidecar(path)
    if "IntendedUse" not in content:
        return None
    run = content.get("run")
    if not isinstance(run, dict) or not isinstance(run.get("verb"), str):
        raise InputError(
            path, "a record that does not hold the options of its run",
            "only `restore recon`, `restore volume` and `restore image` of this version and later write them",
        )  # fmt: skip
    values = words_of(run)
    for option, sources in _by_option(content).items():
        for source in sources:
            _check_name(path, source["File"])
        found = [str(_found(path, source)) for source in sources]
        values |= words_of({option: found[0] if len(found) == 1 else found})
    outputs = content.get("outputs")
    if isinstance(outputs, list) and outputs and isinstance(outputs[0], str):
        _check_name(path, outputs[0])
        values |= words_of({"out": str(path.parent / Path(outputs[0]).name)})
    return Record(path, content, values)


def _check_name(path: Path, name: str) -> None:
    """Refuse a name that no file has (InputError)."""
    from restore.datasets.atomic import LONGEST_NAME
    from restore.datasets.sidecar import name_bytes

    if not 0 < len(name_bytes(Path(name).name)) <= LONGEST_NAME or "\0" in name:
        raise InputError(path, f"names a file '{name[:40]}', which no file system has")


def _sources(content: dict[str, Any]) -> list[dict[str, str]]:
    """The files of a record that were given by an option."""
    found = content.get("sources")
    wanted = ("Option", "File", "SHA256")
    return [
        s for s in (found if isinstance(found, list) else [])
        if isinstance(s, dict) and all(isinstance(s.get(k), str) for k in wanted)
    ]  # fmt: skip


def _by_option(content: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    """The same by the option that names them: one that takes several files has several."""
    found: dict[str, list[dict[str, str]]] = {}
    for source in _sources(content):
        found.setdefault(source["Option"], []).append(source)
    return found


def _found(record: Path, source: dict[str, str]) -> Path:
    """Where a recorded file lies: of its name and content, else of its name, else where it should be."""
    from restore.datasets.content_hash import sha256_of

    name = Path(source["File"]).name
    there = [
        p for folder in _near(record.parent, *_working_folder()) if (p := folder / name).exists()
    ]
    same = (p for p in there if sha256_of(p) == source["SHA256"])
    return next(same, there[0] if there else record.parent / name)


def _working_folder() -> list[Path]:
    """The folder that this process works in, unless it was removed meanwhile."""
    try:
        return [Path.cwd()]
    except FileNotFoundError:
        return []


def _near(*places: Path) -> Iterator[Path]:
    """The folders, those in them and around them, each once."""
    seen = set()
    for place in places:
        for folder in (place, place.resolve().parent):
            for inside in (folder, *itertools.islice(_folders(folder), FOLDERS_LOOKED_INTO)):
                if inside.resolve() not in seen:
                    seen.add(inside.resolve())
                    yield inside


def _folders(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return  # a folder that may not be listed holds nothing for us
