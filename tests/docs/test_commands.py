"""Commands of the README and of pages without tests of their own, in their order, on small volumes and pictures.

`make docs` and `make slow` run them. That every command in any page is one that the program knows is tried by default.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import typer.main
from docs.exceptions import not_run
from docs.pages import ROOT, blocks, commands, every_page, run_python
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.open import write
from restore.datasets.picture.images import write_image
from restore.datasets.simulate.phantom import ct_phantom, head_phantom

RUN_HERE = (
    "README.md", "docs/benchmarking.md", "docs/choosing-a-sampler.md", "docs/chosen-starts.md", "docs/citing.md",
    "docs/install.md", "docs/intervals.md", "docs/network-options.md", "docs/priors.md", "docs/training.md",
    "docs/uncertainty-map.md",
)  # fmt: skip
"""Pages whose indented blocks are run here; of fenced ones those that no other test runs."""

FENCED_TOO = ("docs/citing.md", "docs/install.md", "docs/uncertainty-map.md")

SHORTER = {
    ("bench", "fastmri"): ["--samplers", "zerofilled,tv,dds=dds:n_steps=3", "--acceleration", "2"],
    ("bench", "ct"): ["--samplers", "fbp", "--views", "30"],
    ("bench", "images"): ["--samplers", "tv", "--crop", "32"],
    ("bench", "tune"): ["--samplers", "cgsense", "--volumes", "1", "--acceleration", "2"],
    ("bench", "starts"): ["--candidates", "2", "--noise", "0.02", "--crop", "32"],
    ("calibrate", "mri"): [
        "--samples", "2", "--steps", "2", "--acceleration", "2", "--set", "centre=none", "--slices", "10:74:2",
    ],
    ("calibrate", "fastmri"): ["--samples", "2", "--steps", "2", "--acceleration", "2", "--set", "centre=none"],
    ("calibrate", "ct"): [
        "--samples", "2", "--steps", "2", "--views", "30", "--slices", "40:43", "--set", "centre=none",
    ],
    ("calibrate", "images"): [
        "--samples", "2", "--steps", "2", "--tasks", "superres", "--crop", "32", "--set", "centre=none",
    ],
    ("train", "denoiser"): ["--steps", "3", "--batch", "2", "--crop", "16"],
}  # fmt: skip
"""What is added to commands that would take long: fewer methods, samples and steps. The last of an option counts."""

FEW_STEPS = ["--steps", "6"]
FEW_SAMPLES = [*FEW_STEPS, "--samples", "2", "--set", "centre=none"]
"""Added to draws from a prior, and to reconstructions of several samples."""


def parsed(words: list[str]) -> None:
    """Raises TyperException for a verb, an option or a value that the program does not know."""
    command: Any = typer.main.get_command(app)
    context, rest = command.context_class(command, info_name="restore"), words[1:]
    while hasattr(command, "resolve_command"):
        name, found, rest = command.resolve_command(context, rest)
        context = found.context_class(found, info_name=name, parent=context)
        command = found
    command.make_parser(context).parse_args(args=list(rest))


@pytest.mark.parametrize("page", [p.relative_to(ROOT).as_posix() for p in every_page()])
def test_every_command_is_known(page: str) -> None:
    for block in blocks(ROOT / page):
        for words in commands(block):
            try:
                parsed(words)
            except typer.TyperException as error:
                raise AssertionError(f"{block}: {' '.join(words)}: {error}") from error


def test_a_command_that_does_not_exist_is_noticed() -> None:
    parsed(["restore", "recon", "a", "-o", "b", "--samples", "2"])
    for wrong in (["recon", "a", "--sample-s", "2"], ["recom", "a"], ["list", "--jsonn"]):
        with pytest.raises(typer.TyperException):
            parsed(["restore", *wrong])


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Volumes, pictures and folders of the names that the pages use."""
    monkeypatch.chdir(tmp_path)
    head, chest = head_phantom((48, 32, 32)), ct_phantom((84, 32, 32))
    for name in ("volumes", "held_out", "others", "photos", "photographs", "data"):
        Path(name).mkdir()
    write(head, Path("volume.nii.gz"))
    write(chest, Path("chest.nii.gz"))
    colours = np.stack([head.data[24], head.data[26], head.data[28]]).astype(np.float32) / 1200
    for path in ("photo.png", "photos/one.png", "photographs/one.png"):
        write_image(np.kron(colours, np.ones((1, 2, 2), np.float32)).clip(0, 1), Path(path))
    known = np.random.default_rng(0).random((1, 64, 64)) < 0.7
    write_image(known.astype(np.float32), Path("known.png"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_HERE)
def test_commands_run(page: str, inputs: Path) -> None:
    of_page(page, inputs)
    runner, done = CliRunner(), 0
    for block in blocks(ROOT / page):
        if not_run(block) or (block.language and page not in FENCED_TOO):
            continue
        if block.language == "python":
            run_python(block, {})
        for words in commands(block):
            few = FEW_SAMPLES if {"recon", "--samples"} <= {*words} else []
            more = SHORTER.get(tuple(words[1:3]), FEW_STEPS if words[1] == "sample" else few)
            result = runner.invoke(app, [*words[1:], *more], env=dict(os.environ))
            assert result.exit_code == 0, f"{block}: {' '.join(words)}\n{result.stderr}"
            done += 1
    assert done or page == "docs/uncertainty-map.md"


def of_page(page: str, folder: Path) -> None:
    """What a page takes for granted: scans, volumes of the modality that it means."""
    scan = ["simulate", "mri", "volume.nii.gz", "-o", "scan.h5", "--acceleration", "1.5", "--slices", "24:25",
            "--center-fraction", "0.2"]  # fmt: skip
    if page in (
        "docs/intervals.md",
        "docs/network-options.md",
        "docs/priors.md",
        "docs/choosing-a-sampler.md",
    ):
        assert CliRunner().invoke(app, scan).exit_code == 0
    of_split = {"docs/intervals.md": "multicoil_val", "docs/benchmarking.md": "multicoil_train"}
    if page in of_split:
        measured = ["simulate", "mri", "volume.nii.gz", "--as", "fastmri", "-o",
                    f"data/{of_split[page]}/file1000002.h5", "--coils", "4", "--slices", "20:28"]  # fmt: skip
        assert CliRunner().invoke(app, measured).exit_code == 0
    if page == "docs/benchmarking.md":
        write(head_phantom((144, 32, 32)), folder / "head.nii.gz")
    name = "chest" if page in ("README.md", "docs/intervals.md") else "volume"
    for into in ("volumes", "others"):
        (folder / into / f"{name}-{into}.nii.gz").symlink_to(folder / f"{name}.nii.gz")
