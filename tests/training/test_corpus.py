"""Training images: what is read, how it is normalised, and crops that depend on seed and step only."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.picture.images import write_image
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, NotFoundError
from restore.training.corpus import Corpus
from restore.training.sources import LUMINANCE, Source, load_source

QUANTILE = 0.03  # the scale is a quantile, which a few bright pixels pass
COUNTS = 2e-3  # slices are stored in 16-bit floats, 5e-4 of 1
SAMPLED = 0.07  # a share of some hundred draws


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k, shape in enumerate([(3, 20, 30), (3, 8, 40), (1, 25, 25)]):
        write_image(rng.random(shape), folder / f"{k}.png")
    (folder / "README.txt").write_text("not a picture")
    return folder


def volume_file(
    folder: Path, data: np.ndarray, spacing=(1.0, 1.0, 1.0), name: str = "v.nii.gz"
) -> Path:
    """data: (x, y, z)."""
    path = folder / name
    nibabel.save(nibabel.Nifti1Image(data.astype(np.float32), np.diag([*spacing, 1.0])), path)
    return path


def ball(scale: float, offset: float = 0.0) -> np.ndarray:
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in (20, 22, 12)], indexing="ij")
    return offset + scale * np.clip(1 - sum(g**2 for g in grid), 0, None)


def test_photographs_become_bytes_in_the_asked_channels(photographs):
    grey, colour = (load_source(photographs, 2.0, channels) for channels in (1, 3))
    assert [i.shape for i in grey.images] == [(1, 20, 30), (1, 8, 40), (1, 25, 25)]
    assert [i.shape[0] for i in colour.images] == [3, 3, 3]
    assert (grey.weight, grey.photographs, grey.name) == (2.0, True, "photographs")
    assert {i.dtype for i in grey.images} == {np.dtype(np.uint8)}
    mixed = np.tensordot(LUMINANCE, colour.images[0].astype(float), axes=1)
    assert np.abs(mixed - grey.images[0][0]).max() <= 0.51
    assert np.array_equal(colour.images[2][0], colour.images[2][1])


def test_one_picture_is_a_source_too(photographs):
    assert len(load_source(photographs / "0.png", 1.0, 3).images) == 1


@pytest.mark.parametrize("scale", [1.0, 3e4])
def test_mr_volumes_are_scaled_by_their_quantile(tmp_path, scale):
    source = load_source(volume_file(tmp_path, ball(scale)), 1.0, 1)
    assert not source.photographs
    assert {i.dtype for i in source.images} == {np.dtype(np.float16)}
    top = max(float(i.max()) for i in source.images)
    assert top == pytest.approx(1, abs=QUANTILE)
    assert min(float(i.min()) for i in source.images) == 0
    sizes = {i.shape[1:] for i in source.images}
    assert sizes == {(22, 20), (12, 20), (12, 22)}  # isotropic: slices along each axis
    assert all((i > 0.05).mean() > 0.1 for i in source.images)


def test_thick_slices_are_cut_in_plane_only(tmp_path):
    source = load_source(volume_file(tmp_path, ball(1.0), spacing=(1.0, 1.0, 5.0)), 1.0, 1)
    assert {i.shape[1:] for i in source.images} == {(22, 20)}


@pytest.mark.parametrize("modality", ["CT", ""])
def test_ct_is_mapped_by_its_window(tmp_path, modality):
    """Air to 0 and 1500 HU to 1; beyond is kept above and cut below; a volume in HU is recognised."""
    data = ball(2500.0, -1000.0)
    data[0] = -2000
    source = load_source(volume_file(tmp_path, data), 1.0, 1, modality)
    top = max(float(i.max()) for i in source.images)
    assert top == pytest.approx((data.max() + 1000) / 2500, rel=COUNTS)
    assert min(float(i.min()) for i in source.images) == 0


def test_what_cannot_be_used_is_named(tmp_path, photographs):
    with pytest.raises(NotFoundError, match="nowhere"):
        load_source(tmp_path / "nowhere", 1.0, 1)
    with pytest.raises(ConfigError, match="one-channel"):
        load_source(volume_file(tmp_path, ball(1.0)), 1.0, 3)
    text = tmp_path / "text.nii"
    text.write_text("nonsense" * 100)
    with pytest.raises(InputError):
        load_source(text, 1.0, 1)
    empty = load_source(volume_file(tmp_path, np.zeros((20, 20, 12)), name="empty.nii"), 1.0, 1)
    with pytest.raises(ConfigError, match=r"empty\.nii: no usable images"):
        Corpus([empty], 16, 0)
    with pytest.raises(ConfigError, match="positive shares"):
        Corpus([], 16, 0)
    source = load_source(photographs, -1.0, 1)
    with pytest.raises(ConfigError, match="positive shares"):
        Corpus([source], 16, 0)


@pytest.fixture
def sources(tmp_path, photographs) -> list[Source]:
    return [load_source(photographs, 1.0, 1), load_source(volume_file(tmp_path, ball(1.0)), 3.0, 1)]


def test_crops_depend_on_seed_and_step_only(sources):
    corpus = Corpus(sources, 16, seed=4)
    first = corpus.batch(7, 5)
    corpus.batch(8, 5)
    assert first.shape == (5, 1, 16, 16)
    assert first.dtype == torch.float32
    assert torch.equal(corpus.batch(7, 5), first)
    assert torch.equal(Corpus(sources, 16, seed=4).batch(7, 5), first)
    assert not torch.equal(corpus.batch(8, 5), first)
    assert not torch.equal(Corpus(sources, 16, seed=5).batch(7, 5), first)


def test_photographs_stay_in_range_and_small_ones_are_extended(sources):
    crops = Corpus(sources[:1], 24, seed=0).batch(0, 40)
    assert crops.shape == (40, 1, 24, 24)
    assert 0 <= float(crops.min()) <= float(crops.max()) <= 1


def test_shares_rule_the_mixture(sources):
    """Crops of volumes may be negated or magnified; those of photographs are noise and rough."""
    crops = Corpus(sources, 16, seed=0).batch(0, 400)
    rough = crops.diff(dim=-1).abs().mean((1, 2, 3)) > 0.15
    assert float(rough.float().mean()) == pytest.approx(0.25, abs=SAMPLED)
    assert float(crops.min()) < -0.1


def test_crops_are_pieces_of_the_images():
    """Values of a ramp: every crop of a photograph is one of its squares, turned or mirrored."""
    ramp = (np.arange(12)[:, None] * 12 + np.arange(12)).astype(np.uint8)[None]
    corpus = Corpus([Source((ramp,), 1.0, True, "ramp")], 5, seed=1)
    wanted = {
        tuple(sorted(ramp[0, r : r + 5, c : c + 5].ravel())) for r in range(8) for c in range(8)
    }
    for crop in corpus.batch(0, 20):
        values = (crop * 255).round().int().flatten().tolist()
        assert tuple(sorted(values)) in wanted


def test_scans_give_their_reference_or_the_root_sum_of_squares(tmp_path):
    volume = Volume(np.transpose(ball(100.0)).astype(np.float32), np.eye(4), "MR")
    scan = simulate_mri(
        volume, coils=4, acceleration=1, center_fraction=1, noise=0.0, slices=slice(3, 9)
    )
    write_fastmri(scan, tmp_path / "a.h5")
    stored = load_source(tmp_path / "a.h5", 1.0, 1)
    write_fastmri(dataclasses.replace(scan, reference=None), tmp_path / "b.h5")
    measured = load_source(tmp_path / "b.h5", 1.0, 1)
    assert len(stored.images) == len(measured.images) == 6
    for a, b in zip(stored.images, measured.images, strict=True):
        np.testing.assert_allclose(a, b, atol=COUNTS)


def test_a_folder_of_volume_files_is_one_source(tmp_path):
    for k in range(2):
        volume_file(tmp_path, ball(50.0 + k), name=f"{k}.nii.gz")
    whole = load_source(tmp_path, 1.0, 1)
    parts = [load_source(tmp_path / f"{k}.nii.gz", 1.0, 1) for k in range(2)]
    assert len(whole.images) == sum(len(p.images) for p in parts)


def test_what_pictures_lose_in_training_is_said(tmp_path):
    colour = np.random.default_rng(0).random((3, 8, 8))
    write_image(colour, tmp_path / "a.png")
    write_image(colour, tmp_path / "b.png", alpha=np.full((1, 8, 8), 0.5))
    notes = load_source(tmp_path, 1.0, 3).notes
    assert notes == (
        "1 of 2 pictures: partly transparent: colours are learnt as if nothing were clear",
    )
