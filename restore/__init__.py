"""restore: reconstruct and restore images and medical volumes with diffusion priors.

    image = restore.solve(y, operator, noise=0.02, prior="natural").image
    restore.write(restore.read("series/"), "series.nii.gz")

The names below are imported on first use, so that `import restore` costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from restore import errors
from restore.version import __version__

if TYPE_CHECKING:
    from restore.datasets.open import open_scan, read, write
    from restore.datasets.volume.volume import Volume
    from restore.front_door import solve


__all__ = ["Volume", "__version__", "errors", "open_scan", "read", "solve", "write"]

_MODULE_OF = {
    "Volume": "restore.datasets.volume.volume",
    "open_scan": "restore.datasets.open",
    "read": "restore.datasets.open",
    "solve": "restore.front_door",
    "write": "restore.datasets.open",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'restore' has no attribute '{name}'")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
