"""`restore image`: noise stated, estimated and left out, JPEG sources, kernels from files, valid borders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import data

from restore.datasets.open import read_image
from restore.datasets.sidecar import read_sidecar
from restore.pipelines.jpeg_noise import jpeg_noise_std

SIDE, STD = 64, 0.05
TRUTH = data.camera()[100 : 100 + SIDE, 200 : 200 + SIDE] / 255.0


def blurred(picture: np.ndarray = TRUTH) -> np.ndarray:
    return ndimage.gaussian_filter(picture, 1.6, mode="mirror", truncate=4.0)


def save(picture: np.ndarray, path: Path, **how: object) -> Path:
    Image.fromarray(np.rint(255 * picture.clip(0, 1)).astype(np.uint8)).save(path, **how)
    return path


def noisy(picture: np.ndarray, std: float = STD) -> np.ndarray:
    return picture + std * np.random.default_rng(0).standard_normal(picture.shape)


def psnr(path: Path, truth: np.ndarray = TRUTH) -> float:
    return -10 * float(np.log10(np.mean((read_image(path).data[0] - truth) ** 2)))


def test_denoising_without_a_level_estimates_it_and_says_so(verb, tmp_path):
    photo = save(noisy(TRUTH), tmp_path / "photo.png")
    figures = {}
    for name, more in {"left": [], "auto": ["--noise", "auto"], "known": ["--noise", STD]}.items():
        out = tmp_path / f"{name}.png"
        result = verb("image", photo, "-o", out, "--task", "denoise", *more)
        assert result.exit_code == 0, result.stderr
        figures[name] = psnr(out)
        record = read_sidecar(out)
        assert record["noise_is"] == ("known" if name == "known" else "estimated")
        assert ("noise was not given" in result.stderr) == (name != "known")
        assert any("noise was not given" in n for n in record["notes"]) == (name != "known")
    # Texture makes the estimate a little too high; a no-op would lose 5 dB.
    assert figures["left"] == figures["auto"] > figures["known"] - 0.5
    assert figures["left"] > psnr(photo) + 3


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--noise", "much"], "expected a number of zero or more, or auto"),
        (["--noise", "-1"], "expected a number"),
        (["--noise", "inf"], "expected a number"),
        (["--noise", "25"], "25 grey levels of 0..255 are --noise 0.098"),
        (["--noise", "0.1", "--factor", "3"], "--factor is for task superres"),
        (["--noise", "0.1", "--boundary", "valid"], "--boundary is for task deblur"),
        (["--simulate"], "give a number above 0 to denoise"),
        (["--simulate", "--noise", "auto"], "give a number"),
    ],
)
def test_noise_that_is_none_is_refused(verb, tmp_path, more, words):
    photo = save(TRUTH, tmp_path / "photo.png")
    result = verb("image", photo, "-o", tmp_path / "out.png", "--task", "denoise", *more)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_jpeg_has_noise_of_its_own(verb, tmp_path):
    photo = save(noisy(blurred(), 0.02), tmp_path / "photo.jpg", quality=90)
    out = tmp_path / "out.png"
    deblur = [
        "image",
        photo,
        "-o",
        out,
        "--task",
        "deblur",
        "--kernel",
        "gaussian:1.6",
        "--steps",
        8,
    ]
    result = verb(*deblur, "--noise", 0.02)
    assert result.exit_code == 0, result.stderr
    assert "compressed (JPEG)" in result.stderr
    plain = save(read_image(photo).data[0], tmp_path / "plain.png")
    other = tmp_path / "other.png"
    verb("image", plain, "-o", other, *deblur[4:], "--noise", 0.02)
    assert psnr(out) > psnr(other) + 0.2


def test_the_rule_for_jpeg():
    assert jpeg_noise_std(None) == 0
    # Twice the rounding to whole grey values.
    assert jpeg_noise_std([1] * 64) == pytest.approx(2 / 255 / 12**0.5)
    assert jpeg_noise_std([4] * 64) == 4 * jpeg_noise_std([1] * 64)


def test_a_kernel_from_a_file_is_the_kernel(verb, tmp_path):
    t = np.arange(-7, 8)
    line = np.exp(-0.5 * (t / 1.6) ** 2)
    kernel = np.outer(line, line)
    np.save(tmp_path / "k.npy", 100 * kernel / kernel.sum())
    np.savetxt(tmp_path / "k.txt", kernel / kernel.sum())
    save(kernel, tmp_path / "k.png")
    photo = save(noisy(blurred(), 0.01), tmp_path / "photo.png")
    figures = {}
    for name in ("gaussian:1.6", "k.npy", "k.txt", "k.png"):
        given = tmp_path / name if "." in name[:3] else name
        out = tmp_path / "out.png"
        told = ["--task", "deblur", "--kernel", given, "--noise", 0.01, "--steps", 5, "--overwrite"]
        result = verb("image", photo, "-o", out, *told, "--json")
        assert result.exit_code == 0, result.stderr
        figures[name] = psnr(out)
        record = json.loads(result.stdout)
        assert ("divided by that" in result.stderr) == (name in ("k.npy", "k.png"))
        assert any(s.get("Option") == "kernel" for s in record["sources"]) == name.startswith("k.")
    # Eight bits of the kernel's picture and its cut tail are worth a tenth of a decibel.
    assert max(figures.values()) - min(figures.values()) < 0.3


def test_valid_borders_both_ways(verb, tmp_path):
    whole = data.camera()[100 : 100 + 76, 200 : 200 + 76] / 255.0
    inner = ndimage.gaussian_filter(whole, 1.0, mode="mirror", truncate=4.0)[4:-4, 4:-4]
    valid = ["--task", "deblur", "--kernel", "gaussian:1", "--boundary", "valid", "--steps", 5]
    out = tmp_path / "out.png"
    photo = save(noisy(inner, 0.01), tmp_path / "photo.png")
    result = verb("image", photo, "-o", out, *valid, "--noise", 0.01)
    assert result.exit_code == 0, result.stderr
    restored = read_image(out).data[0]
    assert restored.shape == whole.shape
    middle = (slice(6, -6), slice(6, -6))
    error = np.mean((restored[middle] - whole[middle]) ** 2)
    assert error < np.mean((inner[2:-2, 2:-2] - whole[middle]) ** 2) / 1.15
    simulated = ["--noise", 0.01, "--simulate", "--json", "--overwrite"]
    result = verb("image", save(whole, tmp_path / "whole.png"), "-o", out, *valid, *simulated)
    assert result.exit_code == 0, result.stderr
    metrics = json.loads(result.stdout)["metrics"]
    assert metrics["restored"]["psnr"] > metrics["degraded"]["psnr"]
    assert read_image(tmp_path / "out_degraded.png").data.shape == (1, 68, 68)
