"""HDF5 files on which the library hangs or crashes are refused within seconds; sound ones cost milliseconds."""

from __future__ import annotations

import os
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from restore.datasets import hdf5_walk
from restore.datasets.hdf5_guard import find_dataset, open_hdf5
from restore.datasets.hdf5_walk import walk_through
from restore.datasets.open import open_scan
from restore.errors import InputError


def test_a_file_that_hangs_is_refused_and_the_next_one_is_read(samples: Path) -> None:
    with pytest.raises(InputError, match=r"hang_one_bit\.h5.* within 2 s of computing") as caught:
        open_scan(samples / "hang_one_bit.h5")
    assert caught.value.hint
    again = time.process_time()
    with pytest.raises(InputError, match="within 2 s"):
        open_scan(samples / "hang_one_bit.h5")  # known by now
    assert time.process_time() - again < 1
    assert open_scan(samples / "base_scan.h5").kspace.shape == (2, 2, 16, 16)


def test_waiting_ends_too(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_walk, "WAIT_SECONDS", 0.05)
    slow = tmp_path / "slow.h5"
    slow.write_bytes((samples / "hang_one_bit.h5").read_bytes())
    with pytest.raises(InputError, match=r"slow\.h5.* within 0 s"):
        walk_through(slow)


def test_a_child_that_dies_is_replaced(samples: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scan.h5"
    for _ in range(2):
        scan.write_bytes((samples / "base_scan.h5").read_bytes())
        os.utime(scan, ns=(0, time.time_ns()))
        assert "kspace" in walk_through(scan)
        hdf5_walk._children[os.getpid()].process.kill()
        hdf5_walk._children[os.getpid()].process.wait()


def test_links_to_itself_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "ring.h5", "w") as file:
        file["a/b"] = file["/"]
        file["soft"] = h5py.SoftLink("/soft")
        file["elsewhere"] = h5py.ExternalLink("none.h5", "/x")
    assert walk_through(tmp_path / "ring.h5") == ("a", "elsewhere", "soft")


def test_far_too_many_objects_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "many.h5", "w", libver="latest") as file:
        for i in range(20_001):
            file.id.links.create_hard(str(i).encode(), file.id, b"/")
    with pytest.raises(InputError, match="more than 20000 objects"):
        walk_through(tmp_path / "many.h5")


def test_a_chunk_larger_than_the_budget_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "chunk.h5", "w") as file:
        data = file.create_dataset(
            "kspace", (2, 16, 16), "c8", maxshape=(None, None, None), chunks=(64, 512, 512),
            compression="gzip",
        )  # fmt: skip
        data[...] = np.ones((2, 16, 16), np.complex64)
    monkeypatch.setenv("RESTORE_MAX_MEMORY_GB", "0.05")
    with (
        open_hdf5(tmp_path / "chunk.h5") as file,
        pytest.raises(InputError, match=r"0\.134 GB of memory, 0\.05 GB allowed"),
    ):
        find_dataset(file, "kspace")
