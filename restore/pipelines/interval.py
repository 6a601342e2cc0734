"""The interval of a run with several samples: its factor from a table, or Student's with a note that it is nominal.

Used by the pipelines that write results. An interval that nobody calibrated for these weights, settings and
circumstances says so.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.config import check_settings, setting
from restore.conformal import (
    BLOCK,
    FOREGROUND,
    PLAIN,
    Scale,
    Unit,
    half_width,
    nominal_factor,
)
from restore.datasets.content_hash import sha256_of
from restore.errors import ConfigError, NotFoundError
from restore.method import Method
from restore.pipelines.factors import Circumstances, Entry, bundled_table, find, read_table
from restore.pipelines.pieces import Drawn

CUT_SHORT = " ended by a time limit"
"""Behind the weights' mark of such runs, which no table was measured with."""
OFF, SINGLE = 0.05, 0.08
"""Distances of a coverage from its level that a note tells: of the mean over volumes, and of a single one."""
MORE_LINES = 2.0
"""Times the lines in the centre that a factor was measured with, above which its interval may be too wide: factors of
5 lines were right on heads of 8 to 10 (8x), those of 10 on heads of 15 to 20 (4x)."""


@dataclasses.dataclass(frozen=True)
class IntervalOptions:
    """Which interval is written beside the mean of several samples.

    calibration: a table of one's own; by default the one for the bundled priors. Raises ConfigError.
    """

    level: float = setting(
        0.9, "how often the interval is to hold the truth", at_least=0.01, at_most=0.999
    )
    unit: Unit = setting("pixel", f"of every pixel, or of means over {BLOCK} x {BLOCK} pixels")
    calibration: Path | None = None

    def __post_init__(self) -> None:
        check_settings(self)

    def mark(self) -> dict[str, Any]:
        """What of them shapes a result: the table by its content. Raises NotFoundError."""
        path = self.calibration or bundled_table()
        if self.calibration is not None and not path.is_file():
            raise NotFoundError(f"{path}: there is no such table; `restore calibrate` makes one")
        table = sha256_of(path) if path.is_file() else ""
        return {"level": self.level, "unit": self.unit, "table": table}

    def entries(self) -> list[Entry]:
        """The table's. Raises NotFoundError, InputError."""
        if self.calibration is not None:
            return read_table(self.calibration)
        path = bundled_table()
        return read_table(path) if path.is_file() else []


@dataclasses.dataclass(frozen=True, eq=False)
class Interval:
    """half_width: like the image, in its units. record: for the sidecar. notes: that it is nominal, where it is."""

    half_width: NDArray[np.float32]
    record: dict[str, Any]
    notes: tuple[str, ...]


def interval_of(
    samples: NDArray[Any],
    options: IntervalOptions,
    method: Method,
    measured: Circumstances,
    span: float | None = None,
) -> Interval:
    """The interval around the mean of samples (K, ..., H, W), K at least 2.

    span: the range of the whole image's mean, where these are a part of it. Raises InputError, NotFoundError.
    """
    found = _factor(samples.shape[0], options, method, measured)
    width = half_width(samples, found.factor, options.unit, span, found.scale)
    return Interval(width, found.record, found.notes)


def interval_of_slices(
    drawn: Drawn,
    mean: NDArray[Any],
    options: IntervalOptions,
    method: Method,
    measured: Circumstances,
) -> Interval:
    """The same of a volume, its samples read slice by slice. mean: theirs, (slices, H, W).

    Raises InputError, NotFoundError, OutputError.
    """
    width, span = np.empty(mean.shape, np.float32), float(np.ptp(mean)) if mean.size else 0.0
    found = None
    for index, samples in drawn.slices():
        found = found or _factor(len(samples), options, method, measured)
        width[index] = half_width(samples, found.factor, options.unit, span, found.scale)
    found = found or _factor(0, options, method, measured)
    return Interval(width, found.record, found.notes)


