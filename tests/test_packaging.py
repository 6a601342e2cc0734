"""What is installed is what the repository holds.

The source archive and the wheel made from it are built in a copy of the files that a clone would
have, without the network, and the wheel is compared with that copy file by file. A back end that
drops the three links, or a kind of data file missing from pyproject.toml, shows here. What builds
is marked slow and run by `make package`.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINKED = ("operators", "datasets", "cli")
IN_GIT = (ROOT / ".git").exists()
NOT_IN_A_COPY = {"__pycache__", ".venv", "build", "dist", ".git"}

needs_clone = pytest.mark.skipif(
    not IN_GIT, reason="a source archive holds real folders instead of the three links"
)


def repository_files() -> list[PurePosixPath]:
    """Files that git holds or would hold; outside git every file that is not a by-product."""
    if IN_GIT:
        command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
        command += ["--cached", "--others", "--exclude-standard"]
        listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        names = [PurePosixPath(n) for n in listing.decode().split("\0") if n]
        return sorted({n for n in names if os.path.lexists(ROOT / n)})
    found = (p.relative_to(ROOT) for p in ROOT.rglob("*") if not p.is_dir())
    return sorted(
        PurePosixPath(p)
        for p in found
        if not NOT_IN_A_COPY & set(p.parts) and ".egg-info" not in str(p)
    )


def package_files() -> dict[str, Path]:
    """Every file of the package: its name in the wheel, and where it lies here."""
    files = {}
    for name in repository_files():
        source = ROOT / name
        if name.parts[0] == "restore" and not source.is_symlink():
            files[str(name)] = source
        elif name.parts[0] in LINKED:
            files[f"restore/{name}"] = source
    return files


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the source archive and the wheel that was built from it."""
    copy = tmp_path_factory.mktemp("source") / "clone"
    for name in repository_files():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


@needs_clone
@pytest.mark.parametrize("name", LINKED)
def test_link_is_relative_and_points_to_the_root(name: str):
    link = ROOT / "restore" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..", name)
    assert link.resolve() == ROOT / name


def test_datasets_cannot_hide_another_package_of_that_name():
    folder = ROOT / "datasets" if IN_GIT else ROOT / "restore" / "datasets"
    assert folder.is_dir()
    assert not (folder / "__init__.py").exists()


@pytest.mark.slow
def test_wheel_holds_every_file_and_no_other(wheel: zipfile.ZipFile):
    packed = {n for n in wheel.namelist() if ".dist-info/" not in n}
    expected = set(package_files())
    assert sorted(expected - packed) == [], "in the repository, missing from the wheel"
    assert sorted(packed - expected) == [], "in the wheel, not in the repository"


@pytest.mark.slow
def test_wheel_holds_real_files_with_the_same_bytes(wheel: zipfile.ZipFile):
    sources = package_files()
    for entry in wheel.infolist():
        assert not stat.S_ISLNK(entry.external_attr >> 16), entry.filename
        if entry.filename in sources:
            same = wheel.read(entry) == sources[entry.filename].read_bytes()
            assert same, f"{entry.filename} differs"


@pytest.mark.slow
def test_wheel_holds_operators_and_weights(wheel: zipfile.ZipFile):
    names = set(wheel.namelist())
    assert {"restore/operators/base.py", "restore/py.typed"} <= names
    assert "restore/priors/weights/medical.safetensors" in names
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in names)


@pytest.mark.slow
def test_source_archive_has_real_folders_tests_and_settings(built: Path):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        members = {m.name.split("/", 1)[-1]: m for m in archive.getmembers()}
    assert all(members[f"restore/{name}"].isdir() for name in LINKED)
    assert not [n for n, m in members.items() if m.issym() or m.islnk()]
    assert {"tests/test_packaging.py", "Makefile", "constraints.txt", "LICENSE"} <= set(members)


@pytest.mark.slow
def test_installed_wheel_runs_from_another_folder(wheel: zipfile.ZipFile, tmp_path: Path):
    """Unpacked beside the dependencies, the wheel alone serves every import."""
    target = tmp_path / "installed"
    wheel.extractall(target)  # noqa: S202 (built above)
    code = (
        "import importlib.util as u, json, restore, restore.cli\n"
        "parts = ('restore.operators.base', 'restore.datasets.scan', 'restore.cli')\n"
        "print(json.dumps([restore.__version__, *[u.find_spec(n).origin for n in parts]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version, *origins = json.loads(done.stdout)
    assert all(Path(o).is_relative_to(target) for o in origins), origins
    assert version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
