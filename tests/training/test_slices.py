"""What of people's volumes and scans is trained on: chosen by content, odd data noted or refused in a sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel
import numpy as np
import pytest

from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.picture.images import write_image
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import head_phantom
from restore.errors import ConfigError, InputError
from restore.scaling import PEAK_RULE, PICTURE_RULE, WINDOW_RULE
from restore.training.slices import slices_of
from restore.training.sources import check_learnable, load_source

HALF = 2e-3  # slices are kept in 16-bit floats, 5e-4 of 1
ALIKE = 0.01  # coils combined by exact maps and by root sum of squares: the phantom's noise is 0, its maps smooth


def nifti(path: Path, data: np.ndarray, spacing=(1.0, 1.0, 4.0)) -> Path:
    """data: (x, y, z, ...), thick slices by default so that one plane is cut."""
    nibabel.save(nibabel.Nifti1Image(data, np.diag([*spacing, 1.0])), path)
    return path


def textured(slices: int = 6, side: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((side, side, slices)).astype(np.float32)


def test_empty_and_constant_slices_are_left_out_and_counted(tmp_path):
    data = textured()
    data[..., 0] = 0
    data[..., 5] = 0.001
    data[..., 3] = 0.5
    source = load_source(nifti(tmp_path / "a.nii", data), 1.0, 1)
    assert len(source.images) == 3
    air, even = source.notes
    assert air.startswith("2 of 6 slices left out: air or nearly empty")
    assert even == "1 of 6 slices left out: constant"
    assert source.scaling == {"MR": PEAK_RULE}


def test_what_was_assumed_of_a_file_is_said(tmp_path):
    ct = nifti(tmp_path / "ct.nii", (textured() * 2000 - 1000).astype(np.float32))
    found = load_source(ct, 1.0, 1)
    assert found.scaling == {"CT": WINDOW_RULE}
    assert "taken for CT in HU" in found.notes[0]
    assert not load_source(ct, 1.0, 1, "CT").notes
    signed = nifti(tmp_path / "signed.nii", textured() - 0.5)
    assert load_source(signed, 1.0, 1).notes == (
        "has negative intensities: their magnitude is learnt",
    )
    long = nifti(tmp_path / "long.nii", textured(), spacing=(1.0, 3.0, 9.0))
    assert load_source(long, 1.0, 1).notes == (
        "no plane of its voxels is near square: nothing of it is used",
    )


def series(folder: Path) -> Path:
    return nifti(folder / "series.nii", np.stack([textured(), textured(seed=1)], axis=3))


def colours(folder: Path) -> Path:
    rgb = np.zeros((8, 8, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    return nifti(folder / "rgb.nii", rgb)


def mixed(folder: Path) -> Path:
    nifti(folder / "a.nii", textured())
    write_image(np.zeros((1, 8, 8)), folder / "b.png")
    return folder


@pytest.mark.parametrize(
    ("made", "error", "words"),
    [
        (series, InputError, "holds 2 volumes .*or save it by itself"),
        (colours, InputError, "a colour .* volume"),
        (mixed, ConfigError, "1 pictures and 1 volumes or scans; put them into two folders"),
    ],
)
def test_what_cannot_be_learnt_is_refused(tmp_path, made, error, words):
    with pytest.raises(error, match=words):
        load_source(made(tmp_path), 1.0, 1)


def test_odd_pictures_and_other_files_of_a_folder_are_said(tmp_path):
    rng = np.random.default_rng(0)
    for k, shape in enumerate([(1, 24, 24), (3, 16, 40), (1, 64, 8)]):
        write_image(rng.random(shape), tmp_path / f"{k}.png")
    (tmp_path / "notes.txt").write_text("none")
    source = load_source(tmp_path, 1.0, 1)
    assert source.scaling == {"picture": PICTURE_RULE}
    assert source.notes == (
        "1 of 3 pictures: in colour: their luminance is learnt",
        "1 other files of the folder are not read: .txt",
    )
    assert "2 of 3 pictures: grey" in load_source(tmp_path, 1.0, 3).notes[0]
    small, sizes = check_learnable([source], 16)
    assert "1 of 3 images are smaller than the crop of 16" in small
    assert "3 sizes, from 64 x 8 to 16 x 40" in sizes
    with pytest.raises(ConfigError, match=r"all of its 3 images are smaller .*--crop 24 or less"):
        check_learnable([source], 56)


@pytest.fixture(scope="module")
def scan():
    """Four slices of a head, four coils, fully sampled, without noise, with their true maps."""
    return simulate_mri(
        head_phantom((8, 32, 32)), coils=4, acceleration=1, center_fraction=1, noise=0.0, slices=slice(2, 6)
    )  # fmt: skip


def test_complex_images_are_the_combined_coils_in_the_scale_of_a_reconstruction(tmp_path, scan):
    write_fastmri(scan, tmp_path / "scan.h5")
    found, plain = (slices_of(tmp_path / "scan.h5", channels) for channels in (2, 1))
    assert [i.shape for i in found.images] == [(2, 32, 32)] * 4
    peak = scan.setup().scaling.scale
    for image, reference in zip(found.images, np.asarray(scan.reference), strict=True):
        size = np.linalg.norm(image.astype(np.float32), axis=0)
        assert np.abs(size - reference / peak).max() < ALIKE
    assert [i.shape for i in plain.images] == [(1, 32, 32)] * 4


def test_complex_volumes_keep_their_phase_and_real_networks_learn_magnitudes(tmp_path):
    data = (textured() * np.exp(1j * textured(seed=1))).astype(np.complex64)
    path = nifti(tmp_path / "c.nii", data)
    both, size = slices_of(path, 2), slices_of(path, 1)
    assert {i.shape for i in both.images} == {(2, 24, 24)}
    for pair, one in zip(both.images, size.images, strict=True):
        assert np.abs(np.linalg.norm(pair.astype(np.float32), axis=0) - one[0]).max() < HALF
    assert "its magnitude is learnt" in size.notes[0]


def test_undersampled_kspace_teaches_nothing(tmp_path, scan):
    mask = np.ones(32, bool)
    mask[3::4] = False
    mask[12:20] = True
    kspace = dataclasses.replace(scan.kspace, load=lambda i: scan.kspace[i] * mask)
    holes = dataclasses.replace(scan, mask=mask, kspace=kspace)
    write_fastmri(dataclasses.replace(holes, reference=None), tmp_path / "holes.h5")
    for channels in (1, 2):
        with pytest.raises(InputError, match="images are aliased"):
            slices_of(tmp_path / "holes.h5", channels)
    write_fastmri(holes, tmp_path / "with_reference.h5")
    assert len(slices_of(tmp_path / "with_reference.h5", 1).images) == 4


def test_ct_is_no_complex_image(tmp_path):
    path = nifti(tmp_path / "ct.nii", (textured() * 2000 - 1000).astype(np.float32))
    with pytest.raises(ConfigError, match="images are real"):
        slices_of(path, 2)
