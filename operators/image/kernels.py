"""Point spread functions for `Blur`: Gaussian, straight motion and defocus disk.

Called by pipelines, the command line (`parse_kernel`) and tests; imports only torch and the
package's errors.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable

import torch
from torch import Tensor

from restore.errors import ConfigError

_TAIL = 4.0  # standard deviations kept on each side of a Gaussian: 6e-5 of the mass lies outside
_FINE = 16  # sub-samples per pixel and axis when a shape is rasterised


def gaussian(sigma: float, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Isotropic Gaussian of `sigma` > 0 pixels, cut at four sigma. Returns (n, n), n odd, sum 1.
    Raises ConfigError.
    """
    _positive("gaussian", "sigma", sigma)
    radius = math.ceil(_TAIL * sigma)
    t = torch.arange(-radius, radius + 1, dtype=torch.float64)
    line = torch.exp(-0.5 * (t / sigma) ** 2)
    return _normalised(line[:, None] * line, dtype)


def motion(length: float, angle_deg: float, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform motion along a straight line of `length` > 0 pixels. Returns (n, n), n odd, sum 1.
    Raises ConfigError.

    `angle_deg` turns from the direction of increasing columns towards decreasing rows
    (anticlockwise as displayed). Points of the line share their weight bilinearly among the four
    pixels around them.
    """
    _positive("motion", "length", length)
    if not math.isfinite(angle_deg):
        raise ConfigError(f"kernel motion: angle is {angle_deg}, expected a number of degrees")
    half = (length - 1) / 2 if length > 1 else 0.0
    radius = max(1, math.ceil(half))
    count = 2 * math.ceil(_FINE * half) + 1  # odd and at least one on each side: the centre stays
    along = torch.linspace(-half, half, count, dtype=torch.float64)
    rows = radius - along * math.sin(math.radians(angle_deg))
    columns = radius + along * math.cos(math.radians(angle_deg))
    # A hat function around each point: separable, so the kernel is one small matrix product.
    pixels = torch.arange(2 * radius + 1, dtype=torch.float64)
    on_rows = (1 - (rows[:, None] - pixels).abs()).clamp(min=0)
    on_columns = (1 - (columns[:, None] - pixels).abs()).clamp(min=0)
    return _normalised(on_rows.T @ on_columns, dtype)


def disk(radius: float, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform disk of `radius` > 0 pixels (defocus); edge pixels count by their covered area.
    Returns (n, n), n odd, sum 1.
    """
    _positive("disk", "radius", radius)
    reach = max(0, math.ceil(radius - 0.5))
    n = 2 * reach + 1
    fine = (torch.arange(n * _FINE, dtype=torch.float64) + 0.5) / _FINE - n / 2
    inside = (fine[:, None] ** 2 + fine**2 <= radius**2).double()
    covered = inside.reshape(n, _FINE, n, _FINE).mean(dim=(1, 3))
    return _normalised(covered, dtype)


def parse_kernel(text: str, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Build a kernel from `gaussian:SIGMA`, `motion:LENGTH,ANGLE` or `disk:RADIUS` (pixels,
    degrees). Raises ConfigError.
    """
    forms: dict[str, tuple[Callable[..., Tensor], int, str]] = {
        "gaussian": (gaussian, 1, "gaussian:1.6"),
        "motion": (motion, 2, "motion:15,45"),
        "disk": (disk, 1, "disk:3"),
    }
    name, _, rest = text.strip().partition(":")
    if name not in forms:
        near = difflib.get_close_matches(name, forms, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(
            f"kernel '{text}': unknown kind '{name}', expected one of {', '.join(forms)}{hint}"
        )
    build, count, sample = forms[name]
    try:
        values = [float(part) for part in rest.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        raise ConfigError(
            f"kernel '{text}': expected {count} number(s) after the colon, as in '{sample}'"
        )
    return build(*values, dtype=dtype)


def _positive(kind: str, name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"kernel {kind}: {name} is {value}, expected a positive number of pixels")


def _normalised(kernel: Tensor, dtype: torch.dtype) -> Tensor:
    return (kernel / kernel.sum()).to(dtype)
