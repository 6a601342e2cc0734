"""Pictures that editors, scanners, cameras and the web write: built by hand from the formats' texts, or named."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile
from datasets.picture.test_forms import DEEP, png16, shown
from PIL import Image, ImageCms

from restore.datasets.open import read_image
from restore.errors import InputError

EIGHT = (DEEP >> 8).astype(np.uint8)
PLAIN = EIGHT.transpose(2, 0, 1) / np.float32(255)
GRADIENT = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)


def few_bits(values: np.ndarray, bits: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 1, 2 or 4 bits: `png16` with rows of packed bits and the header changed."""
    rows = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
    packed = np.packbits(rows.reshape(len(values), -1), axis=1)
    whole = np.pad(packed, ((0, 0), (0, packed.shape[1] % 2)))
    made = bytearray(png16(np.ascontiguousarray(whole).view(">u2"), colour, list(chunks)))
    made[16:26] = struct.pack(">IIBB", values.shape[1], len(values), bits, colour)
    made[29:33] = struct.pack(">I", __import__("zlib").crc32(bytes(made[12:29])))
    return bytes(made)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_one_clear_level_of_few_bits(tmp_path: Path, bits: int):
    levels = np.random.default_rng(bits).integers(0, 2**bits, (6, 16 // bits * 2))
    (tmp_path / "a.png").write_bytes(few_bits(levels, bits, 0, (b"tRNS", b"\0\1")))
    picture = read_image(tmp_path / "a.png")
    np.testing.assert_allclose(picture.data[0], levels / (2**bits - 1), atol=1e-6)
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha[0], levels != 1)


PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # fmt: skip


@pytest.mark.parametrize("size", [(9, 14), (1, 1), (2, 5), (5, 2)])
def test_interlaced_of_sixteen_bits(tmp_path: Path, size: tuple[int, int]):
    part = DEEP[: size[0], : size[1]]
    rows = b"".join(
        b"\0" + row.astype(">u2").tobytes() for r, c, dr, dc in PASSES for row in part[r::dr, c::dc] if row.size
    )  # fmt: skip
    head = struct.pack(">IIBBBBB", size[1], size[0], 16, 2, 0, 0, 1)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts
    )
    (tmp_path / "a.png").write_bytes(content + b"what some servers leave behind the end")
    found = read_image(tmp_path / "a.png").data
    np.testing.assert_array_equal(found, part.transpose(2, 0, 1) / np.float32(65535))


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([(b"gAMA", struct.pack(">I", 100000))], "gamma is 1 .linear light"),
        ([(b"cICP", bytes([9, 16, 0, 1]))], "HDR, PQ"),
        ([(b"gAMA", struct.pack(">I", 45455))], ""),
        ([(b"gAMA", struct.pack(">I", 100000)), (b"sRGB", b"\0")], ""),
        ([(b"cICP", bytes([1, 13, 0, 1]))], ""),
    ],
)
def test_values_that_are_no_usual_ones_are_said(tmp_path: Path, chunks, words: str):
    (tmp_path / "a.png").write_bytes(png16(DEEP, 2, chunks))
    notes = " ".join(read_image(tmp_path / "a.png").notes)
    assert ("restored as they are stored" in notes) == bool(words)
    assert words.replace(".", "(", 1) in notes


@pytest.mark.parametrize(
    ("marker", "bits", "words"),
    [(0xC1, 12, "12 bits per channel"), (0xC3, 8, "lossless JPEG"), (0xF7, 8, "JPEG-LS"), (0xC5, 8, "hierarchical")],
)  # fmt: skip
def test_jpeg_of_other_kinds_is_named(tmp_path: Path, marker: int, bits: int, words: str):
    made = io.BytesIO()
    Image.fromarray(GRADIENT).save(made, "JPEG")
    raw = bytearray(made.getvalue())
    at = raw.index(b"\xff\xc0")
    raw[at + 1], raw[at + 4] = marker, bits
    (tmp_path / "a.jpg").write_bytes(raw)
    with pytest.raises(InputError, match=words):
        read_image(tmp_path / "a.jpg")


