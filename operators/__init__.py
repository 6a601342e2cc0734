"""Forward operators: what the scanner or the camera did.

Public names are imported on first use, so that `import restore.operators` costs nothing and needs
no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULE_OF = {
    "Adjoint": "base",
    "AxisSampling": "volume.axis_sampling",
    "BeerLambert": "ct.beer_lambert",
    "BlockDiagonal": "algebra",
    "Blur": "image.blur",
    "Clipping": "image.clipping",
    "CodedFourier": "phase.coded_fourier",
    "Compose": "base",
    "ConeBeam": "ct.beams",
    "Diagonal": "diagonal",
    "Downsample": "image.downsample",
    "FanBeam": "ct.beams",
    "FreeBeam": "ct.beams",
    "Identity": "diagonal",
    "Inpainting": "image.inpainting",
    "LinearOperator": "base",
    "Magnitudes": "phase.magnitudes",
    "MultiCoilMRI": "mri.multicoil",
    "NonlinearOperator": "nonlinear",
    "Operator": "contract",
    "ParallelBeam": "ct.geometry",
    "ParallelBeam3D": "ct.beams",
    "ParallelBeamCT": "ct.parallel_beam",
    "Placement": "volume.placement",
    "PupilViews": "phase.pupil_views",
    "SameShape": "contract",
    "Scale": "base",
    "SphericalMeans": "optoacoustic.spherical_means",
    "Stack": "algebra",
    "Sum": "base",
    "VaryingBlur": "image.varying_blur",
    "VoxelGrid": "ct.grid",
    "Warp": "image.warp",
    "XRayTransform": "ct.x_ray_transform",
    "calibration_region": "mri.coil_maps",
    "check": "verify",
    "fft2c": "mri.fourier",
    "fold_phase": "mri.coil_maps",
    "ifft2c": "mri.fourier",
    "image_phase": "mri.coil_maps",
    "parse_kernel": "image.kernels",
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
