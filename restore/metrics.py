"""Image quality against a reference: PSNR, SSIM and NMSE, each in one named variant.

May be called by any layer above the solvers. The figures are scikit-image's, which is imported on
first use; here stand the variants, what is refused, and the way from tensors (accepted, never
needed).

Variants, the ones of the fastMRI leaderboard (`fastmri.evaluate`, which calls scikit-image too):

- PSNR = 10 log10(data_range^2 / MSE), the mean over the whole array (a volume is one number, not a
  mean of slices);
- SSIM (Wang et al. 2004) with a 7 x 7 uniform window, sample covariance (N - 1), K1 = 0.01, K2 =
  0.03, averaged over the positions whose window lies inside the image, then over all leading axes
  (slices or colour channels). fastMRI differs from a plain call of scikit-image in one thing: the
  data range of every slice is that of the whole volume, here the caller's one number;
- NMSE = |x - ref|^2 / |ref|^2 over the whole array: the square of scikit-image's normalised root
  mean square error with the Euclidean norm.

`ssim_gaussian` is the variant of Wang et al. themselves, which papers on diffusion models report: a
Gaussian window of 11 x 11 with sigma 1.5 and the population covariance. The two differ in the
second or third decimal, so a figure without the name of its variant says little.

Nothing is rescaled, clipped or made real on the way: the data range is given by the caller, complex
input is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.errors import ConfigError, ShapeError

LARGEST_RANGE = 1e100
"""Of a data range: its square is a number too."""

SSIM_WINDOW = 7
SSIM_VARIANT = "uniform 7x7, sample covariance, K1 0.01, K2 0.03, valid region"

GAUSSIAN_WINDOW, GAUSSIAN_SIGMA = 11, 1.5
SSIM_GAUSSIAN_VARIANT = (
    "Gaussian 11x11, sigma 1.5, population covariance, K1 0.01, K2 0.03, valid region"
)


def psnr(image: Any, reference: Any, *, data_range: float, where: Any = None) -> float:
    """Peak signal-to-noise ratio in dB over the whole array; infinite for equal arrays.

    image, reference: real arrays or tensors of one shape; data_range: the peak, in their units (for
    a volume usually the reference's maximum); where: True for the samples that count, all by
    default. Raises ShapeError, ConfigError.
    """
    from skimage.metrics import peak_signal_noise_ratio

    x, ref = _pair(*_kept(image, reference, where))
    peak = _positive(data_range)
    with np.errstate(divide="ignore"):  # equal arrays: infinite, as it should be
        return float(peak_signal_noise_ratio(ref, x, data_range=peak))


def nmse(image: Any, reference: Any, *, where: Any = None) -> float:
    """Squared error over the reference's squared norm, whole array or the samples `where` True stands.

    Raises ShapeError, ConfigError.
    """
    from skimage.metrics import normalized_root_mse

    x, ref = _pair(*_kept(image, reference, where))
    if not np.mean(ref * ref) > 0:
        raise ConfigError("NMSE is not defined for a reference that is zero everywhere")
    return float(normalized_root_mse(ref, x, normalization="euclidean")) ** 2


def ssim(image: Any, reference: Any, *, data_range: float, where: Any = None) -> float:
    """Structural similarity in [-1, 1], the mean over all leading axes (slices or colour channels).

    image, reference: real (..., H, W) with H, W >= 7; an RGB image is given as (3, H, W).
    data_range as in `psnr`. where: True for the samples that count, all by default: the others are
    taken to be equal, and no centres of windows. Planes without a centre are left out of the mean.
    Raises ShapeError, ConfigError.
    """
    if where is not None:
        return _ssim_where(*_pair(image, reference), data_range, np.asarray(where, bool))
    return _ssim(image, reference, data_range, SSIM_WINDOW, use_sample_covariance=True)


def ssim_gaussian(image: Any, reference: Any, *, data_range: float) -> float:
    """Structural similarity with the Gaussian window, the mean over all leading axes.

    image, reference: real (..., H, W) with H, W >= 11. Only windows inside the image count: the
    outer 5 pixels are no centres, because beyond the border a window would see invented values.
    data_range as in `psnr`. Raises ShapeError, ConfigError.
    """
    return _ssim(
        image, reference, data_range, GAUSSIAN_WINDOW,
        gaussian_weights=True, sigma=GAUSSIAN_SIGMA, use_sample_covariance=False,
    )  # fmt: skip


def _ssim(image: Any, reference: Any, data_range: float, window: int, **variant: Any) -> float:
    """Mean of scikit-image's figure over the planes. variant: its settings of the window."""
    from skimage.metrics import structural_similarity

    x, ref = _pair(image, reference)
    peak = _positive(data_range)
    if x.ndim < 2 or min(x.shape[-2:]) < window:
        raise ShapeError(
            f"SSIM needs at least {window} x {window} pixels in the last two axes, got {x.shape}"
        )
    planes = zip(x.reshape(-1, *x.shape[-2:]), ref.reshape(-1, *ref.shape[-2:]), strict=True)
    found = [
        structural_similarity(b, a, win_size=window, data_range=peak, **variant) for a, b in planes
    ]
    return float(np.mean(found))


def ssim_counts(where: NDArray[np.bool_]) -> bool:
    """Whether a plane, or one of several, has a centre of a whole window among the samples that count."""
    edge = SSIM_WINDOW // 2
    return bool(where[..., edge:-edge, edge:-edge].any())


def _ssim_where(
    x: NDArray[np.float64], ref: NDArray[np.float64], data_range: float, where: NDArray[np.bool_]
) -> float:
    from skimage.metrics import structural_similarity

    if x.ndim < 2 or min(x.shape[-2:]) < SSIM_WINDOW or not ssim_counts(where):
        raise ShapeError(
            f"SSIM needs a window of {SSIM_WINDOW} x {SSIM_WINDOW} samples, got {x.shape}"
        )
    edge, plane, found = SSIM_WINDOW // 2, x.shape[-2:], []
    planes = (a.reshape(-1, *plane) for a in (np.where(where, x, ref), ref, where))
    for a, b, counts in zip(*planes, strict=True):
        centres = counts[edge:-edge, edge:-edge]
        if centres.any():
            settings = {"win_size": SSIM_WINDOW, "use_sample_covariance": True, "full": True}
            _, values = structural_similarity(b, a, data_range=_positive(data_range), **settings)
            found.append(values[edge:-edge, edge:-edge][centres].mean())
    return float(np.mean(found))


def _kept(image: Any, reference: Any, where: Any) -> tuple[Any, Any]:
    if where is None:
        return image, reference
    x, ref = _pair(image, reference)
    return x[where], ref[where]


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
    if not 0 < data_range <= LARGEST_RANGE:
        raise ConfigError(
            f"data_range must be a positive number of at most {LARGEST_RANGE:g}, got {data_range}"
        )
    return float(data_range)
