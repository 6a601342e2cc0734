"""Every error a user may meet, each with the exit code of the command line.

A message says what went wrong, where, what was found, what was expected and what to do. Any layer may raise these;
nothing here imports anything of the package.
"""

from __future__ import annotations

import errno
from pathlib import Path


class RestoreError(Exception):
    """Root of all expected errors. `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(RestoreError):
    """A setting, option or combination that cannot work (unknown name, value out of range, wrong pair)."""

    exit_code = 2


class NotFoundError(RestoreError):
    """A file or folder that was asked for does not exist."""

    exit_code = 3


class ShapeError(RestoreError):
    """Arrays whose shapes do not fit together; names the operator, what it got and what it expected."""

    exit_code = 4


class InputError(RestoreError):
    """A file that cannot be used: `path`, `why` (what was found), `hint` (what to do)."""

    exit_code = 4

    def __init__(self, path: str | Path, why: str, hint: str = "") -> None:
        self.path, self.why, self.hint = Path(path), why, hint
        super().__init__(f"{path}: {why}" + (f" ({hint})" if hint else ""))


class OutputError(RestoreError):
    """The result could not be written (folder missing, disk full, exists already)."""

    exit_code = 5


class WeightsError(RestoreError):
    """Network weights that are missing, damaged or do not fit the architecture."""

    exit_code = 6


class OutOfMemory(RestoreError):
    """The work does not fit in memory even in the smallest pieces."""

    exit_code = 7


class DivergenceError(RestoreError):
    """A non-finite number appeared during sampling; names the step and its noise level."""

    exit_code = 1


class LostWorkerError(RestoreError):
    """One of several processes that train together has ended or does not answer."""

    exit_code = 1


class PartialFailure(RestoreError):
    """Some of the work of a run failed and some was done; what failed is written where the results are."""

    exit_code = 8


class DeviceError(RestoreError):
    """The requested device does not exist here."""

    exit_code = 9


_MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc")
"""How torch says that memory is used up: on CUDA, on a CPU, in its allocator and in C++."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, numpy or torch says that memory is used up, on whatever device."""
    told = str(error).lower()
    named = type(error).__name__ == "OutOfMemoryError"  # torch's, which is not imported here
    torchs = isinstance(error, RuntimeError) and any(words in told for words in _MEMORY_WORDS)
    return isinstance(error, MemoryError | OutOfMemory) or named or torchs


_OUTPUT_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG)


def expected(error: BaseException) -> tuple[int, str] | None:
    """The exit code of an error and its sentence; None for what nobody has foreseen, and for an interruption.

    Memory that is used up and what a file system refuses are expected from any library, in any place.
    """
    if isinstance(error, RestoreError):
        return error.exit_code, str(error)
    if is_out_of_memory(error):
        reason = "the memory is used up; close other programs or give fewer slices at a time"
        return OutOfMemory.exit_code, reason
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        where = f"{error.filename}: " if error.filename is not None else ""
        full = error.errno in _OUTPUT_ERRORS  # a full disk is no fault of the input
        return (OutputError if full else InputError).exit_code, f"{where}{error.strerror or error}"
    return None
