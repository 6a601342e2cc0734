"""The cost of a job is its own, not that of the jobs before it in the same process."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from restore.pipelines.meter import measured

CPU = torch.device("cpu")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak cannot be reset")
def test_a_second_job_has_a_peak_of_its_own():
    with measured(CPU) as first:
        block = np.ones(40_000_000)  # 320 MB
        del block
    with measured(CPU) as second:
        block = np.ones(1_000_000)
        del block
    # Beyond what the process holds anyway; 320 MB are 305 of these megabytes.
    assert first.peak_memory_mb > second.peak_memory_mb + 250


def test_seconds_are_those_inside():
    with measured(CPU) as cost:
        time.sleep(0.05)
    assert cost.seconds >= 0.05
    with pytest.raises(ZeroDivisionError), measured(CPU) as cost:
        _ = 1 / 0
    assert cost.peak_memory_mb > 0
