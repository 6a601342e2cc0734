"""JPEG files with damaged data: told by the fact; sound ones of every kind, by several writers, pass without a word."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from restore.datasets.open import read_image
from restore.datasets.picture.jpeg_damage import notes_of
from restore.errors import InputError

PHOTOGRAPH = Image.fromarray(skimage.data.astronaut()[:200, 160:320])
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8))
KINDS = {
    "subsampled": {"subsampling": 2},
    "half": {"subsampling": 1},
    "full": {"subsampling": 0, "quality": 95},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 5},
    "restarts progressive": {"restart_marker_rows": 1, "progressive": True},
    "optimised": {"optimize": True, "quality": 30},
}


def made(picture: Image.Image = PHOTOGRAPH, **how: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **how)
    return stream.getvalue()


def coded(content: bytes) -> int:
    """Where the first coded byte stands."""
    at = content.index(b"\xff\xda")
    return at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")


def told(content: bytes) -> str:
    """What is said of a file; "" for a sound one."""
    try:
        return " ".join(notes_of(Path("a.jpg"), content))
    except InputError as error:
        return str(error)


def seen(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


@pytest.mark.parametrize("how", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (65, 33), (160, 200)])
def test_sound_files_pass_without_a_word(how: dict[str, object], mode: str, size: tuple[int, int]):
    assert told(made(PHOTOGRAPH.crop((0, 0, *size)).convert(mode), **how)) == ""


@pytest.mark.parametrize("quality", [1, 20, 100])
@pytest.mark.parametrize("progressive", [False, True])
def test_noise_and_extremes_pass(quality: int, progressive: bool):
    """The largest numbers that pixels can make: single pixels and blocks of black and white."""
    board = np.kron(np.random.default_rng(1).integers(0, 2, (20, 20)), np.ones((4, 4))) * 255
    for picture in (NOISE, Image.fromarray(board.astype(np.uint8))):
        assert told(made(picture, quality=quality, progressive=progressive)) == ""


def test_thumbnails_profiles_and_what_follows_the_end_are_left_alone(tmp_path: Path):
    thumbnail = made(PHOTOGRAPH.resize((16, 16)))
    broken = thumbnail[: coded(thumbnail) + 20] + b"\xff\xd9"
    exif = Image.Exif()
    exif[0x010E] = "a thumbnail: " + broken.hex()
    content = made(exif=exif, icc_profile=b"\xff\xd9\xff\xda" * 50, comment=broken)
    (tmp_path / "a.jpg").write_bytes(content + broken)
    assert not any("damaged" in note for note in read_image(tmp_path / "a.jpg").notes)


@pytest.mark.parametrize("name", ["rocket.jpg", "retina.jpg", "hubble_deep_field.jpg"])
def test_files_of_other_programs_pass(name: str):
    assert told((Path(skimage.data.__file__).parent / name).read_bytes()) == ""


@pytest.mark.parametrize("kind", ["subsampled", "full", "progressive", "optimised"])
def test_data_that_end_early_are_refused_with_the_row(tmp_path: Path, kind: str):
    """Pillow shows the rest grey."""
    content = made(**KINDS[kind])
    first = content.index(b"\xff\xda", coded(content)) if kind == "progressive" else len(content)
    cut = content[: (coded(content) + first) // 2] + b"\xff\xd9"
    (tmp_path / "a.jpg").write_bytes(cut)
    with pytest.raises(
        InputError, match=r"a\.jpg: damaged JPEG: .*found at row \d+ of 200"
    ) as caught:
        read_image(tmp_path / "a.jpg")
    if kind == "progressive":  # its later passes lack everywhere
        return
    row = int(caught.value.why.split("at row ")[1].split()[0])
    changed = np.flatnonzero((seen(cut) != seen(content)).any((1, 2)))
    assert abs(row - changed[0]) <= 24  # an MCU's height, and what the smoothing of colours reaches


def test_restart_markers_that_are_missing_or_out_of_turn_are_named():
    content = made(restart_marker_blocks=5)
    at = {n: content.index(bytes([0xFF, 0xD0 + n]), coded(content)) for n in range(4)}
    lacking = content[: at[1]] + content[at[2] :]
    assert "restart marker 1 is missing" in told(lacking)
    turned = content[: at[1] + 1] + b"\xd5" + content[at[1] + 2 :]
    assert "restart marker 1 is missing" in told(turned)
    plain = made()
    middle = (coded(plain) + len(plain)) // 2
    assert "damaged JPEG" in told(plain[:middle] + b"\xff\xd0" + plain[middle:])


def test_bytes_left_over_are_noted_and_a_closing_restart_marker_is_not():
    content = made()
    assert "5 bytes are left over" in told(content[:-2] + b"other" + content[-2:])
    restarts = made(NOISE, restart_marker_blocks=3)  # nine MCUs: markers 0 and 1 stand between them
    assert told(restarts[:-2] + b"\xff\xd2" + restarts[-2:]) == ""
    assert told(content[:-2] + b"\xff" * 7 + content[-2:]) == ""  # what may fill up before a marker


def test_passes_that_are_missing_are_said():
    content = made(progressive=True)
    scans = [i for i in range(len(content)) if content[i : i + 2] == b"\xff\xda"]
    assert "fine detail is missing" in told(content[: scans[-1]] + b"\xff\xd9")
    assert "3 of 3 colours are not in it" in told(content[: scans[0]] + b"\xff\xd9")


def test_what_cannot_be_followed_is_said():
    content = bytearray(made())
    content[content.index(b"\xff\xc0") + 1] = 0xC9
    assert "cannot be told: it is in arithmetic code" in told(bytes(content))
    bare = made()
    tables = bare.index(b"\xff\xc4")
    assert "cannot be told" in told(bare[:tables] + bare[bare.index(b"\xff\xda") :])


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_that_spoil_the_picture_are_told(kind: str):
    """Most flips that change a third of the picture by over 8 grey values; a shift of a colour may be possible."""
    content = made(**KINDS[kind])
    whole, draw = seen(content), np.random.default_rng(3)
    spoilt = found = 0
    for _ in range(30):
        at, bit = draw.integers(coded(content), len(content) - 2), draw.integers(8)
        flipped = bytearray(content)
        flipped[at] ^= 1 << int(bit)
        said = told(bytes(flipped))
        assert said == "" or "damaged" in said or "missing" in said
        try:
            changed = np.abs(seen(bytes(flipped)) - whole)
        except OSError:
            continue
        if (changed > 8).mean() > 1 / 3:
            spoilt, found = spoilt + 1, found + (said != "")
    assert found >= spoilt / 2
