"""Names to code: the name of a sampler, operator or data set is the name of its file, with - for _.

Listing reads the files' first docstring lines without importing them, so that `restore list` is quick. Third parties
add samplers through the entry-point group `restore.samplers`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from restore.config import did_you_mean
from restore.errors import ConfigError
from restore.extras import entry_points

if TYPE_CHECKING:
    from restore.samplers.base import OperatorTraits, Sampler

_ENTRY_POINTS = "restore.samplers"


def sampler_names() -> dict[str, str]:
    """Every sampler with the first line of its file's docstring."""
    names = {name: first_line(path) for name, path in _files().items()}
    return names | {e.name: f"from {e.value}" for e in entry_points(_ENTRY_POINTS)}


def usual_sampler(samples: int) -> str:
    """The sampler of whoever names none: dds, whose one image is best; split for several, which are spread rightly."""
    return "dds" if samples == 1 else "split"


def load_sampler(name: str) -> type[Sampler]:
    """The sampler class of a name. Raises ConfigError with the nearest name, or why another package's is none."""
    files, entries = _files(), {e.name: e for e in entry_points(_ENTRY_POINTS)}
    if name in entries:
        return _loaded(entries[name])
    if name not in files:
        names = [*files, *entries]
        raise ConfigError(
            f"no sampler '{name}'{did_you_mean(name, names)}; there are: {', '.join(names)}"
        )
    from restore.samplers.base import Sampler

    module = importlib.import_module(f"restore.samplers.{files[name].stem}")
    own = [
        c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__
    ]
    return next(c for c in own if issubclass(c, Sampler))


def _files() -> dict[str, Path]:
    """The files of our own samplers by name; `base` is their contract."""
    folder = Path(str(resources.files("restore") / "samplers"))
    paths = sorted(folder.glob("*.py"))
    return {_named(p.stem): p for p in paths if p.stem not in ("__init__", "base")}


def _loaded(entry: metadata.EntryPoint) -> type[Sampler]:
    from restore.samplers.base import Sampler

    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the sampler '{entry.name}' from {entry.value} cannot be imported: {error}"
        ) from error
    if not (inspect.isclass(found) and issubclass(found, Sampler)):
        raise ConfigError(f"the sampler '{entry.name}' from {entry.value} is no class of samplers")
    return found


def name_of(sampler: type[Sampler]) -> str:
    """What a sampler class is called in records: its name here, or module and class for one that has none.

    A class of the script that runs is called by its own name alone.
    """
    module, _, stem = sampler.__module__.rpartition(".")
    if module == "restore.samplers":
        return _named(stem)
    for entry in entry_points(_ENTRY_POINTS):
        if entry.value == f"{sampler.__module__}:{sampler.__qualname__}":
            return entry.name
    own = sampler.__qualname__
    return own if sampler.__module__ == "__main__" else f"{sampler.__module__}.{own}"


def _named(module: str) -> str:
    return module.replace("_", "-")


def check_operator(sampler: type[Sampler], operator: OperatorTraits | type) -> None:
    """Refuse an operator that a sampler cannot serve, naming the samplers that can. Raises ConfigError.

    operator: an operator; its class or `restore.samplers.base.Planned` where there is none yet.
    """
    if sampler.fits(operator):
        return
    every = {n: load_sampler(n) for n in _files()}
    special = {"conditional", "distilled"}  # samplers of models that were trained for other tasks
    fit = [n for n, c in every.items() if c.fits(operator) and not special & {*c.prior_kinds}]
    what = operator.__name__ if isinstance(operator, type) else operator
    raise ConfigError(
        f"{name_of(sampler)} serves {sampler.serves()}, not {what}; use {', '.join(fit)}"
    )


def check_frames(sampler: Sampler, frames: int) -> None:
    """Refuse a measurement of one time for a sampler that joins frames, and fewer than it needs. Raises ConfigError."""
    least = sampler.least_frames
    if frames >= least:
        return
    name = name_of(type(sampler))
    if frames < 2:
        raise ConfigError(
            f"{name} joins the frames of a measurement over time, and this one has none: say how many there are "
            "(frames=N, `restore recon --frames N`), or use a sampler of single images, such as dds"
        )
    raise ConfigError(
        f"{name}: a rank of {least} for {frames} frames: a series has no higher rank than frames; set rank={frames} at "
        "most"
    )


def frames_apart(sampler: Sampler, frames: int) -> tuple[str, ...]:
    """A note where frames over time are given to a sampler that finds each by itself."""
    if frames < 2 or sampler.couples_frames:
        return ()
    name = name_of(type(sampler))
    if sampler.couples_slices:
        return (
            f"{name} takes the {frames} frames over time for neighbouring slices and joins them as such",
        )
    return (
        f"{name} reconstructs each of the {frames} frames by itself, from few samples; redpsm and lps join them over "
        "time",
    )


def first_line(path: Path) -> str:
    """First docstring line of a Python file, read without importing it."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0] if text else ""