def test_floats_in_colour_keep_orientation_profile_and_resolution(tmp_path: Path):
    """Pillow opens no such file: its tags come from elsewhere."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    stored = (DEEP / 65535).astype(np.float32)
    how = {"iccprofile": profile, "resolution": (300, 200), "resolutionunit": 2}
    turned = [(274, 3, 1, 6, True)]
    tifffile.imwrite(tmp_path / "f.tif", stored, photometric="rgb", extratags=turned, **how)
    picture = read_image(tmp_path / "f.tif")
    np.testing.assert_array_equal(picture.data, shown(stored, 6).transpose(2, 0, 1))
    assert (picture.tags.profile, picture.tags.dpi) == (profile, (300, 200))
    assert any("upright" in n for n in picture.notes)


def test_colours_that_are_called_grey(tmp_path: Path):
    tifffile.imwrite(tmp_path / "g.tif", EIGHT, photometric="minisblack", planarconfig="contig")
    picture = read_image(tmp_path / "g.tif")
    np.testing.assert_array_equal(picture.data, PLAIN)
    assert any("taken as red, green and blue" in n for n in picture.notes)


def test_bands_beyond_memory_are_refused_before_they_are_made(tmp_path: Path):
    tifffile.imwrite(tmp_path / "b.tif", EIGHT, photometric="rgb")
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+") as file:
        file.pages.first.tags[256].overwrite(2**16 - 1)
        file.pages.first.tags[257].overwrite(2**16 - 1)
    with pytest.raises(InputError, match="GB of memory"):
        read_image(tmp_path / "b.tif")


def test_a_thumbnail_before_the_picture_is_passed_over(tmp_path: Path):
    with tifffile.TiffWriter(tmp_path / "t.tif") as pages:
        pages.write(EIGHT[::4, ::4], photometric="rgb", subfiletype=1)
        pages.write(EIGHT, photometric="rgb")
    picture = read_image(tmp_path / "t.tif")
    np.testing.assert_array_equal(picture.data, PLAIN)
    assert any("smaller copies" in n for n in picture.notes)


@pytest.mark.parametrize("version", [True, False])
def test_a_cameras_raw_file_is_not_its_small_picture(tmp_path: Path, version: bool):
    tags = [(50706, 1, 4, b"\1\4\0\0", True)] if version else []
    with tifffile.TiffWriter(tmp_path / "r.dng") as pages:
        pages.write(EIGHT[::4, ::4], photometric="rgb", subfiletype=1, subifds=1, extratags=tags)
        pages.write(DEEP[..., 0], photometric=32803, subfiletype=0)
    with pytest.raises(InputError, match=r"raw file.*develop it"):
        read_image(tmp_path / "r.dng")


@pytest.mark.parametrize("step", [1, 256, 257])
def test_palettes_of_eight_and_sixteen_bits(tmp_path: Path, step: int):
    """Many programs write 8 bits where TIFF wants 16: as they are, or as the upper byte."""
    table = np.random.default_rng(3).integers(0, 256, (3, 256))
    index = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours = (table * step).astype(np.uint16)
    tifffile.imwrite(tmp_path / "p.tif", index, photometric="palette", colormap=colours)
    found = read_image(tmp_path / "p.tif")
    np.testing.assert_allclose(found.data, table[:, index] / 255, atol=1e-6)
    assert any("palette" in n for n in found.notes)


def test_few_bits_in_sixteen_are_said_and_whole_numbers_of_thirty_two_have_no_white(tmp_path: Path):
    tifffile.imwrite(tmp_path / "c.tif", DEEP[..., 0] >> 4)
    picture = read_image(tmp_path / "c.tif")
    np.testing.assert_array_equal(picture.data[0], (DEEP[..., 0] >> 4) / np.float32(65535))
    assert any("12 bits in 16" in n for n in picture.notes)
    tifffile.imwrite(tmp_path / "l.tif", DEEP[..., 0].astype(np.uint32))
    wide = read_image(tmp_path / "l.tif")
    np.testing.assert_allclose(wide.data[0], DEEP[..., 0] / DEEP[..., 0].max(), atol=1e-6)
    assert any("divided by that" in n for n in wide.notes)


def packed_tiff(values: np.ndarray, bits: int, kind: int = 1) -> bytes:
    """A TIFF of one strip, by TIFF 6.0: `bits` bits a pixel, rows filled up to whole bytes."""
    shown = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(*values.shape, 2), axis=2)
    raw = np.packbits(shown[..., 16 - bits :].reshape(len(values), -1), axis=1).tobytes()
    height, width = values.shape
    entries = ((256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, kind), (273, 4, 8),
               (277, 3, 1), (278, 4, height), (279, 4, len(raw)))  # fmt: skip
    raw += b"\0" * (len(raw) % 2)
    told = b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in entries)
    end = struct.pack("<H", len(entries)) + told + bytes(4)
    return struct.pack("<2sHI", b"II", 42, 8 + len(raw)) + raw + end


@pytest.mark.parametrize("kind", ["tiff_lzw", "zstd"])
def test_premultiplied_colours_in_any_compression(tmp_path: Path, kind: str):
    alpha = np.full((9, 14, 1), 100, np.uint8)
    stored = np.dstack([np.rint(EIGHT * (100 / 255)).astype(np.uint8), alpha])
    Image.fromarray(stored).save(tmp_path / "a.tif", compression=kind)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages.first.tags[338].overwrite(1)  # Pillow itself writes plain colours
    picture = read_image(tmp_path / "a.tif")
    assert picture.alpha is not None
    np.testing.assert_allclose(picture.alpha, 100 / 255, atol=1e-6)
    # Rounded before the division; Pillow cuts off once more.
    np.testing.assert_allclose(
        picture.data, PLAIN, atol=0.51 / 100 if kind == "tiff_lzw" else 2.6 / 255
    )


@pytest.mark.parametrize(("bits", "white"), [(2, 0), (2, 1), (4, 0), (4, 1), (12, 1)])
def test_bits_that_fill_no_bytes(tmp_path: Path, bits: int, white: int):
    values = np.random.default_rng(bits).integers(0, 2**bits, (8, 8))
    (tmp_path / "a.tif").write_bytes(packed_tiff(values, bits, white))
    shown_as = values / (2**bits - 1) if white else 1 - values / (2**bits - 1)
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").data[0], shown_as, atol=1e-6)


def test_other_bits_and_compressions_name_the_package(tmp_path: Path):
    (tmp_path / "a.tif").write_bytes(packed_tiff(np.zeros((8, 8), int), 10))
    tifffile.imwrite(tmp_path / "b.tif", EIGHT, photometric="rgb", compression="zlib")
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+") as file:
        file.pages.first.tags[259].overwrite(34712)  # JPEG 2000
    for name in ("a.tif", "b.tif"):
        with pytest.raises(InputError, match="needs the package imagecodecs"):
            read_image(tmp_path / name)


def lzw(raw: bytes) -> bytes:
    """LZW without a single match: codes of 9 bits, the table cleared before they need 10."""
    codes = [c for i in range(0, len(raw), 250) for c in (256, *raw[i : i + 250])]
    text = "".join(f"{code:09b}" for code in (*codes, 257))
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def write_lzw(path: Path, parts: Iterator[bytes], tags: dict[int, int], **how: object) -> None:
    """A TIFF of parts that are packed already; tags: replaced, compression among them."""
    tifffile.imwrite(path, parts, compression="zlib", **how)
    with tifffile.TiffFile(path, mode="r+") as file:
        for tag, value in ({259: 5} | tags).items():
            file.pages.first.tags[tag].overwrite(value)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_lzw_of_sixteen_bits(tmp_path: Path, predictor: int, order: str):
    """As editors save photographs; strips, the last one shorter."""
    stored = DEEP.copy()
    if predictor == 2:
        stored[:, 1:] -= DEEP[:, :-1]
    strips = [lzw(stored[r : r + 4].astype(f"{order}u2").tobytes()) for r in range(0, 9, 4)]
    write_lzw(tmp_path / "l.tif", iter(strips), {}, shape=DEEP.shape, dtype=np.uint16, photometric="rgb",
              predictor=predictor, rowsperstrip=4, byteorder=order)  # fmt: skip
    found = read_image(tmp_path / "l.tif").data
    np.testing.assert_array_equal(found, DEEP.transpose(2, 0, 1) / np.float32(65535))


def test_lzw_of_floats_and_of_planes_in_tiles(tmp_path: Path):
    values = (DEEP[..., 0] / 65535).astype(np.float32)
    planes = values.astype(">f4").view(np.uint8).reshape(9, 14, 4).transpose(0, 2, 1).reshape(9, 56)
    stored = planes.copy()
    stored[:, 1:] -= planes[:, :-1]
    write_lzw(tmp_path / "f.tif", iter([lzw(stored.tobytes())]), {317: 3, 339: 3}, shape=(9, 14), dtype=np.int32,
              photometric="minisblack", predictor=2, rowsperstrip=9)  # fmt: skip
    np.testing.assert_array_equal(read_image(tmp_path / "f.tif").data[0], values)
    whole = np.zeros((3, 16, 16), np.uint16)
    whole[:, :9, :14] = DEEP.transpose(2, 0, 1)
    write_lzw(tmp_path / "t.tif", iter([lzw(p.tobytes()) for p in whole]), {}, shape=(3, 9, 14), dtype=np.uint16,
              photometric="rgb", planarconfig="separate", tile=(16, 16))  # fmt: skip
    found = read_image(tmp_path / "t.tif").data
    np.testing.assert_array_equal(found, DEEP.transpose(2, 0, 1) / np.float32(65535))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC"), (b"\0\0\0\x18ftypavif", "AVIF"), (b"\0\0\0\x18ftypcrx ", "CR3"),
        (b"\0\0\0\x18ftypisom", "a video"), (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"), (b"\xff\x0a", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"), (b"<?xml?><svg", "SVG"), (b"%PDF-1.4", "PDF"), (b"v/1\1", "OpenEXR"),
        (b"#?RADIANCE\n", "Radiance"), (b"\0\0\0\x0cjP  ", "JPEG 2000"), (b"P6\n2 2\n255\n", "Netpbm"),
        (b"II*\0\x10\0\0\0CR\2\0", "CR2"), (b"BM", "BMP"), (b"GIF89a", "GIF"), (b"FUJIFILMCCD-RAW", "RAF"),
    ],
)  # fmt: skip
def test_other_formats_are_named(tmp_path: Path, head: bytes, words: str):
    (tmp_path / "a.bin").write_bytes(head + bytes(60))
    with pytest.raises(InputError, match=words):
        read_image(tmp_path / "a.bin")


@pytest.mark.parametrize(("bits", "colour"), [(8, 2), (8, 0), (1, 0), (4, 0)])
def test_a_png_of_fewer_rows_than_its_header_says_is_refused(
    tmp_path: Path, bits: int, colour: int
):
    """Pillow shows the missing rows black."""
    width, height, channels = 16, 12, 3 if colour == 2 else 1
    row = b"\0" + bytes(range(1, 1 + width * channels * bits // 8))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))]
    for rows, whole in ((height, True), (height - 3, False)):
        parts = [*chunks, (b"IDAT", zlib.compress(row * rows)), (b"IEND", b"")]
        content = b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
            for k, d in parts
        )
        (tmp_path / "a.png").write_bytes(content)
        if whole:
            assert read_image(tmp_path / "a.png").data.shape[1:] == (height, width)
        else:
            with pytest.raises(InputError, match="ended early"):
                read_image(tmp_path / "a.png")


def test_damaged_jpeg_data_within_a_tiff_are_told(tmp_path: Path):
    photograph = Image.fromarray(skimage.data.astronaut()[:64, 200:264])
    file = tmp_path / "a.tif"
    photograph.save(file, compression="jpeg", tiffinfo={278: 16})
    assert not any("damaged" in note for note in read_image(file).notes)
    with tifffile.TiffFile(file) as pages:
        page = pages.pages.first
        at, size = page.dataoffsets[1], page.databytecounts[1]
    content = bytearray(file.read_bytes())
    end = at + size - 2
    half = (at + end) // 2 + 20
    content[half : half + 2] = b"\xff\xd9"  # the second strip ends early
    file.write_bytes(content)
    with pytest.raises(InputError, match="damaged JPEG: its data end early"):
        read_image(file)


def test_pixels_of_no_value_are_said(tmp_path: Path):
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 4000
    tag = [(42113, "s", 2, "0", True)]
    tifffile.imwrite(tmp_path / "a.tif", values, extratags=tag)
    assert any(
        "1 pixels are 0, which the file says is no value" in n
        for n in read_image(tmp_path / "a.tif").notes
    )
    tifffile.imwrite(tmp_path / "b.tif", values + 1, extratags=tag)
    assert not any("no value" in n for n in read_image(tmp_path / "b.tif").notes)
