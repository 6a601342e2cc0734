"""Sidecars: the same record gives the same file, and no folder or patient gets in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from restore.datasets.content_hash import sha256_of
from restore.datasets.sidecar import (
    environment,
    read_sidecar,
    sidecar_path,
    source_record,
    write_sidecar,
)
from restore.datasets.volume.dicom import read
from restore.datasets.volume.dicom_write import write
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, NotFoundError


@dataclass(frozen=True)
class Settings:
    gamma: float = 0.5
    steps: int = 20


def test_path_beside_the_result(tmp_path):
    (tmp_path / "series.v2").mkdir()
    for result, name in {
        "x.nii.gz": "x.json",
        "x.nii": "x.json",
        "a.b.png": "a.b.json",
        "series": "series.json",
        "series.v2": "series.v2.json",
    }.items():
        assert sidecar_path(tmp_path / result) == tmp_path / name


def test_record_comes_back(tmp_path):
    record = {
        "b": np.float32(0.25),
        "a": [np.int64(3), (1, 2.5), None, True],
        "settings": Settings(),
        "file": Path("/home/jane.doe/scan.h5"),
        "curve": np.arange(3.0),
        "bad": [float("inf"), np.float64("nan")],
        "flag": np.bool_(False),
        7: "é",
    }
    path = write_sidecar(tmp_path / "x.nii.gz", record)
    assert path == tmp_path / "x.json"
    back = read_sidecar(tmp_path / "x.nii.gz")
    assert back == read_sidecar(path)
    assert back["settings"] == {"gamma": 0.5, "steps": 20}
    assert back["file"] == "scan.h5"
    assert (back["b"], back["curve"], back["bad"]) == (0.25, [0, 1, 2], ["inf", "nan"])
    assert (back["a"], back["flag"], back["7"]) == ([3, [1, 2.5], None, True], False, "é")
    assert "not for diagnosis" in back["IntendedUse"]
    assert "jane.doe" not in path.read_text(encoding="utf-8")


def test_equal_records_give_equal_files(tmp_path):
    one = write_sidecar(tmp_path / "a.png", {"x": 1, "y": {"p": 1, "q": 2}}).read_bytes()
    two = write_sidecar(tmp_path / "b.png", {"y": {"q": 2, "p": 1}, "x": 1}).read_bytes()
    assert one == two
    assert one.endswith(b"\n")


def test_what_cannot_be_recorded(tmp_path):
    with pytest.raises(ConfigError, match=r"record\.a\[1\]: a object"):
        write_sidecar(tmp_path / "x.png", {"a": [1, object()]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["{", "[1]", "\ufeffx", "[" * 100_000])
def test_damaged_sidecar(tmp_path, content):
    (tmp_path / "x.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError):
        read_sidecar(tmp_path / "x.nii")
    with pytest.raises(NotFoundError):
        read_sidecar(tmp_path / "y.nii")


def test_hash_of_a_file_and_a_folder(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"abc" * 1_000_000)
    expected = hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    assert source_record(tmp_path / "a.bin") == {"File": "a.bin", "SHA256": expected}
    with pytest.raises(NotFoundError):
        sha256_of(tmp_path / "none")


def test_hash_of_a_series_is_that_of_its_contents(tmp_path):
    volume = Volume(np.random.default_rng(0).normal(size=(3, 4, 5)), np.eye(4), "MR")
    folder = write(volume, tmp_path / "s")
    before = sha256_of(folder)
    (folder / "0001.dcm").rename(folder / "zzz")
    (folder / "notes.txt").write_text("not part of it")
    assert sha256_of(folder) == before
    content = (folder / "zzz").read_bytes()
    (folder / "zzz").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert sha256_of(folder) != before


def test_environment_names_what_matters():
    found = environment("cuda:0 (NVIDIA H200)")
    assert found["Device"].startswith("cuda:0")
    assert {"torch", "numpy"} <= set(found["Packages"])
    json.dumps(found)


def test_no_patient_in_the_record_of_a_real_series(samples, tmp_path):
    source = samples / "dicom_mr"
    volume = read(source)
    record = {"Notes": list(volume.notes), "Sources": [source_record(source)]}
    text = write_sidecar(tmp_path / "x.nii.gz", record).read_text(encoding="utf-8")
    header = volume.header.slices[0]
    for keyword in (
        "PatientName",
        "PatientID",
        "StudyInstanceUID",
        "StudyDate",
        "SeriesDescription",
    ):
        assert str(header[keyword].value) not in text
    assert json.loads(text)["Sources"][0]["File"] == "dicom_mr"
