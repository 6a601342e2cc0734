"""Spherical means: what detectors of sound hear of an absorbed flash of light, in the plane and in space.

Called by pipelines and tests as a forward model; imports the operator contract, the matrix of shells and the filters of
the inversion. The matrix is made at the first product, one for each precision and device, and stored.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import final

import numpy as np
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.base import LinearOperator
from restore.operators.contract import check_stored
from restore.operators.ct.projection import csr
from restore.operators.image.blur import by_parts
from restore.operators.optoacoustic import inversion
from restore.operators.optoacoustic.shells import pixel_centres, shell_matrix, shell_sizes


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SphericalMeans(LinearOperator):
    """Means of an image (H, W) over circles, or of a volume (D, H, W) over spheres, around each detector.

    Measured are (detectors, radii); a mean at radius r is what arrives after r / speed of sound. In space the pressure
    of a point-like detector after a flash is d(r M)/dr, hence M(r) is its integral up to r, over r; circles are what
    line-like detectors see of one plane. The radii are first_mm + k step_mm; each mean is taken over a shell of that
    hat-shaped thickness (a detector of that bandwidth), so that its weights are one in sum and constants stay.

    detectors_mm: (detectors, axes) in mm from the middle of the grid, in the order of the image's axes; anywhere,
    `circle` and `sphere` make the usual ones. pixel_mm: of square or cubic cells. points: sub-points along each axis
    of a cell. The adjoint is the transpose of the stored matrix, which takes about 24 bytes for each detector, cell,
    and radius within a cell, plus one.

    `pinv` is time reversal in closed form: filtered back-projection (Finch, Haltmeier, Rakesh 2007) in the plane,
    universal back-projection (Xu, Wang 2005) in space; exact for detectors all around on a circle or sphere about the
    middle, and divided by the angle that was seen where the view is limited. Raises ShapeError, ConfigError.

    >>> A = SphericalMeans.circle((64, 64), detectors=48, pixel_mm=0.2, arc_deg=180)
    >>> means = A(image)
    """

    detectors_mm: Tensor
    shape: tuple[int, ...]
    pixel_mm: float
    samples: int
    step_mm: float
    first_mm: float
    points: int = 2

    def __post_init__(self) -> None:
        axes = len(self.shape)
        if axes not in (2, 3) or min(self.shape) < 1:
            raise ShapeError(
                f"SphericalMeans: shape is {tuple(self.shape)}, expected (H, W) or (D, H, W)"
            )
        check_stored("SphericalMeans", "detectors_mm", self.detectors_mm)
        found = self.detectors_mm
        if (
            found.ndim != 2
            or found.shape[1] != axes
            or not len(found)
            or not found.is_floating_point()
        ):
            raise ShapeError(
                f"SphericalMeans: detectors_mm is {tuple(found.shape)} {found.dtype}, expected real (detectors, {axes})"
            )
        if not bool(torch.isfinite(found).all()):
            raise ConfigError("SphericalMeans: detectors_mm has values that are not finite")
        for name in ("pixel_mm", "step_mm", "first_mm"):
            if not (math.isfinite(value := getattr(self, name)) and value > 0):
                raise ConfigError(
                    f"SphericalMeans: {name} is {value}, expected a positive length in mm"
                )
        if self.samples < 3 or self.points < 1:
            raise ConfigError(
                f"SphericalMeans: {self.samples} radii and {self.points} points, expected 3 radii and 1 point or more"
            )

        if self._entries >= 2**31:
            raise ConfigError(
                f"SphericalMeans: a matrix of {self._entries:.2g} entries is beyond 32-bit indices; give fewer "
                "detectors, a smaller image or a larger step_mm"
            )

    @classmethod
    def circle(
        cls,
        shape: tuple[int, int],
        *,
        detectors: int,
        pixel_mm: float = 1.0,
        radius_mm: float | None = None,
        arc_deg: float = 360.0,
        start_deg: float = 0.0,
    ) -> SphericalMeans:
        """Detectors evenly on an arc around an image (H, W), the first at `start_deg` from the row axis.

        radius_mm: 1.2 times the half diagonal of the image by default. Radii half a pixel apart, over all of the image.
        Raises ConfigError for a circle that cuts the image.
        """
        _check_angle("arc_deg", arc_deg, 360.0, detectors)
        whole = arc_deg == 360
        angles = np.deg2rad(start_deg + np.linspace(0, arc_deg, detectors, endpoint=not whole))
        return cls._around(
            np.stack([np.cos(angles), np.sin(angles)], 1), shape, pixel_mm, radius_mm
        )

    @classmethod
    def sphere(
        cls,
        shape: tuple[int, int, int],
        *,
        detectors: int,
        pixel_mm: float = 1.0,
        radius_mm: float | None = None,
        cap_deg: float = 180.0,
    ) -> SphericalMeans:
        """Detectors on the cap of a sphere up to `cap_deg` from its pole on the first axis (180: all around), each of
        the same area (spiral of golden angles). Others as `circle`.
        """
        _check_angle("cap_deg", cap_deg, 180.0, detectors)
        k = np.arange(detectors) + 0.5
        height = 1 - k / detectors * (1 - math.cos(math.radians(cap_deg)))
        ring, turn = np.sqrt(1 - height**2), k * math.pi * (3 - math.sqrt(5))
        directions = np.stack([height, ring * np.cos(turn), ring * np.sin(turn)], 1)
        return cls._around(directions, shape, pixel_mm, radius_mm)

    @classmethod
    def _around(
        cls,
        directions: np.ndarray,
        shape: tuple[int, ...],
        pixel_mm: float,
        radius_mm: float | None,
    ) -> SphericalMeans:
        half = pixel_mm * math.hypot(*shape) / 2
        radius = 1.2 * half + pixel_mm if radius_mm is None else radius_mm
        if not radius > half:
            raise ConfigError(
                f"SphericalMeans: detectors at {radius} mm lie within an image of half diagonal {half:.4g} mm; "
                "give a larger radius_mm"
            )
        step = pixel_mm / 2  # what the closed forms differentiate is then seen finely enough
        first = max(radius - half - 4 * step, step)
        samples = math.ceil((radius + half - first) / step) + 4
        places = torch.from_numpy(radius * directions).to(torch.float32)
        return cls(places, tuple(shape), pixel_mm, samples, step, first)

    @classmethod
    def example(cls, generator: torch.Generator) -> SphericalMeans:
        """A tiny instance for tests, turned by a random angle."""
        start = 360.0 * float(torch.rand((), generator=generator, device=generator.device))
        return cls.circle((7, 9), detectors=12, pixel_mm=0.5, arc_deg=270.0, start_deg=start)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(H, W) or (D, H, W)."""
        return tuple(self.shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(detectors, radii)."""
        return (len(self.detectors_mm), self.samples)

    @property
    def radii_mm(self) -> np.ndarray:
        """(radii,), evenly spaced."""
        return self.first_mm + self.step_mm * np.arange(self.samples)

    @property
    def _entries(self) -> float:
        """Of the matrix, at most: the radii across the diagonal of a cell, and their neighbours."""
        across = self.pixel_mm * math.sqrt(len(self.shape)) / self.step_mm + 2
        return len(self.detectors_mm) * math.prod(self.shape) * min(across, self.samples)

    def _apply(self, x: Tensor) -> Tensor:
        return by_parts(lambda part: self._product(part, 0, self.out_shape), x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return by_parts(lambda part: self._product(part, 1, self.in_shape), y)

    def _product(self, part: Tensor, which: int, shape: tuple[int, ...]) -> Tensor:
        """The matrix (0) or its transpose (1) times each item. part: (*batch, *one side), real."""
        batch = part.shape[: part.ndim - (2 if which else len(self.shape))]
        size = math.prod(part.shape[len(batch) :])
        columns = part.reshape(math.prod(batch), size).mT.contiguous()
        return (self._matrices(part)[which] @ columns).mT.reshape(*batch, *shape)

    def _matrices(self, like: Tensor) -> tuple[Tensor, Tensor]:
        key = (like.dtype, like.device)
        if key not in self._held:
            detectors = self.detectors_mm.detach().cpu().double().numpy()
            made = shell_matrix(detectors, self.radii_mm, self.in_shape, self.pixel_mm, self.points)
            both = []
            for matrix in (made, made.T.tocsr()):
                parts = (torch.from_numpy(a) for a in (matrix.indptr, matrix.indices, matrix.data))
                starts, columns, values = (p.to(like.device) for p in parts)
                both.append(csr(starts.int(), columns.int(), values.to(like.dtype), matrix.shape))
            self._held[key] = (both[0], both[1])
        return self._held[key]

    @cached_property
    def _held(self) -> dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]]:
        """Stored matrices and their transposes, by precision and device."""
        return {}

    def _pinv(self, y: Tensor) -> Tensor:
        radii, axes = self.radii_mm, len(self.shape)
        # The transpose spreads a shell over its pixels with weights over its size: undone, it interpolates.
        undo = torch.from_numpy(shell_sizes(radii, self.step_mm, axes) / self.pixel_mm**axes).to(
            y.real
        )
        make = inversion.plane_filter if axes == 2 else inversion.space_filter
        filtered = y @ torch.from_numpy(make(radii).T).to(y)
        if axes == 2:
            return self._adjoint(filtered * undo) / len(self.detectors_mm)
        return self._seen(filtered, undo) / self._seen(
            torch.ones_like(y.real[..., :1, :1]).expand_as(y.real), undo
        )

    def _seen(self, values: Tensor, undo: Tensor) -> Tensor:
        """The sum over detectors of values(|x - d|) times the angle (R^2 + r^2 - |x|^2) / (2 R r^3) that one covers."""
        radius = self.detectors_mm.norm(dim=1, keepdim=True).to(undo)
        r = torch.from_numpy(self.radii_mm).to(undo)
        square = torch.from_numpy((pixel_centres(self.in_shape, self.pixel_mm) ** 2).sum(1)).to(
            undo
        )
        near = values * undo / (2 * radius * r**3)
        return self._adjoint(near * (radius**2 + r**2)) - square.reshape(
            self.in_shape
        ) * self._adjoint(near)


def _check_angle(name: str, value: float, most: float, detectors: int) -> None:
    if not 0 < value <= most:
        raise ConfigError(
            f"SphericalMeans: {name} is {value}, expected above 0 and up to {most:g} degrees"
        )
    if detectors < 1:
        raise ConfigError(f"SphericalMeans: {detectors} detectors, expected at least one")
