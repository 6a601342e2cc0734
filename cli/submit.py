"""`restore submit -- VERB ...`: the same command as an array job of Slurm, one part a task."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import console
from restore.cli.many import ONLY_LIST

if TYPE_CHECKING:
    from restore.many.jobs import Job

MOST_TASKS = 1000
"""Slurm's own limit is 1001 unless a cluster says otherwise; more inputs are several a task."""
SHOWN = 3


def command(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(metavar="-- VERB ...", help="The command, with its inputs and its OUT."),
    ],
    script: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="SCRIPT", help="Script to write. Default: restore-VERB.sh."
        ),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option(min=1, help="Tasks of the array. Default: one an input, 1000 at most."),
    ] = None,
    at_once: Annotated[
        int, typer.Option("--max", min=0, help="Tasks that may run at the same time; 0: all.")
    ] = 0,
    time: Annotated[
        str, typer.Option(help="Limit of one task, as sbatch takes it: 2:00:00, 1-12.")
    ] = "",
    partition: Annotated[str, typer.Option(help="Partition of the cluster.")] = "",
    gres: Annotated[str, typer.Option(help="Of each task, such as gpu:1.")] = "",
    cpus: Annotated[int, typer.Option(min=0, help="Cores of each task.")] = 0,
    mem: Annotated[str, typer.Option(help="Memory of each task, such as 16G.")] = "",
    sbatch: Annotated[
        list[str] | None,
        typer.Option("--sbatch", metavar="OPTION", help="More for sbatch, such as --account=NAME."),
    ] = None,
    before_end: Annotated[
        int,
        typer.Option(min=10, help="Seconds before the limit at which a task keeps what it has."),
    ] = 120,
    go: Annotated[bool, typer.Option("--go", help="Hand the job in.")] = False,
) -> None:
    """Write an array job of Slurm for a command with many inputs, and hand it in with --go.

    A task that the time limit ends is put into the queue again and goes on where it was.
    """
    from restore.many.slurm import Array, hand_in, write_script
    from restore.many.slurm import script as script_of

    name, counted = _counted(context, words, tasks)
    more = tuple(sbatch or ())
    array = Array(counted, at_once, time, partition, gres, cpus, mem, more, before_end)
    path = Path(f"{name}.sh") if script is None else script
    full = [sys.executable, "-m", "restore.cli", *words]
    logs = path.absolute().with_name(f"{path.stem}-logs")
    write_script(path, script_of(full, array, name=name, folder=Path.cwd(), logs=logs))
    if go:
        console.result(f"job {hand_in(path)}: {counted} tasks of {path}, logs in {logs}")
    else:
        console.result(f"{path}: {counted} tasks; sbatch {path} hands it in")


def _counted(context: typer.Context, words: list[str], tasks: int | None) -> tuple[str, int]:
    """The name of the job and the number of its tasks. Raises ConfigError, and what the verb says of its inputs."""
    from restore.errors import ConfigError

    verb = _verb(context, words)
    told = {parameter.name for parameter in verb.params}
    if any(word == "--part" or word.startswith("--part=") for word in words):
        raise ConfigError("--part is what every task gets for itself; leave it out")
    if "part" not in told:
        raise ConfigError(
            f"`restore {words[0]}` has no --part, so that there is nothing to share out"
        )
    name = "restore-" + "-".join(word for word in words[:2] if word.isalpha() and word.isascii())
    name = name if _is_group(_root(context).commands.get(words[0])) else f"restore-{words[0]}"
    if "participant_label" not in told:
        if tasks is None:
            raise ConfigError(
                f"give --tasks N: of `restore {words[0]}` the inputs are not counted before the run"
            )
        return name, tasks
    jobs = _listed(context, words)
    names = ", ".join(job.name for job in jobs[:SHOWN]) + (", ..." if len(jobs) > SHOWN else "")
    console.say(f"{len(jobs)} input(s): {names}")
    return name, min(len(jobs), MOST_TASKS if tasks is None else tasks)


def _is_group(found: Any) -> bool:
    """Whether a command has commands below it."""
    return hasattr(found, "commands")


def _root(context: typer.Context) -> Any:
    return context.find_root().command


def _verb(context: typer.Context, words: list[str]) -> Any:
    """The command that the words call. Raises ConfigError."""
    from restore.errors import ConfigError

    found: Any = _root(context)
    for word in words:
        if not _is_group(found):
            break
        if word not in found.commands:
            known = ", ".join(found.commands)
            raise ConfigError(f"'{word}' is no verb of restore here; expected one of {known}")
        found = found.commands[word]
    if _is_group(found):
        raise ConfigError(f"`restore {' '.join(words)}` is not a whole command")
    return found


def _listed(context: typer.Context, words: list[str]) -> list[Job]:
    """The jobs that the words stand for, by the verb itself, nothing of it run. Raises NotFoundError."""
    from restore.datasets.content import spelled_out
    from restore.errors import NotFoundError

    root, found = _root(context), list["Job"]()
    with root.make_context("restore", list(words)) as inner:
        inner.meta[ONLY_LIST] = found
        root.invoke(inner)
    for job in found:
        if not spelled_out(job.source).exists():
            raise NotFoundError(f"{job.source}: no such file or folder")
    return found
