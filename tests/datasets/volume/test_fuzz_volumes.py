"""Files with random damage: a volume or an InputError comes out, nothing else, and soon."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pytest

from restore.datasets.open import read, read_image, write
from restore.datasets.picture.images import write_image
from restore.datasets.volume.volume import Volume
from restore.errors import InputError

MUTANTS = 60
SECONDS = 2.0  # of this process, so that a busy machine does not matter


def mutants(content: bytes, seed: int, headers_only: int | None = None):
    """Files with three random bytes changed, and every fourth one cut short."""
    rng = np.random.default_rng(seed)
    for k in range(MUTANTS):
        changed = bytearray(content)
        for at in rng.integers(0, headers_only or len(content), 3):
            changed[at] = rng.integers(256)
        yield bytes(changed[: rng.integers(1, len(content))] if k % 4 == 3 else changed)


def survives(path: Path, reader) -> bool:
    start = time.process_time()
    try:
        reader(path)
        read_well = True
    except InputError:
        read_well = False
    assert time.process_time() - start < SECONDS
    return read_well


def source() -> Volume:
    data = np.random.default_rng(0).normal(size=(3, 8, 9)).astype(np.float32)
    return Volume(data, np.diag([1.0, 2, 3, 1]), "MR")


@pytest.mark.filterwarnings("ignore")
def test_nifti(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORE_MAX_MEMORY_GB", "0.5")
    content = write(source(), tmp_path / "a.nii").read_bytes()
    path = tmp_path / "m.nii"
    outcomes = []
    for mutant in mutants(content, 1, headers_only=352):
        path.write_bytes(mutant)
        outcomes.append(survives(path, read))
        path.write_bytes(gzip.compress(mutant, compresslevel=1))
        assert survives(path, read) == outcomes[-1]
    assert True in outcomes
    assert False in outcomes


@pytest.mark.filterwarnings("ignore")
def test_compressed_nifti(tmp_path):
    content = write(source(), tmp_path / "a.nii.gz").read_bytes()
    path = tmp_path / "m.nii.gz"
    for mutant in mutants(content, 2):
        path.write_bytes(mutant)
        survives(path, read)


@pytest.mark.filterwarnings("ignore")
def test_dicom(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORE_MAX_MEMORY_GB", "0.5")
    folder = write(source(), tmp_path / "s")
    file = folder / "0002.dcm"
    outcomes = []
    for mutant in mutants(file.read_bytes(), 3):
        file.write_bytes(mutant)
        outcomes.append(survives(folder, read))
    assert False in outcomes


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["a.png", "w.png", "a.jpg", "a.tif", "w.tif"])
def test_pictures(tmp_path, monkeypatch, name):
    monkeypatch.setenv("RESTORE_MAX_MEMORY_GB", "0.5")
    path = tmp_path / name
    picture = np.random.default_rng(0).random((3, 12, 10))
    write_image(picture, path, bits=16 if name[0] == "w" else 8)
    for mutant in mutants(path.read_bytes(), 4):
        path.write_bytes(mutant)
        survives(path, read_image)
