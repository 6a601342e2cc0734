"""The contract of a protocol: which volumes, which settings, and the case that a pair of them makes.

One file a protocol: `fastmri` (fastmri-volume), `inversebench` (inversebench-mri), `ct` (ct-sparse-view), `images`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

from restore.bench.case import Case
from restore.datasets.content_hash import sha256_of
from restore.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Setting:
    """One column of difficulty: a name that can stand in a path ("4x", "views-30"), and its values by name."""

    name: str
    values: dict[str, Any]


class Protocol(ABC):
    """A rule for measuring, reconstructing and scoring a folder of data.

    `default_samplers`: what is compared if nothing is said, the classical baselines always among it. `default_prior`:
    the bundled prior of each kind.
    `headline`: the figures of the table in their order. `average_over`: what the table's means are over, "volumes" or
    "slices" (then a volume counts as often as it has slices).
    """

    name: ClassVar[str]
    default_samplers: ClassVar[str]
    default_prior: ClassVar[dict[str, str]]
    headline: ClassVar[tuple[str, ...]] = ("psnr", "ssim", "nmse")
    average_over: ClassVar[str] = "volumes"

    @abstractmethod
    def volumes(self) -> dict[str, Path]:
        """Names and files in their order. Raises NotFoundError, InputError."""

    @abstractmethod
    def settings(self) -> tuple[Setting, ...]:
        """The settings, each of which every volume is measured under."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Every option that shapes the figures of one volume under one setting: part of the record and of the keys of
        the rows. Which volumes and which settings were chosen is not among them, so that a run can grow."""

    @abstractmethod
    def open(self, volume: str, setting: Setting, run: Path) -> Case | None:
        """The case of a pair; None where the volume does not take part in this setting (a test file of another
        acceleration). run: the run's folder, for caches. Raises InputError."""

    def mark(self, path: Path) -> str:
        """A hash of the content that a volume's rows depend on: by default of its own file. Raises InputError."""
        return sha256_of(path)

    def close(self, volume: str, setting: Setting, run: Path) -> None:
        """Called when all methods of a case are done: caches may go."""
        return


def hash_of(values: dict[str, Any]) -> str:
    """A hash of named plain values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def selected(
    found: Mapping[str, Path], exclude: Collection[str], limit: int | None
) -> dict[str, Path]:
    """The first `limit` of those that are not excluded by name or pattern. Raises ConfigError where none is left."""
    kept = [n for n in found if not any(n == p or fnmatchcase(n, p) for p in exclude)]
    if not kept:
        raise ConfigError(f"all {len(found)} volumes are excluded; nothing is left to measure")
    return {name: found[name] for name in kept[:limit]}


def item_seed(seed: int, name: str) -> int:
    """The seed of one volume or photograph, 32 bits: the same whatever others are measured."""
    return int(hash_of({"seed": seed, "name": name})[:8], 16)
