"""Two runs, or two methods of one run, volume by volume: paired differences with bootstrap intervals.

Called by the command line. Only rows of the same measurement are compared: the same volume, setting, target, data
range, mask and noise; anything else is refused, not averaged over.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from restore.bench.results import Row, load
from restore.bench.statistics import Paired, paired
from restore.errors import ConfigError, InputError

FIGURES = ("psnr", "ssim", "nmse")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """a - b of one figure for one setting; a and b name the method of each side."""

    setting: str
    a: str
    b: str
    figure: str
    difference: Paired


def parse_side(text: str) -> tuple[Path, str]:
    """`RUN` or `RUN:METHOD` as folder and method ("" for all)."""
    if Path(text).is_dir():
        return Path(text), ""
    folder, colon, method = text.rpartition(":")
    return (Path(folder), method) if colon and Path(folder).is_dir() else (Path(text), "")


def compare(a: str, b: str) -> list[Comparison]:
    """Compare two sides, `RUN` or `RUN:METHOD`. Without methods, those that both runs have are compared.

    Raises ConfigError (no method in common, a method named on one side only), InputError (nothing or not the same
    measurement to compare), NotFoundError.
    """
    (run_a, method_a), (run_b, method_b) = parse_side(a), parse_side(b)
    if bool(method_a) != bool(method_b):
        raise ConfigError("name a method on both sides, RUN_A:METHOD RUN_B:METHOD, or on neither")
    rows_a, rows_b = _done(run_a), _done(run_b)
    names_a, names_b = (list(dict.fromkeys(r.method for r in rows)) for rows in (rows_a, rows_b))
    if method_a:
        _known(method_a, names_a, run_a)
        _known(method_b, names_b, run_b)
        pairs = [(method_a, method_b)]
    else:
        pairs = [(name, name) for name in names_a if name in names_b]
    if not pairs:
        raise ConfigError(
            f"no method is in both runs: {run_a} has {', '.join(names_a)}; {run_b} has {', '.join(names_b)}"
        )
    found = [
        c for x, y in pairs
        for c in _method(
            [r for r in rows_a if r.method == x], [r for r in rows_b if r.method == y], run_b
        )
    ]  # fmt: skip
    if not found:
        raise InputError(run_b, f"shares no volume and setting with {run_a} for {pairs[0][0]}")
    return found


def _method(rows_a: list[Row], rows_b: list[Row], run_b: Path) -> list[Comparison]:
    other = {(r.volume, r.setting): r for r in rows_b}
    couples = [(r, other[r.volume, r.setting]) for r in rows_a if (r.volume, r.setting) in other]
    for x, y in couples:
        _check_same_measurement(x, y, run_b)
    found = []
    for setting in dict.fromkeys(x.setting for x, _ in couples):
        for figure in FIGURES:
            values = [
                (p, q) for x, y in couples if x.setting == setting
                if (p := getattr(x, figure)) is not None and (q := getattr(y, figure)) is not None
            ]  # fmt: skip
            if values:
                difference = paired([p for p, _ in values], [q for _, q in values])
                found.append(
                    Comparison(
                        setting, couples[0][0].method, couples[0][1].method, figure, difference
                    )
                )
    return found


def _check_same_measurement(x: Row, y: Row, run: Path) -> None:
    for name in ("protocol", "target", "data_range_rule", "ssim_variant", "mask", "mask_seed"):
        if getattr(x, name) != getattr(y, name):
            raise InputError(
                run, f"{y.volume} under {y.setting} is another measurement: {name} is '{getattr(y, name)}', "
                f"in the other run '{getattr(x, name)}'", "compare runs of the same options",
            )  # fmt: skip
    for name in ("data_range", "noise_std"):
        p, q = getattr(x, name), getattr(y, name)
        if (p is None) != (q is None) or (p is not None and not math.isclose(p, q, rel_tol=1e-5)):
            raise InputError(
                run, f"{y.volume} under {y.setting} is another measurement: {name} is {q}, in the other run {p}"
            )  # fmt: skip


def _done(run: Path) -> list[Row]:
    return [row for row in load(run) if row.status == "done" and row.psnr is not None]


def _known(method: str, names: list[str], run: Path) -> None:
    if method not in names:
        raise ConfigError(f"{run} has no method '{method}'; it has {', '.join(names)}")
