"""The rows of a benchmark: one for each (volume, setting, method), in CSV files that only grow.

Written by the runner, read by the table, the comparison and the report. A row is appended in one write and flushed
to the disk; a line that a crash cut short is found by its missing end, left out, and taken away before the next row.
Parts of a run on a cluster write files of their own (`results-2-of-8.csv`), and all of them are read together.
"""

from __future__ import annotations

import csv
import dataclasses
import errno
import io
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from restore.datasets.json_text import parse_json
from restore.errors import InputError, NotFoundError, OutputError

try:
    import fcntl
except ImportError:  # Windows: parts of a run have files of their own, as everywhere
    fcntl = None  # type: ignore[assignment]

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
BLOCK_BYTES = 1 << 16
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)
"""What file systems answer that know no locks, as on some clusters."""

FORMULA = ("=", "+", "-", "@")
END = "."
"""The last column of every row: a row without it was not written to its end."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One method on one volume under one setting. Every figure stands beside what it depends on.

    key: hash of everything that shapes the result; a second call skips rows whose key is there. status: "done" or
    "failed" (then `reason` says why and the figures are absent). psnr in dB, ssim, nmse against `target` with
    `data_range` (in the target's units, chosen by `data_range_rule`); None where there is no target. per_slice: figures
    of each slice by name, with the "slice" numbers. extra: further figures of the protocol by name.
    mask and mask_seed: the sampling pattern; noise_std: in the units of the measurement, with `noise_rule`.
    misfit: ||A x - y|| / (std sqrt(m)), or ||A x - y|| / ||y|| where the noise is unknown (`misfit_rule`).
    evaluations: network calls per image, all samples together; seconds, peak_memory_mb on `device`.
    samples: K; coverage of the interval between the smallest and the largest sample and its nominal value (K-1)/(K+1);
    spread_ratio: root mean square error of the sample mean over the predicted one; calibration: bins of predicted
    standard deviation with their errors, and the part covered at several levels. curve: [evaluations, misfit] after
    each step.
    """

    key: str
    protocol: str
    volume: str
    setting: str
    method: str
    status: str
    reason: str = ""
    sampler: str = ""
    preset: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    prior: str = ""
    seed: int = 0
    samples: int = 1
    psnr: float | None = None
    ssim: float | None = None
    nmse: float | None = None
    target: str = ""
    data_range: float | None = None
    data_range_rule: str = ""
    ssim_variant: str = ""
    slices: int = 0
    mask: str = ""
    mask_seed: str = ""
    noise_std: float | None = None
    noise_rule: str = ""
    misfit: float | None = None
    misfit_rule: str = ""
    evaluations: int | None = None
    seconds: float | None = None
    peak_memory_mb: float | None = None
    device: str = ""
    coverage: float | None = None
    coverage_nominal: float | None = None
    spread_ratio: float | None = None
    extra: dict[str, float] = dataclasses.field(default_factory=dict)
    conditions: dict[str, Any] = dataclasses.field(default_factory=dict)
    per_slice: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    calibration: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    curve: list[list[float]] = dataclasses.field(default_factory=list)
    version: str = ""
    finished: str = ""


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
_NUMBERS = {
    f.name: (int if "int" in str(f.type) else float)
    for f in dataclasses.fields(Row)
    if "int" in str(f.type) or str(f.type).startswith("float")
}
_JSON = {
    f.name: (dict if str(f.type).startswith("dict") else list)
    for f in dataclasses.fields(Row)
    if str(f.type).startswith(("dict", "list"))
}


_FIGURES = {"extra": 1, "per_slice": 2, "calibration": 2, "curve": 2}
"""Cells of numbers, by how many lists or objects lie within each other."""


