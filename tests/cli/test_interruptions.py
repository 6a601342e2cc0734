"""Jobs that are killed, ended and run again: what is finished is kept, results and records never disagree."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from restore import cli
from restore.cli import signals
from restore.cli.signals import Ended
from restore.datasets.atomic import atomic_file
from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.open import read
from restore.datasets.sidecar import name_bytes, read_sidecar
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import head_phantom
from restore.pipelines import scan_to_volume

SLICES = 9
"""Of the scan of jobs that are caught at work."""

FEW = 3
WAIT_SECONDS = 300
"""For a process to get going on a machine that is busy with other things."""


def scan_of(slices: int, folder: Path) -> Path:
    head = head_phantom((SLICES, 40, 32))
    middle = slice((SLICES - slices) // 2, (SLICES + slices) // 2)
    scan = simulate_mri(head, coils=4, acceleration=2, seed=3, slices=middle)
    write_fastmri(scan, folder / "scan.h5")
    return folder / "scan.h5"


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    return scan_of(FEW, tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module")
def long_scan(tmp_path_factory) -> Path:
    return scan_of(SLICES, tmp_path_factory.mktemp("long"))


def job(scan: Path, out: Path, *more: object) -> list[str]:
    words = ["recon", scan, "-o", out, "--sampler", "tv", "--steps", 40, *more]
    return [str(word) for word in words]


def started(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A real process, its stderr in a file, that has finished at least three slices of the long scan."""
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-m", "restore.cli", *arguments], stderr=stream)
    end = time.monotonic() + WAIT_SECONDS
    while f"3 of {SLICES} slices" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end
        time.sleep(0.02)
    return process


@pytest.fixture
def solved(monkeypatch) -> list[str]:
    """Names of the slices that this process solves."""
    seen: list[str] = []
    solve = scan_to_volume.solve_problem

    def counted(problem, **how):
        seen.extend(problem.ids)
        return solve(problem, **how)

    monkeypatch.setattr(scan_to_volume, "solve_problem", counted)
    return seen


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_the_same_command_goes_on_with_the_slices_done(long_scan, verb, tmp_path, solved, how):
    scan, out, log = long_scan, tmp_path / "out.nii.gz", tmp_path.parent / f"{tmp_path.name}.log"
    process = started(job(scan, out), log)
    process.send_signal(signal.SIGSTOP)  # at work, however slow this process is
    meanwhile = verb(*job(scan, out))
    assert meanwhile.exit_code == 5
    assert "another process is at work" in meanwhile.stderr
    process.send_signal(how)
    process.send_signal(signal.SIGCONT)
    code = process.wait(WAIT_SECONDS)
    assert not out.exists()
    if how == signal.SIGTERM:
        assert code == 75
        assert "ended by SIGTERM" in log.read_text()
        assert "the same command goes on with it" in log.read_text()
    result = verb(*job(scan, out))
    assert result.exit_code == 0, result.stderr
    assert len(solved) <= SLICES - 3
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["out.json", "out.nii.gz"]
    whole = tmp_path / "whole.nii.gz"
    assert verb(*job(scan, whole)).exit_code == 0
    assert out.read_bytes() == whole.read_bytes()
    assert "already done" in verb(*job(scan, out)).stdout


def test_killed_at_every_moment_of_moving(scan, verb, tmp_path, monkeypatch):
    """Between any two changes of the folder: the same command completes its own work and leaves nothing else."""
    where, arguments = tmp_path / "made", []
    where.mkdir()
    out = where / "out.nii.gz"
    arguments = job(scan, out, "--samples", 2, "--steps", 5)
    replace, unlink = Path.replace, Path.unlink
    made = ["out.nii.gz", "out_std.nii.gz", "out_interval.nii.gz"]
    for moment in range(1, 6):
        left = moment

        def counted(self, target, act=replace):
            nonlocal left
            if self.name.startswith(("result-", "record")):
                left -= 1
                if left == 0:
                    raise KeyboardInterrupt
            return act(self, target)

        monkeypatch.setattr(Path, "replace", counted)
        code = verb(*arguments).exit_code
        monkeypatch.setattr(Path, "replace", replace)
        assert code == (130 if moment < 5 else 0)
        result = verb(*arguments)
        assert result.exit_code == 0, result.stderr
        names = sorted(p.name for p in where.iterdir())
        assert names == sorted(["out.json", *made])
        record = json.loads((where / "out.json").read_text())
        assert [m["File"] for m in record["made"]] == made
        for name in names:
            unlink(where / name)


