"""One volume out of a DICOM series that holds several: time points, echoes, diffusion weightings.

May be called by the DICOM reader. Works on headers in memory. A series holds several volumes where more than one image
lies in a place; they are told apart by the first tag that puts every place into each group once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydicom.dataset import Dataset

from restore.errors import InputError

TOLD_BY = (
    ("TemporalPositionIdentifier", "time point"),
    ("EchoTime", "echo time in ms"),
    ("EchoNumbers", "echo"),
    ("DiffusionBValue", "b-value"),
    ("TriggerTime", "trigger time in ms"),
    ("AcquisitionNumber", "acquisition"),
    ("AcquisitionTime", "time of acquisition"),
)
"""Asked in this order."""

_DECIMALS = 3  # of positions in mm: nearer images lie in one place

Item = TypeVar("Item")
Place = tuple[float, ...]


def one_volume(
    items: Sequence[Item],
    headers: Sequence[Dataset],
    index: int | None,
    path: str | Path,
    notes: list[str],
) -> list[Item]:
    """The items of volume `index`, all where there is one. Without a choice several are refused, with a list of them.

    headers: one an item. Raises InputError.
    """
    places: list[Place] = [
        tuple(round(float(v), _DECIMALS) for v in h.get("ImagePositionPatient") or ())
        for h in headers
    ]
    counts = set(Counter(places).values())
    if len(counts) != 1 or () in places or counts == {1}:
        if index not in (None, 0):
            raise InputError(
                path, f"there is no volume {index}: it holds one", "leave --volume out"
            )
        return list(items)
    count = counts.pop()
    what, groups = _groups(headers, places, count)
    told = "; ".join(
        f"{k}: {value} ({len(group)} images)" for k, (value, group) in enumerate(groups[:30])
    )
    if index is None:
        why = f"{count} volumes in one series, told apart by {what} ({told})"
        raise InputError(path, why, f"choose one: --volume 0 to {count - 1}")
    if not 0 <= index < count:
        raise InputError(path, f"there is no volume {index} of {count}", f"there are {told}")
    value, group = groups[index]
    notes.append(f"volume {index} of {count}: {what} {value}")
    return [items[i] for i in group]


def _groups(
    headers: Sequence[Dataset], places: Sequence[Place], count: int
) -> tuple[str, list[tuple[str, list[int]]]]:
    """What tells the volumes apart, and for each its value and the numbers of its items."""
    for tag, what in TOLD_BY:
        by_value: dict[float, list[int]] = defaultdict(list)
        for i, header in enumerate(headers):
            by_value[_number(header, tag)].append(i)
        whole = all(
            len({places[i] for i in group}) == len(group) == len(places) // count
            for group in by_value.values()
        )
        if len(by_value) == count and whole:
            return what, [(f"{value:g}", by_value[value]) for value in sorted(by_value)]
    order = sorted(range(len(headers)), key=lambda i: _number(headers[i], "InstanceNumber"))
    seen: Counter[Place] = Counter()
    groups: list[list[int]] = [[] for _ in range(count)]
    for i in order:
        groups[seen[places[i]]].append(i)
        seen[places[i]] += 1
    return "the order of instance numbers", [(f"number {k + 1}", g) for k, g in enumerate(groups)]


def _number(header: Dataset, tag: str) -> float:
    """A tag as a number, -1 where it is none: all such images then fall into one group."""
    try:
        return float(header.get(tag))
    except (TypeError, ValueError):
        return -1.0
