"""`restore recon` of k-space that is not what it says: refused before the run, or an alarm after it, everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from people_kspace import MAPS, MASK, NOISY, SHAPE, TRUTH, header, psnr, write

MEASURED = (NOISY * MASK)[None]
CORNER = np.fft.ifftshift(MEASURED, axes=(-2, -1))
ROLLED = MEASURED * (-1.0) ** (np.arange(SHAPE[0])[:, None] + np.arange(SHAPE[1]))


def image(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj).T[0]


@pytest.mark.parametrize(
    ("kspace", "order", "found"),
    [
        (CORNER, "corner", "the zero frequency of k-space lies at the corner"),
        (ROLLED, "fft-shifted", "the image lies around the edge of the field of view"),
    ],
    ids=["zero frequency at the corner", "image rolled"],
)
def test_kspace_order(verb, tmp_path, kspace, order, found):
    scan, out = write(tmp_path / "a.h5", kspace), tmp_path / "a.nii.gz"
    refused = verb("recon", scan, "-o", out, "--sampler", "cgsense")
    assert refused.exit_code == 4
    assert found in refused.stderr
    assert "--kspace-order auto" in refused.stderr
    for word in (order, "auto"):
        told = ("--kspace-order", word, "--overwrite")
        result = verb("recon", scan, "-o", out, "--sampler", "cgsense", *told)
        assert result.exit_code == 0, result.stderr
        assert psnr(image(out), TRUTH) > 40
        assert ("brought to the middle" in result.stderr) == (word == "auto")
    other = tmp_path / "b.nii"
    as_it_is = verb("recon", scan, "-o", other, "--kspace-order", "centred", "--dry-run")
    assert as_it_is.exit_code == (
        4 if order == "corner" else 0
    )  # no calibration lines in the middle
    wrong = verb("recon", scan, "-o", out, "--kspace-order", "mirrored")
    assert "unknown k-space order 'mirrored'; known: centred" in wrong.stderr


def test_virtual_coils_are_recorded_and_repeated(verb, tmp_path):
    scan, out = write(tmp_path / "a.h5", MEASURED), tmp_path / "a.nii.gz"
    told = ("--sampler", "cgsense", "--coils-virtual", "4:geometric")
    done = verb("recon", scan, "-o", out, *told)
    assert done.exit_code == 0, done.stderr
    assert "6 channels compressed to 4 virtual coils (geometric)" in done.stderr
    assert psnr(image(out), TRUTH) > 40
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["run"]["coils-virtual"] == "4:geometric"
    again = tmp_path / "b.nii.gz"
    assert verb("recon", scan, "--config", tmp_path / "a.json", "-o", again).exit_code == 0
    np.testing.assert_array_equal(image(again), image(out))
    for words, sentence in (
        ("0", "at least one coil must be left"),
        ("7", "--coils-virtual 1 to 6"),
    ):
        refused = verb("recon", scan, "-o", out, "--coils-virtual", words, "--sampler", "cgsense")
        assert refused.exit_code == 2
        assert sentence in refused.stderr


def test_two_sets_of_maps_make_one_image(verb, tmp_path):
    scan, out = write(tmp_path / "a.h5", MEASURED), tmp_path / "a.nii.gz"
    done = verb("recon", scan, "-o", out, "--sampler", "cgsense", "--maps-sets", 2)
    assert done.exit_code == 0, done.stderr
    assert "root sum of squares of both components" in done.stderr
    assert image(out).shape == SHAPE
    assert psnr(image(out), TRUTH) > 40
    assert json.loads((tmp_path / "a.json").read_text())["run"]["maps-sets"] == 2
    adapted = verb("recon", scan, "-o", tmp_path / "b.nii", "--maps-sets", 2, "--adapt", "fit")
    assert adapted.exit_code == 2
    assert "--adapt serves images of one component" in adapted.stderr


WRONG: dict[str, Any] = {
    "maps of another place": {"sensitivity_maps": np.roll(MAPS, SHAPE[1] // 4, -1)[None]},
    "maps in another order": {"sensitivity_maps": np.concatenate([MAPS[1::-1], MAPS[2:]])[None]},
    "lines in another order": {
        "kspace": np.where(np.arange(SHAPE[1]) % 4, MEASURED, np.roll(MEASURED, 4, -1)),
        "sensitivity_maps": MAPS[None],
    },
    "image rolled": {"kspace": ROLLED, "sensitivity_maps": MAPS[None], "order": "centred"},
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_result_that_does_not_explain_its_data_says_so_everywhere(verb, tmp_path, name):
    items = {"kspace": MEASURED, "order": "", **WRONG[name]}
    kspace, order = items.pop("kspace"), items.pop("order")
    scan, out = (
        write(tmp_path / "a.h5", kspace, ismrmrd_header=header(), **items),
        tmp_path / "a.nii",
    )
    options = ("--sampler", "cgsense", "--report", *(("--kspace-order", order) if order else ()))
    result = verb("recon", scan, "-o", out, *options)
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "a.json").read_text())
    alarm = next(n for n in record["notes"] if "does not explain its data" in n)
    assert "Likely causes: coil maps or a mask that are not this scan's" in alarm
    page = (tmp_path / "a_report" / "index.html").read_text()
    for note in record["notes"]:
        assert f"note: {note}" in result.stderr
    assert "does not explain its data" in page


def test_an_alarm_names_the_lines_that_are_not_explained(verb, tmp_path):
    """Two weak lines exchanged: the misfit of all is that of noise. Their names by numpy's numbering of the file."""
    kspace = MEASURED.copy()
    kspace[..., [30, 50]] = MEASURED[..., [50, 30]]
    scan, out = write(tmp_path / "a.h5", kspace), tmp_path / "a.nii"
    result = verb("recon", scan, "-o", out, "--sampler", "tv")
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["chunks"][0]["misfit"] < 1.5
    (alarm,) = [n for n in record["notes"] if "does not explain its data" in n]
    assert "of 48 columns of k-space are not explained" in alarm
    assert "counted from 0: 50, 30," in alarm
    assert "exchanged, moved or shifted in phase" in alarm
    assert alarm.endswith("or settings of tv that follow the data too little")