def test_a_record_vouches_for_its_own_results_only(scan, verb, tmp_path):
    """A cut result, and the result of B under the record of A, are not called done."""
    a, b = tmp_path / "a.nii", tmp_path / "b.nii"
    command = ["--sampler", "zerofilled"]
    assert verb("recon", scan, "-o", a, *command).exit_code == 0
    assert verb("recon", scan, "-o", b, "--sampler", "cgsense").exit_code == 0
    whole = a.read_bytes()
    for content in (whole[:-1], b.read_bytes()):
        a.write_bytes(content)
        result = verb("recon", scan, "-o", a, *command)
        assert result.exit_code == 5
        assert "is not what its record vouches for" in result.stderr
        assert a.read_bytes() == content
    assert verb("recon", scan, "-o", a, *command, "--overwrite").exit_code == 0
    assert a.read_bytes() == whole
    assert read_sidecar(a)["seconds"] > 0


@pytest.mark.parametrize(
    "more",
    [
        pytest.param([], marks=pytest.mark.slow),
        ["--sampler", "dds", "--steps", 2, "--samples", 2],
    ],
)
def test_a_cut_piece_is_done_again(long_scan, verb, tmp_path, solved, monkeypatch, more):
    scan, out = long_scan, tmp_path / "out.nii"
    with monkeypatch.context() as patch:
        patch.setattr("restore.pipelines.run_recon._written", lambda *_: 1 / 0)
        assert verb(*job(scan, out, *more)).exit_code == 1
    (folder,) = tmp_path.iterdir()
    piece = next(folder.glob("slices-4-*.npy"))
    piece.write_bytes(piece.read_bytes()[:-4])
    solved.clear()
    assert verb(*job(scan, out, *more)).exit_code == 0
    assert solved == ["slice 4"]


def test_another_job_with_the_same_name_takes_no_foreign_pieces(scan, verb, tmp_path, monkeypatch):
    out = tmp_path / "out.nii"
    with monkeypatch.context() as patch:
        patch.setattr("restore.pipelines.run_recon._written", lambda *_: 1 / 0)
        assert verb(*job(scan, out)).exit_code == 1
    assert verb("recon", scan, "-o", out, "--sampler", "zerofilled").exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "out.nii"]
    plain = tmp_path / "plain.nii"
    assert verb("recon", scan, "-o", plain, "--sampler", "zerofilled").exit_code == 0
    np.testing.assert_array_equal(read(out).data, read(plain).data)


def test_a_json_of_somebody_else_is_not_touched(scan, verb, tmp_path):
    bids = {"RepetitionTime": 2.0, "MagneticFieldStrength": 3}
    (tmp_path / "r.json").write_text(json.dumps(bids))
    for overwrite in ([], ["--overwrite"]):
        result = verb(
            "recon", scan, "-o", tmp_path / "r.nii", "--sampler", "zerofilled", *overwrite
        )
        assert result.exit_code == 0, result.stderr
        assert json.loads((tmp_path / "r.json").read_text()) == bids
        assert "r.nii.restore.json" in result.stderr
    again = verb("recon", scan, "-o", tmp_path / "r.nii", "--sampler", "zerofilled")
    assert "already done" in again.stdout


