"""Optional packages: imported where they are first needed, with a sentence where they are missing.

May be called by any layer; imports nothing of the package but its errors.
"""

from __future__ import annotations

import importlib
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
