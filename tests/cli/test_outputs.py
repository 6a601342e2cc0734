"""What may stand where results go: leftovers of earlier jobs, the data themselves, pipes, other processes at work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from restore.bench.results import results_path
from restore.datasets.atomic import atomic_file, remove
from restore.datasets.locks import one_at_a_time
from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import head_phantom
from restore.errors import OutputError
from restore.pipelines import run_recon

DENOISE = ("--task", "denoise", "--noise", 0.1, "--sampler")
BENCH = ("--samplers", "nlm", "--tasks", "denoise", "--noise", 0.1, "--crop", 16)
TRAIN = ("--steps", 1, "--batch", 1, "--crop", 16, "--widths", "8,8", "--blocks", "1,1")


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    write_fastmri(simulate_mri(head_phantom((2, 24, 24)), coils=2, acceleration=2), path)
    return path


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(2):
        values = np.random.default_rng(k).integers(0, 255, (24, 24), np.uint8)
        PIL.Image.fromarray(values).save(folder / f"{k}.png")
    return folder


def test_the_deviation_of_an_earlier_job_does_not_outlive_it(scan, verb, tmp_path):
    """Removed with --overwrite, refused without; a file of somebody else stays, with a note."""
    out, std = tmp_path / "a.nii", tmp_path / "a_std.nii"
    command = ["recon", scan, "-o", out, "--sampler"]
    assert verb(*command, "dds", "--steps", 1, "--samples", 2).exit_code == 0
    out.unlink()
    refused = verb(*command, "zerofilled")
    assert refused.exit_code == 5
    assert "a_std.nii: is of an earlier job" in refused.stderr
    result = verb(*command, "zerofilled", "--overwrite")
    assert result.exit_code == 0, result.stderr
    assert "a_std.nii, of the earlier job, was removed" in result.stderr
    assert not std.exists()
    std.write_text("of somebody else")
    result = verb(*command, "zerofilled", "--overwrite")
    assert "a_std.nii lies there and is not of this job" in result.stderr
    assert any("a_std.nii" in n for n in json.loads((tmp_path / "a.json").read_text())["notes"])
    assert std.read_text() == "of somebody else"


def test_the_degraded_picture_of_an_earlier_job_does_not_outlive_it(pictures, verb, tmp_path):
    out = tmp_path / "o.png"
    command = ["image", pictures / "0.png", "-o", out, *DENOISE, "nlm"]
    assert verb(*command, "--simulate").exit_code == 0
    assert (tmp_path / "o_degraded.png").exists()
    assert verb(*command, "--overwrite").exit_code == 0
    assert not (tmp_path / "o_degraded.png").exists()


def test_a_result_that_appears_during_the_work_is_not_replaced(scan, verb, tmp_path, monkeypatch):
    out = tmp_path / "a.nii"
    written = run_recon._written

    def meanwhile(*given):
        out.write_text("of another program")
        return written(*given)

    monkeypatch.setattr(run_recon, "_written", meanwhile)
    result = verb("recon", scan, "-o", out, "--sampler", "zerofilled")
    assert result.exit_code == 5
    assert "has appeared since this job began" in result.stderr
    assert out.read_text() == "of another program"
    assert verb("recon", scan, "-o", out, "--sampler", "zerofilled", "--overwrite").exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.nii"]


def test_one_process_at_a_time(pictures, verb, tmp_path):
    run, weights = tmp_path / "run", tmp_path / "w.safetensors"
    run.mkdir()
    commands = {
        results_path(run): ["bench", "images", pictures, "-o", run, *BENCH],
        weights: ["train", "denoiser", pictures, "-o", weights, *TRAIN],
    }
    for target, command in commands.items():
        with one_at_a_time(target):
            refused = verb(*command)
        assert refused.exit_code == 5
        assert "another process is at work on it" in refused.stderr
        assert verb(*command).exit_code == 0
    assert not list(tmp_path.rglob(".restore-*"))


def test_two_jobs_with_one_name_at_once(scan, verb, tmp_path, monkeypatch):
    """The second one is refused, whatever its settings, and leaves nothing."""
    out, seen = tmp_path / "a.nii", []
    written = run_recon._written

    def meanwhile(*given):
        monkeypatch.setattr(run_recon, "_written", written)
        seen.append(verb("recon", scan, "-o", out, "--sampler", "cgsense"))
        return written(*given)

    monkeypatch.setattr(run_recon, "_written", meanwhile)
    assert verb("recon", scan, "-o", out, "--sampler", "zerofilled").exit_code == 0
    assert seen[0].exit_code == 5
    assert "another job with this name is at work" in seen[0].stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.nii"]


def test_a_run_is_a_folder_without_the_data(pictures, verb, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for run, words in ((tmp_path / "pipe", "is no folder"), (pictures, "holds the data")):
        result = verb("bench", "images", pictures, "-o", run, *BENCH)
        assert result.exit_code == 5
        assert words in result.stderr
    assert sorted(p.name for p in pictures.iterdir()) == ["0.png", "1.png"]


@pytest.mark.parametrize("name", ["w.safetensors", "w.log.jsonl", "w.json", "w.state.safetensors"])
def test_what_a_training_writes_is_no_pipe(pictures, verb, tmp_path, name):
    os.mkfifo(tmp_path / name)
    result = verb("train", "denoiser", pictures, "-o", tmp_path / "w.safetensors", *TRAIN)
    assert result.exit_code == 5
    assert f"{name}: is no file" in result.stderr


def test_a_lock_needs_a_folder(tmp_path):
    with (
        pytest.raises(OutputError, match="there is no such folder"),
        one_at_a_time(tmp_path / "a" / "b"),
    ):
        pass


def test_what_a_killed_benchmark_left_half_written_is_removed(pictures, verb, tmp_path):
    run = tmp_path / "run"
    assert verb("bench", "images", pictures, "-o", run, *BENCH).exit_code == 0
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with atomic_file(run / "reconstructions" / "reference" / "x.h5") as partial:
        partial.touch()
    left = partial.with_name(partial.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-"))
    left.touch()
    assert verb("bench", "images", pictures, "-o", run, *BENCH).exit_code == 0
    assert not left.exists()


@pytest.mark.parametrize(
    "moves",
    [
        {"results": 3},
        {"results": [{"File": "../a.nii", "SHA256": "0"}], "lies": {"../a.nii": "x"}},
        {"results": [{"File": "a.nii", "SHA256": "0"}], "lies": {"a.nii": "../precious"}},
        {"results": [], "lies": {}, "outdated": ["../precious"]},
        {"results": [{"File": "a.nii", "SHA256": "0"}], "lies": [1]},
    ],
)
def test_a_list_of_moves_that_is_none_of_ours_moves_nothing(
    scan, verb, tmp_path, monkeypatch, moves
):
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "precious").write_text("x")
    command = ["recon", scan, "-o", folder / "a.nii", "--sampler", "zerofilled"]
    with monkeypatch.context() as patch:
        patch.setattr(run_recon, "_written", lambda *given: 1 / 0)
        assert verb(*command).exit_code == 1
    (work,) = folder.iterdir()
    (work / "moves.json").write_text(json.dumps(moves))
    result = verb(*command)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "precious").read_text() == "x"
    assert sorted(p.name for p in folder.iterdir()) == ["a.json", "a.nii"]


def test_what_stands_in_the_way_of_unfinished_work_is_named(scan, verb, tmp_path, monkeypatch):
    command = ["recon", scan, "-o", tmp_path / "a.nii", "--sampler", "zerofilled"]
    with monkeypatch.context() as patch:
        patch.setattr(run_recon, "_written", lambda *given: 1 / 0)
        assert verb(*command).exit_code == 1
    (work,) = tmp_path.iterdir()
    remove(work)
    work.write_text("in the way")
    result = verb(*command)
    assert result.exit_code == 5
    assert f"{work.name}: cannot hold the unfinished work" in result.stderr
    work.unlink()
    work.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: work.stat().st_uid + 1)
    assert "belongs to another user" in verb(*command).stderr
