"""Operators of other libraries as ours, and ours as theirs: sigpy, scipy, pylops, ASTRA, deepinv.

One file a library, which imports it when one of its functions is called. docs/interop.md says what each
function keeps. Public names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULE_OF = {
    "from_astra": "astra",
    "from_deepinv": "deepinv",
    "from_pylops": "pylops",
    "from_scipy": "scipy",
    "from_sigpy": "sigpy",
    "to_deepinv": "deepinv",
    "to_pylops": "pylops",
    "to_scipy": "scipy",
    "to_sigpy": "sigpy",
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'restore.operators.interop' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"restore.operators.interop.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