@dataclasses.dataclass(frozen=True)
class _Factor:
    """Half-widths are factor times what `scale` makes of the samples; record and notes as of `Interval`."""

    factor: float
    scale: Scale
    record: dict[str, Any]
    notes: tuple[str, ...]


def _factor(
    count: int, options: IntervalOptions, method: Method, measured: Circumstances
) -> _Factor:
    """The factor of the deviation of so many samples, what the record says of it, and notes."""
    if count < 2:
        raise ConfigError("an interval needs 2 samples or more: --samples 8")
    found = find(options.entries(), method, measured, count, options.unit, options.level)
    of = f"means over {BLOCK} x {BLOCK} pixels" if options.unit == "region" else "pixels"
    if measured.kind == "mri":
        of += f" of the object; air, below {FOREGROUND:.0%} of the maximum, is not promised"
    record = {"level": options.level, "of": of, "calibrated": found.factor is not None}
    if found.factor is not None and found.entry is not None:
        record |= _origin(found.entry, options) | {"factor": found.factor}
        scale = found.entry.scale(options.unit)
        notes = _doubts(found.entry, options, measured) + _more_lines(found.entry, measured)
        return _Factor(found.factor, scale, record, notes)
    factor = nominal_factor(options.level, count)
    table = (options.calibration or bundled_table()).name
    record["factor_is"] = "Student's, nominal: right if the samples are spread as the truth is"
    note = (
        f"the interval of {options.level:.3g} is nominal, not calibrated: the table {table} has no factor for this "
        f"run ({found.why}); `restore calibrate` measures one"
    )
    return _Factor(factor, PLAIN, record | {"factor": factor}, (note,))


def _origin(entry: Entry, options: IntervalOptions) -> dict[str, Any]:
    """What a calibrated factor was measured on, what it is of, and how well it did on other volumes."""
    on = entry.measured_on
    volumes = ", ".join(map(str, on.get("volumes", ())))
    told: dict[str, Any] = {
        "factor_is": f"conformal, measured on {on.get('images', '?')} images of {volumes}; it holds for the same kind "
        "of anatomy, measured in the same way",
        "factor_of": entry.scale(options.unit).words,
    }
    held = entry.held_out.get(options.unit, {}).get(options.level)
    told |= {} if held is None else {"coverage_of_held_out_volumes": list(held)}
    tried = entry.tried.get(options.unit, {}).get(options.level)
    return (
        told
        if tried is None
        else told | {"coverage_when_tried": list(tried), "tried_on": entry.tried_on}
    )


def _doubts(entry: Entry, options: IntervalOptions, measured: Circumstances) -> tuple[str, ...]:
    """A note where the factor was seen to miss its level by more than `OFF` on other volumes, or was not tried."""
    level = options.level
    tried = entry.tried.get(options.unit, {}).get(level)
    held = entry.held_out.get(options.unit, {}).get(level)
    if tried is None and held is None:
        said = "was measured on one volume, and how it does on another is not known"
    elif tried is not None and abs(tried[0] - level) > OFF:
        mean, low, high = tried
        said = f"held for {mean:.2f} of them ({low:.2f} to {high:.2f}) on volumes that it was not measured on"
    else:
        seen = [*(tried or ()), *(held or ())]
        low, high = min(seen), max(seen)
        if max(level - low, high - level) <= SINGLE:
            return ()
        said = f"held for {low:.2f} to {high:.2f} of them on single volumes that it was not measured on"
    what = f"{measured.words()}, {'regions' if options.unit == 'region' else 'pixels'}"
    return (f"the calibrated interval of {level:.3g} ({what}) {said}: calibrate on your own kind",)


def _more_lines(entry: Entry, measured: Circumstances) -> tuple[str, ...]:
    """A note where a scan has many more lines in the centre of k-space than the factor was measured with, if that is
    told."""
    there, here = entry.measured.centre, measured.centre
    if not there or here <= MORE_LINES * there:
        return ()
    return (
        f"the factor of the interval was measured with {there:g} lines in the centre of k-space and this scan has "
        f"{here:g}, from which coil maps are better: the interval may be too wide",
    )
