"""The engine that a word of the command line names.

Called by the command line.
"""

from __future__ import annotations

from restore.errors import ConfigError
from restore.many.engines.crew import SILENT, Show
from restore.many.runner import Engine, in_process
from restore.priors.split_rows import Borders

HERE, PROCESSES, RAY = "here", "processes", "ray"
WORDS = f"{HERE}, {PROCESSES}:N, {RAY} or {RAY}:N"


def engine_named(
    word: str, address: str = "", show: Show = SILENT, split: Borders | None = None
) -> Engine:
    """ "here", "processes:N", "ray" or "ray:N"; address: of a Ray cluster; split: see `RayEngine`.

    Raises ConfigError for another.
    """
    kind, _, number = word.partition(":")
    if kind not in (HERE, PROCESSES, RAY) or (":" in word and not _is_count(number)):
        raise ConfigError(f"--engine is {WORDS}, got '{word}'")
    if address and kind != RAY:
        raise ConfigError(f"--address is that of a cluster of Ray; add --engine {RAY}")
    if kind == RAY:
        from restore.many.engines.ray_actors import RayEngine

        return RayEngine(int(number or 0), address, show, split)
    if kind == PROCESSES:
        from restore.many.engines.processes import ProcessEngine

        if not number:
            raise ConfigError(f"--engine {PROCESSES}:N needs a number, such as {PROCESSES}:2")
        return ProcessEngine(int(number), show)
    if number:
        raise ConfigError(f"--engine {HERE} is this process alone, got '{word}'")
    return in_process


def places_of(word: str) -> int:
    """How many processes "processes:N" names, 0 for another engine."""
    kind, _, number = word.partition(":")
    return int(number) if kind == PROCESSES and _is_count(number) else 0


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0
