"""Geometries of CT scans as value objects in mm: parallel rays in three dimensions, fan, cone, helix, free vectors.

Each is built from a few numbers and reduces to per-view vectors (`Views`); where the image lies is `VoxelGrid`'s to
say. `geometry.ParallelBeam`, the parallel scan of slices, is their member for an infinite distance of the source.

The convention of all: at angle t the source stands at source_object_mm (sin t, -cos t) in (x, y) and looks towards the
rotation axis z; detector columns run along (cos t, sin t), rows along +z; column k sits at
u = (k - (columns - 1)/2) pitch + offset, rows alike. Needed by readers and by the projectors, hence free of torch.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from restore.errors import ConfigError
from restore.operators.ct import orbits
from restore.operators.ct.values import count, number, pair, positive, view_angles
from restore.operators.ct.views import Views

SHAPES = ("flat", "equiangular")
"""Of a fan's detector: a straight line, or an arc round the source with equal angles between bins."""

_STEEPEST_DEG = (
    60.0  # of tilt and slant: a detector beyond is seen edge on, or the angle is in other units
)
_FLAT = 1e-9  # relative: three vectors in one plane span no rays


@dataclasses.dataclass(frozen=True)
class Beam(ABC):
    """Abstract: the rays of a scan, without the volume. Frozen and hashable; its repr evaluates to itself."""

    kind: ClassVar[str] = ""
    in_plane: ClassVar[bool] = False

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of a measurement: (views, columns) in the plane, else (views, rows, columns)."""

    @abstractmethod
    def reduced(self) -> Views:
        """Per view the source, the middle of the detector and the steps of its columns and rows."""

    @property
    def view_angles(self) -> tuple[float, ...]:
        """Angles in radians of a scan that goes round; none of free vectors."""
        return ()

    @property
    def straight(self) -> Beam | None:
        """The same scan with a panel that is not turned, for filtered backprojection; None where there is none."""
        return None

    def subset(self, which: slice) -> Beam:
        """The same scan with some of its views; of a helix, whose height depends on all, as free vectors."""
        return dataclasses.replace(self, angles=self.view_angles[which])  # type: ignore[call-arg]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, words and lists: `kind`, and the fields by their names."""
        values = dataclasses.asdict(self)
        return {
            "kind": self.kind,
            **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()},
        }


