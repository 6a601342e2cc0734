"""`restore data fastmri`: how to get the files, and whether those of a folder are sound."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from restore.datasets.mri.fastmri_files.fastmri_write import Undersampling, write_fastmri_file
from restore.datasets.simulate.fastmri_files import simulate_fastmri
from restore.datasets.simulate.phantom import head_phantom


@pytest.fixture
def root(tmp_path: Path) -> Path:
    scan = simulate_fastmri(head_phantom((3, 32, 30)), coils=2, oversampling=2, columns=26)
    for folder, test in (("multicoil_val", None), ("multicoil_test", Undersampling(4, 0.16))):
        (tmp_path / folder).mkdir()
        write_fastmri_file(scan, tmp_path / folder / "file1000001.h5", test)
    return tmp_path


def test_without_a_folder_it_says_how_to_get_the_data(verb) -> None:
    result = verb("data", "fastmri")
    assert result.exit_code == 0
    for words in ("https://fastmri.med.nyu.edu", "not to be passed on", "--as fastmri"):
        assert words in result.stdout
    record = json.loads(verb("data", "fastmri", "--json").stdout)
    assert record["name"] == "fastmri"
    assert "form" in record["steps"][0]


def test_a_sound_folder(verb, root: Path) -> None:
    result = verb("data", "fastmri", root)
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    shape = "3 x 2 x 64 x 30".split()
    assert [
        "multicoil_test/file1000001.h5",
        "multicoil",
        *shape,
        "-",
        "SIMULATED",
        "4",
        "-",
        "ok",
    ] in lines
    assert "multicoil_val/file1000001.h5: 4 zero-padded columns" in result.stdout
    assert result.stdout.endswith("2 files, 6 slices\n")
    records = json.loads(verb("data", "fastmri", root, "--json").stdout)
    assert [r["target"] for r in records] == [None, [3, 32, 30]]
    assert all(r["ok"] for r in records)


def test_damage_has_its_exit_code(verb, root: Path) -> None:
    path = root / "multicoil_val" / "file1000001.h5"
    path.write_bytes(path.read_bytes()[:5000])
    result = verb("data", "fastmri", root)
    assert result.exit_code == 4
    assert "DAMAGED" in result.stdout
    assert "1 of 2 files cannot be used" in result.stderr
    result = verb("data", "fastmri", root, "--json")
    assert (result.exit_code, [r["ok"] for r in json.loads(result.stdout)]) == (4, [True, False])


def test_checksums(verb, root: Path) -> None:
    path = root / "multicoil_val" / "file1000001.h5"
    good = hashlib.sha256(path.read_bytes()).hexdigest()
    table = root / "sums.txt"
    table.write_text(f"{good}  multicoil_val/file1000001.h5\n")
    result = verb("data", "fastmri", root, "--checksums", table)
    assert result.exit_code == 0
    assert "multicoil_test/file1000001.h5: not in the list of checksums" in result.stdout
    table.write_text(f"{'0' * 64}  file1000001.h5\n")
    assert verb("data", "fastmri", root, "--checksums", table).exit_code == 4


def test_nothing_to_check(verb, tmp_path: Path) -> None:
    assert verb("data", "fastmri", tmp_path / "none").exit_code == 3
    result = verb("data", "fastmri", tmp_path)
    assert result.exit_code == 4
    assert "holds no .h5 files" in result.stderr
