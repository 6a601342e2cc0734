"""How thick the slices of a volume are and what lies between them: told, in the DICOM header, or assumed.

Called by the tasks. Reads headers, no intensities.
"""

from __future__ import annotations

import dataclasses
import math

from restore.datasets.volume.dicom_series import DicomSeries
from restore.datasets.volume.dicom_sort import optional_number
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError

ROUNDING = 0.01
"""Of the slice distance: thicknesses and distances that differ by less are the same, written with fewer digits."""


@dataclasses.dataclass(frozen=True)
class Thickness:
    """thickness_mm: of a slice. gap_mm: to the next one, negative where slices overlap. source: who says so.

    notes: what was assumed, or does not agree.
    """

    thickness_mm: float
    gap_mm: float
    source: str
    notes: tuple[str, ...] = ()


def thickness_of(volume: Volume, thickness_mm: float | None, gap: str) -> Thickness:
    """Of a volume's slices. thickness_mm: told, or None. gap: "auto", or mm.

    Told numbers win; then DICOM's SliceThickness; then slices are taken to touch, with a note. Raises ConfigError for
    numbers that contradict each other, InputError for a header that contradicts itself.
    """
    spacing = volume.spacing_mm[2]
    told = _gap_mm(gap)
    if (
        thickness_mm is not None
        and told is not None
        and abs(thickness_mm + told - spacing) > ROUNDING * spacing
    ):
        raise ConfigError(
            f"--thickness {thickness_mm:g} and --gap {told:g} make {thickness_mm + told:g} mm, and the slices of "
            f"{volume.source or 'the volume'} lie {spacing:.6g} mm apart; give one of the two"
        )
    if told is not None and told >= spacing:
        raise ConfigError(
            f"--gap {told:g}: the slices of {volume.source or 'the volume'} lie {spacing:.6g} mm apart"
        )
    if thickness_mm is not None:
        return Thickness(thickness_mm, spacing - thickness_mm, "--thickness")
    if told is not None:
        return Thickness(spacing - told, told, "--gap")
    if isinstance(volume.header, DicomSeries):
        return _of_header(volume, volume.header)
    assumed = f"{_name(volume)}: how thick its slices are is not in the file: taken as {spacing:.6g} mm, without a gap"
    return Thickness(spacing, 0.0, "assumed", (f"{assumed} (--thickness or --gap says otherwise)",))


def _gap_mm(gap: str) -> float | None:
    if gap == "auto":
        return None
    try:
        found = float(gap)
    except ValueError:
        raise ConfigError(f"--gap is '{gap}', expected auto or millimetres") from None
    if not math.isfinite(found):
        raise ConfigError(f"--gap is '{gap}', expected auto or millimetres")
    return found


def _of_header(volume: Volume, series: DicomSeries) -> Thickness:
    spacing = volume.spacing_mm[2]
    found = sorted({optional_number(one, "SliceThickness") for one in series.slices})
    if found[-1] - found[0] > ROUNDING * spacing:
        raise InputError(
            volume.source or "series", f"slices of {found[0]:g} to {found[-1]:g} mm thickness in one series",
            "give --thickness, or select slices that are alike",
        )  # fmt: skip
    said = optional_number(series.slices[0], "SpacingBetweenSlices")
    notes: tuple[str, ...] = ()
    if said > 0 and abs(said - spacing) > ROUNDING * spacing:
        notes = (
            f"{_name(volume)}: SpacingBetweenSlices is {said:g} mm, and the slices' positions are {spacing:.6g} mm "
            "apart: the positions were taken",
        )
    if found[-1] <= 0:
        words = f"{_name(volume)}: has no SliceThickness: taken as {spacing:.6g} mm, without a gap"
        return Thickness(
            spacing, 0.0, "assumed", (*notes, f"{words} (--thickness or --gap says otherwise)")
        )
    return Thickness(found[-1], spacing - found[-1], "SliceThickness", notes)


def _name(volume: Volume) -> str:
    return volume.source.name if volume.source else "volume"
