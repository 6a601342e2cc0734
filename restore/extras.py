"""Optional packages: imported where they are first needed, with a sentence where they are missing; what others add.

May be called by any layer; imports nothing of the package but its errors.
"""

from __future__ import annotations

import functools
import importlib
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from restore.errors import ConfigError


def load_extra(module: str, extra: str, purpose: str) -> Any:
    """The module of an optional package.

    module: dotted name, such as "sigpy.mri". extra: the name in `pip install 'restore[extra]'`. purpose: who asks,
    such as "from_sigpy". Raises ConfigError where the package is absent or cannot be loaded, with the reason.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(
            f"{purpose} needs the package {package}, which cannot be imported ({error}); "
            f"install it with: pip install 'restore[{extra}]'"
        ) from error


def entry_points(group: str) -> metadata.EntryPoints:
    """The entry points that installed packages declare in a group, such as "restore.samplers".

    To find them the metadata of every package is read, some milliseconds; a name is looked up far more often than
    a package is installed, so they are kept until a folder of the search path changes.
    """
    folders = [Path(entry or ".") for entry in sys.path]
    return _declared(group, tuple((str(f), f.stat().st_mtime_ns) for f in folders if f.is_dir()))


@functools.lru_cache(maxsize=8)
def _declared(group: str, folders: tuple[tuple[str, int], ...]) -> metadata.EntryPoints:
    return metadata.entry_points(group=group)
