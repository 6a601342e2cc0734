"""`restore simulate` stopped and run again: finished slices are kept, the scan is that of an uninterrupted run."""

from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import pytest

from restore.cli import console
from restore.datasets.open import write
from restore.datasets.simulate import ct as ct_scans
from restore.datasets.simulate import fastmri_files, mri
from restore.datasets.simulate.phantom import ct_phantom, head_phantom
from restore.pipelines import run_simulation, work_folder
from restore.pipelines.work_folder import WorkFolder

SLICES = 5
KINDS = {
    "mri": ("mri", "--coils", 2),
    "fastmri": ("mri", "--coils", 2, "--as", "fastmri", "--test", 4),
    "ct": ("ct", "--views", 8),
}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    write(head_phantom((SLICES, 24, 24)), folder / "mri.nii")
    write(ct_phantom((SLICES, 24, 24)), folder / "ct.nii")
    return folder


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """One entry a slice that this process measures."""
    seen: list[int] = []

    def counted(measure):
        def measuring(*given):
            seen.append(len(seen))
            return measure(*given)

        return measuring

    for module in (mri, fastmri_files):
        monkeypatch.setattr(module, "_measure", counted(module._measure))
    monkeypatch.setattr(ct_scans, "hu_to_mu", counted(ct_scans.hu_to_mu))
    return seen


def job(kind: str, volumes: Path, out: Path, *more: object) -> list[object]:
    verb, *options = KINDS[kind]
    return ["simulate", verb, volumes / f"{verb}.nii", "-o", out, *options, *more]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_command_goes_on_with_the_slices_done(
    kind, volumes, verb, tmp_path, computed, monkeypatch
):
    """Stopped after three slices, and again when only the moving was left."""
    out, whole = tmp_path / "a.h5", tmp_path / "whole" / "a.h5"
    keep = WorkFolder.keep

    def stopped(self, which, array, told):
        if which.start == 3:
            raise KeyboardInterrupt
        keep(self, which, array, told)

    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "keep", stopped)
        result = verb(*job(kind, volumes, out))
    assert result.exit_code == 130
    assert "3 pieces) is kept" in result.stderr
    assert not out.exists()
    computed.clear()
    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "move", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        assert verb(*job(kind, volumes, out)).exit_code == 130
    assert len(computed) == SLICES - 3
    computed.clear()
    assert verb(*job(kind, volumes, out)).exit_code == 0
    assert computed == []
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
    whole.parent.mkdir()
    assert verb(*job(kind, volumes, whole)).exit_code == 0
    assert out.read_bytes() == whole.read_bytes()


def test_a_scan_that_is_there_is_not_made_twice_and_a_changed_one_is_not_taken_for_it(
    volumes, verb, tmp_path, computed, monkeypatch
):
    out = tmp_path / "a.h5"
    with (
        monkeypatch.context() as patch
    ):  # killed when the scan is in its place, but for the folder of its work
        patch.setattr(work_folder, "remove", lambda path: None)
        assert verb(*job("mri", volumes, out)).exit_code == 0
    assert len(list(tmp_path.iterdir())) == 2
    right = out.read_bytes()
    computed.clear()
    again = verb(*job("mri", volumes, out))
    assert (again.exit_code, computed) == (0, [])
    assert "already done" in again.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
    other = verb(*job("mri", volumes, out, "--seed", 8))
    assert other.exit_code == 5
    assert "exists already" in other.stderr
    with h5py.File(out, "r+") as file:
        file["kspace"][0, 0, 0, 0] += 1
    changed = verb(*job("mri", volumes, out))
    assert changed.exit_code == 5
    assert "changed since it was simulated" in changed.stderr
    assert verb(*job("mri", volumes, out, "--overwrite")).exit_code == 0
    assert out.read_bytes() == right


def test_progress_of_long_work_is_said(volumes, verb, tmp_path, monkeypatch):
    quick = verb(*job("ct", volumes, tmp_path / "a.h5"))
    assert "slices," not in quick.stderr
    hours = itertools.count(0, 3600)
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(hours)))
    slow = verb(*job("ct", volumes, tmp_path / "b.h5"))
    assert f"b.h5: {SLICES - 1} of {SLICES} slices" in slow.stderr


def test_samples_beyond_single_precision_are_refused(volumes, verb, tmp_path):
    result = verb(*job("mri", volumes, tmp_path / "a.h5", "--noise", "1e300"))
    assert result.exit_code == 2
    assert "beyond single precision" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_room_for_the_kept_slices_is_looked_for_before_the_work(
    volumes, verb, tmp_path, computed, monkeypatch
):
    monkeypatch.setattr(run_simulation, "ROOM", 10**12)
    result = verb(*job("mri", volumes, tmp_path / "a.h5"))
    assert (result.exit_code, computed) == (5, [])
    assert "MB free" in result.stderr
    assert list(tmp_path.iterdir()) == []
