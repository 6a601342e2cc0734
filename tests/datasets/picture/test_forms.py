"""Pictures as cameras, phones, scanners and editors write them: made with Pillow, tifffile and plain bytes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from restore.datasets.open import read_image
from restore.datasets.picture.images import write_image
from restore.errors import ConfigError, InputError

DEEP = np.random.default_rng(0).integers(0, 65536, (9, 14, 3)).astype(np.uint16)
"""A picture in colour of 16 bits that has no symmetry."""


def shown(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """By the table of TIFF 6.0: on which sides of the picture the stored first row and column lie."""
    sides = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "lt", 6: "rt", 7: "rb", 8: "lb"}[orientation]
    first_row, first_column = sides
    if first_row in "lr":  # the stored rows are the picture's columns
        pixels = pixels.swapaxes(0, 1)
        first_row, first_column = first_column, first_row
    if first_row == "b":
        pixels = pixels[::-1]
    return pixels[:, ::-1] if first_column == "r" else pixels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["tif16", "tif8 grey", "png16", "jpg"])
def test_every_orientation_at_every_depth(tmp_path: Path, orientation: int, kind: str):
    file, tag = tmp_path / f"a.{kind[:3]}", [(274, 3, 1, orientation, True)]
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "tif16":
        stored = DEEP
        tifffile.imwrite(file, stored, photometric="rgb", extratags=tag)
    elif kind == "tif8 grey":
        stored = (DEEP[..., :1] >> 8).astype(np.uint8)
        tifffile.imwrite(file, stored[..., 0], photometric="minisblack", extratags=tag)
    elif kind == "png16":
        stored = DEEP
        file.write_bytes(png16(stored, 2, [(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))]))
    else:
        Image.fromarray((DEEP >> 8).astype(np.uint8)).save(file, exif=exif, quality=100)
        stored = np.asarray(Image.open(file))
    picture = read_image(file)
    top = np.float32(np.iinfo(stored.dtype).max)
    np.testing.assert_array_equal(picture.data, shown(stored, orientation).transpose(2, 0, 1) / top)
    assert any("upright" in n for n in picture.notes) == (orientation != 1)


def png16(values: np.ndarray, colour: int, chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of 16 bits by its specification, unfiltered."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_is_turned_over(tmp_path: Path, dtype: type):
    stored = DEEP[..., 0].astype(dtype)
    tifffile.imwrite(tmp_path / "w.tif", stored, photometric="miniswhite")
    expected = 1 - stored.astype(np.float32) / np.iinfo(dtype).max
    np.testing.assert_array_equal(read_image(tmp_path / "w.tif").data[0], expected)


def test_a_palette_tiff(tmp_path: Path):
    table = np.random.default_rng(1).integers(0, 65536, (3, 256)).astype(np.uint16)
    index = np.random.default_rng(2).integers(0, 256, (6, 7)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "p.tif", index, photometric="palette", colormap=table)
    found = read_image(tmp_path / "p.tif")
    np.testing.assert_array_equal(found.data, table[:, index] / np.float32(65535))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_read_and_written_back_in_their_unit(tmp_path: Path, dtype: type):
    stored = (DEEP[..., 0] / 100).astype(dtype)
    tifffile.imwrite(tmp_path / "f.tif", stored)
    picture = read_image(tmp_path / "f.tif")
    assert picture.bits == 32
    assert picture.data.max() == 1
    assert any("divided" in n for n in picture.notes)
    write_image(picture.data, tmp_path / "g.tif", bits=32, unit=picture.unit)
    # One division and one multiplication in float32.
    np.testing.assert_allclose(tifffile.imread(tmp_path / "g.tif"), stored.astype(np.float32), rtol=1e-6)  # fmt: skip
    tifffile.imwrite(tmp_path / "u.tif", (DEEP[..., 0] / 65535).astype(np.float32))
    assert read_image(tmp_path / "u.tif").notes == ()


EIGHT_BY_EIGHT = {
    "5 bands": ((8, 8, 5), np.uint8, {"photometric": "rgb", "planarconfig": "contig"}),
    "Lab": ((8, 8, 3), np.uint8, {"photometric": "cielab"}),
    "CMYK": ((8, 8, 4), np.uint8, {"photometric": "separated"}),
    "int16": ((8, 8), np.int16, {}),
    "complex64": ((8, 8), np.complex64, {}),
    "stack": ((4, 8, 8), np.uint8, {"photometric": "minisblack", "volumetric": True}),
}


@pytest.mark.parametrize("named", EIGHT_BY_EIGHT)
def test_what_is_not_served_is_named(tmp_path: Path, named: str):
    shape, dtype, options = EIGHT_BY_EIGHT[named]
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, dtype), **options)
    with pytest.raises(InputError, match=named):
        read_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "nan.tif", np.full((8, 8), np.nan, np.float32))
    with pytest.raises(InputError, match="not finite"):
        read_image(tmp_path / "nan.tif")


def test_compressed_tiff_of_eight_bits(tmp_path: Path):
    eight = (DEEP >> 8).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(eight).save(tmp_path / "l.tif", compression="tiff_lzw", exif=exif)
    found = read_image(tmp_path / "l.tif")
    np.testing.assert_array_equal(found.data, shown(eight, 6).transpose(2, 0, 1) / np.float32(255))


def test_a_phones_file_of_two_pictures(tmp_path: Path):
    first, second = (Image.fromarray((DEEP >> s).astype(np.uint8)) for s in (8, 9))
    first.save(tmp_path / "p.jpg", format="MPO", save_all=True, append_images=[second], quality=95)
    picture = read_image(tmp_path / "p.jpg")
    expected = np.asarray(Image.open(tmp_path / "p.jpg"))
    np.testing.assert_array_equal(picture.data, expected.transpose(2, 0, 1) / np.float32(255))
    assert any("2 pictures: the first" in n for n in picture.notes)


def test_alpha_of_sixteen_bits_and_premultiplied_colour(tmp_path: Path):
    alpha = np.full((9, 14, 1), 30000, np.uint16)
    (tmp_path / "a.png").write_bytes(png16(np.dstack([DEEP, alpha]), 6, []))
    picture = read_image(tmp_path / "a.png")
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, np.full((1, 9, 14), 30000 / np.float32(65535)))
    np.testing.assert_array_equal(picture.data, DEEP.transpose(2, 0, 1) / np.float32(65535))
    stored = np.dstack([(DEEP * (30000 / 65535)).astype(np.uint16), alpha])
    tifffile.imwrite(tmp_path / "p.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    plain = read_image(tmp_path / "p.tif").data
    # Values were cut to whole numbers after the product with 0.458.
    np.testing.assert_allclose(plain, DEEP.transpose(2, 0, 1) / 65535, atol=1.1 / 30000)


def test_one_transparent_colour_of_sixteen_bits(tmp_path: Path):
    key = DEEP[2, 3].astype(">u2").tobytes()
    (tmp_path / "k.png").write_bytes(png16(DEEP, 2, [(b"tRNS", key)]))
    alpha = read_image(tmp_path / "k.png").alpha
    assert alpha is not None
    assert np.argwhere(alpha[0] == 0).tolist() == [[2, 3]]


def test_profile_exif_and_resolution_go_along_but_not_the_place(tmp_path: Path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "A maker"
    exif[0x8825] = {1: "N", 2: (47.0, 30.0, 0.0)}
    exif[0x8769] = {0x829A: 0.01, 0x8827: 200}
    Image.fromarray((DEEP >> 8).astype(np.uint8)).save(
        tmp_path / "a.jpg", icc_profile=profile, exif=exif, dpi=(300, 300)
    )
    picture = read_image(tmp_path / "a.jpg")
    assert any("GPS" in n for n in picture.notes)
    for name, bits in (("b.jpg", 8), ("b.png", 8), ("c.png", 16), ("b.tif", 16)):
        write_image(picture.data, tmp_path / name, bits=bits, tags=picture.tags)
        with Image.open(tmp_path / name) as written:
            assert written.info.get("icc_profile") == profile
            assert written.info["dpi"] == pytest.approx(
                (300, 300), abs=0.1
            )  # PNG: whole pixels a metre
            found = written.getexif()
            assert 0x8825 not in found
            if name != "b.tif":
                assert found[0x010F] == "A maker"
                assert found.get_ifd(0x8769)[0x8827] == 200


@pytest.mark.parametrize(("name", "bits"), [("a.png", 8), ("a.png", 16), ("a.tif", 8), ("a.tif", 16)])  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_written_and_read_back(tmp_path: Path, name: str, bits: int, channels: int):
    data = DEEP.transpose(2, 0, 1)[:channels] / 65535
    alpha = np.linspace(0, 1, 9 * 14).reshape(1, 9, 14)
    write_image(data, tmp_path / name, bits=bits, alpha=alpha)
    found = read_image(tmp_path / name)
    assert found.alpha is not None
    step = 0.51 / (2**bits - 1)  # rounded to whole steps
    np.testing.assert_allclose(found.alpha, alpha, atol=step)
    np.testing.assert_allclose(found.data, data, atol=step)
    with pytest.raises(ConfigError, match="transparency"):
        write_image(data, tmp_path / "a.jpg", alpha=alpha)


def test_an_animation_gives_its_first_picture(tmp_path: Path):
    frames = [Image.fromarray((DEEP >> s).astype(np.uint8)) for s in (8, 9)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    picture = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.data * 255, (DEEP >> 8).transpose(2, 0, 1))
    assert any("animation" in n for n in picture.notes)


def test_a_jpeg_tells_its_quantisation(tmp_path: Path):
    Image.fromarray((DEEP >> 8).astype(np.uint8)).save(tmp_path / "q.jpg", quality=90)
    steps = read_image(tmp_path / "q.jpg").quantisation
    assert steps is not None
    assert (len(steps), steps[0]) == (
        64,
        3,
    )  # quality 90 takes a fifth of the standard table, whose first step is 16
    Image.fromarray((DEEP >> 8).astype(np.uint8)).save(tmp_path / "q.png")
    assert read_image(tmp_path / "q.png").quantisation is None
