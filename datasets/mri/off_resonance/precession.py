"""Spins of a scan that precess at other frequencies than the scanner's: their map, the times of samples, the operator.

Made by `field_map`; asked by the set-up of scans. torch is imported where an operator is asked for, not before.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from restore.datasets.scan import Scan, Setup, SetupOptions
from restore.errors import ConfigError

if TYPE_CHECKING:
    from restore.operators.base import LinearOperator
    from restore.operators.mri.time_segments import TimeSegments
    from restore.problem import Problem

OTHER_SIGN = 0.9
"""Of the residual with the map as it is, that with the other sign, below which the data speak for the other. Equal
where samples are so few that either explains them; 0.3 and less where they are not."""


@dataclasses.dataclass(frozen=True, eq=False)
class Precession:
    """field_hz: float32 (slices, H, W) of all slices or of the volume, the frequency above the scanner's. times_s:
    float64, when samples were taken, from the centre of k-space on, broadcastable to those of a coil. source: of the
    map.

    The segments are those of the whole map, so that a slice comes out the same whatever others it is computed with.
    """

    field_hz: NDArray[np.float32]
    times_s: NDArray[np.float64]
    source: Path

    @cached_property
    def segments(self) -> TimeSegments:
        """How the precession is interpolated in time. Raises ConfigError."""
        import torch

        from restore.operators.mri.time_segments import segments_of

        return segments_of(torch.from_numpy(self.field_hz), torch.from_numpy(self.times_s))

    def around(self, encoding: LinearOperator, which: range) -> LinearOperator:
        """An encoding of the slices `which`, or of the volume that they are, with the precession."""
        import torch

        from restore.operators.mri.time_segments import OffResonance

        field = torch.from_numpy(self.field_hz[which.start : which.stop])
        return OffResonance(encoding, field, self.segments.stops, self.segments.weights)

    def check(self, path: Path, options: SetupOptions) -> None:
        """Raise ConfigError for options that a field map does not go with. path: of the scan."""
        others = {
            "--partial-fourier real": options.partial_fourier != "none",
            "--maps-sets 2": options.maps_sets > 1,
            "--maps joint": options.maps == "joint",
        }
        for words in (words for words, chosen in others.items() if chosen):
            raise ConfigError(
                f"{path}: {words} does not go with --field-map; leave out one of the two"
            )

    def held(self, slices: int) -> dict[str, int]:
        """Bytes of what the operator of so many slices holds beside its encoding."""
        pixels = slices * self.field_hz[0].size
        count = 8 * len(self.segments.stops) * (pixels + self.times_s.size)
        return {"time segments of the field map": count}

    def look(self, scan: Scan, setup: Setup) -> None:
        """Note what speaks against the map in the middle slice, or in the volume."""
        import torch

        middle = scan.n_slices // 2
        said = self.doubt(setup.problem(range(middle, middle + 1), torch.device("cpu")))
        if said and said not in scan.notes:
            scan.notes.append(said)

    def doubt(self, problem: Problem) -> str:
        """What to say where the data of some slices are explained better by the map with its sign turned; else "".

        problem: with this precession.
        """
        from restore.operators.mri.time_segments import OffResonance

        operator, y = problem.operator, problem.unit_y
        if not isinstance(operator, OffResonance):
            return ""
        turned = dataclasses.replace(
            operator, field_hz=-operator.field_hz, weights=operator.weights.conj()
        )
        pair = (operator, turned)
        left = [float((one(one.pinv(y)) - y).abs().square().sum()) ** 0.5 for one in pair]
        if left[1] >= OTHER_SIGN * left[0]:
            return ""
        return (
            f"the field map {self.source.name} with its sign turned leaves {left[1] / left[0]:.2g} of what it leaves "
            "of the data as it is: is its sign right (the frequency of the spins above the scanner's)?"
        )
