"""JSON of unknown origin ends in a value or in one error; what is written can be read back."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from restore.datasets.json_text import (
    DEEPEST,
    LARGEST_BYTES,
    parse_json,
    plain,
    read_json,
    write_json,
)
from restore.errors import ConfigError, InputError, NotFoundError


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": [-Infinity]}', "-Infinity is no JSON number"),
        ('{"a": 1e999}', "1e999 is too large a number"),
        ('{"a": ' + "9" * 5000 + "}", "limit"),
        ('{"a": 1, "b": {"c": 2, "c": 3}}', "'c' stands twice"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a":' * 500 + "1" + "}" * 500, "nested too deeply"),
        ("[1, 2]", "a JSON list, expected an object"),
        ("null", "a JSON NoneType"),
    ],
)
def test_faults_are_one_error(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=why):
        read_json(path)


def test_depth_is_counted_in_levels() -> None:
    assert parse_json("[" * DEEPEST + "]" * DEEPEST)
    with pytest.raises(ValueError, match="deeply"):
        parse_json("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1))


def test_other_bytes_sizes_and_files(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes('{"a": "é"}'.encode("latin-1"))
    with pytest.raises(InputError, match="utf-8"):
        read_json(tmp_path / "latin.json")
    (tmp_path / "mark.json").write_bytes('\ufeff{"a": "é"}'.encode())
    assert read_json(tmp_path / "mark.json") == {"a": "é"}
    with (tmp_path / "big.json").open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    with pytest.raises(InputError, match="16 MB"):
        read_json(tmp_path / "big.json")
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("pipe.json", "."):
        with pytest.raises(InputError, match="not a file"):
            read_json(tmp_path / name)
    with pytest.raises(NotFoundError):
        read_json(tmp_path / "none.json")


def test_random_damage_never_leaves_as_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "x.json"
    write_json(path, {"a": [1, 2.5, {"b": "text é"}], "c": None, "d": {"e": [True, -1e-3]}})
    whole = path.read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = int(rng.integers(256))
        path.write_bytes(damaged[: int(rng.integers(1, len(whole) + 1))])
        try:
            read_json(path)
        except InputError:
            refused += 1
    assert refused > 200


@dataclasses.dataclass
class Options:
    weight: float
    file: Path


def test_what_is_written_comes_back_plain(tmp_path: Path) -> None:
    record = {
        "b": Options(np.float32(0.5), Path("/home/jane/x.h5")),
        "a": [np.arange(2), np.bool_(True), float("inf")],
        7: (None, "é"),
    }
    write_json(tmp_path / "x.json", record)
    back = read_json(tmp_path / "x.json")
    assert back == {
        "a": [[0, 1], True, "inf"], "b": {"weight": 0.5, "file": "x.h5"}, "7": [None, "é"]
    }  # fmt: skip
    assert plain(record) == back
    assert list(json.loads((tmp_path / "x.json").read_text())) == ["7", "a", "b"]
    with pytest.raises(ConfigError, match=r"record\.a\[0\]: a object cannot"):
        write_json(tmp_path / "y.json", {"a": [object()]})
    assert not (tmp_path / "y.json").exists()
