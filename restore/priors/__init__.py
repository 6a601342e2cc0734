"""Priors: what images look like, as denoisers `prior(x, sigma)`.

Public names are imported on first use, so that `import restore.priors` costs nothing and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULE_OF = {
    "Denoiser": "base",
    "EDMDenoiser": "edm",
    "FromDenoiser": "wrappers",
    "FromEps": "wrappers",
    "FromFlow": "wrappers",
    "FromScore": "wrappers",
    "FromV": "wrappers",
    "FromX0": "wrappers",
    "GaussianMixture": "analytic",
    "GaussianPrior": "analytic",
    "ImagePrior": "image_prior",
    "UNet": "unet",
    "UNetConfig": "unet",
    "build_unet_denoiser": "edm",
    "bundled": "store",
    "load_prior": "store",
    "read_card": "store",
    "save_prior": "store",
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'restore.priors' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"restore.priors.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
