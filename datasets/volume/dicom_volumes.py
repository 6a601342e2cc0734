"""One volume out of a DICOM series that holds several: time points, echoes, diffusion weightings, magnitude and phase.

May be called by the DICOM reader. Works on headers in memory. A series holds several volumes where more than one image
lies in a place; they are told apart by the fewest tags that put every place into each group once at most.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydicom.dataset import Dataset

from restore.errors import InputError

TOLD_BY = (
    ("TemporalPositionIdentifier", "time point"),
    ("EchoTime", "echo time in ms"),
    ("EchoNumbers", "echo"),
    ("DiffusionBValue", "b-value"),
    ("DiffusionGradientOrientation", "gradient direction"),
    ("InversionTime", "inversion time in ms"),
    ("FlipAngle", "flip angle in degrees"),
    ("RepetitionTime", "repetition time in ms"),
    ("ImageType", "image type"),
    ("FrameReferenceTime", "frame time in ms"),
    ("NominalPercentageOfCardiacPhase", "percent of the cardiac cycle"),
    ("TriggerTime", "trigger time in ms"),
    ("AcquisitionNumber", "acquisition"),
    ("AcquisitionTime", "time of acquisition"),
)
"""Asked in this order."""

ONE_KIND = (
    "EchoTime",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "InversionTime",
    "FlipAngle",
    "ImageType",
)
"""What must not change within a volume that is told by nothing but the order of its images."""

MISSING = -1.0
"""For a number that is not there; none of those asked for is negative."""

TEXTS = ("ImageType", "DiffusionGradientOrientation")

MOST_TAGS = 3
"""That are asked together."""

MOST_TOLD = 30
"""Volumes in a message."""

_SAME_PLACE = 1e-3  # mm: nearer images lie in one place
_SAME_SHARE = 0.05  # of the distance of slices: the same
_SAME_DIRECTION = 1e-3  # of cosines
_PERPENDICULAR = 0.9  # least length of the product of two directions that are

Item = TypeVar("Item")
Value = tuple[float | str, ...]
Group = tuple[str, list[int]]


@dataclass(frozen=True)
class Wanted:
    """Which of several volumes: index from 0, echo from 1 in the order of echo times; None: the only one."""

    index: int | None = None
    echo: int | None = None


def one_volume(
    items: Sequence[Item],
    headers: Sequence[Dataset],
    wanted: Wanted,
    path: str | Path,
    notes: list[str],
    *,
    whole: str = "",
) -> list[Item]:
    """The items of the wanted volume, all where there is one. Without a choice several are refused, with a list.

    headers: one an item. whole: what an item is called that holds a whole volume by itself, "" where items are slices.
    Raises InputError.
    """
    chosen = list(range(len(items)))
    if wanted.echo is not None:
        chosen = _of_echo(headers, wanted.echo, path, notes)
    headers = [headers[i] for i in chosen]
    places = [0] * len(chosen) if whole else _places(headers)
    counts = Counter(places or ())
    if max(counts.values(), default=1) == 1:
        if wanted.index not in (None, 0):
            raise InputError(
                path, f"there is no volume {wanted.index}: it holds one", "leave --volume out"
            )
        return [items[i] for i in chosen]
    what, groups = _groups(headers, places or [], path)
    if not groups:
        if wanted.index in (None, 0):
            return [items[i] for i in chosen]  # refused behind, where duplicates are named
        least, most = min(counts.values()), max(counts.values())
        why = f"{least} to {most} images in a place, and no tag tells volumes apart"
        raise InputError(path, why, "give each volume its own folder")
    value, group = groups[_number(what, groups, wanted, path, whole, headers)]
    notes.append(f"volume {wanted.index} of {len(groups)}: {what} {value}")
    if len(group) < len(counts):
        notes.append(f"this volume has images in {len(group)} of the series' {len(counts)} places")
    return [items[chosen[i]] for i in group]


def _number(
    what: str,
    groups: list[Group],
    wanted: Wanted,
    path: str | Path,
    whole: str,
    headers: Sequence[Dataset],
) -> int:
    """The index that was chosen. Raises InputError with the list of volumes."""
    count, index = len(groups), wanted.index
    told = "; ".join(
        f"{k}: {value}" + ("" if whole else f" ({len(group)} images)")
        for k, (value, group) in enumerate(groups[:MOST_TOLD])
    )
    told += "; ..." * (count > MOST_TOLD)
    if index is None:
        held = f"{count} volumes in one series"
        if whole:
            held = f"{count} {whole}, each a whole volume of a time series or of several echoes"
        echoes = len(_echoes(headers)[1])
        todo = f"choose one: --volume 0 to {count - 1}"
        if echoes > 1 and wanted.echo is None:
            todo += f", or --echo 1 to {echoes}" + (" and --volume" if echoes < count else "")
        todo += ", or give one of the files" if whole else ""
        raise InputError(path, f"{held}, told apart by {what} ({told})", todo)
    if not 0 <= index < count:
        raise InputError(path, f"there is no volume {index} of {count}", f"there are {told}")
    return index


def _of_echo(
    headers: Sequence[Dataset], echo: int, path: str | Path, notes: list[str]
) -> list[int]:
    """The numbers of the images of one echo. Raises InputError."""
    what, values = _echoes(headers)
    names = list(values)
    if not 1 <= echo <= len(names):
        told = "; ".join(f"{k + 1}: {_shown(name)}" for k, name in enumerate(names[:MOST_TOLD]))
        why = f"there is no echo {echo} of {len(names)}"
        todo = f"there are, by {what}, {told}" if len(names) > 1 else "leave --echo out"
        raise InputError(path, why, todo)
    if len(names) > 1:
        notes.append(f"echo {echo} of {len(names)}: {what} {_shown(names[echo - 1])}")
    return values[names[echo - 1]]


def _echoes(headers: Sequence[Dataset]) -> tuple[str, dict[float, list[int]]]:
    """What tells echoes apart, and the numbers of the images of each, by rising time or number."""
    values: dict[float, list[int]] = {}
    for tag, what in TOLD_BY[1:3]:
        found: dict[float, list[int]] = defaultdict(list)
        for i, header in enumerate(headers):
            found[_numeric(header, tag)].append(i)
        values = {value: found[value] for value in sorted(found)}
        if len(values) > 1:
            return what, values
    return "echo", values


def _places(headers: Sequence[Dataset]) -> list[int] | None:
    """A number for the place of each image, one for images that lie together; None where a header tells no place."""
    try:
        positions = np.array([h.ImagePositionPatient for h in headers], np.float64)
        cosines = np.array([h.ImageOrientationPatient for h in headers], np.float64)
    except (AttributeError, ValueError, TypeError):
        return None
    if positions.shape[1:] != (3,) or cosines.shape[1:] != (6,):
        return None
    if np.abs(cosines - cosines[0]).max() > _SAME_DIRECTION:
        rounded = np.round(np.hstack([positions, cosines]), 3)
        return [int(k) for k in np.unique(rounded, axis=0, return_inverse=True)[1].ravel()]
    normal = np.cross(cosines[0, :3], cosines[0, 3:])
    if not np.isfinite(positions).all() or not np.linalg.norm(normal) > _PERPENDICULAR:
        return None
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order])
    wide = gaps[gaps > _SAME_PLACE]
    near = max(_SAME_PLACE, _SAME_SHARE * float(np.quantile(wide, 0.9))) if wide.size else np.inf
    places = np.empty(len(headers), int)
    places[order] = np.concatenate([[0], np.cumsum(gaps > near)])
    return [int(k) for k in places]


def _groups(
    headers: Sequence[Dataset], places: Sequence[int], path: str | Path
) -> tuple[str, list[Group]]:
    """What tells the volumes apart, and for each its value and the numbers of its items; no groups where nothing does.

    Raises InputError where the order of the images alone would mix echoes, weightings or kinds of images.
    """
    counts = Counter(places)
    count, told = max(counts.values()), dict(TOLD_BY)
    values = {tag: [_value(header, tag) for header in headers] for tag in told}
    varying = [tag for tag in told if len(set(values[tag])) > 1]
    for size in range(1, MOST_TAGS + 1):
        for tags in combinations(varying, size):
            by_value: dict[Value, list[int]] = defaultdict(list)
            for i, value in enumerate(zip(*(values[tag] for tag in tags), strict=True)):
                by_value[value].append(i)
            once = all(len({places[i] for i in group}) == len(group) for group in by_value.values())
            if len(by_value) == count and once:
                names = [", ".join(map(_shown, value)) for value in sorted(by_value)]
                groups = [by_value[value] for value in sorted(by_value)]
                return " and ".join(told[t] for t in tags), list(zip(names, groups, strict=True))
    if len(set(counts.values())) > 1:
        return "", []
    order = sorted(range(len(headers)), key=lambda i: _numeric(headers[i], "InstanceNumber"))
    seen: Counter[int] = Counter()
    by_order: list[list[int]] = [[] for _ in range(count)]
    for i in order:
        by_order[seen[places[i]]].append(i)
        seen[places[i]] += 1
    for tag in ONE_KIND:
        if any(len({values[tag][i] for i in group}) > 1 for group in by_order):
            why = f"{count} volumes in one series that its tags do not tell apart: by the order of instance numbers"
            raise InputError(
                path, f"{why} each would mix values of {tag}", "give each volume its own folder"
            )
    numbered = [(f"number {k + 1}", group) for k, group in enumerate(by_order)]
    return "the order of instance numbers", numbered


def _value(header: Dataset, tag: str) -> float | str:
    if tag not in TEXTS:
        return round(_numeric(header, tag), 3)
    found = header.get(tag)
    if found is None or isinstance(found, str):
        return found or ""
    return " ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in found)


def _shown(value: float | str) -> str:
    if value == MISSING or value == "":
        return "none"
    return value if isinstance(value, str) else f"{value:g}"


def _numeric(header: Dataset, tag: str) -> float:
    """A tag as a number, `MISSING` where it is none: all such images then fall into one group."""
    try:
        return float(header.get(tag))
    except (TypeError, ValueError):
        return MISSING
