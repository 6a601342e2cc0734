"""Siemens raw data (twix, .dat) as it lies in the file: measurements, their protocol text, and the records of readouts.

May be called by the reader of such files; touches the one file it is given. Two layouts are known: VB (one measurement,
a record before every channel's samples) and VD, VE and later (up to 64 measurements, a record before each readout and a
short one before every channel). Every length is held against the file before it is followed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.budget import check_budget
from restore.errors import InputError

MOST_MEASUREMENTS = 64
ENTRY, FIRST_ENTRY = 152, 8
"""Bytes of a measurement in the list at the head of a VD file, and where that begins."""

SHORTEST_HEADER, LONGEST_HEADER = 32, 1 << 25

END, SYNC = 1 << 0, 1 << 5
"""Flags of the record after the last readout, and of one that holds no samples but the scanner's own data."""

LENGTH = (1 << 25) - 1
"""Bits of a record's length in bytes."""

COUNTERS = (
    "line",
    "average",
    "slice",
    "partition",
    "contrast",
    "phase",
    "repetition",
    "set",
    "segment",
)

_COUNTED = [*((name, "<u2") for name in COUNTERS), ("ice", "<u2", (5,)), ("cut", "<u2", (2,))]
_BEGIN = [
    ("length", "<u4"), ("uid", "<i4"), ("counter", "<u4"), ("time", "<u4"), ("pmu_time", "<u4"),
]  # fmt: skip
_MIDDLE = [
    ("flags", "<u8"), ("samples", "<u2"), ("channels", "<u2"), *_COUNTED, ("centre_column", "<u2"), ("coil", "<u2"),
    ("off_centre", "<f4"), ("since_rf", "<u4"), ("centre_line", "<u2"), ("centre_partition", "<u2"),
]  # fmt: skip
_PLACE = [("position", "<f4", (3,)), ("quaternion", "<f4", (4,))]

VB = np.dtype(
    [*_BEGIN, *_MIDDLE, ("free", "<u2", (8,)), *_PLACE, ("channel", "<u2"), ("table", "<u2")]
)
VD = np.dtype([
    *_BEGIN, ("system", "<u2"), ("delay", "<u2"), ("table", "<i4", (3,)), ("reserved", "<i4"), *_MIDDLE, *_PLACE,
    ("free", "<u2", (28,)), ("application", "<u2", (2,)), ("crc", "<u4"),
])  # fmt: skip
CHANNEL = 32
"""Bytes before the samples of a channel in VD."""


@dataclasses.dataclass(frozen=True, eq=False)
class Readouts:
    """records: (n,) of VB or VD, of image, noise and other readouts, none of END or SYNC. data: each complex64
    (channels, samples). protocol: the text before them. complete: whether the last one is followed by END."""

    records: NDArray[Any]
    data: list[NDArray[np.complex64]]
    protocol: str
    complete: bool


def is_twix(head: bytes) -> bool:
    """Whether a file of this name's end begins as VD (zero or a version below 10000, how many measurements) or VB (the
    length of the header, a few kilobytes or more)."""
    if len(head) < FIRST_ENTRY:
        return False
    first, second = _words(head)
    return _is_vd(first, second) or (
        SHORTEST_HEADER <= first < LONGEST_HEADER and second < MOST_MEASUREMENTS
    )


def measurements(path: Path) -> list[tuple[int, int]]:
    """Where each measurement begins and ends. Raises InputError."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(FIRST_ENTRY + ENTRY * MOST_MEASUREMENTS)
    first, second = _words(head)
    if not _is_vd(first, second):
        return [(0, size)]
    found = []
    for k in range(second):
        entry = head[FIRST_ENTRY + ENTRY * k : FIRST_ENTRY + ENTRY * (k + 1)]
        start, length = (int.from_bytes(entry[i : i + 8], "little") for i in (8, 16))
        end = size if length == 0 and second == 1 else start + length
        if len(entry) < ENTRY or not FIRST_ENTRY <= start < end <= size:
            raise InputError(
                path, f"measurement {k} of {second} lies from byte {start} to {end}, the file has {size}",
                "it is cut: copy it again from the scanner",
            )  # fmt: skip
        found.append((start, end))
    return found


def read_readouts(path: Path, extent: tuple[int, int]) -> Readouts:
    """All readouts of a measurement, in memory. Raises InputError."""
    start, end = extent
    check_budget(2 * (end - start), path)
    with path.open("rb") as stream:
        is_vd = _is_vd(*_words(stream.read(FIRST_ENTRY)))
        stream.seek(start)
        content = stream.read(end - start)
    header = int.from_bytes(content[:4], "little")
    kind, per_channel = (VD, CHANNEL) if is_vd else (VB, VB.itemsize)
    before = kind.itemsize if is_vd else 0
    if not SHORTEST_HEADER <= header < len(content):
        raise InputError(
            path, f"its protocol has {header} bytes of {len(content)}", "the file is damaged"
        )
    records, data, at, complete = [], [], header, False
    while at + kind.itemsize <= len(content):
        record = np.frombuffer(content, kind, 1, at)[0]
        flags, length = int(record["flags"]), int(record["length"]) & LENGTH
        if flags & END:
            complete = True
            break
        if flags & SYNC:
            at += max(length, kind.itemsize)
            continue
        channels, samples = int(record["channels"]), int(record["samples"])
        size = before + channels * (per_channel + 8 * samples)
        if not channels or not samples or at + size > len(content):
            break
        block = np.frombuffer(content, np.uint8, size - before, at + before).reshape(channels, -1)
        data.append(np.ascontiguousarray(block[:, per_channel:]).view(np.complex64))
        records.append(record)
        at += size
    protocol = content[:header].decode("latin-1")
    return Readouts(np.array(records, kind), data, protocol, complete)


def _words(head: bytes) -> tuple[int, int]:
    return int.from_bytes(head[:4], "little"), int.from_bytes(head[4:8], "little")


def _is_vd(first: int, second: int) -> bool:
    return first < 10000 and 1 <= second <= MOST_MEASUREMENTS
