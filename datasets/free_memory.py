"""How much memory this process may still take: of the machine, and of the control groups that hold it.

Called by `budget` alone; reads the kernel's accounts and changes nothing. A cluster's job, a container and a session
each sit in a group of their own, whose parents may be narrower: all groups up to the root count, of both versions of
Linux's hierarchy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

UNLIMITED = 2**60
"""Bytes from which a group's limit is none: the first version writes the largest multiple of a page."""


def free_bytes(root: Path = Path("/")) -> int | None:
    """The least that the machine and the groups leave free, None where the system says nothing of it.

    root: where `proc` and `sys` lie.
    """
    found = [n for n in (_of_machine(root), *_of_groups(root)) if n is not None]
    return min(found, default=None)


def _of_machine(root: Path) -> int | None:
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    return int(kilobytes) * 1024


def _of_groups(root: Path) -> Iterator[int | None]:
    """What each group leaves free; pages of files that can be dropped at once are free."""
    for folder, most, used, cached in _groups(root):
        try:
            limit = int((folder / most).read_text(encoding="ascii"))
            taken = int((folder / used).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such group here, or the word "max"
            continue
        if limit < UNLIMITED:
            yield max(limit - taken + _statistic(folder, cached), 0)


def _groups(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Folders from the process's own group up to the top, and the names of their accounts."""
    first = root / "sys/fs/cgroup"
    old = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
    new = "memory.max", "memory.current", "inactive_file"
    for top, names, path in (
        (first / "memory", old, _own_path(root, "memory")),
        (first, new, _own_path(root, "")),
        (first / "unified", new, _own_path(root, "")),
    ):
        inside = top / path.lstrip("/")
        for folder in (inside, *inside.parents):
            if folder == top.parent:
                break
            yield folder, *names


def _own_path(root: Path, controller: str) -> str:
    """The group of this process under a controller of the first version, "" for the second; "/" where untold."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "/"
    for line in lines.splitlines():
        _, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if controller in controllers.split(",") and ".." not in path.split("/"):
            return path
    return "/"


def _statistic(folder: Path, name: str) -> int:
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.split()[:1] == [name])
    except (OSError, StopIteration, ValueError, IndexError):
        return 0
