"""Where a verb may write: checked before any work is done.

Used by the verbs that write files.
"""

from __future__ import annotations

from pathlib import Path

from restore.errors import OutputError


def check_output(out: Path, source: Path, overwrite: bool = False) -> None:
    """Refuse an output that is the input, exists already, or has no folder to lie in (OutputError).

    `overwrite` allows an existing output, never the input itself.
    """
    if out.exists() and source.exists() and out.samefile(source):
        raise OutputError(f"{out}: output and input are the same; choose another name")
    if out.exists() and not overwrite:
        raise OutputError(f"{out}: exists already; choose another name or add --overwrite")
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent}: there is no such folder; make it first")
