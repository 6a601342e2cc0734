"""`--second-prior`: structured noise beside OUT, in record, report and repetition; refused where it has no place."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from docs.pages import blocks, commands, run_python
from PIL import Image

from restore.datasets.open import read, write
from restore.datasets.sidecar import read_sidecar
from restore.datasets.simulate.phantom import head_phantom
from restore.priors.edm import build_unet_denoiser
from restore.priors.store import save_prior
from restore.priors.unet import UNetConfig


@pytest.fixture(scope="module")
def spiked(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mri.h5 with a spike in all coils of every slice."""
    target = tmp_path_factory.mktemp("spiked") / "mri.h5"
    target.write_bytes((scans / "mri.h5").read_bytes())
    with h5py.File(target, "r+") as file:
        kspace = file["kspace"][:]
        column = np.flatnonzero(np.abs(kspace).sum((0, 1, 2)))[1]
        kspace[:, :, 5, column] += 8 * np.abs(kspace).std()
        file["kspace"][:] = kspace
    return target


def test_structured_noise_beside_the_result(spiked: Path, verb, tmp_path: Path, monkeypatch):
    out, beside = tmp_path / "o.nii.gz", tmp_path / "o_structured.nii.gz"
    done = verb(
        "recon", spiked, "-o", out, "--second-prior", "herringbone", "--steps", 3, "--report"
    )
    assert done.exit_code == 0, done.stderr
    image, found = read(out, modality="MR"), read(beside, modality="MR")
    assert found.data.shape == image.data.shape
    # A spike is a wave over the whole image: as strong everywhere as the coils together see.
    assert np.median(found.data) > 0.1 * found.data.max() > 0
    record = read_sidecar(out)
    assert record["outputs"] == ["o.nii.gz", "o_structured.nii.gz"]
    assert record["sampler"]["name"] == "joint"
    assert record["sampler"]["second_prior"] == "herringbone"
    page = next((tmp_path / "o_report").glob("**/index.html")).read_text(encoding="utf-8")
    assert "structured noise, a scale of its own" in page
    assert list((tmp_path / "o_report").glob("**/*-structured.png"))
    monkeypatch.chdir(spiked.parent)
    repeated = verb("recon", "--config", tmp_path / "o.json", "-o", tmp_path / "p.nii.gz")
    assert repeated.exit_code == 0, repeated.stderr
    assert (tmp_path / "p_structured.nii.gz").read_bytes() == beside.read_bytes()
    without = verb("recon", spiked, "-o", out, "--sampler", "zerofilled", "--overwrite")
    assert "o_structured.nii.gz, of the earlier job, was removed" in without.stderr


def untrained(path: Path) -> None:
    """A prior that knows nothing."""
    save_prior(path, build_unet_denoiser(UNetConfig(1, (8,), (1,), embedding=8)), {})


def test_haze_beside_a_picture(verb, tmp_path: Path, monkeypatch):
    grey = np.zeros((32, 32), np.uint8)
    grey[8:24, 8:24] = 120
    Image.fromarray(grey + 60).save(tmp_path / "a.png")
    how = (
        "image",
        tmp_path / "a.png",
        "-o",
        tmp_path / "b.png",
        "--task",
        "denoise",
        "--noise",
        0.02,
    )
    done = verb(*how, "--second-prior", "haze", "--steps", 2)
    assert done.exit_code == 2
    assert "of pictures of any brightness" in done.stderr
    untrained(tmp_path / "bmode.safetensors")
    how = (*how, "--prior", tmp_path / "bmode.safetensors")
    done = verb(*how, "--second-prior", "haze", "--steps", 2)
    assert done.exit_code == 0, done.stderr
    assert "haze: " in done.stderr
    with Image.open(tmp_path / "b_structured.png") as beside:
        assert beside.size == (32, 32)
    assert read_sidecar(tmp_path / "b.png")["outputs"] == ["b.png", "b_structured.png"]
    monkeypatch.chdir(tmp_path)
    again = verb("image", "--config", tmp_path / "b.json", "-o", tmp_path / "c.png")
    assert again.exit_code == 0, again.stderr
    assert (tmp_path / "c_structured.png").read_bytes() == (
        tmp_path / "b_structured.png"
    ).read_bytes()
    luma = verb(*how, "--second-prior", "haze", "--luma", "--overwrite")
    assert luma.exit_code == 2
    assert "leave out --luma" in luma.stderr


def test_where_it_has_no_place(scans: Path, verb, tmp_path: Path):
    out = ("-o", tmp_path / "o.nii.gz")
    other = verb("recon", scans / "mri.h5", *out, "--sampler", "dds", "--second-prior", "zipper")
    assert "--second-prior is for the sampler joint, not for dds" in other.stderr
    kind = verb("recon", scans / "ct.h5", *out, "--second-prior", "zipper")
    assert "use stripes" in kind.stderr
    none = verb("recon", scans / "ct.h5", *out, "--sampler", "joint")
    assert "no second prior; say what the structured noise is" in none.stderr
    volume = verb("volume", scans / "mr.nii.gz", *out, "--task", "denoise", "--sampler", "joint")
    assert "has no place for" in volume.stderr
    assert {r.exit_code for r in (other, kind, none, volume)} == {2}
    assert not list(tmp_path.iterdir())


PAGE = Path(__file__).resolve().parents[2] / "docs" / "structured-noise.md"


@pytest.mark.slow
def test_the_commands_of_the_page_run(verb, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(head_phantom((48, 32, 32)), tmp_path / "volume.nii.gz")
    Image.fromarray(np.full((32, 32), 90, np.uint8)).save(tmp_path / "bmode.png")
    untrained(tmp_path / "bmode.safetensors")
    shell, script, *_ = blocks(PAGE)  # what follows is the benchmark
    for _, *words in commands(shell):
        done = verb(*words, *(() if words[0] == "simulate" else ("--steps", 2)))
        assert done.exit_code == 0, (words, done.stderr)
    for name in ("image_structured.nii.gz", "other_structured.nii.gz", "clear_structured.png"):
        assert (tmp_path / name).is_file()
    run_python(script, {})
