"""Interleaved timing of ours and peers in one process, one thread: what every script here shares.

Other work on a machine slows everything that runs at that moment. Contenders therefore take turns,
round after round, and each keeps its best round. CPU seconds count the process and its finished
children and leave out the time in which other programs had the core; wall seconds include it.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, NamedTuple

import torch

Work = Callable[[], Any]


class Seconds(NamedTuple):
    """The best round of one contender."""

    cpu: float
    wall: float

    def less(self, other: Seconds) -> Seconds:
        """The difference of two."""
        return Seconds(self.cpu - other.cpu, self.wall - other.wall)

    def over(self, count: int) -> Seconds:
        """A part of it."""
        return Seconds(self.cpu / count, self.wall / count)


def one_thread() -> None:
    """Hold torch to one thread; refuse to measure where other libraries would use more."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        if os.environ.get(name) != "1":
            raise SystemExit(f"set {name}=1: libraries read it when they are loaded")
    torch.set_num_threads(1)


def interleaved(works: Mapping[str, Work], rounds: int) -> dict[str, Seconds]:
    """Best of `rounds` turns of each contender, after one turn each that is not counted.

    Where a turn is much shorter than the longest contender's, it is repeated within its turn (up to
    ten times), so that all are seen in as many states of the machine.
    """
    first = {name: measure(work).wall for name, work in works.items()}
    turns = {name: int(min(10, max(1, max(first.values()) / t))) for name, t in first.items()}
    found: dict[str, list[Seconds]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name] += [measure(work) for _ in range(turns[name])]
    return {
        name: Seconds(min(s.cpu for s in all_), min(s.wall for s in all_))
        for name, all_ in found.items()
    }


def measure(work: Work) -> Seconds:
    """One turn."""
    start, cpu = time.perf_counter(), _cpu()
    work()
    return Seconds(_cpu() - cpu, time.perf_counter() - start)


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def print_ratios(title: str, times: Mapping[str, Seconds], ours: str) -> None:
    """One line a contender: milliseconds, and how many times longer than ours it takes."""
    print(f"\n{title}\n{'':28}{'CPU ms':>9}{'wall ms':>9}{'CPU/ours':>10}{'wall/ours':>10}")
    base = times[ours]
    for name, s in times.items():
        ratios = f"{s.cpu / base.cpu:10.2f}{s.wall / base.wall:10.2f}"
        print(f"{name:28}{1e3 * s.cpu:9.1f}{1e3 * s.wall:9.1f}{ratios}")


def print_versions(*packages: str, threads: int = 1) -> None:
    """Date, processor and versions: what a table of ratios has to say about itself."""
    found = [f"python {platform.python_version()}"]
    for name in ("restore", "torch", "numpy", *packages):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    used = "one thread" if threads == 1 else f"{threads} threads"
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {used}; " + ", ".join(found))
