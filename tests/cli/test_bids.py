"""`restore bids`: a BIDS App around `restore volume`; its trees pass the official validator."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.open import read, write
from restore.datasets.simulate.phantom import head_phantom
from restore.version import __version__

QUICK = ("--sampler", "tv", "--noise-level", "20", "--set", "n_steps=2")
NAME = "sub-01/anat/sub-01_desc-restored_T1w"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two participants with an image each, one of a session, a functional one, and a derivative of somebody else."""
    root = tmp_path / "heads"
    head = head_phantom((3, 16, 16))
    for name in (
        "sub-01/anat/sub-01_T1w", "sub-02/ses-a/anat/sub-02_ses-a_run-1_T1w", "sub-01/func/sub-01_task-rest_bold",
        "derivatives/other/sub-01/anat/sub-01_desc-x_T1w",
    ):  # fmt: skip
        path = root / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(head, path)
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text("{}")
    (root / "sub-01/func/sub-01_task-rest_bold.json").write_text(
        '{"TaskName": "rest", "RepetitionTime": 2.0}'
    )
    told = {"Name": "heads", "BIDSVersion": "1.10.0", "DatasetDOI": "doi:10.1000/x"}
    (root / "dataset_description.json").write_text(json.dumps(told))
    return root


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, ["bids", *map(str, words)])


def test_the_images_of_participants_become_a_derivative(tree: Path) -> None:
    out = tree / "derivatives" / "restore"
    done = run(tree, out, "participant", "--participant-label", "01", *QUICK)
    assert done.exit_code == 0, done.stderr
    images = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.nii.gz"))
    assert images == [f"{NAME}.nii.gz"]
    assert read(out / images[0]).data.shape == (3, 16, 16)
    told = json.loads((out / f"{NAME}.json").read_text())
    assert told["Sources"] == ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]
    assert told["SkullStripped"] is False
    described = json.loads((out / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0] | {"Description": ""} == {
        "Name": "restore", "Version": __version__, "Description": "",
    }  # fmt: skip
    assert described["DatasetLinks"] == {"raw": "../.."}
    assert described["SourceDatasets"] == [{"URL": "doi:10.1000/x"}]
    # The second call does what is left; the derivative of its own and of others are no inputs.
    done = run(tree, out, "participant", *QUICK)
    assert "[1/2] sub-01/anat/sub-01_T1w.nii.gz: done before" in done.stderr
    assert (out / "sub-02/ses-a/anat/sub-02_ses-a_run-1_desc-restored_T1w.nii.gz").is_file()


def test_one_bad_image_does_not_stop_the_others(tree: Path, tmp_path: Path) -> None:
    """And leaves nothing of itself."""
    (tree / "sub-01/anat/sub-01_T1w.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    done = run(tree, out, "participant", *QUICK)
    assert done.exit_code == 8
    assert "sub-01/anat/sub-01_T1w.nii.gz" in done.stderr
    assert not (out / "sub-01").exists()
    assert (out / "sub-02/ses-a/anat/sub-02_ses-a_run-1_desc-restored_T1w.nii.gz").is_file()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("{tree}", "{out}", "group"), 2, "nothing is computed over participants"),
        (("{tree}", "{out}", "participants"), 2, "did you mean"),
        (("{tree}", "{tree}", "participant"), 5, "is the raw tree"),
        (("{tree}", "{out}", "participant", "--participant-label", "09"), 4, "participant 09"),
        (("{tree}/sub-01", "{out}", "participant"), 4, "no BIDS tree"),
        (("{tree}/none", "{out}", "participant"), 3, "no such folder"),
        (("{tree}", "{tree}/derivatives/other", "participant"), 5, "did not make"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_work(
    tree: Path, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    (tree / "derivatives/other/dataset_description.json").write_text(
        '{"Name": "x", "BIDSVersion": "1.10.0", "DatasetType": "derivative", "GeneratedBy": [{"Name": "x"}]}'
    )
    out = tmp_path / "out"
    done = run(*(w.format(tree=tree, out=out) for w in words), *QUICK)
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    assert not out.exists()


def test_a_tree_without_a_description_needs_a_word(tree: Path, tmp_path: Path) -> None:
    (tree / "dataset_description.json").unlink()
    done = run(tree, tmp_path / "out", "participant", *QUICK)
    assert (done.exit_code, "--skip-bids-validation" in done.stderr) == (4, True)
    words = ("participant", "--skip-bids-validation", "--participant-label", "01", *QUICK)
    assert run(tree, tmp_path / "out", *words).exit_code == 0


def test_the_version_is_told_as_bids_apps_do() -> None:
    done = run("--version")
    assert (done.exit_code, done.stdout) == (0, f"restore {__version__}\n")


@pytest.mark.services
def test_the_official_validator_finds_no_error(tree: Path) -> None:
    """Of the derivative alone and of the tree around it; with the maps of several samples too."""
    beside = Path(sys.executable).with_name("bids-validator-deno")
    program = str(beside) if beside.is_file() else shutil.which("bids-validator-deno")
    if program is None:
        pytest.skip("needs bids-validator-deno: pip install 'restore[services]'")
    out = tree / "derivatives" / "restore"
    words = ("--sampler", "dds", "--noise-level", "20", "--samples", "2", "--set", "n_steps=2")
    done = run(tree, out, "participant", *words)
    assert done.exit_code == 0, done.stderr
    assert list(out.rglob("*_std.nii.gz"))
    found = subprocess.run(
        [program, "--format", "json", out], capture_output=True, text=True, check=False, timeout=300
    )
    issues = json.loads(found.stdout)["issues"]["issues"]
    assert [i for i in issues if i["severity"] == "error"] == []
    assert {i["code"] for i in issues} <= {"TOO_FEW_AUTHORS"}, issues
