"""What shapes the result of a reconstruction beside its sampler and prior.

Used by everything that plans or runs one: `DrawOptions` whatever is restored, `ReconOptions` of a scan.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Self

from restore.config import check_settings, setting, shared
from restore.datasets.scan import Scan, SetupOptions
from restore.precision import Word
from restore.starts import DRAWN
from restore.time_limit import Clock, TimeLimit

if TYPE_CHECKING:
    from restore.samplers.base import Sampler


@dataclasses.dataclass(frozen=True)
class DrawOptions:
    """What is drawn, and in which numbers. Raises ConfigError for values out of range."""

    samples: int = setting(1, "draws from the posterior, averaged", at_least=1)
    seed: int = setting(0, "of the sampler's noise", between=(-(2**63), 2**63 - 1))
    precision: Word = setting("auto", "of the numbers inside networks; auto: the device's quickest")
    trace: bool = setting(
        False, "record the data misfit after every step, one forward projection each"
    )
    time_limit: float | None = setting(
        None, "seconds after which samplers end with their best estimate so far", above=0
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def limit(self, clock: Clock) -> TimeLimit | None:
        """The time limit, beginning now."""
        return None if self.time_limit is None else TimeLimit.starting(self.time_limit, clock)

    def shaping(self) -> dict[str, Any]:
        """What of them shapes a result, for its fingerprint: what only looks on is left out, no limit is no word."""
        told = dataclasses.asdict(self)
        del told["trace"]
        for name, default in (("time_limit", None), ("trajectory_map", False), ("start", DRAWN)):
            if told.get(name) == default:
                told.pop(name, None)  # as in records that know of none
        return told


@dataclasses.dataclass(frozen=True)
class ReconOptions(SetupOptions, DrawOptions):
    """Everything that shapes the result: how the scan is set up, and what is drawn.

    maps_sets: two sets of coil maps in slices that need them, unless a number is given.
    """

    maps_sets: int = shared(SetupOptions, "maps_sets", 0)
    trajectory_map: bool = setting(
        False, "also give the deviation of each run's last estimates (`restore.trajectory`)"
    )
    start: str = setting(DRAWN, "where the sampler's noise comes from (`restore.starts`)")

    def settled(self, scan: Scan, sampler: Sampler) -> Self:
        """With one set of coil maps for all slices where two in some are not for this scan or sampler."""
        serves = scan.components and sampler.components and not sampler.couples_slices
        if self.maps_sets or (serves and self.start == DRAWN):
            return self
        return dataclasses.replace(self, maps_sets=1)