def test_two_forms_of_one_name_have_a_record_each(scan, verb, tmp_path):
    for name, sampler in (("r.nii", "zerofilled"), ("r.nii.gz", "cgsense")):
        assert verb("recon", scan, "-o", tmp_path / name, "--sampler", sampler).exit_code == 0
    for name, sampler in (("r.nii", "zerofilled"), ("r.nii.gz", "cgsense")):
        again = verb("recon", scan, "-o", tmp_path / name, "--sampler", sampler)
        assert "already done" in again.stdout
    assert len(list(tmp_path.glob("*.json"))) == 2


@pytest.mark.parametrize(
    "name", ["größe 体.nii", os.fsdecode(b"caf\xe9.nii"), "n" * 251 + ".nii", "n" * 255]
)
def test_names_of_any_bytes(scan, verb, tmp_path, name):
    out = tmp_path / name
    result = verb("recon", scan, "-o", out, "--sampler", "zerofilled")
    assert result.exit_code == 0, result.stderr
    assert out.exists()
    assert "already done" in verb("recon", scan, "-o", out, "--sampler", "zerofilled").stdout


def test_names_that_no_file_system_takes(scan, verb, tmp_path):
    for out, more in (
        (tmp_path / ("n" * 256), []),
        (tmp_path / ("n" * 251 + ".nii"), ["--samples", "2"]),
    ):
        result = verb("recon", scan, "-o", out, "--sampler", "exact", *more)
        assert result.exit_code == 5
        assert "choose a shorter one" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_output_is_none_of_the_inputs(scan, verb, tmp_path):
    like, prior, config = tmp_path / "like", tmp_path / "w.nii", tmp_path / "c.nii"
    like.mkdir()
    prior.write_text("weights")
    config.write_text("sampler: zerofilled\n")
    link = tmp_path / "link.nii"
    os.link(prior, link)
    for out, option, path in (
        (like, "--like", like), (prior, "--prior", prior), (link, "--prior", prior), (config, "--config", config)
    ):  # fmt: skip
        result = verb("recon", scan, "-o", out, option, path, "--overwrite")
        assert result.exit_code == 5, result.stderr
        assert "output and input are the same" in result.stderr
    assert (prior.read_text(), config.read_text()) == ("weights", "sampler: zerofilled\n")


def test_pipes_and_links(scan, verb, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert verb("recon", pipe, "-o", tmp_path / "x.nii").exit_code == 4
    assert verb("recon", scan, "-o", pipe, "--overwrite").exit_code == 5
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    result = verb("recon", scan, "-o", tmp_path / "link", "--sampler", "zerofilled")
    assert result.exit_code == 5
    assert "name the folder itself" in result.stderr


def test_a_full_disk_is_known_before_the_work(scan, verb, tmp_path, monkeypatch, solved):
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    result = verb("recon", scan, "-o", tmp_path / "x.nii", "--sampler", "zerofilled")
    assert result.exit_code == 5
    assert "free" in result.stderr
    assert solved == []


def test_a_folder_that_takes_no_files_is_known_before_the_work(
    scan, verb, tmp_path, monkeypatch, solved
):
    def read_only(self, *_args, **_kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "touch", read_only)
    result = verb("recon", scan, "-o", tmp_path / "x.nii", "--sampler", "zerofilled")
    assert result.exit_code == 5
    assert "Read-only file system" in result.stderr
    assert solved == []


def test_ends_of_a_terminal(verb, monkeypatch):
    def ended() -> list:
        raise Ended(signal.SIGHUP)

    monkeypatch.setattr("restore.cli.listing.operators", ended)
    result = verb("list", "operators")
    assert result.exit_code == 129
    assert "ended by SIGHUP" in result.stderr


def test_a_signal_before_a_verb_is_at_work(monkeypatch, capfd):
    """The frame takes it for Ctrl-C and ends with 130."""
    ended = Ended(signal.SIGTERM)
    monkeypatch.setattr(signals, "_received", [ended])
    monkeypatch.setattr(cli, "app", lambda: sys.exit(cli.INTERRUPTED))
    monkeypatch.setattr(signals, "listen", lambda: None)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 143
    assert "ended by SIGTERM" in capfd.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried",
        "not enough memory: tried",
    ],
)
def test_memory_that_torch_does_not_get(verb, monkeypatch, words):
    def operators() -> list:
        raise RuntimeError(words)

    monkeypatch.setattr("restore.cli.listing.operators", operators)
    assert verb("list", "operators").exit_code == 7


