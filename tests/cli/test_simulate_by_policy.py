"""`restore simulate --policy`: scans measured line by line, their order, and docs/acquiring.md."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from docs.pages import blocks, commands, run_python
from PIL import Image

from restore.acquire import measuring
from restore.datasets.open import open_scan, write
from restore.datasets.simulate.phantom import ct_phantom, head_phantom

PAGE = Path(__file__).resolve().parents[2] / "docs" / "acquiring.md"
FAST = ("--budget", "4", "--start", "3", "--slices", "2")


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(head_phantom((6, 20, 16)), tmp_path / "volume.nii.gz")
    write(ct_phantom((6, 20, 16)), tmp_path / "chest.nii.gz")
    return tmp_path


@pytest.mark.slow
def test_the_commands_of_the_page_run(verb, volumes: Path) -> None:
    shell, script = blocks(PAGE)
    for _, *words in commands(shell):
        asks = "ads" in words
        more = ("--steps", "2") if words[0] == "recon" else ("--particles", "2") if asks else ()
        done = verb(*words, *more)
        assert done.exit_code == 0, (words, done.stderr)
    scan = open_scan(volumes / "active.h5")
    order = scan.settings["order"]
    assert sorted(order) == np.flatnonzero(scan.mask).tolist()
    assert order[:4] == [8, 7, 9, 6]
    views = open_scan(volumes / "views.h5")
    chosen = np.degrees(views.geometry.angles) / 15
    np.testing.assert_allclose(chosen, sorted(views.settings["order"]))
    for name in ("active", "drawn", "views"):
        with Image.open(volumes / f"{name}_order.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 10
    names: dict = {}
    run_python(script, names)
    assert len(set(names["columns"]) - set(range(10, 14))) == 2


def test_what_is_done_is_not_chosen_again(verb, volumes: Path, monkeypatch) -> None:
    words = (
        "simulate",
        "mri",
        "volume.nii.gz",
        "-o",
        "a.h5",
        "--policy",
        "variance",
        *FAST,
        "--particles",
        "2",
    )
    assert verb(*words).exit_code == 0
    before = Path("a.h5").read_bytes()
    Path("a_order.png").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "order_of_lines", None)
        again = verb(*words)
    assert again.exit_code == 0, again.stderr
    assert "already done" in again.stderr
    assert Path("a.h5").read_bytes() == before
    assert Path("a_order.png").exists(), "a picture that is missing is drawn"
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "order_of_lines", None)  # refused before anything is chosen
        other = verb(*words[:-1], "3")
    assert other.exit_code != 0
    assert "exists already" in other.stderr


@pytest.mark.parametrize(
    ("kind", "words", "said"),
    [
        ("mri", ["--policy", "ads"], "needs --budget"),
        ("mri", ["--budget", "4"], "--budget needs --policy"),
        ("mri", ["--prior", "medical"], "--prior needs --policy"),
        ("mri", ["--policy", "ads", "--budget", "4", "--acceleration", "4"], "--acceleration"),
        ("mri", ["--policy", "ads", "--budget", "4", "--as", "cfl"], "--as"),
        ("mri", ["--policy", "random", "--budget", "4", "--particles", "4"], "asks no prior"),
        ("mri", ["--policy", "random", "--budget", "17"], "there are 16 lines"),
        ("ct", ["--policy", "centre-out", "--budget", "4"], "views have no centre"),
        ("ct", ["--policy", "ads", "--budget", "4", "--geometry", "fan"], "--geometry"),
    ],
)
def test_options_that_say_nothing_together(verb, volumes: Path, kind, words, said) -> None:
    done = verb("simulate", kind, "volume.nii.gz", "-o", "a.h5", *words)
    assert done.exit_code != 0
    assert said in re.sub(r"[\s│]+", " ", done.stderr)
    assert not Path("a.h5").exists()


def test_a_picture_of_others_is_kept(verb, volumes: Path) -> None:
    Path("a_order.png").write_bytes(b"mine")
    done = verb("simulate", "mri", "volume.nii.gz", "-o", "a.h5", "--policy", "random", *FAST)
    assert done.exit_code != 0
    assert "a_order.png: exists already" in done.stderr
    assert Path("a_order.png").read_bytes() == b"mine"
