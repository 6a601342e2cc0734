"""The words of `restore serve dicom --task` as a task: a name of our list, its options checked by the verb's parser."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import typer

from restore.config import did_you_mean
from restore.errors import ConfigError

if TYPE_CHECKING:
    from restore.serving.dicom_node.task import Task

UNFIT = ("inpaint",)
"""Tasks that need a file for every volume."""

OF_THE_NODE = (
    "-o",
    "--out",
    "--overwrite",
    "--task",
    "--config",
    "--dry-run",
    "--json",
    "--report",
    "--help",
)
"""Options that the node sets itself, or that would leave nothing to send."""
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer's parser raises for any wrong word; typer names only this kind of it."""


def read_task(text: str) -> Task:
    """The task that the words name, such as `volume denoise --steps 20`.

    Raises ConfigError for a name that is not listed or an option that will not do.
    """
    from restore.pipelines.volume.known import TASKS
    from restore.serving.dicom_node.task import CommandTask

    try:
        words = shlex.split(text)
    except ValueError as cause:
        raise ConfigError(f"--task '{text}': {cause}") from cause
    known = [f"volume {name}" for name in TASKS if name not in UNFIT]
    name = " ".join(words[:2])
    if name not in known:
        raise ConfigError(
            f"--task '{text}': '{name}' is no task of a node; known: {', '.join(known)}{did_you_mean(name, known)}"
        )
    fixed = ("--task", words[1])
    _check(words[2:], fixed, text)
    return CommandTask(name, "volume", (*fixed, *words[2:]))


def _check(words: list[str], fixed: tuple[str, ...], text: str) -> None:
    """Have the parser of `restore volume` read the options. Raises ConfigError."""
    from restore.cli import volume

    taken = [w for w in words if w.partition("=")[0] in OF_THE_NODE or w[:2] == "-o"]
    if taken:
        raise ConfigError(f"--task '{text}': {taken[0]} is the node's own and cannot be given")
    alone = typer.Typer()
    alone.command("volume")(volume.command)
    parser: Any = typer.main.get_command(alone)
    try:
        given = parser.make_context("volume", ["IN", "-o", "OUT", *fixed, *words])
    except USAGE_ERROR as cause:
        told = getattr(cause, "format_message", cause.__str__)()
        raise ConfigError(f"--task '{text}': {told}") from cause
    inputs = [given.params[p.name] for p in parser.params if p.param_type_name == "argument"]
    if any(isinstance(value, list | tuple) and len(value) > 1 for value in inputs):
        raise ConfigError(
            f"--task '{text}': options of restore volume were expected after the name, got an input"
        )