@pytest.mark.parametrize(
    "words",
    [
        ("simulate", "mri", "VOLUME", "-o", "OUT.h5", "--coils", "1000000000"),
        ("simulate", "mri", "VOLUME", "-o", "OUT.h5", "--as", "fastmri", "--oversampling", "1000000000"),
        ("simulate", "ct", "VOLUME", "-o", "OUT.h5", "--views", "1000000000"),
        ("recon", "SCAN", "-o", "OUT.nii", "--steps", "1000000000"),
        ("recon", "SCAN", "-o", "OUT.nii", "--samples", "1000000000"),
        ("image", "PHOTO", "-o", "OUT.png", "--task", "superres", "--factor", "1000000"),
        ("image", "PHOTO", "-o", "OUT.png", "--task", "deblur", "--kernel", "gaussian:1e9"),
    ],
)  # fmt: skip
def test_numbers_that_never_end(scan, verb, tmp_path, words):
    volume, photo = tmp_path / "v.nii", tmp_path / "p.png"
    nibabel.save(nibabel.Nifti1Image(np.ones((16, 16, 2), np.float32), np.eye(4)), volume)
    PIL.Image.fromarray(np.zeros((16, 16), np.uint8)).save(photo)
    names = {"VOLUME": volume, "SCAN": scan, "PHOTO": photo}
    out = [tmp_path / word if word.startswith("OUT") else names.get(word, word) for word in words]
    result = verb(*out)
    memory = "--factor" in words  # an enlargement may be as large as memory is
    assert result.exit_code == (7 if memory else 2), result.stderr
    assert not list(tmp_path.glob("OUT*"))


def test_a_picture_has_a_record_that_vouches_for_it(verb, tmp_path):
    photo, card = tmp_path / "p.png", tmp_path / "o.json"
    half = np.repeat(np.array([0, 255], np.uint8), 8)[None].repeat(16, 0)
    PIL.Image.fromarray(half).save(photo)  # its own mask
    card.write_text('{"of": "somebody else"}')
    command = ["image", photo, "-o", tmp_path / "o.png", "--task", "inpaint", "--mask", photo]
    result = verb(*command, "--sampler", "tv", "--steps", 2)
    assert result.exit_code == 0, result.stderr
    assert card.read_text() == '{"of": "somebody else"}'
    (made,) = json.loads((tmp_path / "o.png.restore.json").read_text())["made"]
    content = (tmp_path / "o.png").read_bytes()
    assert (made["Bytes"], made["SHA256"]) == (len(content), hashlib.sha256(content).hexdigest())
    result = verb(*command[:3], photo, *command[4:], "--overwrite")
    assert result.exit_code == 5
    assert "output and input are the same" in result.stderr


def test_names_in_records_of_any_kind():
    assert name_bytes("caf\udce9") == b"caf\xe9"
    assert name_bytes("\udcc3\udc9f") == name_bytes("ß")
    assert name_bytes("\ud800") != name_bytes("x")


def test_what_dead_processes_left_is_removed(scan, verb, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(WAIT_SECONDS)
    left = [_hidden(tmp_path, dead.pid, ".nii"), _hidden(tmp_path, dead.pid, "")]
    alive = _hidden(tmp_path, os.getpid(), ".nii")
    left[0].write_text("half")
    left[1].mkdir()
    alive.write_text("half")
    assert verb("recon", scan, "-o", tmp_path / "x.nii", "--sampler", "zerofilled").exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([alive.name, "x.json", "x.nii"])


def _hidden(folder: Path, process: int, suffix: str) -> Path:
    with atomic_file(folder / f"x{suffix}") as partial:
        partial.touch()
    (folder / f"x{suffix}").unlink()
    return partial.with_name(partial.name.replace(f"-{os.getpid()}-", f"-{process}-"))
