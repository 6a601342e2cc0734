"""The parts of a JPEG file (ITU-T T.81): its frame, its tables, and its scans with the coded bytes that belong to them.

Called by `jpeg_damage`. Markers alone are looked at here; what the coded bits say is `jpeg_codes`' work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

HUFFMAN_FRAMES = {0xC0: False, 0xC1: False, 0xC2: True}
"""Markers of frames in Huffman codes: whether they are progressive."""
ARITHMETIC_FRAMES = (0xC9, 0xCA)
_TABLES, _QUANTISATION, _RESTARTS, _SCAN, _END = 0xC4, 0xDB, 0xDD, 0xDA, 0xD9
_ALONE = {0x01, 0xD8, *range(0xD0, 0xD8)}
"""Markers without a length behind them."""
_PEEK = 16


class UnknownLayout(Exception):
    """What stands in the file is not what T.81 says, or no Huffman code: nothing can be said of its data."""


@dataclasses.dataclass(frozen=True)
class Component:
    """One colour. across, down: its sampling factors. steps: number of its quantisation table."""

    number: int
    across: int
    down: int
    steps: int


@dataclasses.dataclass(frozen=True)
class Frame:
    """Size in pixels, the colours, and whether they come in several passes (progressive)."""

    width: int
    height: int
    components: tuple[Component, ...]
    progressive: bool

    @property
    def across(self) -> int:
        """The largest sampling factor along rows."""
        return max(c.across for c in self.components)

    @property
    def down(self) -> int:
        """The largest sampling factor along columns."""
        return max(c.down for c in self.components)


@dataclasses.dataclass(frozen=True, eq=False)
class Scan:
    """One pass over the picture.

    which: indices of its colours in the frame. dc, ac: (colours, 65536) uint16, the code at the head of 16 bits as
    length << 8 | symbol, 0 where there is none. steps: (colours, 64) quantisation steps in the order of the codes.
    first, last: of the 64 numbers of a block; high, low: successive approximation. interval: MCUs between restarts, 0
    for none. data: coded bytes, unstuffed and without restart markers. starts: (segments + 1,) where each begins.
    restarts: the numbers of the restart markers between them. skipped: bytes before it that belong to nothing.
    """

    which: tuple[int, ...]
    dc: NDArray[np.uint16]
    ac: NDArray[np.uint16]
    steps: NDArray[np.int64]
    first: int
    last: int
    high: int
    low: int
    interval: int
    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    restarts: NDArray[np.uint8]
    skipped: int


def parts(content: bytes) -> Iterator[Frame | Scan]:
    """The frame, then every scan of the first picture of a file. Raises UnknownLayout."""
    reader = _Reader(content)
    try:
        yield from reader.parts()
    except (IndexError, ValueError, KeyError, StopIteration) as cause:
        raise UnknownLayout("its headers are incomplete") from cause


class _Reader:
    """A walk along the markers, with the tables as they are at that place."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.bytes = np.frombuffer(content, np.uint8)
        followed = np.flatnonzero(self.bytes[:-1] == 0xFF)
        self.markers = followed[~np.isin(self.bytes[followed + 1], (0x00, 0xFF))]
        self.codes: dict[int, NDArray[np.uint16]] = {}
        self.steps: dict[int, NDArray[np.int64]] = {}
        self.interval = self.skipped = 0

    def parts(self) -> Iterator[Frame | Scan]:
        at, frame = 2, None
        while at + 4 <= len(self.content):
            found = int(np.searchsorted(self.markers, at))
            if found == len(self.markers):
                return
            place = int(self.markers[found])
            self.skipped += int((self.bytes[at:place] != 0xFF).sum())  # 0xFF fills up
            marker, at = self.content[place + 1], place + 2
            if marker == _END:
                return
            if marker in _ALONE:
                continue
            body = self.content[at + 2 : at + int.from_bytes(self.content[at : at + 2], "big")]
            at += 2 + len(body)
            if marker in HUFFMAN_FRAMES or marker in ARITHMETIC_FRAMES:
                frame = _frame(marker, body)
                yield frame
            elif marker == _SCAN:
                if frame is None:
                    raise UnknownLayout("a scan stands before the frame")
                at, scan = self._scan(frame, body, at)
                yield scan
            else:
                self._table(marker, body)

    def _table(self, marker: int, body: bytes) -> None:
        if marker == _RESTARTS:
            self.interval = int.from_bytes(body[:2], "big")
        while marker == _TABLES and body:
            counts = np.frombuffer(body[1:17], np.uint8).astype(np.int64)
            end = 17 + int(counts.sum())
            self.codes[body[0]] = _code_table(counts, np.frombuffer(body[17:end], np.uint8))
            body = body[end:]
        while marker == _QUANTISATION and body:
            kind = ">u2" if body[0] >> 4 else "u1"
            end = 1 + 64 * np.dtype(kind).itemsize
            self.steps[body[0] & 15] = np.frombuffer(body[1:end], kind).astype(np.int64)
            body = body[end:]

    def _scan(self, frame: Frame, body: bytes, at: int) -> tuple[int, Scan]:
        """Where the next marker stands, and the scan whose header `body` is and whose data begin at `at`."""
        numbers = [c.number for c in frame.components]
        count = body[0]
        which = tuple(numbers.index(body[1 + 2 * i]) for i in range(count))
        chosen = [body[2 + 2 * i] for i in range(count)]
        first, last, approximation = body[1 + 2 * count : 4 + 2 * count]
        if not frame.progressive:
            first, last, approximation = 0, 63, 0
        elif (
            not ((0 < first <= last <= 63 and count == 1) or first == last == 0)
            or approximation & 15 > 13
        ):
            raise UnknownLayout("a pass is none that the standard knows")
        none = np.zeros(1, np.uint16)
        wants_dc = first == 0 and approximation >> 4 == 0
        dc = [self.codes[c >> 4] if wants_dc else none for c in chosen]
        ac = [self.codes[16 | c & 15] if last else none for c in chosen]
        end, data, starts, restarts = self._data(at)
        skipped, self.skipped = self.skipped, 0
        return end, Scan(
            which, np.stack(dc), np.stack(ac),
            np.stack([self.steps[frame.components[i].steps] for i in which]),
            first, last, approximation >> 4, approximation & 15, self.interval, data, starts, restarts, skipped,
        )  # fmt: skip

    def _data(self, at: int) -> tuple[int, NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8]]:
        """Where the data that begin at `at` end, the data, the starts of their segments, the markers between."""
        later = self.markers[np.searchsorted(self.markers, at) :]
        kinds = self.bytes[later + 1]
        others = np.flatnonzero((kinds < 0xD0) | (kinds > 0xD7))
        count = int(others[0]) if len(others) else len(later)
        end = int(later[count]) if len(others) else len(self.content)
        places, kinds = later[:count] - at, kinds[:count]
        coded = self.bytes[at:end]
        full = coded == 0xFF
        # Of several 0xFF the last one counts, before a zero as a byte of data, before a marker not even that.
        kept = ~(full & np.append(full[1:], len(others) > 0))
        kept[1:] &= ~((coded[1:] == 0) & full[:-1])
        kept[places] = kept[places + 1] = False
        before = np.append(0, np.cumsum(kept))
        starts = np.concatenate([[0], before[places], before[-1:]])
        return end, coded[kept], starts.astype(np.int64), kinds - np.uint8(0xD0)


