"""The settings of a network from the file that its authors keep them in: JSON, or the YAML of a training.

Called by `model_files`. Reads the one file that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restore.config import did_you_mean
from restore.datasets.json_text import read_json
from restore.datasets.plain_yaml import Value, Word, read_plain_yaml
from restore.errors import ConfigError
from restore.priors.checkpoints.content import Checkpoint
from restore.priors.families.base import Family, Record

_YAML = (".yaml", ".yml")
_DEEPEST = 16


def settings_from(path: Path, entry: str, family: Family, found: Checkpoint) -> dict[str, Any]:
    """The constructor's arguments for one file of weights.

    path: a JSON object or a YAML file of them, plainly, by file name under "files", or the whole official file (whose
    parts the family knows). entry: the name under "files", if it is not that of the weights. Raises NotFoundError,
    InputError, ConfigError.
    """
    if path.suffix.lower() in _YAML:
        read = {k: _plain(v) for k, v in read_plain_yaml(path, _DEEPEST).items()}
        document: Record = read
    else:
        document = read_json(path)
    files = document.get("files")
    if isinstance(files, Mapping):
        name = entry or found.path.name
        if name not in files or not isinstance(files[name], Mapping):
            known = ", ".join(files)
            raise ConfigError(
                f"{path}: has no settings for '{name}'{did_you_mean(name, files)}; there are {known}: choose with "
                "--entry"
            )
        document = files[name]
    try:
        return dict(family.settings_of(document, found))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _plain(value: Value) -> Any:
    """Words as what they stand for: numbers, true, false, none, else the text."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    assert isinstance(value, Word)  # noqa: S101  (for the type checker)
    if value.kind == "none":
        return None
    if value.kind == "truth":
        return value.text.lower() in ("true", "yes", "on")
    for kind in (int, float):
        try:
            return kind(value.text)
        except ValueError:
            continue
    return value.text
