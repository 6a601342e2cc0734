"""Whether the HDF5 library comes to an end with a file, found out in a child process before the file is opened here.

Called by `hdf5_guard` for every file; starts one child (`hdf5_child`) at the first call, kept for the files that follow
and ended with this process. One flipped bit can send the HDF5 library round in circles for ever or crash it: the child
has limits of CPU time, of memory and of waiting, and a file that exceeds them is refused. A file is walked through once
as long as it does not change.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

from restore.datasets.content import DOWNLOAD_AGAIN
from restore.errors import InputError

CPU_SECONDS = 2
"""A sound header takes milliseconds."""

WAIT_SECONDS = 60.0
"""Beyond the CPU time there is only waiting: for a network's disk, or on a busy machine."""

SCRIPT = Path(__file__).with_name("hdf5_child.py")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def walk_through(path: Path) -> tuple[str, ...]:
    """Names in the root of an HDF5 file with which the library comes to an end; none where it raises an error.

    Raises InputError for a file on whose header it hangs, crashes, or exceeds its memory.
    """
    try:
        found = path.stat()
        target = str(path.resolve())
    except OSError as cause:
        raise InputError(path, f"cannot be opened ({cause.strerror or cause})") from cause
    names, fault = _walked(target, found.st_size, found.st_mtime_ns, found.st_ino)
    if fault:
        raise InputError(path, f"damaged HDF5 file: its header {fault}", DOWNLOAD_AGAIN)
    return names


@dataclasses.dataclass(frozen=True)
class _Child:
    process: subprocess.Popen[bytes]
    questions: IO[bytes]
    answers: IO[bytes]


_lock = threading.Lock()
_children: dict[int, _Child] = {}
"""The child of each process: one that was forked off must not talk to its parent's."""


@lru_cache(maxsize=4096)
def _walked(path: str, *_unchanged: int) -> tuple[tuple[str, ...], str]:
    """Names in the root, and what is wrong with the header."""
    with _lock:
        child = _child()
        question = json.dumps({"path": path, "cpu_seconds": CPU_SECONDS}) + "\n"
        try:
            child.questions.write(question.encode())
            child.questions.flush()
            line = _line(child.answers.fileno(), time.monotonic() + WAIT_SECONDS)
        except BrokenPipeError:
            line = b""
        if line is None or not line.endswith(b"\n"):
            return (), _why_it_ended(line is None)
    answer = json.loads(line)
    return tuple(answer["names"]), answer["fault"]


def _line(pipe: int, deadline: float) -> bytes | None:
    """One line from a pipe, shorter if it ends before, or None after the deadline."""
    found = b""
    with selectors.DefaultSelector() as ready:
        ready.register(pipe, selectors.EVENT_READ)
        while not found.endswith(b"\n"):
            if not ready.select(max(0.0, deadline - time.monotonic())):
                return None
            piece = os.read(pipe, 1 << 16)
            if not piece:
                break
            found += piece
    return found


def _child() -> _Child:
    """The child of this process, started if there is none."""
    here = os.getpid()
    if here in _children and _children[here].process.poll() is None:
        return _children[here]
    paths = json.dumps([p for p in sys.path if p])
    process = subprocess.Popen(  # noqa: S603 (this Python and a script of this package)
        [sys.executable, "-I", str(SCRIPT), paths],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True, env=os.environ | ONE_THREAD,
    )  # fmt: skip
    pipes = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
    _children[here] = _Child(process, *pipes)
    return _children[here]


def _why_it_ended(waited_too_long: bool) -> str:
    """End a child that gave no answer, and say why it gave none."""
    code = _end()
    if waited_too_long:
        return f"cannot be walked through within {WAIT_SECONDS:.0f} s"
    if code == -signal.SIGXCPU:
        return f"cannot be walked through within {CPU_SECONDS} s of computing"
    return f"makes the HDF5 library fail (exit {code})"


def _end() -> int:
    """End this process's child; returns its exit status."""
    child = _children.pop(os.getpid(), None)
    if child is None:
        return 0
    child.answers.close()
    try:
        child.questions.close()
        return child.process.wait(timeout=0.5)
    except BrokenPipeError:
        return child.process.wait()
    except subprocess.TimeoutExpired:
        child.process.kill()
        return child.process.wait()


atexit.register(_end)