def _frame(marker: int, body: bytes) -> Frame:
    if marker in ARITHMETIC_FRAMES:
        raise UnknownLayout("it is in arithmetic code")
    height, width, count = (
        int.from_bytes(body[1:3], "big"),
        int.from_bytes(body[3:5], "big"),
        body[5],
    )
    components = []
    for i in range(count):
        number, factors, steps = body[6 + 3 * i : 9 + 3 * i]
        if not 1 <= factors >> 4 <= 4 or not 1 <= factors & 15 <= 4:
            raise UnknownLayout("its sampling factors are none")
        components.append(Component(number, factors >> 4, factors & 15, steps))
    if not (height and width and components):
        raise UnknownLayout("its header gives no size")
    return Frame(width, height, tuple(components), HUFFMAN_FRAMES[marker])


def _code_table(counts: NDArray[np.int64], symbols: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Length << 8 | symbol for every 16 bits; 0 where no code begins so (T.81, annex C)."""
    lengths = np.repeat(np.arange(1, _PEEK + 1), counts)
    spans = 2 ** (_PEEK - lengths)
    if len(symbols) != len(lengths) or spans.sum() > 2**_PEEK:
        raise UnknownLayout("a table of codes is none")
    table = np.zeros(2**_PEEK, np.uint16)
    table[: spans.sum()] = np.repeat((lengths << 8 | symbols).astype(np.uint16), spans)
    return table
