"""Chosen starts as a table of the terminal: what `restore bench starts` found, and `restore list starts`.

Used by those two alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from restore.cli import console

if TYPE_CHECKING:
    from restore.starts import Entry

HEADS = (
    "sampler", "prior", "for", "start", "of", "images", "PSNR", "mean", "deviation", "gain left out"
)  # fmt: skip


def row(entry: Entry) -> dict[str, str]:
    """What the table shows of one start, by its heads."""
    found = entry.found
    gain = found.get("left_out_gain")
    told = (
        entry.method.sampler, entry.method.prior, entry.words, entry.start.text, found.get("candidates", "-"),
        found.get("images", "-"), found.get("psnr", "-"), found.get("mean_psnr", "-"), found.get("deviation", "-"),
        "-" if gain is None else f"{gain:+.3f} dB",
    )  # fmt: skip
    return dict(zip(HEADS, map(str, told), strict=True))


def show_starts(entries: Sequence[Entry]) -> None:
    """Print one line a start."""
    console.table([HEADS, *(tuple(row(entry).values()) for entry in entries)])
