"""Where the samples of non-Cartesian MRI lie: a trajectory as a value, and the makers of the usual ones.

Called by whoever builds a non-Cartesian operator or simulates a scan; imports only numpy and errors of the package.
Coordinates are in cycles per field of view, in the order of the image's axes (row axis first): a Cartesian scan of
n x n pixels has the whole numbers from -n/2 to n/2 - 1. sigpy and BART take the same numbers, finufft them times 2
pi / n.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from restore.errors import ConfigError, ShapeError

Points = NDArray[np.float64]

BAND = 1e-3
"""Cycles by which a sample may lie outside the band that the pixels span: rounding of single precision."""

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
_PLASTIC = (
    0.465571231876768,
    0.682327803828019,
)  # two-dimensional golden means (Chan et al., MRM 61:354, 2009)
_DWELL_S = 4e-6
_GAMMA_HZ_PER_T = 42.577478518e6  # of the proton


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectory:
    """Samples of one encoding, the same for all coils and slices.

    points: float64 (readouts, samples, 2 or 3), in cycles per field of view, row axis first; a copy is kept.
    Raises ShapeError for other shapes, ConfigError for values that are not finite.
    """

    points: Points

    def __post_init__(self) -> None:
        points = np.array(self.points, np.float64)
        if points.ndim != 3 or points.shape[-1] not in (2, 3) or 0 in points.shape:
            raise ShapeError(
                f"Trajectory: points have shape {points.shape}, expected (readouts, samples, 2 or 3)"
            )
        if not np.isfinite(points).all():
            raise ConfigError("Trajectory: points hold NaN or infinite values")
        points.setflags(write=False)
        object.__setattr__(self, "points", points)

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return int(self.points.shape[-1])

    @property
    def shape(self) -> tuple[int, int]:
        """(readouts, samples)."""
        return int(self.points.shape[0]), int(self.points.shape[1])

    def __len__(self) -> int:
        """Number of samples of all readouts."""
        return math.prod(self.shape)

    def radians(self, shape: tuple[int, ...]) -> list[Points]:
        """Phase per pixel along each axis, flat, as a transform of images of `shape` takes them.

        Raises ShapeError for images of another dimension, ConfigError for samples outside the band of its pixels,
        which a transform would take for others.
        """
        if len(shape) != self.ndim:
            raise ShapeError(
                f"a trajectory of {self.ndim} dimensions for images of shape {tuple(shape)}"
            )
        reach = np.abs(self.points).max(axis=(0, 1))
        for axis, (far, n) in enumerate(zip(reach, shape, strict=True)):
            if far > n / 2 + BAND:
                raise ConfigError(
                    f"trajectory: samples reach {far:.5g} cycles per field of view along axis {axis}, and {n} pixels "
                    f"hold {n / 2:g}; give more pixels, or the coordinates in cycles per field of view"
                )
        flat = self.points.reshape(-1, self.ndim)
        return [np.ascontiguousarray(flat[:, a]) * (2 * math.pi / n) for a, n in enumerate(shape)]

    def middle(self, reach: tuple[float, ...]) -> NDArray[np.bool_]:
        """The samples (readouts, samples) with |k| / reach of at most one in the root sum of squares."""
        return np.asarray(np.square(self.points / np.array(reach)).sum(axis=-1) <= 1)


def radial(
    spokes: int, samples: int, shape: tuple[int, ...], *, golden: bool = True, full: bool = False
) -> Points:
    """Spokes from the centre outwards: (spokes, samples, len(shape)), in cycles per field of view, row axis first.

    golden: each spoke turned by the golden angle from the one before (Winkelmann et al., IEEE TMI 2007; in three
    dimensions Chan et al., MRM 2009), else evenly over the whole turn (two dimensions only). full: spokes run through
    the centre, from one edge of k-space to the other, over half a turn; their middle sample, samples // 2, is the
    centre. Raises ConfigError (no spokes or samples, other than two or three dimensions).
    """
    if spokes < 1 or samples < 1 or len(shape) not in (2, 3) or (len(shape) == 3 and not golden):
        raise ConfigError(
            f"radial: {spokes} spokes of {samples} samples in {len(shape)} dimensions, golden={golden}: expected at "
            "least one of each, in two dimensions, or in three with the golden means"
        )
    number = np.arange(spokes)
    if len(shape) == 2:
        turn = 2 * math.pi if not full else math.pi
        step = turn / spokes
        if golden:
            step = GOLDEN_ANGLE if not full else math.pi * (math.sqrt(5) - 1) / 2
        angle = number * step
        directions = np.stack([np.sin(angle), np.cos(angle)], -1)
    else:
        height = np.mod(number * _PLASTIC[0], 1)
        height = height if full else 2 * height - 1
        angle = 2 * math.pi * np.mod(number * _PLASTIC[1], 1)
        flat = np.sqrt(1 - height**2)
        directions = np.stack([height, flat * np.sin(angle), flat * np.cos(angle)], -1)
    along = np.arange(samples) / samples
    along = along if not full else 2 * (np.arange(samples) - samples // 2) / samples
    return np.asarray(directions[:, None] * along[:, None] * (np.array(shape) / 2))


def spiral(
    interleaves: int,
    size: int,
    fov_mm: float,
    *,
    undersampling: float = 1.0,
    density: float = 1.0,
    gradient_mt_per_m: float = 30.0,
    slew_t_per_m_s: float = 120.0,
) -> Points:
    """Spiral interleaves: (interleaves, samples, 2), in cycles per field of view.

    size: pixels a side, which sets the reach, size / 2. density: the power of the radius along the spiral, 1 for even
    turns, more for a denser centre. As fast as gradient and slew rate allow, a sample every 4 us (Kim, Adalsteinsson
    and Spielman, MRM 50:214, 2003, eqs. 3-8). Raises ConfigError (values out of range).
    """
    limits = (fov_mm, undersampling, density, gradient_mt_per_m, slew_t_per_m_s)
    if interleaves < 1 or size < 2 or not all(v > 0 and math.isfinite(v) for v in limits):
        raise ConfigError(
            f"spiral: {interleaves} interleaves for {size} pixels with {limits}: expected at least one and two, and "
            "positive numbers for the rest"
        )
    if interleaves * undersampling >= size / 2:  # one turn of an interleaf would pass the edge
        raise ConfigError(
            f"spiral: {interleaves} interleaves, undersampled {undersampling} times, leave no turn to each "
            f"within {size} pixels; use fewer than {size / 2 / undersampling:g}"
        )
    turns = 1 / (1 - (1 - 2 * interleaves * undersampling / size) ** (1 / density))
    omega, reach = 2 * math.pi * turns, size / 2 / (fov_mm / 1000)  # radians; cycles per metre
    # By the slew rate first, while turns are tight; then by the gradient. tau, 0 to 1, runs along the spiral.
    a, b = density / 2 + 1, density + 1
    slewing = math.sqrt(slew_t_per_m_s * _GAMMA_HZ_PER_T / (reach * omega**2)) * a
    cruising = gradient_mt_per_m / 1000 * _GAMMA_HZ_PER_T / (reach * omega) * b
    change = min(1.0, (cruising / b * a / slewing) ** (2 / density))  # tau where both are as fast
    first = change**a / slewing
    whole = first + (1 - change**b) / cruising
    t = np.arange(max(2, math.ceil(whole / _DWELL_S))) * _DWELL_S
    tau = np.where(
        t < first,
        (slewing * t) ** (1 / a),
        (change**b + cruising * np.maximum(t - first, 0)) ** (1 / b),
    )
    turned = np.arange(interleaves)[:, None] * (2 * math.pi / interleaves)
    path = size / 2 * np.minimum(tau, 1) ** density * np.exp(1j * (omega * tau + turned))
    return np.stack([path.real, path.imag], -1)


def stack_of_stars(
    spokes: int,
    samples: int,
    shape: tuple[int, int, int],
    partitions: NDArray[np.int64] | None = None,
) -> Points:
    """Golden-angle spokes through the centre in every partition: (partitions * spokes, samples, 3).

    shape: (D, H, W); partitions: the kz that are measured, whole numbers from -D/2 to D/2 - 1, all by default; all
    have the same angles. Raises ConfigError as `radial` does.
    """
    star = radial(spokes, samples, shape[1:], full=True)
    kz = np.arange(shape[0]) - shape[0] // 2 if partitions is None else np.asarray(partitions)
    height = np.broadcast_to(kz[:, None, None, None], (len(kz), spokes, samples, 1))
    star = np.broadcast_to(star, (len(kz), *star.shape))
    return np.concatenate([height, star], -1).reshape(-1, samples, 3).astype(np.float64)


def cones(
    readouts: int, samples: int, shape: tuple[int, int, int], *, turns: float = 4.0
) -> Points:
    """Spirals on cones about the z axis, from the centre outwards: (readouts, samples, 3).

    The directions in which readouts end are those of `radial` in three dimensions, golden means; each turns `turns`
    times about z on its way at the equator, and less, by its distance from the axis, towards the poles
    (Gurney et al., MRM 55:575, 2006, of whose gradients nothing is kept). Raises ConfigError as `radial` does.
    """
    ends = radial(readouts, samples, (2, 2, 2))
    along = np.arange(samples) / samples
    flat = np.hypot(ends[:, -1, 1], ends[:, -1, 2]) * samples / max(samples - 1, 1)
    angle = 2 * math.pi * turns * flat[:, None] * along
    plane = (ends[..., 2] + 1j * ends[..., 1]) * np.exp(1j * angle)
    unit = np.stack([ends[..., 0], plane.imag, plane.real], -1)
    return np.asarray(unit * (np.array(shape) / 2))
