"""Masks as people paint them: which pixels are known, and what is said of odd ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restore.datasets.open import read_image
from restore.datasets.picture.mask_files import read_mask
from restore.errors import InputError

KNOWN = np.ones((16, 20), bool)
KNOWN[4:9, 6:12] = False
WHITE = (255 * KNOWN).astype(np.uint8)
RAMP = np.add.outer(np.arange(16), np.arange(20)).astype(np.uint8) * 7


def photo(folder: Path, pixels: np.ndarray = RAMP):
    Image.fromarray(pixels).save(folder / "photo.png")
    return read_image(folder / "photo.png")


def palette() -> Image.Image:
    picture = Image.fromarray(KNOWN.astype(np.uint8))
    picture.putpalette([0, 0, 0, 255, 255, 255])
    return picture


MASKS = {
    "grey": (lambda: Image.fromarray(WHITE), ""),
    "one bit": (lambda: Image.fromarray(KNOWN), ""),
    "16 bits": (lambda: Image.fromarray(WHITE.astype(np.uint16) * 257), ""),
    "palette": (palette, ""),
    "alpha": (lambda: Image.fromarray(np.dstack([0 * WHITE, WHITE])), "clear pixels are missing"),
    "soft": (lambda: Image.fromarray((WHITE // 2 + 100).astype(np.uint8)), "neither black nor white"),
    "yellow": (lambda: Image.fromarray(np.dstack([WHITE, WHITE, 0 * WHITE])), "has colours"),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in MASKS if name != "soft"])
def test_white_is_known(tmp_path: Path, name: str):
    make, words = MASKS[name]
    make().save(tmp_path / "m.png")
    known, notes = read_mask(tmp_path / "m.png", photo(tmp_path))
    np.testing.assert_array_equal(known, KNOWN)
    assert words in " ".join(notes)
    assert bool(notes) == bool(words)


def test_odd_masks_are_said(tmp_path: Path):
    MASKS["soft"][0]().save(tmp_path / "soft.png")
    _, notes = read_mask(tmp_path / "soft.png", photo(tmp_path))
    assert "neither black nor white" in notes[0]
    Image.fromarray(0 * WHITE + 255).save(tmp_path / "full.png")
    _, notes = read_mask(tmp_path / "full.png", photo(tmp_path))
    assert "no pixel is missing" in notes[0]
    Image.fromarray(255 - WHITE).save(tmp_path / "turned.png")
    _, notes = read_mask(tmp_path / "turned.png", photo(tmp_path, np.where(KNOWN, RAMP, 0)))
    assert "is it inverted?" in notes[0]


def test_a_picture_that_was_turned_and_a_mask_that_was_not(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(RAMP).save(tmp_path / "photo.jpg", exif=exif)
    Image.fromarray(WHITE).save(tmp_path / "m.png")
    Image.fromarray(WHITE).save(tmp_path / "m.jpg", exif=exif, quality=100)
    turned = read_image(tmp_path / "photo.jpg")
    assert "taken as upright" in read_mask(tmp_path / "m.png", turned)[1][0]
    known, notes = read_mask(tmp_path / "m.jpg", turned)
    np.testing.assert_array_equal(known, KNOWN[::-1, ::-1])
    assert not notes


@pytest.mark.parametrize("top", [0, 1])
def test_a_mask_of_0_and_1_knows_no_pixel(tmp_path: Path, top: int):
    Image.fromarray((KNOWN * top).astype(np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match="255 for known pixels"):
        read_mask(tmp_path / "m.png", photo(tmp_path))
