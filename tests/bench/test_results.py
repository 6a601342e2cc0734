"""Rows are added without reading the rest, by several processes, and are what they were when they are read."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from restore.bench import results
from restore.bench.record import read_record
from restore.bench.results import BLOCK_BYTES, HEADER, Row, append, read_file
from restore.errors import InputError, OutputError


def row(key: str, **more) -> Row:
    return Row(key, "toy", "v.h5", "4x", "tv", "done", **more)


def test_a_row_cut_short_is_taken_away_however_long_it_is(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    append(path, row("a"))
    for cut in (b"b,toy", b"b," + b"x" * (3 * BLOCK_BYTES)):
        with path.open("ab") as file:
            file.write(cut)
        append(path, row("c"))
    assert [r.key for r in read_file(path)] == ["a", "c", "c"]
    path.write_bytes(HEADER[:20])
    append(path, row("d"))
    assert [r.key for r in read_file(path)] == ["d"]


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        self.count += len(found)
        return found


def test_the_end_is_found_from_the_end() -> None:
    for tail in (b"", b"cut", b"c" * BLOCK_BYTES):
        file = Counted(HEADER + b"row\n" * 500_000 + tail)
        assert results._end_of_lines(file) == len(HEADER) + 2_000_000
        assert file.count <= 2 * BLOCK_BYTES
    assert results._end_of_lines(io.BytesIO(b"no end")) == 0


def test_columns_of_another_version_are_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_bytes(b"key,protocol,volume,setting,method,status,end\r\na,toy,v,4x,tv,done,.\r\n")
    whole = path.read_bytes()
    with pytest.raises(OutputError, match="columns of another version"):
        append(path, row("b"))
    assert path.read_bytes() == whole
    assert [r.key for r in read_file(path)] == ["a"]


PROGRAM = """
import sys
from pathlib import Path
from restore.bench.results import Row, append
for i in range(60):
    append(Path(sys.argv[1]), Row(f"{sys.argv[2]}{i}", "toy", "v", "4x", "tv", "done", reason="x" * 5000))
"""


def test_two_processes_lose_no_row(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    command = [sys.executable, "-c", PROGRAM, str(path)]
    writers = [subprocess.Popen([*command, name]) for name in "ab"]
    assert [w.wait() for w in writers] == [0, 0]
    assert sorted(r.key for r in read_file(path)) == sorted(
        f"{n}{i}" for n in "ab" for i in range(60)
    )


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(file, kind):
        raise OSError(results.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(results.fcntl, "flock", fails)
    append(tmp_path / "results.csv", row("a"))
    assert [r.key for r in read_file(tmp_path / "results.csv")] == ["a"]


@pytest.mark.parametrize("value", ["[]", "3", "null", "[" * 100_000, '{"a": NaN}', '{"a":1,"a":2}'])
def test_cells_of_a_wrong_kind_are_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "results.csv"
    append(path, row("a"))
    text = path.read_text().replace("{}", f'"{value}"'.replace('"a"', '""a""'), 1)
    path.write_text(text, newline="")
    with pytest.raises(InputError, match="row a"):
        read_file(path)


@pytest.mark.parametrize("name", ["=1+1", "+cmd|calc", "-2+3", "@SUM(A1)", "plain", "\\=", "a=b"])
def test_no_cell_is_a_formula(tmp_path, name):
    file = tmp_path / "results.csv"
    results.append(file, Row("k", "p", name, "s", "m", "done"))
    cells = next(islice(csv.reader(file.open(newline="")), 1, None))
    assert not [c for c in cells if c.startswith(("=", "+", "-", "@"))]
    assert results.read_file(file)[0].volume == name


@pytest.mark.parametrize(
    ("column", "cell"),
    [("psnr", "much"), ("per_slice", '{"psnr": "x"}'), ("curve", "[1]"), ("extra", '{"a": true}'),
     ("calibration", "[" * 500 + "]" * 500), ("settings", "[]")],
)  # fmt: skip
def test_a_cell_of_another_kind_is_named(tmp_path, column, cell):
    file = tmp_path / "results.csv"
    results.append(file, Row("k", "p", "v", "s", "m", "done"))
    table = list(csv.reader(file.open(newline="")))
    table[1][table[0].index(column)] = cell
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows(table)
    with pytest.raises(InputError, match="row k"):
        results.read_file(file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "format 1"),
        ({"protocol": 3}, "'protocol' is 3, no str"),
        ({"average_over": None}, "'average_over' is None"),
        ({"headline": [["psnr"]]}, "no list of texts"),
        ({"calls": {}}, "'calls' is {}, no list"),
    ],
)
def test_a_record_of_a_run_that_was_changed_by_hand(tmp_path, change, words):
    record = {"format": 1, "protocol": "x", "average_over": "volumes", "headline": ["psnr"], "settings": [],
              "environment": {}, "calls": []}  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert read_record(tmp_path / "run.json") == record
    (tmp_path / "run.json").write_text(json.dumps(record | change))
    with pytest.raises(InputError, match=re.escape(words)):
        read_record(tmp_path / "run.json")