def _line(cells: Sequence[str]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerow(cells)
    return stream.getvalue().encode(errors="surrogateescape")


HEADER = _line([*COLUMNS, "end"])


def results_path(run: Path, part: tuple[int, int] | None = None) -> Path:
    """The file that a run, or part k of n of it, writes its rows to."""
    return run / ("results.csv" if part is None else f"results-{part[0]}-of-{part[1]}.csv")


def append(path: Path, row: Row) -> None:
    """Add one row in one write and flush it to the disk; a row cut short before is taken away.

    Only the first line and what follows the last one are read, whatever the length of the file. Other processes wait.
    Raises OutputError, also for a file whose columns are those of another version.
    """
    line = _line([_text(getattr(row, name)) for name in COLUMNS] + [END])
    try:
        with path.open("a+b") as file, _locked(file):
            file.seek(0)
            first = file.readline()
            if not first.endswith(b"\n"):
                file.truncate(0)
                line = HEADER + line
            elif first != HEADER:
                raise OutputError(
                    f"{path}: has the columns of another version of this program; choose another -o, or go on with "
                    "that version"
                )
            else:
                file.truncate(_end_of_lines(file))
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as cause:
        raise OutputError(f"{path}: a row could not be added: {cause.strerror or cause}") from cause


@contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """One writer at a time, where the system and the file system have locks: the lock goes with the open file."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
    yield


def _end_of_lines(file: IO[bytes]) -> int:
    """The place after the last line's end, looked for from the end of the file."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - BLOCK_BYTES)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def load(run: Path) -> list[Row]:
    """The rows of a run, of all its parts. Of several with one key the last counts.

    Raises NotFoundError for a folder without results, InputError for a file that is not of this kind.
    """
    files = sorted(run.glob("results*.csv"))
    if not files:
        raise NotFoundError(
            f"{run}: holds no results.csv; give the folder that `restore bench ... -o` wrote"
        )
    found: dict[str, Row] = {}
    for file in files:
        for row in read_file(file):
            found.pop(row.key, None)
            found[row.key] = row
    return list(found.values())


def read_file(path: Path) -> list[Row]:
    """The complete rows of one file in their order. Raises InputError."""
    if not path.is_file():  # a pipe would be waited for
        raise InputError(path, "not a file", "expected the rows of a benchmark run")
    csv.field_size_limit(1 << 27)
    try:
        text = path.read_bytes().decode(errors="surrogateescape")
        table = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    except (OSError, csv.Error) as cause:
        raise InputError(path, f"cannot be read as CSV ({cause})") from cause
    if not table:
        return []
    names = table[0]
    if not {"key", "volume", "setting", "method", "status"} <= set(names):
        raise InputError(path, f"is no results file: its columns are {', '.join(names[:6])}, ...")
    whole = [cells for cells in table[1:] if len(cells) == len(names) and cells[-1] == END]
    return [_row(dict(zip(names, cells, strict=True)), path) for cells in whole]


def _row(cells: dict[str, str], path: Path) -> Row:
    values = {}
    for name in COLUMNS:
        try:
            if name in cells:
                values[name] = _value(name, cells[name])
        except ValueError as cause:
            raise InputError(
                path, f"row {cells.get('key', '?')}: column '{name}': {cause}"
            ) from cause
    try:
        return Row(**values)
    except TypeError as cause:
        raise InputError(path, f"row {cells.get('key', '?')}: {cause}") from cause


def _value(name: str, text: str) -> Any:
    if name in _JSON:
        value = parse_json(text)
        if not isinstance(value, _JSON[name]):
            raise ValueError(f"'{name}' is {text[:40]!r}")
        if name in _FIGURES and not _is_of_numbers(value, _FIGURES[name]):
            raise ValueError(f"'{name}' holds something else than numbers: {text[:40]!r}")
        return value
    if name in _NUMBERS:
        return None if text == "" else _NUMBERS[name](text)
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text)


def _is_of_numbers(value: Any, depth: int) -> bool:
    """Whether lists or objects within each other, so many, hold numbers alone; null is one that was not finite."""
    if depth == 0:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    items = value.values() if isinstance(value, dict) else value
    return isinstance(value, dict | list) and all(_is_of_numbers(v, depth - 1) for v in items)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(_finite(value), separators=(",", ":"), sort_keys=True)
    if isinstance(value, float):
        return repr(float(value))  # numpy's own repr names its type
    # One row is one line, so that a row cut short is told by its missing end.
    text = re.sub(r"[\\\x00-\x1f\x85\u2028\u2029]", lambda found: _escaped(found[0]), str(value))
    # What a spreadsheet would take for a formula is marked as text, and read back as it was.
    return f"\\{text}" if text.startswith(FORMULA) else text


def _escaped(character: str) -> str:
    return {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character, " ")


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: they become null."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
