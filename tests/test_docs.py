"""The method of docs/benchmarking.md, installed as a package of its own would be, runs and stands in the table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from restore.bench.results import load
from restore.datasets.mri.fastmri_write import write_fastmri_file
from restore.datasets.simulate.fastmri_files import simulate_fastmri
from restore.datasets.simulate.phantom import head_phantom

DOCS = Path(__file__).resolve().parents[1] / "docs" / "benchmarking.md"


def block(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) == 1
    return found[0]


def installed(folder: Path) -> None:
    """What pip leaves behind: the module, and metadata with its entry points."""
    (folder / "landweber.py").write_text(block("python"), encoding="utf-8")
    metadata = folder / "landweber-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: landweber\nVersion: 0.1\n")
    group, entry = re.search(r'entry-points\."(.+?)"\]\n(\w+) = "(.+?)"', block("toml")).group(1, 2)
    target = re.search(rf'{entry} = "(.+?)"', block("toml"))[1]
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{entry} = {target}\n")


def test_ones_own_method_is_one_file(tmp_path: Path) -> None:
    installed(tmp_path)
    (tmp_path / "multicoil_val").mkdir()
    scan = simulate_fastmri(head_phantom((3, 40, 52)), coils=3, slices=slice(1, 2))
    write_fastmri_file(scan, tmp_path / "multicoil_val" / "file1000001.h5")

    def restore(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "restore.cli", *map(str, arguments)], cwd=tmp_path, check=False,
            env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "landweber" in restore("list", "samplers")
    restore("bench", "fastmri", ".", "--acceleration", 4, "-o", "run",
            "--samplers", "zerofilled,landweber,longer=landweber:n_steps=80")  # fmt: skip
    rows = {row.method: row for row in load(tmp_path / "run")}
    assert rows["longer"].settings == {"n_steps": 80}
    assert rows["longer"].misfit < rows["landweber"].misfit < rows["zerofilled"].misfit