@dataclasses.dataclass(frozen=True)
class FanBeam(Beam):
    """A fan of rays in the plane of an image, from a source that goes round.

    angles: of the views, in radians, any arc. n_det: bins, det_spacing_mm apart on the detector (along the arc of an
    equiangular one). source_object_mm: from the source to the axis; source_detector_mm: to the detector. det_offset_mm
    shifts the bins along the detector, source_offset_mm the source in the same direction. slant_deg turns a flat
    detector about its middle, so that its last column moves away from the source. Raises ConfigError.
    """

    kind: ClassVar[str] = "fan"
    in_plane: ClassVar[bool] = True

    angles: tuple[float, ...]
    n_det: int
    det_spacing_mm: float
    source_object_mm: float
    source_detector_mm: float
    det_offset_mm: float = 0.0
    source_offset_mm: float = 0.0
    slant_deg: float = 0.0
    detector_shape: str = "flat"

    def __post_init__(self) -> None:
        _set(
            self,
            angles=view_angles("FanBeam", self.angles),
            n_det=count("FanBeam", "n_det", self.n_det),
            det_spacing_mm=positive("FanBeam", "det_spacing_mm", self.det_spacing_mm),
            det_offset_mm=number("FanBeam", "det_offset_mm", self.det_offset_mm),
            source_offset_mm=number("FanBeam", "source_offset_mm", self.source_offset_mm),
            slant_deg=_turn("FanBeam", "slant_deg", self.slant_deg),
            **_distances("FanBeam", self.source_object_mm, self.source_detector_mm),
        )
        if self.detector_shape not in SHAPES:
            raise ConfigError(
                f"FanBeam: detector_shape is {self.detector_shape!r}, expected one of {', '.join(SHAPES)}"
            )
        half = self.n_det * self.det_spacing_mm / 2 + abs(self.det_offset_mm)
        if self.detector_shape == "equiangular" and (
            self.slant_deg or half >= math.pi / 2 * self.source_detector_mm
        ):
            raise ConfigError(
                f"FanBeam: an equiangular detector reaches {math.degrees(half / self.source_detector_mm):.4g} degrees "
                f"to one side with slant_deg {self.slant_deg:g}, expected less than 90 and no slant; check "
                "det_spacing_mm (mm along the arc)"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """(views, n_det)."""
        return len(self.angles), self.n_det

    @property
    def view_angles(self) -> tuple[float, ...]:
        """Angles in radians."""
        return self.angles

    @property
    def straight(self) -> Beam | None:
        """Without slant."""
        return dataclasses.replace(self, slant_deg=0.0)

    def reduced(self) -> Views:
        """One row of bins in the plane z = 0."""
        curved = self.detector_shape == "equiangular"
        turn = self.det_offset_mm / self.source_detector_mm if curved else 0.0
        return orbits.circular(
            self.angles,
            (1, self.n_det),
            (self.det_spacing_mm,) * 2,
            self.source_object_mm,
            self.source_detector_mm,
            det_offset_mm=(0.0, 0.0 if curved else self.det_offset_mm),
            source_offset_mm=(0.0, self.source_offset_mm),
            turns=(0.0, math.radians(self.slant_deg), 0.0),
            arc=turn,
            curved=curved,
        )


@dataclasses.dataclass(frozen=True)
class ConeBeam(Beam):
    """A cone of rays on a flat panel, from a source on a circle or on a helix.

    angles: of the views, in radians. detector: (rows, columns). det_spacing_mm: (row pitch, column pitch), or one
    number. source_object_mm, source_detector_mm: from the source to the axis and to the panel. det_offset_mm: (v, u)
    shifts the panel along its own rows and columns, source_offset_mm: (v, u) the source along z and along the columns.
    slant_deg turns the panel about its rows' axis (the last column moves away), tilt_deg about its columns' axis (the
    last row moves away), skew_deg within its own plane (columns turn towards +z), applied in that order: skew, tilt,
    slant. pitch_mm: how far source and panel move along z in a turn, 0 for a circle; the middle of the range of angles
    lies at z = 0. Raises ConfigError.
    """

    angles: tuple[float, ...]
    detector: tuple[int, int]
    det_spacing_mm: tuple[float, float]
    source_object_mm: float
    source_detector_mm: float
    det_offset_mm: tuple[float, float] = (0.0, 0.0)
    source_offset_mm: tuple[float, float] = (0.0, 0.0)
    tilt_deg: float = 0.0
    slant_deg: float = 0.0
    skew_deg: float = 0.0
    pitch_mm: float = 0.0

    def __post_init__(self) -> None:
        name = "ConeBeam"
        pitch = number(name, "pitch_mm", self.pitch_mm)
        _set(
            self,
            angles=view_angles(name, self.angles, helical=pitch != 0),
            **_panel(name, self.detector, self.det_spacing_mm),
            det_offset_mm=pair(name, "det_offset_mm", self.det_offset_mm, "v, u"),
            source_offset_mm=pair(name, "source_offset_mm", self.source_offset_mm, "v, u"),
            tilt_deg=_turn(name, "tilt_deg", self.tilt_deg),
            slant_deg=_turn(name, "slant_deg", self.slant_deg),
            skew_deg=number(name, "skew_deg", self.skew_deg),
            pitch_mm=pitch,
            **_distances(name, self.source_object_mm, self.source_detector_mm),
        )

    @property
    def kind(self) -> str:  # type: ignore[override]
        """ "cone", or "helical" with a pitch."""
        return "helical" if self.pitch_mm else "cone"

    @property
    def shape(self) -> tuple[int, ...]:
        """(views, rows, columns)."""
        return len(self.angles), *self.detector

    @property
    def view_angles(self) -> tuple[float, ...]:
        """Angles in radians."""
        return self.angles

    @property
    def straight(self) -> Beam | None:
        """Without tilt, slant and skew; a helix has no filtered backprojection here."""
        return (
            None
            if self.pitch_mm
            else dataclasses.replace(self, tilt_deg=0.0, slant_deg=0.0, skew_deg=0.0)
        )

    def subset(self, which: slice) -> Beam:
        """See `Beam`."""
        if not self.pitch_mm:
            return dataclasses.replace(self, angles=self.angles[which])
        return FreeBeam(tuple(map(tuple, self.reduced().vectors[which].tolist())), self.detector)

    def reduced(self) -> Views:
        """Source and panel turned to every angle, and raised along a helix."""
        found = orbits.circular(
            self.angles,
            self.detector,
            self.det_spacing_mm,
            self.source_object_mm,
            self.source_detector_mm,
            det_offset_mm=self.det_offset_mm,
            source_offset_mm=self.source_offset_mm,
            turns=(
                math.radians(self.tilt_deg),
                math.radians(self.slant_deg),
                math.radians(self.skew_deg),
            ),
        )
        if not self.pitch_mm:
            return found
        angles = np.asarray(self.angles)
        middle = (angles.min() + angles.max()) / 2
        rise = np.zeros((len(angles), 3))
        rise[:, 2] = self.pitch_mm * (angles - middle) / (2 * math.pi)
        return dataclasses.replace(found, source=found.source + rise, centre=found.centre + rise)


@dataclasses.dataclass(frozen=True)
class ParallelBeam3D(Beam):
    """Parallel rays on a panel that goes round a volume: the cone's limit for a source at infinity.

    Fields as `ConeBeam`'s; tilt and the like are those of `FreeBeam`. Raises ConfigError.
    """

    kind: ClassVar[str] = "parallel3d"

    angles: tuple[float, ...]
    detector: tuple[int, int]
    det_spacing_mm: tuple[float, float]
    det_offset_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        name = "ParallelBeam3D"
        _set(
            self,
            angles=view_angles(name, self.angles),
            **_panel(name, self.detector, self.det_spacing_mm),
            det_offset_mm=pair(name, "det_offset_mm", self.det_offset_mm, "v, u"),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(views, rows, columns)."""
        return len(self.angles), *self.detector

    @property
    def view_angles(self) -> tuple[float, ...]:
        """Angles in radians."""
        return self.angles

    @property
    def straight(self) -> Beam | None:
        """Itself."""
        return self

    def reduced(self) -> Views:
        """Rays along (-sin t, cos t)."""
        return orbits.parallel(self.angles, self.detector, self.det_spacing_mm, self.det_offset_mm)


@dataclasses.dataclass(frozen=True)
class FreeBeam(Beam):
    """Any source and any panel in every view, as ASTRA's cone_vec and parallel3d_vec have them.

    vectors: (views, 12) in mm, each the source (of parallel rays: their direction), the panel's middle, the step from
    column to column and the step from row to row, as (x, y, z). detector: (rows, columns). Raises ConfigError.
    """

    kind: ClassVar[str] = "vectors"

    vectors: tuple[tuple[float, ...], ...]
    detector: tuple[int, int]
    parallel: bool = False

    def __post_init__(self) -> None:
        try:
            given = np.array(self.vectors, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigError("FreeBeam: vectors are no numbers, expected (views, 12)") from error
        if given.ndim != 2 or given.shape[1] != 12 or not len(given):
            raise ConfigError(f"FreeBeam: vectors have shape {given.shape}, expected (views, 12)")
        _check_vectors(given, self.parallel)
        rows, columns = pair("FreeBeam", "detector", self.detector, "rows, columns")
        size = count("FreeBeam", "detector", rows), count("FreeBeam", "detector", columns)
        _set(
            self,
            vectors=tuple(tuple(map(float, v)) for v in given),
            detector=size,
            parallel=bool(self.parallel),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(views, rows, columns)."""
        return len(self.vectors), *self.detector

    def subset(self, which: slice) -> Beam:
        """See `Beam`."""
        return dataclasses.replace(self, vectors=self.vectors[which])

    def reduced(self) -> Views:
        """The vectors as they are."""
        given = np.array(self.vectors)
        source, centre, u, v = (np.ascontiguousarray(given[:, k : k + 3]) for k in (0, 3, 6, 9))
        rows, columns = self.detector
        return Views(source, centre, u, v, rows, columns, parallel=self.parallel)


def _set(beam: Beam, **values: Any) -> None:
    """Checked numbers in the place of the given ones."""
    for name, value in values.items():
        object.__setattr__(beam, name, value)


def _turn(owner: str, name: str, value: float) -> float:
    found = number(owner, name, value)
    if abs(found) > _STEEPEST_DEG:
        raise ConfigError(
            f"{owner}: {name} is {found:g}, expected at most {_STEEPEST_DEG:g} degrees"
        )
    return found


def _distances(owner: str, source_object_mm: float, source_detector_mm: float) -> dict[str, float]:
    near = positive(owner, "source_object_mm", source_object_mm)
    far = positive(owner, "source_detector_mm", source_detector_mm)
    if far < near:
        raise ConfigError(
            f"{owner}: source_detector_mm is {far:g} and source_object_mm {near:g}: the detector lies before the axis; "
            "both are measured from the source, exchange them or add them up"
        )
    return {"source_object_mm": near, "source_detector_mm": far}


def _panel(
    owner: str, detector: Iterable[int], spacing_mm: float | Iterable[float]
) -> dict[str, Any]:
    rows, columns = pair(owner, "detector", detector, "rows, columns")
    pitch = pair(owner, "det_spacing_mm", spacing_mm, "row pitch, column pitch")
    return {
        "detector": (count(owner, "detector", rows), count(owner, "detector", columns)),
        "det_spacing_mm": tuple(positive(owner, "det_spacing_mm", p) for p in pitch),
    }


def _check_vectors(given: NDArray[np.float64], parallel: bool) -> None:
    if not np.isfinite(given).all():
        view = int((~np.isfinite(given)).any(1).argmax())
        raise ConfigError(f"FreeBeam: the vector of view {view} holds numbers that are not finite")
    source, centre, u, v = (given[:, k : k + 3] for k in (0, 3, 6, 9))
    along = source if parallel else centre - source
    volume = np.abs(np.linalg.det(np.stack([along, u, v], 1)))
    scale = np.prod([np.linalg.norm(part, axis=1) for part in (along, u, v)], axis=0)
    flat = volume <= _FLAT * scale
    if flat.any():
        raise ConfigError(
            f"FreeBeam: in view {int(flat.argmax())} the source, the columns' and the rows' step lie in one plane: the "
            "panel is seen edge on or has no extent; expected source, middle, column step, row step, three numbers each"
        )
