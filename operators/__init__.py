"""Forward operators: what the scanner or the camera did.

Public names are imported on first use, so that `import restore.operators` costs nothing and needs
no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULE_OF = {
    "Adjoint": "algebra",
    "BeerLambert": "beer_lambert",
    "Blur": "blur",
    "Clipping": "clipping",
    "Compose": "algebra",
    "Diagonal": "diagonal",
    "Downsample": "downsample",
    "Identity": "diagonal",
    "Inpainting": "inpainting",
    "LinearOperator": "base",
    "MultiCoilMRI": "mri",
    "NonlinearOperator": "nonlinear",
    "ParallelBeam": "geometry",
    "ParallelBeamCT": "ct",
    "Scale": "algebra",
    "Stack": "algebra",
    "calibration_region": "espirit",
    "fft2c": "fourier",
    "fold_phase": "espirit",
    "ifft2c": "fourier",
    "image_phase": "espirit",
    "parse_kernel": "kernels",
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'restore.operators' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"restore.operators.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
