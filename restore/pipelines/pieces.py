"""Pieces of a scan as they are reconstructed, and the volume that is put together of them while they come.

Made by `scan_to_volume`; kept across interruptions by `work_folder`. One volume of means, one of deviations and one
piece are held; the samples themselves stay where pieces are kept, and in memory only where nobody keeps any.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from restore.errors import OutputError

MAPS = ("trajectory", "structured")
"""What a piece may have beside its samples, one image a slice."""


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """Slices that were reconstructed together.

    stack: (samples, slices, *image_shape) in the source's units. logs: their names and the last step of every sample.
    curve: with `trace`, [evaluations, misfit] of every step. notes: those of the reconstruction. remarks: what reading
    the slices made the scan note. trajectory: where it was asked for, the trajectory map (slices, *image_shape).
    structured: of samplers that separate it, how the structured noise looks by itself, likewise.
    """

    stack: NDArray[Any]
    logs: list[dict[str, Any]]
    curve: list[list[float]]
    notes: list[str]
    remarks: list[str]
    trajectory: NDArray[Any] | None = None
    structured: NDArray[Any] | None = None

    @property
    def maps(self) -> dict[str, NDArray[Any]]:
        """What there is beside the samples, by name."""
        found = {name: getattr(self, name) for name in MAPS}
        return {name: plane for name, plane in found.items() if plane is not None}


class Kept(Protocol):
    """Where finished pieces are kept across interruptions."""

    def get(self, which: range) -> Piece | None:
        """A piece that was finished earlier, or None."""

    def put(self, which: range, piece: Piece) -> bool:
        """Keep a piece; whether it is there now."""


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """The samples of a volume by their slices: for each piece a function that gives (samples, slices, *image_shape)."""

    pieces: list[tuple[range, Callable[[], NDArray[Any]]]]

    def slices(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """(slice, its samples (samples, *image_shape)), one piece read at a time. Raises OutputError."""
        for which, load in self.pieces:
            stack = load()
            yield from ((index, stack[:, k]) for k, index in enumerate(which))

    def whole(self) -> NDArray[Any]:
        """All of them, (samples, slices, *image_shape). Raises OutputError."""
        return np.concatenate([load() for _, load in self.pieces], axis=1)


class Assembly:
    """A volume that grows by pieces.

    mean, std: (slices, *image_shape); std of several samples, else None. maps: likewise, those of `MAPS` that pieces
    have.
    drawn: these samples, or None. logs, curves ([slices of a piece, its curve]), notes: of all pieces in the order of
    the slices.
    """

    def __init__(self, shape: tuple[int, int, int], samples: int, kept: Kept | None) -> None:
        self.mean: NDArray[Any] = np.empty(shape, np.float32)
        self.std: NDArray[Any] | None = np.empty(shape, np.float32) if samples > 1 else None
        self.maps: dict[str, NDArray[Any]] = {}
        self.drawn = Drawn([]) if samples > 1 else None
        self.logs: list[dict[str, Any]] = []
        self.curves: list[tuple[int, list[list[float]]]] = []
        self.notes: dict[str, None] = {}
        self._kept = kept

    def add(self, which: range, piece: Piece, lies: bool) -> None:
        """Put a piece in its place. lies: whether it is kept, and can be read again."""
        place = slice(which.start, which.stop)
        self.mean[place] = piece.stack.mean(0)
        if self.std is not None and self.drawn is not None:
            self.std[place] = piece.stack.std(0, ddof=1)
            stack = piece.stack
            load = self._again(which) if lies else lambda: stack
            self.drawn.pieces.append((which, load))
        for name, plane in piece.maps.items():
            self.maps.setdefault(name, np.empty_like(self.mean))[place] = plane
        self.logs.extend(piece.logs)
        if piece.curve:
            self.curves.append((len(which), piece.curve))
        self.notes |= dict.fromkeys(piece.notes)

    def _again(self, which: range) -> Callable[[], NDArray[Any]]:
        def load() -> NDArray[Any]:
            found = None if self._kept is None else self._kept.get(which)
            if found is None:
                raise OutputError(
                    f"the finished slices {which.start} to {which.stop - 1} are no longer in the folder of the "
                    "unfinished work; give the same command again"
                )
            return found.stack

        return load
