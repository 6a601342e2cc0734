"""What a target of the fuzzing is, and two readers with a planted fault, which the runner has to find.

Nothing heavy is imported: a child that goes on after the planted crash need not load every reader again.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fuzz.mutators import Mutator


@dataclasses.dataclass(frozen=True)
class Target:
    """make: writes what is read into an empty folder and returns the file that is damaged; the others stay sound.

    read: what a user would do with it, values included, given the folder and the damaged file. mutators: one is drawn
    for each mutant.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    mutators: tuple[Mutator, ...]


def _fault(path: Path) -> None:
    if path.read_bytes() != b"sound":
        raise KeyError(path.name)


def _crash(path: Path) -> None:
    if path.read_bytes() != b"sound":
        os._exit(9)


def _plain(folder: Path) -> Path:
    (folder / "a").write_bytes(b"sound")
    return folder / "a"


def _other(content: bytes, rng: np.random.Generator) -> bytes:
    return b"not so" if rng.random() < 0.9 else content


def _seldom(content: bytes, rng: np.random.Generator) -> bytes:
    return b"not so" if rng.random() < 0.5 else content


PLANTED = (
    Target("planted-fault", _plain, _fault, (_other,)),
    Target("planted-crash", _plain, _crash, (_seldom,)),
)
"""Run by name only."""
