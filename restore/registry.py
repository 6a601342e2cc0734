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

if TYPE_CHECKING:
    from restore.samplers.base import Sampler

_HELPERS = {"base", "schedules", "gradients", "guidance", "consistency", "latent_steps"}
_ENTRY_POINTS = "restore.samplers"


def sampler_names() -> dict[str, str]:
    """Every sampler with the first line of its file's docstring."""
    folder = Path(str(resources.files("restore") / "samplers"))
    names = {
        _named(p.stem): first_line(p)
        for p in sorted(folder.glob("*.py"))
        if p.stem not in _HELPERS | {"__init__"}
    }
    return names | {e.name: f"from {e.value}" for e in metadata.entry_points(group=_ENTRY_POINTS)}


def load_sampler(name: str) -> type[Sampler]:
    """The sampler class of a name. Raises ConfigError with the nearest name."""
    names = sampler_names()
    if name not in names:
        raise ConfigError(
            f"no sampler '{name}'{did_you_mean(name, names)}; there are: {', '.join(names)}"
        )
    for entry in metadata.entry_points(group=_ENTRY_POINTS):
        if entry.name == name:
            return entry.load()
    from restore.samplers.base import Sampler

    module = importlib.import_module(f"restore.samplers.{name.replace('-', '_')}")
    own = [
        c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__
    ]
    return next(c for c in own if issubclass(c, Sampler))


def name_of(sampler: type[Sampler]) -> str:
    """The name of a sampler's class: as it is listed, for one from elsewhere its module's own."""
    package, _, module = sampler.__module__.rpartition(".")
    return _named(module) if package == "restore.samplers" else module


def _named(module: str) -> str:
    return module.replace("_", "-")


def check_operator(sampler: type[Sampler], operator: type) -> None:
    """Refuse an operator class that a sampler cannot serve, naming the samplers that can. Raises ConfigError."""
    if not sampler.operators or operator.__name__ in sampler.operators:
        return
    classes = {n: load_sampler(n) for n in sampler_names()}
    fit = [n for n, c in classes.items() if operator.__name__ in c.operators]
    general = [
        n for n, c in classes.items() if not c.operators and "conditional" not in c.prior_kinds
    ]
    raise ConfigError(
        f"{name_of(sampler)} serves {sampler.serves}, not {operator.__name__}; use {', '.join(fit + general)}"
    )


def first_line(path: Path) -> str:
    """First docstring line of a Python file, read without importing it."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0] if text else ""
