"""Which part of a list one of several processes takes: `K/N`, or what the array job of a cluster says.

Used by every verb with `--part`. Part K of N takes every N-th entry from the K-th, so that parts differ by one entry at
most and need nothing of each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeVar

from restore.errors import ConfigError

SLURM = "SLURM_ARRAY_TASK_"
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Part:
    """Part k of n, 1 <= k <= n. Raises ConfigError for others."""

    k: int = 1
    n: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n:
            raise ConfigError(f"a part is K/N with 1 <= K <= N, got {self.k}/{self.n}")

    def of(self, entries: Sequence[T]) -> list[T]:
        """The entries of this part, in their order."""
        return list(entries[self.k - 1 :: self.n])

    @property
    def suffix(self) -> str:
        """For the names of files that each part writes for itself: "-2-of-8", "" for the whole."""
        return "" if self.n == 1 else f"-{self.k}-of-{self.n}"

    def __str__(self) -> str:
        return f"{self.k}/{self.n}"


def parse_part(text: str) -> Part:
    """A part written K/N. Raises ConfigError."""
    k, _, n = text.partition("/")
    if not (k.isascii() and k.isdigit() and n.isascii() and n.isdigit()):
        raise ConfigError(f"--part is written K/N, such as 2/8, got '{text}'")
    return Part(int(k), int(n))


def part_of_array(environment: Mapping[str, str]) -> Part | None:
    """The part that Slurm's array job gives this task, None outside of one.

    Raises ConfigError for tasks whose numbers are not evenly spaced: then K cannot be told.
    """
    told = {
        name: environment.get(f"{SLURM}{name}", "")
        for name in ("ID", "MIN", "MAX", "STEP", "COUNT")
    }
    if not told["ID"]:
        return None
    try:
        task, first, count = (int(told[name]) for name in ("ID", "MIN", "COUNT"))
        step = int(told["STEP"] or 1)
        last = int(told["MAX"] or first + (count - 1) * step)
    except ValueError as cause:
        raise ConfigError(f"{SLURM}... are no numbers ({told}); give --part K/N") from cause
    if step < 1 or last != first + (count - 1) * step or (task - first) % step:
        raise ConfigError(
            f"the {count} tasks of this array job, {first} to {last}, are not evenly spaced, so that the part of task "
            f"{task} is not known; give --part K/N"
        )
    return Part((task - first) // step + 1, count)
