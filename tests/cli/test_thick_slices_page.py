"""docs/volumes.md, thick slices: its commands run as they stand, on a small head, with few steps."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest

from restore.datasets.simulate.phantom import head_phantom

PAGE = Path(__file__).resolve().parents[2] / "docs" / "volumes.md"


@pytest.mark.slow
def test_the_commands_on_thick_slices_run(
    verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = head_phantom((16, 18, 16)).data.astype(np.float32)
    axial, sagittal = np.diag([1.0, 1.0, 4.0, 1.0]), np.eye(4)
    axial[2, 3] = sagittal[0, 3] = 1.5
    sagittal[:3, :3] = [[0, 0, 4], [1, 0, 0], [0, 1, 0]]
    means = head.reshape(4, 4, 18, 16).mean(1), head.reshape(16, 18, 4, 4).mean(3)
    for name, data, affine in (
        ("axial", means[0], axial),
        ("sagittal", means[1].transpose(2, 0, 1), sagittal),
    ):
        nibabel.save(nibabel.Nifti1Image(data.T, affine), tmp_path / f"{name}.nii.gz")
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("## Superres") :]
    commands = re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1].splitlines()
    assert len(commands) == 3
    monkeypatch.chdir(tmp_path)
    for command in commands:
        program, *words = command.split()
        assert program == "restore"
        done = verb(*words, "--steps", "2", "--device", "cpu")
        assert done.exit_code == 0, (command, done.stderr)
    for name in ("thin", "sure", "sure_std", "fused"):
        image = nibabel.load(tmp_path / f"{name}.nii.gz")
        assert image.shape == (16, 18, 16)
        np.testing.assert_allclose(image.affine, np.eye(4), atol=1e-6)
