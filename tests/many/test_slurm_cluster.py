"""Array jobs on a real Slurm: told before their limit they keep what they have, wait again, and give the same bits."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from many.slurm_cluster import Cluster, missing
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import head_phantom
from restore.many.slurm import Array, hand_in, script, write_script

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(bool(missing()), reason=f"no Slurm to test with: {missing()}"),
]
SLICES = 12
WORK = ["--sampler", "tv", "--steps", "60", "--device", "cpu"]
KEPT = re.compile(r"what is finished \(\d+ pieces\) is kept in")
WAIT_S = 240
"""For one state of a job on a machine that is busy with other things; Slurm looks at limits every half minute."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        with pytest.MonkeyPatch.context() as patch:
            for name in ("SLURM_CONF", "PATH"):
                patch.setenv(name, made.environment[name])
            yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("its 'scans'")
    head = head_phantom((SLICES, 40, 32))
    for seed, name in enumerate("ab"):
        write_fastmri(simulate_mri(head, coils=4, acceleration=2, seed=seed), folder / f"{name}.h5")
    return folder


def restored(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def until(there: Callable[[], bool], cluster: Cluster, what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not there():
        assert time.monotonic() < end, f"{what}: {cluster.ask('squeue', '--all')}{cluster.logs()}"
        time.sleep(0.2)


def in_state(cluster: Cluster, job: str, *states: str) -> None:
    until(lambda: cluster.told(job).get("JobState") in states, cluster, f"{job} {states}")


def again_at_once(cluster: Cluster, job: str) -> None:
    """A job that was put back waits two minutes, unless it is told not to."""
    in_state(cluster, job, "PENDING")
    cluster.ask("scontrol", "update", f"jobid={job}", "starttime=now")


def handed_in(folder: Path, *words: object) -> tuple[str, Path]:
    """The number of the job of a submitted command, and the folder of its logs."""
    result = restored("submit", "-o", folder / "job.sh", "--go", "--", *words)
    assert result.exit_code == 0, result.output
    return result.stdout.split()[1].rstrip(":"), folder / "job-logs"


def test_tasks_go_on_where_they_were_and_give_the_bits_of_one_run(cluster, scans, tmp_path):
    """One task is told that its time is nearly up, the other is put back by an administrator."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    job, logs = handed_in(tmp_path, "recon", scans, "-o", out, *WORK)
    for task in ("1", "2"):
        log = logs / f"{job}-{task}.log"
        until(
            lambda log=log: log.is_file() and f"3 of {SLICES} slices" in log.read_text(),
            cluster,
            "3 slices",
        )
    cluster.ask("scancel", "--signal=USR1", "--batch", f"{job}_1")
    cluster.ask("scontrol", "requeue", f"{job}_2")
    for task in ("1", "2"):
        again_at_once(cluster, f"{job}_{task}")
    for task in ("1", "2"):
        in_state(cluster, f"{job}_{task}", "COMPLETED")
        assert cluster.told(f"{job}_{task}")["Restarts"] == "1"
    log = (logs / f"{job}-1.log").read_text()
    assert "the same command goes on" in log
    assert "this task goes on when its turn comes again" in log
    assert KEPT.search(log)
    assert restored("recon", scans, "-o", whole, *WORK).exit_code == 0
    for name in ("a.nii.gz", "b.nii.gz"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert list(out.glob(".*")) == []


def test_what_is_cancelled_stays_cancelled_and_its_slices_are_kept(cluster, scans, tmp_path):
    out = tmp_path / "out"
    job, logs = handed_in(tmp_path, "recon", scans / "a.h5", "-o", tmp_path / "a.nii.gz", *WORK)
    log = logs / f"{job}-1.log"
    until(lambda: log.is_file() and f"2 of {SLICES} slices" in log.read_text(), cluster, "2 slices")
    cluster.ask("scancel", job)
    in_state(cluster, f"{job}_1", "CANCELLED")
    until(lambda: "ended by SIGTERM" in log.read_text(), cluster, "the end")
    assert cluster.told(f"{job}_1")["Restarts"] == "0"
    assert not out.exists()
    again = restored("recon", scans / "a.h5", "-o", tmp_path / "a.nii.gz", *WORK)
    assert again.exit_code == 0
    assert KEPT.search(log.read_text())


def test_slurm_tells_a_task_before_its_limit(cluster, tmp_path):
    """The limit is one minute, the least that Slurm knows; the work listens, and has nothing to do the second time."""
    work, text = tmp_path / "work.sh", "trap 'exit 75' TERM\n"
    text += f"if [ -e {tmp_path}/begun ]; then exit 0; fi\ntouch {tmp_path}/begun\n"
    work.write_text(text + "while true; do sleep 0.1; done\n")
    command = [str(shutil.which("bash")), str(work)]
    array = Array(1, time="1", before_end_s=55)
    job_script = script(command, array, name="limit", folder=tmp_path, logs=tmp_path / "logs")
    write_script(tmp_path / "job.sh", job_script)
    job = hand_in(tmp_path / "job.sh")
    until((tmp_path / "begun").exists, cluster, "begun")
    again_at_once(cluster, f"{job}_1")
    in_state(cluster, f"{job}_1", "COMPLETED")
    assert cluster.told(f"{job}_1")["Restarts"] == "1"
