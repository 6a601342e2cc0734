"""The coded bits of a JPEG scan, followed code by code for what cannot be: no pixels are made (ITU-T T.81, F.2, G.2).

Called by `jpeg_damage`. Compiled by numba, as a photograph has millions of codes. Each function follows one segment
(what lies between two restarts) and returns the fault found, the MCU where it showed, and the bits left over.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

SOUND, NO_CODE, TOO_SHORT, TOO_MANY, TOO_LARGE, TOO_LONG = range(6)
"""Faults: bits that are no code; fewer bits than the blocks need; more than 64 numbers in a block; a number that no
pixels have; a run of blocks that goes on behind the last one."""

MARGIN = 512
"""Zero bytes to be put behind the data: what one block reads at most beyond its segment."""

_compiled = njit(nogil=True, cache=True, error_model="numpy")


@_compiled
def _peek(data: NDArray[np.uint8], at: int) -> Any:
    """The 16 bits from bit `at` on."""
    i = at >> 3
    word = (np.int64(data[i]) << 16) | (np.int64(data[i + 1]) << 8) | np.int64(data[i + 2])
    return (word >> (8 - (at & 7))) & 0xFFFF


@_compiled
def _number(data: NDArray[np.uint8], at: int, size: int) -> Any:
    """The signed number of `size` bits (1 to 15) from bit `at` on."""
    bits = _peek(data, at) >> (16 - size)
    return bits if bits >> (size - 1) else bits - (1 << size) + 1


@_compiled
def sequential(
    data: NDArray[np.uint8], at: int, end: int, mcus: int, colours: NDArray[np.int64], dc: NDArray[np.uint16],
    ac: NDArray[np.uint16], most: NDArray[np.int64], last: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Whole blocks, or their means alone (last = 0, a progressive file's first pass).

    data: unstuffed; at, end: bits. colours: (blocks of an MCU,) which row of dc, ac and most each has. most: (colours,
    64) the largest size of each number.
    """
    means = np.zeros(len(dc), np.int64)
    for mcu in range(mcus):
        for c in colours:
            entry: Any = np.int64(dc[c, _peek(data, at)])
            size = entry & 255
            if entry == 0 or size > 15:
                return (NO_CODE if at < end else TOO_SHORT), mcu, 0
            at += entry >> 8
            if size:
                means[c] += _number(data, at, size)
                at += size
            if abs(means[c]) > most[c, 0]:
                return (TOO_LARGE if at <= end else TOO_SHORT), mcu, 0
            k = 1
            while k <= last:
                entry = np.int64(ac[c, _peek(data, at)])
                if entry == 0:
                    return (NO_CODE if at < end else TOO_SHORT), mcu, 0
                at += entry >> 8
                size = entry & 15
                run = (entry >> 4) & 15
                if size == 0:
                    if run < 15:
                        break
                    k += 16
                    continue
                k += run
                if k > last:
                    return (TOO_MANY if at <= end else TOO_SHORT), mcu, 0
                if abs(_number(data, at, size)) > most[c, k]:
                    return (TOO_LARGE if at <= end else TOO_SHORT), mcu, 0
                at += size
                k += 1
            if k > last + 1:
                return (TOO_MANY if at <= end else TOO_SHORT), mcu, 0
            if at > end:
                return TOO_SHORT, mcu, 0
    return SOUND, mcus, end - at


@_compiled
def first_pass(
    data: NDArray[np.uint8], at: int, end: int, blocks: NDArray[np.int64], ac: NDArray[np.uint16],
    most: NDArray[np.int64], first: int, last: int, known: NDArray[np.bool_],
) -> tuple[int, int, int]:  # fmt: skip
    """A progressive file's first pass over numbers `first` to `last` of one colour (G.1.2.2).

    blocks: which rows of known (all blocks, 64) the segment holds, one an MCU; numbers that are not zero are marked.
    """
    empty = 0
    for i, block in enumerate(blocks):
        if empty:
            empty -= 1
            continue
        k = first
        while k <= last:
            entry: Any = np.int64(ac[_peek(data, at)])
            if entry == 0:
                return (NO_CODE if at < end else TOO_SHORT), i, 0
            at += entry >> 8
            size = entry & 15
            run = (entry >> 4) & 15
            if size == 0:
                if run < 15:
                    empty = (1 << run) - 1
                    if run:
                        empty += _peek(data, at) >> (16 - run)
                        at += run
                    break
                k += 16
                continue
            k += run
            if k > last:
                return (TOO_MANY if at <= end else TOO_SHORT), i, 0
            if abs(_number(data, at, size)) > most[k]:
                return (TOO_LARGE if at <= end else TOO_SHORT), i, 0
            at += size
            known[block, k] = True
            k += 1
        if k > last + 1:
            return (TOO_MANY if at <= end else TOO_SHORT), i, 0
        if at > end:
            return TOO_SHORT, i, 0
    return (TOO_LONG if empty else SOUND), len(blocks), end - at


@_compiled
def refinement(
    data: NDArray[np.uint8], at: int, end: int, blocks: NDArray[np.int64], ac: NDArray[np.uint16],
    first: int, last: int, known: NDArray[np.bool_],
) -> tuple[int, int, int]:  # fmt: skip
    """A later pass that gives numbers one bit more (G.1.2.3): those known take a bit each, new ones have a code."""
    empty = 0
    for i, block in enumerate(blocks):
        k = first
        while not empty and k <= last:
            entry: Any = np.int64(ac[_peek(data, at)])
            if entry == 0:
                return (NO_CODE if at < end else TOO_SHORT), i, 0
            at += entry >> 8
            size = entry & 15
            run = (entry >> 4) & 15
            if size > 1:
                return NO_CODE, i, 0
            if size == 0 and run < 15:
                empty = 1 << run
                if run:
                    empty += _peek(data, at) >> (16 - run)
                    at += run
                break
            at += size
            while k <= last and (known[block, k] or run):
                if known[block, k]:
                    at += 1
                else:
                    run -= 1
                k += 1
            if k > last:
                if size or run:
                    return (TOO_MANY if at <= end else TOO_SHORT), i, 0
                break
            if size:
                known[block, k] = True
            k += 1
        if empty:
            for j in range(k, last + 1):
                at += known[block, j]
            empty -= 1
        if at > end:
            return TOO_SHORT, i, 0
    return (TOO_LONG if empty else SOUND), len(blocks), end - at
