"""The commands of docs/many.md, in order."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.simulate.phantom import head_phantom

PAGE = Path(__file__).resolve().parents[2] / "docs" / "many.md"


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = head_phantom((2, 32, 32)).data.astype(np.float32)
    volume = tmp_path / "head.nii.gz"
    nibabel.save(nibabel.Nifti1Image(data.transpose(2, 1, 0), np.diag([6.0, 6, 8, 1])), volume)
    for sub in ("01", "02", "03"):
        (tmp_path / "bids" / f"sub-{sub}" / "anat").mkdir(parents=True)
        for suffix in ("T1w", "T2w"):
            name = f"sub-{sub}_{suffix}.nii.gz"
            shutil.copy(volume, tmp_path / "bids" / f"sub-{sub}" / "anat" / name)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 5
    printed = ""
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "restore"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, f"{command}\n{done.output}"
        printed += done.stdout
    assert sorted(p.name for p in Path("recons").rglob("*.nii.gz")) == [
        f"sub-{sub}_T1w.nii.gz" for sub in ("01", "02")
    ]
    assert Path("named/sub-02_T1w_recon.nii.gz").is_file()
    assert "mean of 2" in printed
    assert "restore-recon.sh: 2 tasks" in printed
