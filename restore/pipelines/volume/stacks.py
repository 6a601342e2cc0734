"""What `superres` measured: stacks of thick slices with their profile, noise and place, laid on the first one.

Called by that task. Compares headers of the inputs, touches nothing.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from restore.datasets.volume.dicom_series import DicomSeries
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.noise_estimation import LEAST_SIDE, doubt_of_size, white_noise_std
from restore.operators.volume.slice_profile import SliceProfile
from restore.operators.volume.slice_stacks import Grid
from restore.pipelines.volume.alignment import DOUBTFUL, Alignment, aligned
from restore.pipelines.volume.thickness import thickness_of

LEAST_NOISE = 1e-4
"""Of the largest intensity: what is stored is no more exact, and weights stay finite."""

WIDE_GAP = 0.5
"""Of the slice distance: a gap above it is noted."""

SLICES_LOOKED_AT = 12
"""Of a stack, evenly, for its noise."""

SAME_GAIN = 0.02
"""How far intensities of two views may differ by a factor before one is multiplied: a note says so."""


class Told(Protocol):
    """What a user said of the slices; see `Superres`."""

    @property
    def profile(self) -> str:
        """ "rect", "gauss" or "gauss:FWHM"."""

    @property
    def thickness(self) -> float | None:
        """In mm, or None."""

    @property
    def gap(self) -> str:
        """ "auto", or mm."""

    @property
    def register(self) -> str:
        """ "rigid" or "none"."""

    @property
    def noise_level(self) -> float | None:
        """In the volume's units, or None."""


@dataclasses.dataclass(frozen=True, eq=False)
class StackOfSlices:
    """data: (z, y, x) in the volume's units, on `grid`. noise_std: in the same. record: for the sidecar."""

    data: NDArray[Any]
    grid: Grid
    profile: SliceProfile
    noise_std: float
    record: dict[str, Any]
    notes: tuple[str, ...] = ()

    def within(self, part: Grid) -> StackOfSlices | None:
        """The slices that reach into a part of the common grid, None where none does."""
        rows = self.grid.to_index_of(part)
        nz, ny, nx = self.grid.shape
        corners = np.stack(np.meshgrid((0, ny - 1), (0, nx - 1), indexing="ij")).reshape(2, -1)
        reach = self.profile.reach_mm / self.grid.spacing_mm[0]
        kept = []
        for k in range(nz):
            ends = [
                np.vstack([np.full((1, 4), k + side * reach), corners, np.ones((1, 4))])
                for side in (-1, 1)
            ]
            at = rows @ np.hstack(ends)
            if (at.max(1) > -0.5).all() and (at.min(1) < np.array(part.shape) - 0.5).all():
                kept.append(k)
        if not kept:
            return None
        first, last = kept[0], kept[-1] + 1
        return dataclasses.replace(
            self, data=self.data[first:last], grid=self.grid.part(first, last)
        )


def stacks_of(volumes: tuple[Volume, ...], told: Told) -> tuple[StackOfSlices, ...]:
    """Every volume as a stack, the second and third laid on the first. Raises InputError, ConfigError."""
    first, *others = volumes
    found = [_stack(first, told, None)]
    for other in others:
        _check_alike(other, first)
        found.append(
            _stack(other, told, aligned(other, first) if told.register == "rigid" else None)
        )
    return tuple(found)


