"""`restore eval`: figures against skimage, matching by position, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff
from numpy.typing import NDArray
from PIL import Image
from skimage import data as samples
from skimage.metrics import structural_similarity
from typer.testing import CliRunner

import restore
from restore.cli import app
from restore.datasets.picture.images import write_image
from restore.datasets.picture.raster import Tags

runner = CliRunner()
AFFINE = np.array([[2.0, 0, 0, -10], [0, 2, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])
SLICES = slice(1, 9, 3)


def smooth(seed: int, low: float, high: float) -> NDArray[np.float32]:
    """A volume x 22, y 18, z 10 that takes all values from low to high."""
    values = np.random.default_rng(seed).random((22, 18, 10)).cumsum(0).cumsum(1)
    values = (values - values.min()) / np.ptp(values)
    return (low + (high - low) * values).astype(np.float32)


def save(path: Path, data: NDArray, affine: NDArray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def selected(affine: NDArray, slices: slice) -> NDArray:
    """The affine of a volume that holds only these slices of another."""
    found = affine.copy()
    found[:3, 3] += slices.start * affine[:3, 2]
    found[:3, 2] *= slices.step
    return found


def judge(*arguments: object):
    return runner.invoke(app, ["eval", *map(str, arguments)])


def figures(*arguments: object) -> dict:
    result = judge(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, NDArray, NDArray]:
    """OUT with slices 1, 4, 7 of REF and noise; the compared arrays (x, y, slices)."""
    reference = smooth(0, 0, 800)
    noise = np.random.default_rng(1).normal(scale=9, size=(22, 18, 3))
    image = (reference[:, :, SLICES] + noise).astype(np.float32)
    out = save(tmp_path / "out.nii.gz", image, selected(AFFINE, SLICES))
    return out, save(tmp_path / "ref.nii.gz", reference), image, reference[:, :, SLICES]


def expected(x: NDArray, y: NDArray, peak: float) -> tuple[float, float, float]:
    """PSNR, SSIM and NMSE computed another way; slices lie along the last axis."""
    x, y = x.astype(float), y.astype(float)
    error = np.mean((x - y) ** 2)
    planes = [
        structural_similarity(x[..., k], y[..., k], data_range=peak) for k in range(x.shape[-1])
    ]
    return 20 * np.log10(peak / np.sqrt(error)), np.mean(planes), error / np.mean(y**2)


def test_figures_are_volume_wise_over_the_slices_of_out(pair):
    out, ref, image, reference = pair
    found = figures(out, "--reference", ref)
    peak = float(reference.max())
    values = found["psnr"], found["ssim"], found["nmse"]
    assert values == pytest.approx(expected(image, reference, peak), rel=1e-6)
    assert found["data_range"] == pytest.approx(peak)
    assert found["data_range_rule"] == "reference's maximum over the compared slices"
    assert found["slices"] == [1, 4, 7]
    assert found["modality"] == ""
    assert found["rescale_factor"] is None
    assert "7x7" in found["ssim_variant"]


def test_in_words(pair):
    out, ref, *_ = pair
    text = judge(out, "--reference", ref).stdout
    assert text.startswith("PSNR ")
    assert "data range" in text
    assert "slices 1, 4, 7 of ref.nii.gz" in text


def test_chosen_slices_count_in_the_reference(pair):
    out, ref, image, reference = pair
    found = figures(out, "--reference", ref, "--slices", "4:8:3")
    peak = float(reference[..., 1:].max())
    assert found["slices"] == [4, 7]
    assert found["psnr"] == pytest.approx(expected(image[..., 1:], reference[..., 1:], peak)[0])
    assert figures(out, "--reference", ref, "--slices", "4")["slices"] == [4]


def test_slices_that_out_does_not_hold(pair):
    out, ref, *_ = pair
    result = judge(out, "--reference", ref, "--slices", "1:5")
    assert result.exit_code == 2
    assert "slices 2, 3 of the reference are not in it; it holds 1, 4, 7" in result.stderr
    assert judge(out, "--reference", ref, "--slices", "20:30").exit_code == 2
    assert judge(out, "--reference", ref, "--slices", "x").exit_code == 2


@pytest.mark.parametrize("axes", ["LPS", "SAR", "ASL", "RAI"])
def test_position_counts_and_not_the_order_of_the_voxels(pair, tmp_path, axes):
    """The same OUT stored with exchanged and reversed axes gives the same figures."""
    out, ref, image, _ = pair
    turn = nibabel.orientations.ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))
    affine = selected(AFFINE, SLICES) @ inv_ornt_aff(turn, image.shape)
    turned = save(tmp_path / "turned.nii", apply_orientation(image, turn), affine)
    for options in ([], ["--slices", "1:8:6"]):
        plain = figures(out, "--reference", ref, *options)
        again = figures(turned, "--reference", ref, *options)
        assert sorted(again["slices"]) == plain["slices"]
        for key in ("psnr", "ssim", "nmse", "data_range"):
            assert again[key] == pytest.approx(plain[key], rel=1e-9)


def test_a_single_slice_and_a_crop(pair, tmp_path):
    _, ref, _, _ = pair
    reference = np.asarray(nibabel.load(ref).dataobj)
    affine = selected(AFFINE, slice(6, 7, 1))
    affine[:3, 3] += affine[:3, :3] @ [2, 3, 0]
    crop = save(tmp_path / "crop.nii", reference[2:20, 3:15, 6:7] + np.float32(1), affine)
    found = figures(crop, "--reference", ref)
    assert found["slices"] == [6]
    assert found["psnr"] == pytest.approx(20 * np.log10(reference[2:20, 3:15, 6].max()), rel=1e-4)
    assert figures(crop, "--reference", ref, "--slices", "6")["psnr"] == found["psnr"]


def test_volumes_at_different_places_are_refused(pair, tmp_path):
    out, ref, image, _ = pair
    moved = selected(AFFINE, SLICES)
    moved[0, 3] += 0.7
    result = judge(save(tmp_path / "moved.nii", image, moved), "--reference", ref)
    assert result.exit_code == 4
    assert "shifted" in result.stderr
    assert judge(ref, "--reference", out).exit_code == 4


def test_ct_uses_the_range_of_the_reference(tmp_path):
    reference = smooth(2, -1000, 1200)
    ref = save(tmp_path / "ref.nii", reference)
    out = save(tmp_path / "out.nii", reference + np.float32(5))
    found = figures(out, "--reference", ref)
    assert found["modality"] == "CT"
    assert "-500 HU" in found["modality_rule"]
    assert found["data_range"] == pytest.approx(2200)
    assert "maximum minus minimum" in found["data_range_rule"]
    assert found["psnr"] == pytest.approx(20 * np.log10(2200 / 5), rel=1e-5)
    # SSIM and NMSE are those of attenuation, where air is zero.
    shifted = reference.astype(np.float64) + 1000
    assert found["nmse"] == pytest.approx(25 * shifted.size / (shifted**2).sum(), rel=1e-4)
    likeness = [
        structural_similarity(z + 5, z, data_range=2200) for z in np.moveaxis(shifted, -1, 0)
    ]
    assert found["ssim"] == pytest.approx(np.mean(likeness), abs=1e-5)
    assert found["ssim_variant"].endswith("on HU + 1000")


def test_the_data_range_can_be_given(pair):
    out, ref, *_ = pair
    found = figures(out, "--reference", ref, "--data-range", 1000)
    assert (found["data_range"], found["data_range_rule"]) == (1000, "given")
    for value in ("0", "-1", "nan", "inf"):
        assert judge(out, "--reference", ref, f"--data-range={value}").exit_code == 2


def test_nothing_is_rescaled_unless_told(pair, tmp_path):
    _, ref, _, _ = pair
    reference = np.asarray(nibabel.load(ref).dataobj)
    half = save(tmp_path / "half.nii", reference / 2)
    assert figures(half, "--reference", ref)["nmse"] == pytest.approx(0.25, rel=1e-5)
    found = figures(half, "--reference", ref, "--rescale")
    assert found["rescale_factor"] == pytest.approx(2, rel=1e-6)
    assert found["nmse"] < 1e-10
    assert "least-squares" in found["notes"][0]
    zero = save(tmp_path / "zero.nii", np.zeros_like(reference))
    assert judge(zero, "--reference", ref, "--rescale").exit_code == 2


def test_equal_volumes_have_no_finite_psnr(pair):
    _, ref, *_ = pair
    found = figures(ref, "--reference", ref)
    assert (found["psnr"], found["nmse"]) == (None, 0)
    assert found["ssim"] == pytest.approx(1)
    assert "PSNR inf dB" in judge(ref, "--reference", ref).stdout


def test_a_complex_volume_is_compared_by_magnitude(pair, tmp_path):
    _, ref, _, _ = pair
    reference = np.asarray(nibabel.load(ref).dataobj)
    turned = save(tmp_path / "complex.nii", (reference * np.exp(1j)).astype(np.complex64))
    found = figures(turned, "--reference", ref)
    assert found["nmse"] < 1e-12
    assert found["notes"] == ["complex.nii is complex: its magnitude was compared"]


def test_several_volumes_in_out(pair, tmp_path):
    _, ref, _, _ = pair
    reference = np.asarray(nibabel.load(ref).dataobj)
    several = save(tmp_path / "several.nii", np.stack([reference, reference], -1))
    result = judge(several, "--reference", ref)
    assert result.exit_code == 4
    assert "holds several volumes (give OUT as a file of one volume" in result.stderr
    assert judge(ref, "--reference", several, "--volume", 1).exit_code == 0


def test_series_are_compared_frame_by_frame_by_one_range(pair, tmp_path):
    _, ref, _, _ = pair
    one = np.asarray(nibabel.load(ref).dataobj)
    truth = save(tmp_path / "truth.nii", np.stack([one, 2 * one], -1))
    wrong = save(tmp_path / "wrong.nii", np.stack([one + 1, 2 * one + 10], -1))
    found = figures(wrong, "--reference", truth)
    peak = 2 * float(one.max())
    each = [20 * np.log10(peak / error) for error in (1, 10)]
    assert [f["psnr"] for f in found["frames"]] == pytest.approx(each, rel=1e-5)  # float32 files
    assert found["psnr"] == pytest.approx(np.mean(each), rel=1e-5)
    assert (found["worst_frame"], found["data_range"]) == (1, pytest.approx(peak))
    text = judge(wrong, "--reference", truth).output
    assert re.search(rf"mean of 2 +{found['psnr']:.2f}", text)
    assert re.search(rf"worst \(1\) +{each[1]:.2f}", text)
    scaled = save(tmp_path / "scaled.nii", np.stack([one / 4, one / 2], -1))
    fit = figures(scaled, "--reference", truth, "--rescale")
    assert fit["rescale_factor"] == pytest.approx(4)
    longer = save(tmp_path / "longer.nii", np.stack([one] * 3, -1))
    for words, said in (
        ((longer,), "3 frames, and the reference"),
        ((wrong, "--align"), "moves volumes"),
    ):
        refused = judge(*words, "--reference", truth)
        assert refused.exit_code == 2
        assert said in " ".join(refused.stderr.split())


def test_other_units_are_said(pair, tmp_path):
    """Attenuation in 1/mm against a reference in HU, and the other way round."""
    _, ref, _, _ = pair
    reference = np.asarray(nibabel.load(ref).dataobj)
    small = save(tmp_path / "small.nii", reference * 1e-4)
    for files in ((small, ref), (ref, small)):
        assert "are both in one unit" in figures(files[0], "--reference", files[1])["notes"][0]
    half = save(tmp_path / "half.nii", reference / 2)
    assert figures(half, "--reference", ref)["notes"][0].startswith("times 2 and plus 0")
    darker = save(tmp_path / "darker.nii", reference * 0.85)
    assert figures(darker, "--reference", ref)["notes"] == []


def test_what_reading_the_volumes_changed_is_said(pair, tmp_path):
    out, ref, _, _ = pair
    spoilt = np.asarray(nibabel.load(ref).dataobj).copy()
    spoilt[0, 0, 0] = np.nan
    broken = save(tmp_path / "broken.nii", spoilt)
    assert "--repair zero" in judge(out, "--reference", broken).stderr
    notes = figures(out, "--reference", broken, "--repair", "zero")["notes"]
    assert notes[0].startswith("broken.nii: 1 of")


def test_nan_in_out_is_an_error(pair, tmp_path):
    _, ref, _, _ = pair
    broken = np.asarray(nibabel.load(ref).dataobj).copy()
    broken[3, 4, 5] = np.nan
    result = judge(save(tmp_path / "nan.nii", broken), "--reference", ref)
    assert result.exit_code == 4
    assert "nan.nii" in result.stderr


def test_a_reference_without_contrast(tmp_path):
    zero = save(tmp_path / "zero.nii", np.zeros((9, 9, 9), np.float32))
    result = judge(zero, "--reference", zero)
    assert result.exit_code == 2
    assert "--data-range" in result.stderr


def test_missing_and_strange_files(pair, tmp_path):
    out, ref, *_ = pair
    assert judge(tmp_path / "no.nii", "--reference", ref).exit_code == 3
    assert judge(out, "--reference", tmp_path / "no.nii").exit_code == 3
    text = tmp_path / "text.nii"
    text.write_text("hello")
    assert judge(out, "--reference", text).exit_code == 4
    assert judge(out).exit_code == 2


def test_photographs(tmp_path):
    rng = np.random.default_rng(3)
    reference = rng.integers(20, 230, (16, 24, 3)).astype(np.uint8)
    image = (reference + rng.integers(-5, 6, reference.shape)).astype(np.uint8)
    out, ref = tmp_path / "out.png", tmp_path / "ref.png"
    Image.fromarray(image).save(out)
    Image.fromarray(reference).save(ref)
    found = figures(out, "--reference", ref)
    values = found["psnr"], found["ssim"], found["nmse"]
    assert values == pytest.approx(expected(image / 255, reference / 255, 1.0), rel=1e-5)
    assert (found["modality"], found["slices"]) == ("photograph", None)
    assert found["data_range"] == 1
    assert "full scale" in judge(out, "--reference", ref).stdout


def test_what_the_figures_of_photographs_do_not_see_is_said(tmp_path):
    colour = np.random.default_rng(0).random((3, 16, 16))
    write_image(colour, tmp_path / "a.png", alpha=np.full((1, 16, 16), 0.5))
    write_image(colour, tmp_path / "b.png", tags=Tags(profile=b"another space"))
    shown = judge(tmp_path / "a.png", "--reference", tmp_path / "b.png").stdout
    assert "a.png: partly transparent" in shown
    assert "the colour profiles differ" in shown


def test_photographs_that_cannot_be_compared(pair, tmp_path):
    volume, *_ = pair
    for name, size in (("a.png", (16, 16)), ("b.png", (16, 18)), ("c.png", (16, 16, 3))):
        Image.fromarray(np.full(size, 128, np.uint8)).save(tmp_path / name)
    a = tmp_path / "a.png"
    result = judge(a, "--reference", tmp_path / "b.png")
    assert result.exit_code == 4
    assert "differ in size" in result.stderr
    assert judge(a, "--reference", tmp_path / "c.png").exit_code == 4
    assert judge(a, "--reference", a, "--slices", "1").exit_code == 2
    assert judge(a, "--reference", volume).exit_code == 4
    assert judge(tmp_path / "no.png", "--reference", a).exit_code == 3


def test_a_nifti_result_against_its_dicom_source(samples, tmp_path):
    folder, out = samples / "dicom_mr", tmp_path / "out.nii.gz"
    restore.write(restore.read(folder).select(slice(1, 5, 3)), out)
    found = figures(out, "--reference", folder, "--slices", "1:5:3")
    assert (found["slices"], found["modality"], found["nmse"]) == ([1, 4], "MR", 0)


def test_align_moves_out_onto_the_reference(tmp_path):
    reference = np.asarray(Image.fromarray(samples.camera()[60:200, 80:240]))
    out, ref = tmp_path / "out.png", tmp_path / "ref.png"
    Image.fromarray(samples.camera()[63:203, 78:238]).save(out)
    Image.fromarray(reference).save(ref)
    plain, found = figures(out, "--reference", ref), figures(out, "--reference", ref, "--align")
    assert plain["alignment"] is None
    assert found["alignment"]["shift_pixels"] == pytest.approx([-2, 3], abs=1e-9)
    # Whole pixels: where both are known they are equal but for the resampling's rounding.
    assert found["psnr"] > 100 > plain["psnr"]
    assert (
        "moved by -2.00, +3.00 pixels along columns, rows"
        in judge(out, "--reference", ref, "--align").stdout
    )
    Image.fromarray(samples.moon()[60:200, 80:240]).save(out)
    refused = judge(out, "--reference", ref, "--align")
    assert refused.exit_code == 2
    assert "--align" in refused.stderr
