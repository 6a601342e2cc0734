"""Whether the coded data of a JPEG file are whole: bit errors, an early end, missing restart markers.

libjpeg shows what it can of a damaged file, grey or shifted, and Pillow hands on none of its warnings. Here each scan
is followed code by code. Told are: bits that are no code, blocks with too many numbers, numbers that no pixels of 8
bits have, data that end before the last block or go on behind it, restart markers that are missing or out of turn,
colours that are never coded. A flipped bit that only changes a number to another possible one is not told by these.

Called by `jpeg`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.picture import jpeg_codes as codes
from restore.datasets.picture.jpeg_parts import Frame, Scan, UnknownLayout, parts
from restore.errors import InputError

LARGEST = 1024, 1280
"""Of a block's mean and of its other 63 numbers, times their steps, before rounding: what 8 bits give, and a quarter
more for encoders that overshoot beside edges on purpose (mozjpeg)."""

_FACTS = {
    codes.NO_CODE: "bits that stand for nothing",
    codes.TOO_SHORT: "its data end early",
    codes.TOO_MANY: "a block with more than 64 numbers",
    codes.TOO_LARGE: "a number that no pixels have",
    codes.TOO_LONG: "a run of blocks longer than the picture",
}
_HINT = "fetch or export it again; a program that shows it can save the part that is left"


@dataclasses.dataclass(frozen=True)
class _Grid:
    """How the blocks of a scan follow each other.

    wide, mcus: MCUs in a row, and in all. colours: (blocks of an MCU,) which colour of the scan each is. rows: pixels
    that an MCU is high. stride: blocks in a row of the whole component, for scans of one colour.
    """

    wide: int
    mcus: int
    colours: NDArray[np.int64]
    rows: int
    stride: int


def notes_of(file: Path, content: bytes) -> tuple[str, ...]:
    """What is odd about the first picture of a JPEG file and may be damage; () for a sound one.

    content: of `file`. Raises InputError where it is damaged, with the fact found and the row where it showed.
    """
    try:
        return tuple(_followed(file, parts(content)))
    except UnknownLayout as cause:
        return (f"whether the file is damaged cannot be told: {cause}",)


def _followed(file: Path, found: Iterator[Frame | Scan]) -> Iterator[str]:
    frame = next((part for part in found if isinstance(part, Frame)), None)
    if frame is None:
        raise UnknownLayout("it has no frame")
    known: dict[int, NDArray[np.bool_]] = {}
    missing = np.full((len(frame.components), 64), 16)  # bits of each number that are still to come
    left = 0
    for scan in found:
        if isinstance(scan, Frame):
            raise UnknownLayout("it has several frames")
        left = max(left, _scan_left(file, frame, scan, known), scan.skipped)
        missing[list(scan.which), scan.first : scan.last + 1] = scan.low
    if (missing[:, 0] == 16).any():
        count = int((missing[:, 0] == 16).sum())
        raise InputError(
            file, f"damaged JPEG: {count} of {len(missing)} colours are not in it", _HINT
        )
    if missing.any():
        yield "the last passes of this progressive JPEG are not in it: fine detail is missing"
    if left:
        yield (
            f"perhaps damaged: {left} bytes are left over behind the last block of the JPEG, as after bit errors: "
            "parts of the picture may be shifted, grey or of another colour"
        )


def _scan_left(file: Path, frame: Frame, scan: Scan, known: dict[int, NDArray[np.bool_]]) -> int:
    """Follow a scan. Returns the most bytes that a segment of it has left over; raises InputError."""
    grid = _grid(frame, scan)
    each = scan.interval or grid.mcus
    wanted = -(-grid.mcus // each)
    starts, turns = scan.starts, scan.restarts
    if len(turns) == wanted and starts[-1] == starts[-2]:  # some close the last segment too
        starts, turns = starts[:-1], turns[:-1]
    data = np.append(scan.data, np.zeros(codes.MARGIN, np.uint8))
    largest = np.append(LARGEST[0], np.full(63, LARGEST[1]))
    most = (largest // np.maximum(scan.steps, 1) + 1 >> scan.low) + 1
    left = 0
    for i in range(wanted):
        if i and (i > len(turns) or turns[i - 1] != (i - 1) % 8):
            fact = f"restart marker {(i - 1) % 8} is missing"
            raise _damaged(file, fact, i * each, frame, grid)
        count = min(each, grid.mcus - i * each)
        end = int(starts[i + 1]) * 8
        fault, mcu, bits = _segment(
            scan, grid, data, most, int(starts[i]) * 8, end, i * each, count, known
        )
        if fault:
            raise _damaged(file, _FACTS[fault], i * each + mcu, frame, grid)
        left = max(left, bits // 8)
    if len(turns) >= wanted:
        why = f"damaged JPEG: {len(turns)} restart markers in its data, where {wanted - 1} are due"
        raise InputError(file, why, _HINT)
    return left


def _damaged(file: Path, fact: str, mcu: int, frame: Frame, grid: _Grid) -> InputError:
    row = min(mcu // grid.wide * grid.rows, frame.height - 1)
    why = f"damaged JPEG: {fact} (found at row {row} of {frame.height}; wrong from there on, or from above)"
    return InputError(file, why, _HINT)


def _segment(
    scan: Scan, grid: _Grid, data: NDArray[np.uint8], most: NDArray[np.int64], at: int, end: int,
    start: int, count: int, known: dict[int, NDArray[np.bool_]],
) -> tuple[int, int, int]:  # fmt: skip
    """Fault, MCU and bits left over of `count` MCUs from MCU `start` on, whose bits are at to end."""
    if scan.first == 0 and scan.high:  # a bit a block
        bits = count * len(grid.colours)
        short = bits > end - at
        return (codes.TOO_SHORT, end - at, 0) if short else (codes.SOUND, count, end - at - bits)
    if scan.first == 0:
        return _ints(
            codes.sequential(data, at, end, count, grid.colours, scan.dc, scan.ac, most, scan.last)
        )
    mcus = np.arange(start, start + count)
    blocks = mcus // grid.wide * grid.stride + mcus % grid.wide
    (colour,) = scan.which
    if colour not in known:
        known[colour] = np.zeros((grid.mcus // grid.wide * grid.stride, 64), np.bool_)
    walk = (scan.first, scan.last, known[colour])
    if scan.high:
        return _ints(codes.refinement(data, at, end, blocks, scan.ac[0], *walk))
    return _ints(codes.first_pass(data, at, end, blocks, scan.ac[0], most[0], *walk))


def _ints(found: tuple[Any, Any, Any]) -> tuple[int, int, int]:
    return int(found[0]), int(found[1]), int(found[2])


def _grid(frame: Frame, scan: Scan) -> _Grid:
    """Several colours come in MCUs of all their blocks, one alone in single blocks, without those that only fill up."""
    if len(scan.which) == 1:
        component = frame.components[scan.which[0]]
        wide = -(-frame.width * component.across // (8 * frame.across))
        high = -(-frame.height * component.down // (8 * frame.down))
        return _Grid(
            wide, wide * high, np.zeros(1, np.int64), 8 * frame.down // component.down, wide
        )
    wide = -(-frame.width // (8 * frame.across))
    high = -(-frame.height // (8 * frame.down))
    blocks = [frame.components[i].across * frame.components[i].down for i in scan.which]
    return _Grid(wide, wide * high, np.repeat(np.arange(len(blocks)), blocks), 8 * frame.down, wide)
