"""Time and memory of one job or method, measured around its run.

Used by the jobs and by the runner of benchmarks. Touches only this process's own counters.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass
class Cost:
    """Wall-clock seconds and peak memory in MB: of the GPU's allocator, else of the process while the method ran (of
    the process so far where the system cannot reset its peak)."""

    seconds: float = 0.0
    peak_memory_mb: float = 0.0


@contextmanager
def measured(device: torch.device) -> Iterator[Cost]:
    """Measure what happens inside; the figures are there afterwards."""
    cost = Cost()
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _reset_peak()
    start = time.perf_counter()
    try:
        yield cost
    finally:
        if cuda:
            torch.cuda.synchronize(device)
        cost.seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated(device) / 2**20 if cuda else _peak_mb()
        cost.peak_memory_mb = round(peak, 1)


def _reset_peak() -> None:
    """Linux can set the peak back to what is used now; elsewhere, or where that is forbidden, it stays."""
    if _RESET.exists():
        try:
            _RESET.write_text("5", encoding="ascii")
        except PermissionError:
            return


def _peak_mb() -> float:
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
