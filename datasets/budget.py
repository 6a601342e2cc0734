"""How much memory a file or the work on it may ask for, checked before anything is allocated.

May be called by every reader and pipeline. Reads the environment variable RESTORE_MAX_MEMORY_GB and,
where there is none, the system's account of free memory (`free_memory`).
"""

from __future__ import annotations

import os
from pathlib import Path

from restore.datasets.free_memory import free_bytes
from restore.errors import ConfigError, InputError, OutOfMemory

VARIABLE = "RESTORE_MAX_MEMORY_GB"
SHARE = 0.6
"""Part of the free memory that one file may take: the rest is for the work on it."""

SHARE_OF_WORK = 0.9
"""Part of the free memory that a whole job may take."""

FALLBACK_BYTES = 8 * 10**9
"""The limit where the system does not say how much memory is free."""


def memory_limit(share: float = SHARE) -> int:
    """Return the bytes that one file may take: the variable's, else 60 % (or `share`) of the free memory."""
    setting = os.environ.get(VARIABLE, "").strip()
    if not setting:
        free = free_bytes()
        return int(share * (FALLBACK_BYTES if free is None else free))
    try:
        gigabytes = float(setting)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < float("inf"):
        raise ConfigError(f"{VARIABLE}='{setting}', expected a positive number of gigabytes")
    return int(gigabytes * 10**9)


def check_budget(nbytes: int, path: str | Path, limit: int | None = None) -> None:
    """Refuse a file that would need more than `limit` bytes (default: `memory_limit()`).

    Raises InputError.
    """
    allowed = memory_limit() if limit is None else limit
    if nbytes > allowed:
        raise InputError(
            path,
            f"its header asks for {nbytes / 1e9:.3g} GB of memory, {allowed / 1e9:.3g} GB allowed",
            f"if the file is sound, set {VARIABLE} to more; else fetch it again",
        )


def check_result_size(nbytes: int, what: str) -> None:
    """Refuse settings whose result would need more than `memory_limit()`, before any work (ConfigError)."""
    allowed = memory_limit()
    if nbytes > allowed:
        raise ConfigError(
            f"{what} would take {nbytes / 1e9:.3g} GB of memory, {allowed / 1e9:.3g} GB allowed; choose smaller "
            f"numbers, or set {VARIABLE} to more"
        )


def check_work(nbytes: int, what: str, hint: str, allowed: int | None = None) -> None:
    """Refuse work that would need more bytes than the variable allows, or than 90 % of the free memory.

    what: the work in words; hint: what to do; allowed: another limit, such as that of a GPU. Raises OutOfMemory.
    """
    allowed = memory_limit(SHARE_OF_WORK) if allowed is None else allowed
    if nbytes > allowed:
        raise OutOfMemory(
            f"{what} needs about {nbytes / 1e9:.3g} GB of memory, {allowed / 1e9:.3g} GB are there; {hint}, or set "
            f"{VARIABLE} to more"
        )