def test_a_sound_scan_gives_no_alarm_and_the_place_of_its_header(verb, tmp_path):
    scan, out = write(tmp_path / "a.h5", MEASURED, ismrmrd_header=header()), tmp_path / "a.nii.gz"
    result = verb("recon", scan, "-o", out, "--sampler", "cgsense")
    assert result.exit_code == 0
    assert "does not explain" not in result.stderr
    found = nibabel.load(out)
    np.testing.assert_allclose(found.header.get_zooms(), (2, 2, 5))
    assert (int(found.header["sform_code"]), int(found.header["qform_code"])) == (0, 0)
    assert psnr(image(out), TRUTH) > 40


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ({"kspace": NOISY * (np.arange(SHAPE[1]) % 4 == 1)}, "too little to estimate coil maps"),
        ({"kspace": NOISY * MASK, "sensitivity_maps": 0 * MAPS[None]}, "zero everywhere in slice"),
        ({"kspace": NOISY * MASK, "sensitivity_maps": MAPS[None].conj()}, "of it conjugated"),
        ({"kspace": NOISY * MASK, "sensitivity_maps": MAPS[None, :, ::-1]}, "turned over along"),
        ({"kspace": np.where(np.arange(SHAPE[1]) == 40, np.nan, NOISY)}, "are NaN or infinite"),
    ],
    ids=[
        "no calibration lines",
        "maps of zeros",
        "maps conjugated",
        "maps turned over",
        "NaN in the last slice",
    ],
)
def test_a_dry_run_finds_what_the_set_up_finds(verb, tmp_path, items, words):
    bad = items.pop("kspace")
    sound = NOISY if np.isnan(bad).any() else bad
    kspace = np.stack([sound, sound, bad]) if np.isnan(bad).any() else bad[None]
    scan = write(tmp_path / "a.h5", kspace, **items)
    result = verb("recon", scan, "-o", tmp_path / "a.nii.gz", "--dry-run")
    assert result.exit_code == 4
    assert words in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_a_dry_run_says_what_the_scan_makes_it_note(verb, tmp_path):
    kspace = MEASURED.copy()
    kspace[:, 3] = 0
    result = verb("recon", write(tmp_path / "a.h5", kspace), "-o", tmp_path / "a.nii", "--dry-run")
    assert result.exit_code == 0
    assert "note: channel 3 of 6 holds no signal: left out" in result.stderr


def test_partial_fourier_held_real_is_recorded_and_repeated(verb, tmp_path):
    cut = NOISY * (np.arange(SHAPE[1]) >= SHAPE[1] // 2 - 6)
    scan, out = write(tmp_path / "a.h5", cut[None]), tmp_path / "a.nii.gz"
    told = ("--sampler", "cgsense", "--overwrite")
    plain = verb("recon", scan, "-o", out, *told)
    assert "--partial-fourier real holds the image real" in " ".join(plain.stderr.split())
    before = psnr(image(out), TRUTH)
    done = verb("recon", scan, "-o", out, *told, "--partial-fourier", "real")
    assert done.exit_code == 0, done.stderr
    assert "not smooth" in done.stderr
    assert psnr(image(out), TRUTH) > before + 3
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["run"]["partial-fourier"] == "real"
    again = tmp_path / "b.nii.gz"
    assert verb("recon", scan, "--config", tmp_path / "a.json", "-o", again).exit_code == 0
    np.testing.assert_array_equal(image(again), image(out))
    for path, word, sentence in (
        (scan, "half", "partial_fourier"),
        (write(tmp_path / "c.h5", NOISY[None]), "real", "no side was left out"),
    ):
        refused = verb("recon", path, "-o", tmp_path / "d.nii", "--partial-fourier", word)
        assert refused.exit_code == 2
        assert sentence in refused.stderr
