"""`restore recon` with files of other programs beside the scan and as results."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from bart_pairs import write_cfl

from restore.datasets.open import open_scan, read
from restore.datasets.sidecar import read_sidecar


@pytest.fixture
def pair(scans: Path, tmp_path: Path) -> Path:
    """The k-space and the maps of slice 1 as BART's files: k and maps."""
    scan = open_scan(scans / "mri.h5")
    for name, stack in (("k", scan.kspace), ("maps", scan.maps)):
        write_cfl(tmp_path / name, np.asarray(stack[1]).transpose(1, 2, 0)[:, :, None])
    return tmp_path


def test_coil_maps_of_a_file(pair: Path, verb, monkeypatch):
    monkeypatch.chdir(pair)
    words = ("recon", "k", "--maps", "maps", "--sampler", "zerofilled")
    assert verb(*words, "-o", "a.nii.gz").exit_code == 0
    record = read_sidecar(pair / "a.nii.gz")
    assert (record["maps"], {s["Option"] for s in record["sources"]}) == ("file", {"scan", "maps"})
    again = verb("recon", "--config", "a.json", "-o", "b.nii.gz")
    assert again.exit_code == 0, again.output
    np.testing.assert_array_equal(read("a.nii.gz").data, read("b.nii.gz").data)
    done = verb(*words, "-o", "a.nii.gz")
    assert "already done" in done.output
    values = np.fromfile(pair / "maps.cfl", np.complex64)
    values.conj().tofile(pair / "maps.cfl")
    other = verb(*words, "-o", "a.nii.gz", "--overwrite")
    assert other.exit_code == 4, other.output
    assert "conjugated" in other.output
    for name, found in (("none.npy", "no such file"), ("walsh", "must be one of 'auto'")):
        assert found in verb(*words[:3], name, *words[4:], "-o", "c.nii").output


def test_results_as_other_programs_have_them(scans: Path, verb, tmp_path: Path):
    words = ("recon", scans / "mri.h5", "--sampler", "zerofilled")
    for name in ("a.nii", "b.cfl", "c.mrd"):
        made = verb(*words, "-o", tmp_path / name)
        assert made.exit_code == 0, made.output
        assert "already done" in verb(*words, "-o", tmp_path / name).output
    image = np.asarray(read(tmp_path / "a.nii").data)
    pair = np.fromfile(tmp_path / "b.cfl", np.complex64).reshape(
        image.transpose(1, 2, 0).shape, order="F"
    )
    np.testing.assert_array_equal(pair.transpose(2, 0, 1), image)
    assert read_sidecar(tmp_path / "b.cfl")["outputs"] == ["b.cfl", "b.hdr"]
    with h5py.File(tmp_path / "c.mrd") as file:
        np.testing.assert_array_equal(file["dataset/image_0/data"][:, 0, 0].swapaxes(1, 2), image)
    (tmp_path / "b.hdr").write_text("changed")
    assert (
        "b.hdr: is not what its record vouches for" in verb(*words, "-o", tmp_path / "b.cfl").output
    )
    report = verb(*words, "-o", tmp_path / "d.cfl", "--report")
    assert "--report reads the result back" in report.output
    assert not (tmp_path / "d.cfl").exists()


def test_a_pair_is_not_written_over_its_own_input(pair: Path, verb):
    for scan in ("k", "k.cfl", "k.hdr"):
        made = verb(
            "recon", pair / scan, "-o", pair / "k.cfl", "--overwrite", "--sampler", "zerofilled"
        )
        assert made.exit_code != 0
        assert "output and input are" in made.output


@pytest.mark.parametrize(
    "sampling",
    [
        ("--acceleration", 2, "--center-fraction", 0.3),
        # The readers and writers of these are held by quicker tests.
        pytest.param(
            ("--encoding", "3d", "--acceleration", 2, "--center-fraction", 0.5),
            marks=pytest.mark.slow,
        ),
        pytest.param(("--trajectory", "radial:40"), marks=pytest.mark.slow),
    ],
)
def test_simulated_scans_as_other_programs_have_them(
    scans: Path, verb, tmp_path: Path, monkeypatch, sampling: tuple
):
    """The same image by every route, with the maps and the noise of the first."""
    trajectory = "--trajectory" in sampling
    if trajectory:
        pytest.importorskip("finufft")
    monkeypatch.chdir(tmp_path)
    ways = {"h.h5": (), "m.h5": ("--as", "ismrmrd"), "k.cfl": ("--as", "cfl")}
    for name, layout in ways.items():
        words = (
            "simulate",
            "mri",
            scans / "mr.nii.gz",
            "-o",
            name,
            "--slices",
            "2:6",
            "--coils",
            4,
            *sampling,
        )
        made = verb(*words, *layout)
        assert made.exit_code == 0, made.output
        assert "already done" in verb(*words, *layout).output
    beside = ("--trajectory", "k_traj") if trajectory else ("--pattern", "k_pattern")
    options = {"h.h5": (), "m.h5": ("--maps", "h.h5"), "k.cfl": ("--maps", "k_maps", *beside)}
    level = ("--noise-std", open_scan(tmp_path / "h.h5").noise_std)
    images = []
    for name, given in options.items():
        out = f"{name}.nii"
        made = verb("recon", name, "-o", out, "--sampler", "cgsense", *level, *given)
        assert made.exit_code == 0, made.output
        images.append(read(out))
    # Coordinates in single precision, seen by CG in float32: 1e-3 of the brightest pixel. Lines are equal.
    apart = 1e-2 * images[0].data.max() if trajectory else 0
    for found in images[1:]:
        np.testing.assert_allclose(found.data, images[0].data, atol=apart)
    np.testing.assert_allclose(
        images[1].affine, images[0].affine, atol=1e-4
    )  # mm, in single precision


def test_names_and_layouts_that_do_not_go_together(scans: Path, verb, tmp_path: Path):
    for name, layout in (("a.h5", "cfl"), ("a.cfl", "ismrmrd"), ("a.cfl", "scan")):
        made = verb("simulate", "mri", scans / "mr.nii.gz", "-o", tmp_path / name, "--as", layout)
        assert "--as cfl" in made.output
    points = ("--mask", "random2d", "--as", "ismrmrd", "-o", tmp_path / "a.h5")
    assert "holds whole readouts" in verb("simulate", "mri", scans / "mr.nii.gz", *points).output
