"""Which bundled prior "auto" is: the table `weights/auto.yaml`, by kind of prior and by what is measured.

Called by `restore.priors.demand` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from restore.datasets.plain_yaml import Word, read_plain_yaml
from restore.errors import InputError

DEFAULT = "default"
"""The entry of a section for whatever has none of its own."""
TABLE = "weights/auto.yaml"


def automatic(kinds: Sequence[str], subject: str, task: str = "") -> str:
    """The bundled prior of the first of the kinds that there is one of, or "".

    kinds: "denoiser", "conditional", "latent", "cascade", "region", "distilled", the usual one first. subject: "mri",
    "ct", "grey", "colour", or anything else, which is served by a section's default. task: of the operator; a prior for
    it alone comes first. Raises InputError for a table that is no table.
    """
    names = f"{subject} {task}", subject, DEFAULT
    sections = [table().get(kind, {}) for kind in kinds]
    return next((section[name] for section in sections for name in names if name in section), "")


@cache
def table() -> Mapping[str, Mapping[str, str]]:
    """All names, by kind of prior and subject. Raises InputError."""
    path = Path(str(resources.files("restore.priors"))) / TABLE
    found: dict[str, dict[str, str]] = {}
    for kind, section in read_plain_yaml(path, deepest=2).items():
        if not isinstance(section, dict):
            raise InputError(path, f"'{kind}' is no section", "write `subject: name` below it")
        found[kind] = {k: v.text for k, v in section.items() if isinstance(v, Word)}
    return found
