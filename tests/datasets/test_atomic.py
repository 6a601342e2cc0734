"""Results appear whole or not at all, and only where there is room for them."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple

import numpy as np
import pytest

from restore.datasets import budget
from restore.datasets.atomic import atomic_file, atomic_folder, hidden_folder, sweep
from restore.datasets.volume.nifti_write import write
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, OutputError


def test_file_appears_with_its_content(tmp_path):
    target = tmp_path / "x.nii.gz"
    with atomic_file(target) as partial:
        assert partial.parent == tmp_path
        assert partial.name.endswith(".nii.gz")
        partial.write_bytes(b"result")
        assert not target.exists()
    assert target.read_bytes() == b"result"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, OSError])
def test_failure_leaves_the_old_result_and_nothing_else(tmp_path, failure):
    target = tmp_path / "x.png"
    target.write_bytes(b"old")

    def half_a_result():
        with atomic_file(target) as partial:
            partial.write_bytes(b"half")
            raise failure("28: no space left")

    with pytest.raises(OutputError if failure is OSError else failure):
        half_a_result()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_disk_that_fills_up_while_writing(tmp_path, monkeypatch):
    """What nibabel leaves as a truncated file under the final name (fault 34)."""

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    volume = Volume(np.zeros((2, 3, 4), np.float32), np.eye(4))
    with pytest.raises(OutputError, match="No space left"):
        write(volume, tmp_path / "x.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_room_is_checked_beforehand(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000, 900, 100))
    with pytest.raises(OutputError, match="free"), atomic_file(tmp_path / "x", 101):
        pytest.fail("the body may not run")
    with pytest.raises(OutputError, match="no such folder"), atomic_file(tmp_path / "no" / "x"):
        pytest.fail("the body may not run")


def test_body_that_writes_nothing(tmp_path):
    with pytest.raises(OutputError), atomic_file(tmp_path / "x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "series"
    for name in ("one", "two"):
        with atomic_folder(target) as partial:
            (partial / name).write_text(name)
    assert [f.name for f in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]


def test_failure_in_a_folder(tmp_path):
    target = tmp_path / "series"
    target.mkdir()
    (target / "old").write_text("old")

    def half_a_result():
        with atomic_folder(target) as partial:
            (partial / "new").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_a_result()
    assert [f.name for f in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_library_leaves_in_a_hidden_folder_goes_with_it(tmp_path):
    target = tmp_path / "weights.safetensors"
    with hidden_folder(target) as folder:
        assert folder.parent == tmp_path
        (folder / ".tmp12ab").write_bytes(b"half")
        (folder / "whole").write_bytes(b"whole")
        (folder / "whole").replace(target)
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]
    # Killed in between: the folder bears a name that `sweep` knows.
    dead = tmp_path / folder.name.replace(
        str(os.getpid()), "4194305"
    )  # beyond the largest process number
    dead.mkdir()
    (dead / ".tmp12ab").write_bytes(b"half")
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]


def test_memory_budget(monkeypatch):
    monkeypatch.setenv(budget.VARIABLE, "2")
    assert budget.memory_limit() == 2 * 10**9
    budget.check_budget(2 * 10**9, "x")
    with pytest.raises(InputError, match="2 GB allowed"):
        budget.check_budget(2 * 10**9 + 1, "x")
    with pytest.raises(InputError):
        budget.check_budget(11, "x", limit=10)
    for bad in ("-1", "much", "inf", "nan"):
        monkeypatch.setenv(budget.VARIABLE, bad)
        with pytest.raises(ConfigError, match=budget.VARIABLE):
            budget.memory_limit()
    monkeypatch.delenv(budget.VARIABLE)
    assert budget.memory_limit() > 0
