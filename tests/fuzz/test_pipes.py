"""A named pipe is refused by readers that open files by a fixed name; nobody waits for a writer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fuzz.targets import _load_state

from restore.bench import results
from restore.errors import InputError, WeightsError


@pytest.mark.timeout(60)
def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "results.csv")
    with pytest.raises(InputError, match=r"results\.csv: not a file"):
        results.load(tmp_path)
    os.mkfifo(tmp_path / "a.state.safetensors")
    with pytest.raises(WeightsError, match="not a training state but no file"):
        _load_state(tmp_path / "a.state.safetensors")
