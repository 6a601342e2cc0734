"""Point spread functions for `Blur`: Gaussian, straight motion and defocus.

Called by pipelines, the command line (`parse_kernel`) and tests; imports only torch and the
package's errors, and kornia when a motion is asked for.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from restore.errors import ConfigError

LARGEST = 1000
"""Pixels of a radius or a length: beyond any blur, and before a slip of the pen fills the memory."""

_SUM_TOLERANCE = (
    1e-3  # of a kernel's sum: rounding of 8-bit pictures of kernels, and of tables with four digits
)
_LEAST_SUM = 1e-6  # of the sum of magnitudes: below that the sum is rounding
_OFF_CENTRE = 0.75  # pixels: even sides alone are half a pixel off
_TAIL = 4.0  # standard deviations kept on each side of a Gaussian: 6e-5 of the mass lies outside
_FINE = 16  # sub-samples per pixel and axis when the disk is rasterised


def gaussian(sigma: float, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Isotropic Gaussian of `sigma` > 0 pixels, cut at four sigma. Returns (n, n), n odd, sum 1.
    Raises ConfigError.
    """
    _positive("gaussian", "sigma", sigma)
    radius = math.ceil(_TAIL * sigma)
    t = torch.arange(-radius, radius + 1, dtype=torch.float64)
    line = torch.exp(-0.5 * (t / sigma) ** 2)
    return _normalised(line[:, None] * line, dtype)


