"""An array job of Slurm for one command with `--part`: its script, and handing it in.

Called by `cli/submit.py`. The script needs nothing of this package but the command that it runs. What its tasks print
goes into one file a task; paths of any kind are safe, for they stand in shell quotes and nowhere else.

Signals: Slurm tells the script by SIGUSR1 some time before the limit. It passes SIGTERM on to the command, which keeps
what is finished and ends with code 75; then, and only then, the task is put into the queue again. SIGTERM from Slurm
itself (`scancel`, a preemption) is passed on too, but what somebody cancelled stays cancelled; what was preempted Slurm
puts into the queue itself, as `--requeue` says.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from restore.datasets.atomic import atomic_file
from restore.errors import ConfigError, NotFoundError, OutputError, RestoreError

MARK = "# Written by `restore submit`."
MOST_RESTARTS = 100
"""Of one task: work that comes no further than this ends, and does not fill the queue for ever."""
CONTINUED = 75
_WORD = re.compile(r"[\w.,:;@%+=/\[\]()-]+", re.ASCII)
"""What a value on an #SBATCH line may be made of: nothing that ends the line or a word."""


@dataclasses.dataclass(frozen=True)
class Array:
    """What Slurm is asked for.

    tasks: parts of the command. at_once: tasks that may run at the same time, 0 for all. time, partition, gres, cpus,
    mem: as sbatch takes them, "" or 0 for the cluster's own. more: whole options of sbatch. before_end_s: seconds
    before the limit at which a task is told to end. Raises ConfigError.
    """

    tasks: int
    at_once: int = 0
    time: str = ""
    partition: str = ""
    gres: str = ""
    cpus: int = 0
    mem: str = ""
    more: tuple[str, ...] = ()
    before_end_s: int = 120

    def __post_init__(self) -> None:
        for name in ("time", "partition", "gres", "mem"):
            value = getattr(self, name)
            if value and not _WORD.fullmatch(value):
                raise ConfigError(
                    f"--{name} {value!r}: sbatch takes letters, digits and .,:;@%+=/-"
                )
        for option in self.more:
            if not option.startswith("--") or not _WORD.fullmatch(option):
                raise ConfigError(
                    f"--sbatch {option!r}: expected one whole option such as --account=NAME, without spaces"
                )
        if self.tasks < 1 or self.at_once < 0:
            raise ConfigError(f"an array has at least one task, got {self.tasks}")

    def lines(self) -> list[str]:
        """The options as #SBATCH lines."""
        at_once = f"%{self.at_once}" if self.at_once else ""
        told = {
            "array": f"1-{self.tasks}{at_once}", "time": self.time, "partition": self.partition, "gres": self.gres,
            "cpus-per-task": str(self.cpus or ""), "mem": self.mem, "signal": f"B:USR1@{self.before_end_s}",
        }  # fmt: skip
        options = [f"--{name}={value}" for name, value in told.items() if value]
        return [f"#SBATCH {o}" for o in (*options, "--requeue", "--output=/dev/null", *self.more)]


def script(command: Sequence[str], array: Array, *, name: str, folder: Path, logs: Path) -> str:
    """The text of the batch script.

    command: words of the command; each task adds `--part K/N`. name: of the job. folder: where the command runs. logs:
    folder of what the tasks print, JOB-TASK.log.
    """
    quoted = " ".join(shlex.quote(word) for word in command)
    return "\n".join(
        (
            "#!/bin/bash",
            MARK,
            f"#SBATCH --job-name={re.sub(r'[^A-Za-z0-9_-]', '-', name)}",
            *array.lines(),
            f"command=({quoted})",
            f"folder={shlex.quote(str(folder))}",
            f"logs={shlex.quote(str(logs))}",
            f"tasks={array.tasks} most_restarts={MOST_RESTARTS} continued={CONTINUED}",
            _BODY,
        )
    )


_BODY = """\
mkdir -p -- "$logs" || exit 5
exec >>"$logs/${SLURM_ARRAY_JOB_ID}-${SLURM_ARRAY_TASK_ID}.log" 2>&1 || exit 5
cd -- "$folder" || exit 3
time_is_up=0 got=0
work=
trap 'time_is_up=1 got=1; kill -TERM "$work" 2>/dev/null' USR1
trap 'got=1; kill -TERM "$work" 2>/dev/null' TERM
"${command[@]}" --part "$SLURM_ARRAY_TASK_ID/$tasks" &
work=$!
if [ "$got" = 1 ]; then kill -TERM "$work"; fi
while :; do  # a signal ends a wait before its time
  got=0
  wait "$work"
  ended=$?
  if [ "$ended" != 127 ]; then code=$ended; fi
  if [ "$got" = 0 ]; then break; fi
done
if [ "$code" = 143 ]; then code=$continued; fi  # told to end before it had begun to listen
if [ "$code" = "$continued" ] && [ "$time_is_up" = 1 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$most_restarts" ]; then
  echo "restore: the time is up; this task goes on when its turn comes again"
  scontrol requeue "$SLURM_JOB_ID" && exit 0
fi
exit "$code"
"""


def write_script(path: Path, text: str) -> None:
    """Write a script, in the place of one of ours too. Raises OutputError for a file of others."""
    if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace")[:200]:
        raise OutputError(
            f"{path}: exists and is no script of `restore submit`; choose another name"
        )
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="surrogateescape")


def hand_in(path: Path) -> str:
    """Give a script to sbatch; the number of the job.

    Raises NotFoundError where there is no sbatch, RestoreError with what Slurm says.
    """
    program = shutil.which("sbatch")
    if program is None:
        raise NotFoundError(
            f"sbatch: there is no such program here; the script is written: hand in {path} where Slurm is"
        )
    arguments = [program, "--parsable", str(path.absolute())]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise RestoreError(f"sbatch refused {path}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip().split(";")[0]