def _stack(volume: Volume, told: Told, laid: Alignment | None) -> StackOfSlices:
    thickness = thickness_of(volume, told.thickness, told.gap)
    profile = SliceProfile.parse(told.profile, thickness.thickness_mm)
    spacing = volume.spacing_mm[2]
    if profile.width_mm > 4 * spacing:
        raise ConfigError(
            f"slices of {profile.width_mm:g} mm every {spacing:.6g} mm ({volume.source or 'volume'}): more than four "
            "lie over each other; is --thickness in mm?"
        )
    notes, name = list(thickness.notes), volume.source.name if volume.source else "volume"
    if thickness.gap_mm > WIDE_GAP * spacing:
        notes.append(
            f"{name}: slices of {thickness.thickness_mm:g} mm every {spacing:.6g} mm: nothing was measured of "
            f"{100 * thickness.gap_mm / spacing:.0f} % of the object"
        )
    nz, ny, nx = volume.data.shape
    noise, estimated = _noise(volume, told.noise_level)
    doubt = doubt_of_size(ny, nx) if estimated else ""
    if doubt:
        notes.append(f"{name}: {doubt}")
    record: dict[str, Any] = {
        "file": name, "profile": profile.shape, "width_mm": profile.width_mm, "thickness_mm": thickness.thickness_mm,
        "gap_mm": round(thickness.gap_mm, 6), "thickness_from": thickness.source, "noise_std": noise,
        "noise_from": "estimated" if estimated else "--noise-level",
    }  # fmt: skip
    if laid is not None:
        more, said = _told_of(laid, name, volume.units)
        record, notes = record | more, [*notes, *said]
    gain = record.get("gain", 1.0)
    data = volume.data if gain == 1 else volume.data * np.float32(gain)
    affine = volume.affine if laid is None else laid.motion @ volume.affine
    return StackOfSlices(
        data, Grid(affine, (nz, ny, nx)), profile, noise * gain, record, tuple(notes)
    )


def _told_of(laid: Alignment, name: str, units: str) -> tuple[dict[str, Any], list[str]]:
    """What record and notes say of a view that was laid on the first; "gain": of its intensities, where they differ."""
    record: dict[str, Any] = {
        "registered": {
            "shift_mm": [round(v, 4) for v in laid.shift_mm], "turn_deg": round(laid.turn_deg, 4),
            "correlation_before": round(laid.correlation_before, 4),
            "correlation": round(laid.correlation_after, 4),
        }
    }  # fmt: skip
    notes, moved = [], math.hypot(*laid.shift_mm)
    if moved > 0 or laid.turn_deg > 0:
        notes.append(
            f"{name}: moved by {moved:.3g} mm and {laid.turn_deg:.3g} degrees onto the first volume"
        )
    if units != "HU" and abs(laid.gain - 1) > SAME_GAIN:
        record["gain"] = laid.gain
        notes.append(
            f"{name}: intensities multiplied by {laid.gain:.4g} to be those of the first volume"
        )
    if laid.correlation_after < DOUBTFUL:
        notes.append(
            f"{name}: correlates with the first volume by {laid.correlation_after:.2f} alone; look whether edges are "
            "double"
        )
    return record, notes


def _noise(volume: Volume, told: float | None) -> tuple[float, bool]:
    """Deviation in the volume's units, and whether it was estimated."""
    if told is not None:
        return told, False
    least = LEAST_NOISE * float(np.abs(volume.data).max())
    if min(volume.data.shape[1:]) < LEAST_SIDE:
        raise ConfigError(
            f"{volume.source or 'volume'}: slices of {volume.data.shape[1:]} pixels are too small for an estimate "
            "of their noise; give --noise-level"
        )
    step = max(1, volume.n_slices // SLICES_LOOKED_AT)
    each = white_noise_std(volume.data[::step].astype(np.float64))
    return max(least, float(np.median(each[each > 0]) if (each > 0).any() else 0.0)), True


def _check_alike(other: Volume, first: Volume) -> None:
    """Refuse views that cannot be of one object in one place and one unit (InputError)."""
    where, name = other.source or "volume", first.source.name if first.source else "the first"
    if other.modality != first.modality or other.units != first.units:
        kinds = [
            f"{v.modality or 'unknown modality'}, {v.units or 'no units'}" for v in (other, first)
        ]
        raise InputError(where, f"{kinds[0]}, and {name} is {kinds[1]}", "fuse volumes of one kind")
    headers = [v.header.slices[0] for v in (other, first) if isinstance(v.header, DicomSeries)]
    for keyword, what in (
        ("PatientID", "another patient"),
        ("FrameOfReferenceUID", "another frame of reference"),
    ):
        said = {str(header.get(keyword)) for header in headers if header.get(keyword)}
        if len(said) > 1:
            raise InputError(
                where, f"is of {what} than {name}", "fuse series of one patient and one examination"
            )
    same = other.data.shape == first.data.shape and np.array_equal(other.affine, first.affine)
    if same and np.array_equal(other.data, first.data):
        raise InputError(
            where, f"holds the same volume as {name}", "give further views of the object"
        )