def motion(
    length: float, angle_deg: float, direction: float = 0.0, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Motion along a straight line of `length` > 0 pixels. Returns (n, n), n odd, sum 1.

    `angle_deg` turns from the direction of increasing columns towards decreasing rows
    (anticlockwise as displayed). `direction` in -1..1 says how the light was shared along the line:
    0 evenly, 1 all of it falling off linearly from the beginning (the left end at 0 degrees), -1
    from the end; the centre of mass leaves the middle of the kernel then.

    Odd whole lengths from 3 on are kornia's `get_motion_kernel2d`, the line of `length` pixels
    turned bilinearly, as in other packages; lengths between are mixed of their two neighbours, so
    that the kernel grows steadily. A length of 1 or less does nothing. Raises ConfigError.
    """
    _positive("motion", "length", length)
    if not math.isfinite(angle_deg):
        raise ConfigError(f"kernel motion: angle is {angle_deg}, expected a number of degrees")
    if not -1 <= direction <= 1:
        raise ConfigError(f"kernel motion: direction is {direction}, expected -1 to 1")
    below = max(1, 2 * math.floor((length - 1) / 2) + 1)
    share = max(0.0, (length - below) / 2)
    kernel = below * _line(below, angle_deg, direction)
    if share:
        wider = (below + 2) * _line(below + 2, angle_deg, direction)
        kernel = (1 - share) * torch.nn.functional.pad(kernel, (1, 1, 1, 1)) + share * wider
    return _normalised(kernel, dtype)


def _line(length: int, angle_deg: float, direction: float) -> Tensor:
    """The kernel of an odd whole length, (length, length), sum 1, double precision."""
    if length == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    from kornia.filters import get_motion_kernel2d

    angle, shared = (torch.tensor([v], dtype=torch.float64) for v in (angle_deg, direction))
    return get_motion_kernel2d(length, angle, shared, mode="bilinear")[0]


def defocus(radius: float, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform disk of `radius` > 0 pixels, what a round aperture makes of a point out of focus; edge
    pixels count by their covered area. Returns (n, n), n odd, sum 1. Raises ConfigError.
    """
    _positive("defocus", "radius", radius)
    reach = max(0, math.ceil(radius - 0.5))
    n = 2 * reach + 1
    fine = (torch.arange(n * _FINE, dtype=torch.float64) + 0.5) / _FINE - n / 2
    inside = (fine[:, None] ** 2 + fine**2 <= radius**2).double()
    covered = inside.reshape(n, _FINE, n, _FINE).mean(dim=(1, 3))
    return _normalised(covered, dtype)


def parse_kernel(text: str, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Build a kernel from `gaussian:SIGMA`, `motion:LENGTH:ANGLE[:DIRECTION]` or `defocus:RADIUS`
    (pixels, degrees), which may also be called `disk`. Commas may stand for the later colons.
    Raises ConfigError.
    """
    forms: dict[str, tuple[Callable[..., Tensor], tuple[int, ...], str]] = {
        "gaussian": (gaussian, (1,), "gaussian:1.6"),
        "motion": (motion, (2, 3), "motion:15:30"),
        "defocus": (defocus, (1,), "defocus:5"),
    }
    name, _, rest = text.strip().partition(":")
    name = {"disk": "defocus"}.get(name, name)
    if name not in forms:
        near = difflib.get_close_matches(name, [*forms, "disk"], n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(
            f"kernel '{text}': unknown kind '{name}', expected one of {', '.join(forms)}{hint}"
        )
    build, counts, sample = forms[name]
    try:
        values = [float(part) for part in rest.replace(",", ":").split(":")]
    except ValueError:
        values = []
    if len(values) not in counts:
        wanted = " or ".join(map(str, counts))
        raise ConfigError(
            f"kernel '{text}': expected {wanted} number(s) after the first colon, as in '{sample}'"
        )
    return build(*values, dtype=dtype)


def given_kernel(values: Any, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, list[str]]:
    """Somebody's own kernel (h, w), an array or tensor, with sum 1, and notes on what was done to it.

    `Blur` centres it at (h // 2, w // 2). Zero borders stay. Raises ConfigError for values that are not finite, sums
    that are not positive, and other shapes.
    """
    kernel = torch.as_tensor(values).double()
    if kernel.ndim != 2 or not kernel.numel() or max(kernel.shape) > LARGEST:
        raise ConfigError(
            f"the kernel is {tuple(kernel.shape)}, expected (height, width) of 1 to {LARGEST} pixels"
        )
    if not bool(torch.isfinite(kernel).all()):
        raise ConfigError("the kernel holds values that are not finite")
    total, height, width = float(kernel.sum()), *kernel.shape
    if not total > _LEAST_SUM * float(kernel.abs().sum()):
        raise ConfigError(
            f"the kernel's values sum to {total:.3g}; a blur passes light on, and its kernel has a positive sum"
        )
    notes = []
    if abs(total - 1) > _SUM_TOLERANCE:
        notes.append(f"the kernel's values sum to {total:.4g}: divided by that")
    if height % 2 == 0 or width % 2 == 0:
        notes.append(
            f"the kernel has even sides ({height} x {width}): its centre is row {height // 2}, column {width // 2}, "
            "counted from 0; the other choice would shift the picture by a pixel"
        )
    rows, columns = _beside_centre(kernel / total)
    if max(abs(rows), abs(columns)) > _OFF_CENTRE:
        notes.append(
            f"the kernel's mass lies {rows:+.2g} rows and {columns:+.2g} columns beside its centre: the restored "
            "picture is shifted against the measured one by as much the other way"
        )
    if float(kernel.min()) < 0:
        notes.append(f"the kernel has negative values, down to {float(kernel.min()) / total:.3g}")
    return _normalised(kernel, dtype), notes


def _beside_centre(kernel: Tensor) -> tuple[float, float]:
    """Where the mass of a kernel of sum 1 lies, in rows and columns from (h // 2, w // 2)."""
    height, width = kernel.shape
    rows = torch.arange(height, dtype=kernel.dtype) - height // 2
    columns = torch.arange(width, dtype=kernel.dtype) - width // 2
    return float(kernel.sum(1) @ rows), float(kernel.sum(0) @ columns)


def _positive(kind: str, name: str, value: float) -> None:
    if not 0 < value <= LARGEST:
        raise ConfigError(
            f"kernel {kind}: {name} is {value}, expected a positive number of pixels, at most {LARGEST}"
        )


def _normalised(kernel: Tensor, dtype: torch.dtype) -> Tensor:
    return (kernel / kernel.sum()).to(dtype)
