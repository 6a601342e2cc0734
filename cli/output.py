"""Where a verb may write: checked before any work is done.

Used by the verbs that write files.
"""

from __future__ import annotations

from pathlib import Path

from restore.datasets.atomic import check_name, check_writable
from restore.errors import OutputError


def check_output(
    out: Path, *inputs: str | Path | None, overwrite: bool = False, probe: bool = True
) -> None:
    """Refuse an output that is one of the inputs, exists already, or cannot lie where it should (OutputError).

    inputs: every file that the verb reads, None for one not given; words that name no file do no harm. `overwrite`
    allows an existing output, never an input, a pipe or a device. probe: try out the folder with a hidden file.
    """
    check_name(out)
    try:
        there = out.exists()
        for source in [Path(name) for name in inputs if name]:
            if there and _exists(source) and out.samefile(source):
                same = "the same" if source == out else f"the same file ({source})"
                raise OutputError(f"{out}: output and input are {same}; choose another name")
        if there and not (out.is_file() or out.is_dir()):
            raise OutputError(f"{out}: is neither a file nor a folder; choose another name")
        if there and not overwrite:
            raise OutputError(f"{out}: exists already; choose another name or add --overwrite")
        if not out.parent.is_dir():
            raise OutputError(f"{out.parent}: there is no such folder; make it first")
    except OSError as cause:
        raise OutputError(f"{out}: cannot be looked at ({cause.strerror or cause})") from cause
    if probe:
        check_writable(out.parent)


def _exists(path: Path) -> bool:
    """Whether a word names a file; names that no file can have name none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
