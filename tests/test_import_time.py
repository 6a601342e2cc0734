"""`import restore` and `restore --help` stay light: no torch, no numpy, and fast."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import restore

PROGRAM = """
import sys
{work}
heavy = ("torch", "numpy", "scipy", "nibabel", "pydicom", "h5py", "matplotlib", "kornia", "skimage")
print(*[name for name in heavy if name in sys.modules])
"""
HELP = """
from restore.cli import app
try:
    app(["--help"])
except SystemExit as end:
    assert end.code == 0
sys.stdout.write("loaded:")
"""
TABLES = HELP.replace('["--help"]', '["list", "operators"]')


def run(work: str) -> str:
    program = PROGRAM.format(work=work)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_restore_loads_nothing_heavy():
    assert run("import restore\nrestore.errors.InputError") == "\n"


def test_kornia_and_scikit_image_are_imported_on_first_use():
    users = (
        "metrics", "noise_estimation", "operators.image.kernels", "operators.image.warp", "samplers.nlm",
        "samplers.biharmonic", "samplers.unsupervised_wiener", "pipelines.evaluate", "pipelines.photograph",
        "training.corpus",
    )  # fmt: skip
    loaded = run("import " + ", ".join(f"restore.{user}" for user in users)).split()
    assert "torch" in loaded
    assert not {"kornia", "skimage"} & set(loaded)


@pytest.mark.parametrize("work", [HELP, TABLES])
def test_help_and_list_load_nothing_heavy(work):
    assert run(work).endswith("loaded:\n")


def test_help_is_quick():
    """Half a second is promised; three times that of processor time, so that a busy machine does not matter."""
    before = os.times()
    command = [sys.executable, "-m", "restore.cli", "--help"]
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    used = after.children_user - before.children_user
    assert used + after.children_system - before.children_system < 1.5


def test_names_are_found_on_first_use():
    from restore.datasets.volume.volume import Volume

    assert restore.Volume is Volume
    assert restore.read.__name__ == "read"
    assert {"solve", "read", "write", "Volume", "errors"} <= set(dir(restore))
    with pytest.raises(AttributeError, match="no attribute 'slove'"):
        _ = restore.slove


def test_solve_is_the_function_however_its_module_was_imported():
    """Each in an interpreter that has forgotten the package; torch, which takes seconds, is kept."""
    forgotten = "for name in [n for n in sys.modules if n.split('.')[0] == 'restore']: del sys.modules[name]"
    firsts = ("import restore", "import restore.front_door", "from restore.front_door import solve")
    tried = "import restore\nassert callable(restore.solve), restore.solve"
    assert "torch" in run("\n".join(f"{first}\n{tried}\n{forgotten}" for first in firsts))


def test_no_module_level_heavy_import_in_a_verb():
    """A verb's file that imports torch at its top would slow down every other verb."""
    folder = Path(restore.__file__).parent / "cli"
    for path in folder.glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        top = [line for line in lines if line.startswith(("import ", "from "))]
        assert not [line for line in top if line.split()[1].split(".")[0] in ("torch", "numpy")]
