"""`restore simulate --frames` and `restore recon` of a scan over time: from a volume to 4-D NIfTI; docs/dynamic.md."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from docs.pages import blocks, commands, run_python

from restore.datasets.open import write
from restore.datasets.simulate.phantom import ct_phantom, head_phantom

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dynamic.md"
FRAMES = 4


@pytest.fixture(scope="module")
def series(verb, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with head.nii.gz, mri.h5 and ct.h5: four frames of a slice."""
    folder = tmp_path_factory.mktemp("dynamic")
    write(head_phantom((6, 20, 16)), folder / "head.nii.gz")
    write(ct_phantom((6, 20, 16)), folder / "chest.nii.gz")
    which = ("--slices", 2, "--frames", FRAMES, "--frame-time", 0.2)
    for kind, source, words in (
        ("mri", "head", ("--trajectory", "radial:6", "--coils", 2)),
        ("ct", "chest", ("--views", 6)),
    ):
        out = folder / f"{kind}.h5"
        done = verb("simulate", kind, folder / f"{source}.nii.gz", "-o", out, *which, *words)
        assert done.exit_code == 0, done.stderr
        assert "4 frames of 1 slices" in done.output
    return folder


@pytest.mark.parametrize("kind", ["mri", "ct"])
def test_a_scan_over_time_becomes_a_series_in_its_place(kind, verb, series, tmp_path):
    out = tmp_path / "out.nii.gz"
    done = verb("recon", series / f"{kind}.h5", "-o", out, "--sampler", "lps", "--steps", 5)
    assert done.exit_code == 0, done.stderr
    assert "4 frames" in done.output
    found = nibabel.load(out)
    source = nibabel.load(series / ("head.nii.gz" if kind == "mri" else "chest.nii.gz"))
    assert found.shape == (16, 20, 1, FRAMES)
    assert found.header.get_zooms() == pytest.approx((*source.header.get_zooms(), 0.2))
    assert found.header.get_xyzt_units() == ("mm", "sec")
    place = source.affine.copy()
    place[:3, 3] += 2 * place[:3, 2]
    np.testing.assert_allclose(found.affine, place, atol=1e-4)  # float32 in the header
    record = json.loads((tmp_path / "out.json").read_text())
    assert (record["frames"], record["frame_s"]) == (FRAMES, 0.2)
    assert not any("by itself" in note for note in record["notes"])


def test_a_sampler_of_images_says_that_it_takes_frames_one_by_one(verb, series, tmp_path):
    out = tmp_path / "out.nii.gz"
    done = verb("recon", series / "ct.h5", "-o", out, "--sampler", "fbp", "--report")
    assert done.exit_code == 0, done.stderr
    said = "fbp reconstructs each of the 4 frames by itself"
    assert said in done.stderr
    assert any(said in note for note in json.loads((tmp_path / "out.json").read_text())["notes"])
    assert (tmp_path / "out_report" / "index.html").exists()
    # The same readouts in other frames are another job, and the record tells which.
    other = verb("recon", series / "ct.h5", "-o", out, "--sampler", "fbp", "--frames", 6)
    assert other.exit_code == 5, other.stderr
    again = verb("recon", "--config", tmp_path / "out.json", "-o", tmp_path / "again.nii.gz")
    assert again.exit_code == 0, again.stderr
    assert (tmp_path / "again.nii.gz").read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--sampler redpsm --set rank=4", "a rank of 4 for 3 frames"),
        ("--sampler lps --frames 1", "lps joins the frames"),
        ("--sampler lps --frames 7", "7 frames of 24 readouts or views"),
    ],
)
def test_frames_that_do_not_fit_are_refused(words, said, verb, series, tmp_path):
    frames = () if "--frames" in words else ("--frames", 3)
    done = verb("recon", series / "ct.h5", "-o", tmp_path / "out.nii.gz", *words.split(), *frames)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_lines_of_their_own_are_measured_in_every_frame(verb, series, tmp_path):
    scan, out = tmp_path / "lines.h5", tmp_path / "out.nii.gz"
    words = (
        "--slices",
        2,
        "--frames",
        FRAMES,
        "--acceleration",
        4,
        "--center-fraction",
        0.125,
        "--coils",
        2,
    )
    done = verb("simulate", "mri", series / "head.nii.gz", "-o", scan, *words)
    assert done.exit_code == 0, done.stderr
    assert "4 lines a frame of 0.1 s" in done.output
    done = verb("recon", scan, "-o", out, "--sampler", "lps", "--steps", 2)
    assert done.exit_code == 0, done.stderr
    assert nibabel.load(out).shape == (16, 20, 1, FRAMES)


def test_a_series_is_written_as_nifti_alone_and_read_by_what_takes_it(verb, series, tmp_path):
    done = verb("recon", series / "ct.h5", "-o", tmp_path / "out.tif", "--sampler", "fbp")
    assert done.exit_code == 2
    assert "4 frames; write .nii, .nii.gz" in " ".join(done.stderr.split())
    out = tmp_path / "movie.nii.gz"
    assert not verb("recon", series / "mri.h5", "-o", out, "--sampler", "zerofilled").exit_code
    one = verb("volume", out, "-o", tmp_path / "clean.nii.gz", "--task", "denoise")
    assert one.exit_code == 4
    assert "it holds 4 volumes" in one.stderr
    again = tmp_path / "again.h5"
    words = ("--frames", 3, "--trajectory", "radial:2", "--coils", 2)
    done = verb("simulate", "mri", out, "-o", again, *words)
    assert done.exit_code == 0, done.stderr
    assert "3 frames of 1 slices, 20 x 16, 2 spokes a frame of 0.2 s" in done.output


@pytest.mark.parametrize(
    ("kind", "words", "said"),
    [
        ("mri", "--frames 4", "--frames needs --trajectory"),
        ("mri", "--frames 4 --acceleration 2 --trajectory radial:2", "not both"),
        ("mri", "--frames 4 --mask poisson2d", "is of points, and frames have lines"),
        ("mri", "--frames 4 --columns 8", "--columns cannot be told with --frames"),
        ("ct", "--frames 4 --geometry fan", "--geometry cannot be told with --frames"),
        ("ct", "--frame-time 1", "--frame-time needs --frames"),
    ],
)
def test_options_that_do_not_go_together_are_refused(kind, words, said, verb, series, tmp_path):
    source = series / ("head.nii.gz" if kind == "mri" else "chest.nii.gz")
    done = verb("simulate", kind, source, "-o", tmp_path / "scan.h5", *words.split())
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


@pytest.mark.slow
def test_the_commands_of_the_page_run(verb, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(head_phantom((6, 20, 16)), tmp_path / "head.nii.gz")
    write(ct_phantom((6, 20, 16)), tmp_path / "chest.nii.gz")
    shell, script = blocks(PAGE)
    for _, *words in commands(shell):
        done = verb(*words)
        assert done.exit_code == 0, (words, done.stderr)
    assert nibabel.load(tmp_path / "beating.nii.gz").shape == (16, 20, 1, 24)
    run_python(script, {})
