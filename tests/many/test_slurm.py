"""The script of an array job: its text, and what a task does, under bash with the variables that Slurm sets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from restore.errors import ConfigError, NotFoundError, OutputError
from restore.many import slurm
from restore.many.slurm import Array, hand_in, script, write_script

WAIT_S = 120
"""For a process to get going on a machine that is busy with other things."""
BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="bash is missing")


@pytest.fixture
def task(tmp_path: Path):
    """Start task 2 of 3 of a command that is a script of bash; a made-up scontrol notes what it is asked."""
    place = tmp_path / "a 'place' $HOME `x`"
    place.mkdir()
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/bash\necho "$@" >> "{tmp_path}/asked"\n')
    scontrol.chmod(0o755)

    def start(body: str, **environment: str) -> subprocess.Popen[bytes]:
        work = place / "work.sh"
        work.write_text(body)
        text = script(
            [str(BASH), str(work), "a b", "$(c)"], Array(3, time="1:00"), name="restore-x y", folder=place,
            logs=place / "logs",
        )  # fmt: skip
        file = tmp_path / "job.sh"
        write_script(file, text)
        told = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_ID": "9"}
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen(
            [str(BASH), str(file)], env={**os.environ, "PATH": path, **told, **environment}
        )  # fmt: skip

    start.log = place / "logs" / "7-2.log"  # type: ignore[attr-defined]
    start.asked = tmp_path / "asked"  # type: ignore[attr-defined]
    return start


def listening(log: Path) -> None:
    end = time.monotonic() + WAIT_S
    while not (log.is_file() and "listening" in log.read_text()):
        assert time.monotonic() < end
        time.sleep(0.02)


LISTENS = """\
trap 'sleep 0.2; echo told; exit 75' TERM
echo listening
for _ in {1..6000}; do sleep 0.02; done
"""


def test_a_task_runs_its_part_where_the_command_was_given(task):
    assert task('echo "$PWD|$1|$2|$3|$4"').wait(WAIT_S) == 0
    assert task.log.read_text() == f"{task.log.parents[1]}|a b|$(c)|--part|2/3\n"
    assert task("exit 8").wait(WAIT_S) == 8
    assert not task.asked.exists()


@pytest.mark.parametrize(
    ("number", "restarts", "code", "asked"),
    [
        (signal.SIGUSR1, "", 0, "requeue 9\n"),  # the time is nearly up
        (signal.SIGUSR1, str(slurm.MOST_RESTARTS), 75, None),
        (signal.SIGTERM, "", 75, None),  # cancelled
    ],
)
def test_a_task_that_is_told_to_end(task, number, restarts, code, asked):
    process = task(LISTENS, SLURM_RESTART_COUNT=restarts)
    listening(task.log)
    process.send_signal(number)
    assert process.wait(WAIT_S) == code
    assert "told" in task.log.read_text()
    assert (task.asked.read_text() if task.asked.exists() else None) == asked


def test_what_slurm_is_asked_for():
    lines = Array(
        12, 4, "1-12:00", "gpu,long", "gpu:h100:1", 8, "64G", ("--account=lab", "--nice"), 90
    ).lines()
    for option in (
        "array=1-12%4", "time=1-12:00", "partition=gpu,long", "gres=gpu:h100:1", "cpus-per-task=8", "mem=64G",
        "signal=B:USR1@90", "requeue", "account=lab", "nice",
    ):  # fmt: skip
        assert f"#SBATCH --{option}" in lines
    assert Array(1).lines() == [
        "#SBATCH --array=1-1", "#SBATCH --signal=B:USR1@120", "#SBATCH --requeue", "#SBATCH --output=/dev/null"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "told",
    [
        {"time": "1:00\n#SBATCH --x"},
        {"partition": "a b"},
        {"gres": "gpu:$(x)"},
        {"more": ("-A lab",)},
        {"more": ("--comment=a b",)},
        {"tasks": 0},
    ],
)
def test_values_that_would_leave_their_line_are_refused(told):
    with pytest.raises(ConfigError):
        Array(**({"tasks": 2} | told))


def test_scripts_of_others_stay_and_no_sbatch_is_said(tmp_path, monkeypatch):
    other = tmp_path / "job.sh"
    other.write_text("#!/bin/bash\necho mine\n")
    with pytest.raises(OutputError, match="no script of"):
        write_script(other, "x")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFoundError, match="hand in"):
        hand_in(other)
