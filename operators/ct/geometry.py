"""Where the rays of a CT scan run, and the units of what they measure.

Value objects and two conversions, nothing else: needed by readers and simulators of scans as much
as by the projectors, hence free of torch and of every other module of the package but its errors.

Conventions (those of ASTRA's parallel beam):

* Lengths are millimetres, attenuation is 1/mm, so that line integrals have no unit.
* An image is (rows, columns) with row 0 at the top: pixel (i, j) has its centre at
  x = (j - (nx - 1)/2) dx and y = ((ny - 1)/2 - i) dy; column 0 lies at -x, row 0 at +y.
* View theta measures along the direction (sin theta, -cos theta); detector bin k sits at
  u_k = (k - (n_det - 1)/2) spacing + offset on the axis (cos theta, sin theta). A point (x, y) is
  seen at u = x cos theta + y sin theta: view 0 looks down the columns (column 0 falls on the low
  bins), view pi/2 looks along the rows (the bottom row falls on the low bins).
* A sinogram is (views, detectors).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from restore.errors import ConfigError
from restore.operators.ct.values import count, floats, positive

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

AIR_HU = -1000.0  # attenuation is proportional to HU - AIR_HU
MU_WATER_PER_MM = 0.0195
"""Attenuation of water in 1/mm at about 65 keV, the effective energy of a 120 kV scan."""

_OWNER = "ParallelBeam"

Array = TypeVar("Array", float, "np.ndarray", "Tensor")


def hu_to_mu(hu: Array, mu_water: float = MU_WATER_PER_MM) -> Array:
    """Attenuation in 1/mm of Hounsfield units (float, array or tensor): mu_water (1 + hu/1000)."""
    return mu_water * (1 + hu / 1000)


def mu_to_hu(mu: Array, mu_water: float = MU_WATER_PER_MM) -> Array:
    """Hounsfield units of an attenuation in 1/mm, the inverse of `hu_to_mu`. Nothing is clipped."""
    return 1000 * (mu / mu_water - 1)


def equispaced(views: int, arc_deg: float = 180.0, start_deg: float = 0.0) -> tuple[float, ...]:
    """Angles in radians of `views` views that divide an arc evenly, its end left out."""
    if views < 1:
        raise ConfigError(f"a scan needs at least one view, got views={views}")
    return tuple(math.radians(start_deg + arc_deg * k / views) for k in range(views))


@dataclasses.dataclass(frozen=True, init=False)
class ParallelBeam:
    """A parallel-beam scan of a 2-D image: hashable, comparable, and its repr evaluates to itself.

    angles: view angles in radians, any order, any arc. n_det: detector bins, det_spacing_mm apart,
    their centre shifted by det_offset_mm. shape: image (ny, nx). pixel_mm: (dy, dx), or one number
    for square pixels.
    Raises ConfigError for values that describe no scan.
    """

    angles: tuple[float, ...]
    n_det: int
    det_spacing_mm: float
    shape: tuple[int, int]
    pixel_mm: tuple[float, float] = (1.0, 1.0)
    det_offset_mm: float = 0.0

    def __init__(
        self,
        angles: Iterable[float],
        n_det: int,
        det_spacing_mm: float,
        shape: Iterable[int],
        pixel_mm: float | Iterable[float] = 1.0,
        det_offset_mm: float = 0.0,
    ) -> None:
        pitch = pixel_mm if isinstance(pixel_mm, Iterable) else (pixel_mm, pixel_mm)
        values = {
            "angles": floats(_OWNER, "angles", angles),
            "n_det": count(_OWNER, "n_det", n_det),
            "det_spacing_mm": positive(_OWNER, "det_spacing_mm", det_spacing_mm),
            "shape": tuple(count(_OWNER, "shape", n) for n in shape),
            "pixel_mm": tuple(positive(_OWNER, "pixel_mm", p) for p in pitch),
            "det_offset_mm": floats(_OWNER, "det_offset_mm", [det_offset_mm])[0],
        }
        if not values["angles"]:
            raise ConfigError("ParallelBeam: angles is empty, expected at least one view")
        for name in ("shape", "pixel_mm"):
            if len(values[name]) != 2:  # type: ignore[arg-type]
                raise ConfigError(
                    f"ParallelBeam: {name} is {values[name]}, expected two numbers (rows, columns)"
                )
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def covering(
        cls,
        *,
        shape: tuple[int, int],
        views: int,
        pixel_mm: float | tuple[float, float] = 1.0,
        arc_deg: float = 180.0,
        start_deg: float = 0.0,
        det_spacing_mm: float | None = None,
    ) -> ParallelBeam:
        """A scan whose detector sees the whole image from every side.

        Bins are as wide as the smaller pixel side unless `det_spacing_mm` is given, and cover the
        diagonal of the image.
        """
        angles = equispaced(views, arc_deg, start_deg)
        probe = cls(angles, 1, 1.0, shape, pixel_mm)
        (ny, nx), (dy, dx) = probe.shape, probe.pixel_mm
        spacing = (
            min(dy, dx)
            if det_spacing_mm is None
            else positive(_OWNER, "det_spacing_mm", det_spacing_mm)
        )
        n_det = math.ceil(math.hypot(ny * dy, nx * dx) / spacing)
        return cls(angles, n_det, spacing, probe.shape, probe.pixel_mm)

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.angles)

    @property
    def sinogram_shape(self) -> tuple[int, int]:
        """(views, detectors)."""
        return len(self.angles), self.n_det

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, fit for JSON and for HDF5 attributes (`angles` as a data set).

        Keys: kind ("parallel"), angles [radians], n_det, det_spacing_mm, shape [ny, nx],
        pixel_mm [dy, dx], det_offset_mm.
        """
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
        return {"kind": "parallel", **plain}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ParallelBeam:
        """The inverse of `to_dict`; numpy scalars and arrays are accepted. Raises ConfigError."""
        values = dict(stored)
        kind = values.pop("kind", "parallel")
        if kind != "parallel":
            raise ConfigError(f"geometry of kind {kind!r}: only 'parallel' is known")
        names = {f.name: f.default is dataclasses.MISSING for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(names))
        missing = sorted(name for name, needed in names.items() if needed and name not in values)
        if unknown or missing:
            raise ConfigError(
                f"geometry: unknown keys {unknown}, missing keys {missing}, expected {list(names)}"
            )
        return cls(**values)

    def __repr__(self) -> str:
        fields = [f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self)[1:]]
        return f"ParallelBeam({_angles_repr(self.angles)}, {', '.join(fields)})"


def _angles_repr(angles: tuple[float, ...]) -> str:
    """`equispaced(...)` where that gives the same numbers to the last bit, else the tuple."""
    if len(angles) < 2:
        return repr(angles)
    start = round(math.degrees(angles[0]), 9)
    arc = round(math.degrees(angles[1] - angles[0]) * len(angles), 9)
    if equispaced(len(angles), arc, start) != angles:
        return repr(angles)
    return f"equispaced({len(angles)}, {arc!r}, {start!r})"
