"""The commands of docs/volumes.md run as they stand, in order, on a small noisy head."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest

from restore.datasets.simulate.phantom import head_phantom

PAGE = Path(__file__).resolve().parents[2] / "docs" / "volumes.md"


@pytest.mark.slow
def test_the_commands_of_the_page(verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    truth = head_phantom((18, 24, 22)).data
    a, b = 40 * np.random.default_rng(0).standard_normal((2, *truth.shape))
    lost = np.zeros_like(truth)
    lost[9, 8:14, 8:14] = 1
    for name, data in {
        "noisy": np.hypot(truth + a, b),
        "lost": lost,
        "level": np.full_like(truth, 40),
    }.items():
        image = nibabel.Nifti1Image(data.astype(np.float32).T, np.diag([2.0, 2.0, 2.0, 1.0]))
        nibabel.save(image, f"{name}.nii.gz")
    block = re.search(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    for command in block[1].splitlines():
        done = verb(*command.split()[1:])
        assert done.exit_code == 0, (command, done.stderr)
        if "--dry-run" in command:
            assert "memory: about" in done.stderr
            continue
        found = nibabel.load(command.split("-o ")[1].split()[0])
        assert found.shape == truth.shape[::-1]
        assert np.isfinite(found.get_fdata()).all()
    assert not Path("dry.nii.gz").exists()
