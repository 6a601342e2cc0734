"""Commands and code of docs/places.md run as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.open import write
from restore.datasets.simulate.phantom import head_phantom
from restore.serving.page.server import PageServer

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "places.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return found


def commands(title: str) -> Iterator[list[str]]:
    """What stands in a section, without the program's name."""
    for block in re.findall(r"```sh\n(.*?)```", section(title), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            program, *words = line.split()
            assert program == "restore"
            yield words


@pytest.fixture
def heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Volumes of the names that the page gives, in the current folder."""
    monkeypatch.chdir(tmp_path)
    head = head_phantom((4, 24, 24))
    for name in ("head.nii.gz", "input.nii.gz"):
        write(head, tmp_path / name)
    return tmp_path


def test_the_page_in_the_browser(heads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to where it would wait for the browser."""
    opened: list[str] = []
    monkeypatch.setattr(PageServer, "serve", lambda self: None)
    monkeypatch.setattr("webbrowser.open", opened.append)
    (words,) = commands("In the browser")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    assert opened == [done.stdout.strip()]
    assert opened[0].startswith("http://127.0.0.1:")


def test_what_slicer_is_told(heads: Path) -> None:
    (words,) = commands("In 3D Slicer")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith('<?xml version="1.0" encoding="utf-8"?>')


def test_the_bids_app(heads: Path) -> None:
    """On a tree of one head, by a sampler that is quick."""
    folder = heads / "heads" / "sub-01" / "anat"
    folder.mkdir(parents=True)
    (heads / "head.nii.gz").rename(folder / "sub-01_T1w.nii.gz")
    (heads / "heads" / "dataset_description.json").write_text(
        '{"Name": "heads", "BIDSVersion": "1.10.0"}'
    )
    (words,) = commands("As a BIDS App")
    done = CliRunner().invoke(app, [*words, "--noise-level", "20", "--sampler", "tv"])
    assert done.exit_code == 0, done.stderr
    name = "sub-01/anat/sub-01_desc-restored_T1w.nii.gz"
    assert (heads / "heads/derivatives/restore" / name).is_file()
