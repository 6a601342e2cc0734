"""What the verbs say and where: results on stdout, everything else on stderr.

Used by the verbs only. On a terminal a progress bar with the time left; anywhere else one line per
volume, and one per finished piece of long work, and no control characters. The verbosity is a
setting of the process, made once by the frame.
"""

from __future__ import annotations

import io
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
_logger = logging.getLogger("restore.cli")


def configure(quiet: bool = False, verbosity: int = 0) -> None:
    """Send the package's log to stderr: errors only (quiet), warnings, -v information, -vv all."""
    level = _LEVELS.get(-1 if quiet else verbosity, logging.DEBUG)
    package = logging.getLogger("restore")
    package.setLevel(level)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("restore: %(levelname)s: %(message)s"))
    package.handlers = [handler]


def accept_any_text() -> None:
    """Let characters that a stream's encoding does not know appear as escapes instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def quiet() -> bool:
    """Whether only errors and results were asked for."""
    return _logger.getEffectiveLevel() >= logging.ERROR


def result(text: str) -> None:
    """Print a line the user asked for, on stdout."""
    typer.echo(printable(text))


def result_json(value: Any) -> None:
    """Print an object as JSON on stdout; numbers that are not finite become null."""
    typer.echo(json.dumps(_strict(value), indent=1, allow_nan=False))


def table(rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows on stdout in columns that are as wide as their widest entry."""
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def say(text: str) -> None:
    """Print a remark on stderr, unless quiet."""
    if not quiet():
        _tell(printable(text))


def notes(texts: Iterable[str]) -> None:
    """Print what was assumed, repaired or left out."""
    for text in texts:
        say(f"note: {text}")


def pass_on(out: str, err: str) -> None:
    """Print what another process of ours printed: results on stdout, the rest on stderr unless quiet."""
    if out:
        typer.echo(out, nl=False)
    if err and not quiet():
        with suppress(OSError):
            typer.echo(err, err=True, nl=False)


def error(sentence: str) -> None:
    """Print the one sentence a failed run ends with."""
    _tell(f"restore: error: {printable(' '.join(sentence.splitlines()))}")


def failures(found: Iterable[tuple[str, str]]) -> None:
    """Print, also when quiet, what of a list failed: names, each with its sentence."""
    for name, sentence in found:
        _tell(f"failed: {printable(name)}: {printable(' '.join(sentence.splitlines()))}")


def _tell(line: str) -> None:
    with suppress(OSError):  # a full log or one that nobody reads does not end the work
        typer.echo(line, err=True)


def _is_terminal() -> bool:
    """Whether stderr is one: a process may have been started without any."""
    return sys.stderr is not None and sys.stderr.isatty()


def printable(text: str) -> str:
    """Return the text with control characters and broken bytes of file names made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[float], None]]:
    """Show how far the work is; gives a function that takes how many of `total` are done.

    Draws a bar with the time left on a terminal and nothing elsewhere, where the verb prints its
    one line per volume with `say`.
    """
    from restore.many import fraction

    def told(done: float) -> None:
        fraction.tell(done / total if total else 1.0)

    if quiet() or not _is_terminal():
        yield told
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    label = TextColumn("{task.description}", markup=False)
    columns = (label, BarColumn(), TaskProgressColumn(), TimeLeft())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(what), total=total)

        def advance(done: float) -> None:
            told(done)
            bar.update(task, completed=done)

        yield advance


def progress_lines(what: str, pieces: str, every_s: float = 0.0) -> Callable[[int, int], None]:
    """A function that says, where no bar is drawn, how many of how many pieces are finished and the time gone by.

    Nothing is said of work that is finished at once: the verb's own line tells of it. every_s: seconds between lines.
    """
    begin, said = time.monotonic(), 0
    last = begin

    def line(finished: int, total: int) -> None:
        nonlocal said, last
        now = time.monotonic()
        due = now - last >= every_s if finished < total else said > 0
        if not _is_terminal() and due:
            seconds = round(now - begin)
            said, last = said + 1, now
            say(f"{what}: {finished} of {total} {pieces}, {seconds // 60}:{seconds % 60:02d} min")

    return line


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
