"""Image quality against a reference: PSNR, SSIM and NMSE, each in one named variant.

May be called by any layer above the solvers; imports numpy and scipy only (torch tensors are
accepted, never needed).

Variants, the ones of the fastMRI leaderboard:

- PSNR = 10 log10(data_range^2 / MSE), the mean over the whole array (a volume is one number, not a
  mean of slices);
- SSIM (Wang et al. 2004) with a 7 x 7 uniform window, sample covariance (N - 1), K1 = 0.01, K2 =
  0.03, averaged over the positions whose window lies inside the image, then over all leading axes
  (slices or colour channels);
- NMSE = |x - ref|^2 / |ref|^2 over the whole array.

Nothing is rescaled, clipped or made real on the way: the data range is given by the caller, complex
input is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from restore.errors import ConfigError, ShapeError

SSIM_WINDOW = 7
SSIM_VARIANT = "uniform 7x7, sample covariance, K1 0.01, K2 0.03, valid region"


def psnr(image: Any, reference: Any, *, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB over the whole array; infinite for equal arrays.

    image, reference: real arrays or tensors of one shape; data_range: the peak, in their units (for
    a volume usually the reference's maximum). Raises ShapeError, ConfigError.
    """
    x, ref = _pair(image, reference)
    peak = _positive(data_range)
    mse = float(np.mean((x - ref) ** 2))
    return float("inf") if mse == 0 else 10 * float(np.log10(peak**2 / mse))


def nmse(image: Any, reference: Any) -> float:
    """Squared error over the reference's squared norm, whole array.

    Raises ShapeError, ConfigError.
    """
    x, ref = _pair(image, reference)
    energy = float(np.sum(ref**2))
    if energy == 0:
        raise ConfigError("NMSE is not defined for a reference that is zero everywhere")
    return float(np.sum((x - ref) ** 2)) / energy


def ssim(image: Any, reference: Any, *, data_range: float) -> float:
    """Structural similarity in [-1, 1], the mean over all leading axes (slices or colour channels).

    image, reference: real (..., H, W) with H, W >= 7; an RGB image is given as (3, H, W).
    data_range as in `psnr`. Raises ShapeError, ConfigError.
    """
    x, ref = _pair(image, reference)
    peak = _positive(data_range)
    if x.ndim < 2 or min(x.shape[-2:]) < SSIM_WINDOW:
        raise ShapeError(
            f"SSIM needs at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels in the last two axes, "
            f"got {x.shape}"
        )
    planes = zip(x.reshape(-1, *x.shape[-2:]), ref.reshape(-1, *ref.shape[-2:]), strict=True)
    return float(np.mean([_ssim_plane(a, b, peak) for a, b in planes]))


def _ssim_plane(x: NDArray[np.float64], y: NDArray[np.float64], peak: float) -> float:
    samples = SSIM_WINDOW**2
    unbiased = samples / (samples - 1)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_x, mean_y = uniform_filter(x, SSIM_WINDOW), uniform_filter(y, SSIM_WINDOW)
    var_x = unbiased * (uniform_filter(x * x, SSIM_WINDOW) - mean_x**2)
    var_y = unbiased * (uniform_filter(y * y, SSIM_WINDOW) - mean_y**2)
    cov = unbiased * (uniform_filter(x * y, SSIM_WINDOW) - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    pad = SSIM_WINDOW // 2
    return float(np.mean((luminance * structure)[pad:-pad, pad:-pad]))


def _pair(image: Any, reference: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, ref = _real(image, "image"), _real(reference, "reference")
    if x.shape != ref.shape or x.size == 0:
        raise ShapeError(
            f"metrics compare arrays of one shape, got {x.shape} and reference {ref.shape}"
        )
    return x, ref


def _real(value: Any, what: str) -> NDArray[np.float64]:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if np.iscomplexobj(array):
        raise ConfigError(
            f"the {what} is complex: take the magnitude (or real part) first, metrics do not choose"
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        count = np.count_nonzero(~np.isfinite(array))
        raise ConfigError(f"the {what} holds {count} values that are NaN or infinite")
    return array


def _positive(data_range: float) -> float:
    if not (np.isfinite(data_range) and data_range > 0):
        raise ConfigError(f"data_range must be a positive number, got {data_range}")
    return float(data_range)
