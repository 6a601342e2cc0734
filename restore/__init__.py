"""restore: reconstruct and restore images and medical volumes with diffusion priors.

    image = restore.solve(y, operator, noise=0.02, prior="natural").image
    restore.write(restore.read("series/"), "series.nii.gz")

The names below are imported on first use, so that `import restore` costs no torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from restore import errors

if TYPE_CHECKING:
    from restore.datasets.open import read, write
    from restore.datasets.volume import Volume
    from restore.solve import solve

__version__ = "0.1.0"
__all__ = ["Volume", "__version__", "errors", "read", "solve", "write"]

_MODULE_OF = {
    "Volume": "restore.datasets.volume",
    "read": "restore.datasets.open",
    "solve": "restore.solve",
    "write": "restore.datasets.open",
}


class _Package(ModuleType):
    """This package: importing its module `solve` must not hide the function of the same name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'restore' has no attribute '{name}'")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
