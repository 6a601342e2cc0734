"""Pictures: exact values, 16 bits kept, damage and bombs refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image
from skimage.io import imread

from restore.datasets.open import read_image
from restore.datasets.picture import png16
from restore.datasets.picture.images import write_image
from restore.errors import ConfigError, InputError, NotFoundError, OutputError

QUANTISED = 0.01  # what JPEG's quantisation costs on the mean; 2e-3 seen


def pixels(channels: int, bits: int = 8, shape=(13, 17)) -> np.ndarray:
    kind = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng(0).integers(0, 2**bits, (*shape, channels)).astype(kind)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_written_values_come_back_exactly(tmp_path, suffix, channels, bits):
    values = pixels(channels, bits).transpose(2, 0, 1) / np.float32(2**bits - 1)
    path = tmp_path / f"a.{suffix}"
    assert write_image(values, path, bits=bits) == 0
    picture = read_image(path)
    assert (picture.data.dtype, picture.bits) == (np.float32, bits)
    np.testing.assert_array_equal(picture.data, values)


def test_sixteen_bits_against_another_reader(tmp_path):
    values = pixels(3, 16)
    write_image(values.transpose(2, 0, 1) / 65535, tmp_path / "a.tif", bits=16)
    np.testing.assert_array_equal(imread(tmp_path / "a.tif"), values)
    write_image(values.transpose(2, 0, 1) / 65535, tmp_path / "a.png", bits=16)
    eight = np.asarray(Image.open(tmp_path / "a.png"))  # Pillow keeps the upper bytes
    np.testing.assert_array_equal(eight, values >> 8)
    write_image(values[..., 0] / 65535, tmp_path / "g.png", bits=16)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "g.png")), values[..., 0])


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4])
def test_every_png_filter(kind):
    """Lines are filtered by the definitions and read back."""
    raw = pixels(3, 16).astype(">u2").view(np.uint8).reshape(13, -1).astype(int)
    step, n = 6, raw.shape[1]
    padded = np.zeros((14, n + step), int)
    padded[1:, step:] = raw
    left, up, corner = padded[1:, :n], padded[:-1, step:], padded[:-1, :n]
    p = left + up - corner
    distances = np.stack([abs(p - left), abs(p - up), abs(p - corner)])
    paeth = np.choose(distances.argmin(axis=0), [left, up, corner])
    predicted = [0 * raw, left, up, (left + up) // 2, paeth][kind]
    lines = ((raw - predicted) % 256).astype(np.uint8)
    above = np.zeros(n, np.uint8)
    for line, expected in zip(lines, raw, strict=True):
        above = png16._unfilter(kind, line, above, step)
        np.testing.assert_array_equal(above, expected)


def test_jpeg(tmp_path):
    file = tmp_path / "camera.jpg"  # of another size than its blocks, at a camera's quality
    Image.fromarray(skimage.data.astronaut()[40:231, 150:321]).save(file, quality=92, subsampling=2)
    picture = read_image(file)
    expected = np.asarray(Image.open(file)).reshape(*picture.data.shape[1:], -1)
    np.testing.assert_array_equal(picture.data, expected.transpose(2, 0, 1) / np.float32(255))
    assert write_image(picture.data, tmp_path / "a.jpg") == 0
    assert np.abs(read_image(tmp_path / "a.jpg").data - picture.data).mean() < QUANTISED


def test_clipping_is_counted(tmp_path):
    data = np.array([[-0.5, 0, 0.5], [1, 1.001, 7]])
    assert write_image(data, tmp_path / "a.png") == 3
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "a.png")), [[0, 0, 128], [255, 255, 255]]
    )


def save(path: Path, array: np.ndarray, mode: str | None = None, **options) -> Path:
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def test_palette_bitmap_and_alpha(tmp_path):
    rgb = np.repeat(np.repeat(pixels(3, shape=(2, 2)), 4, 0), 4, 1)
    palette = read_image(save(tmp_path / "p.png", rgb, "P"))
    assert palette.data.shape == (3, 8, 8)
    assert any("palette" in note for note in palette.notes)
    bitmap = read_image(save(tmp_path / "1.png", (rgb[..., 0] > 127), None))
    assert set(np.unique(bitmap.data)) <= {0.0, 1.0}
    opaque = np.dstack([rgb, np.full((8, 8), 255, np.uint8)])
    dropped = read_image(save(tmp_path / "a.png", opaque))
    np.testing.assert_array_equal(dropped.data, rgb.transpose(2, 0, 1) / np.float32(255))
    assert any("alpha" in note for note in dropped.notes)
    opaque[0, 0, 3] = 254
    clear = read_image(save(tmp_path / "b.png", opaque))
    assert clear.alpha is not None
    np.testing.assert_array_equal(clear.alpha[0], opaque[..., 3] / np.float32(255))
    np.testing.assert_array_equal(clear.data, rgb.transpose(2, 0, 1) / np.float32(255))


def test_rotation_tag_of_a_camera(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (8, 1))
    picture = read_image(save(tmp_path / "r.png", grey, exif=exif))
    np.testing.assert_array_equal(picture.data[0] * 255, np.rot90(grey, -1))
    assert any("orientation" in note for note in picture.notes)


def test_big_endian_and_planar_tiff(tmp_path):
    values = pixels(3, 16)
    tifffile.imwrite(tmp_path / "b.tif", values, byteorder=">", photometric="rgb")
    planar = values.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "p.tif", planar, photometric="rgb", planarconfig="separate")
    for name in ("b.tif", "p.tif"):
        np.testing.assert_array_equal(
            np.rint(read_image(tmp_path / name).data * 65535), values.transpose(2, 0, 1)
        )


def test_refused_pictures(tmp_path):
    cmyk = save(tmp_path / "c.jpg", pixels(3), "CMYK")
    with pytest.raises(InputError, match="CMYK"):
        read_image(cmyk)
    tifffile.imwrite(
        tmp_path / "pages.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack"
    )
    assert any("3 pages: the first" in n for n in read_image(tmp_path / "pages.tif").notes)
    tifffile.imwrite(tmp_path / "f.tif", np.full((8, 8), -1, np.float32))
    with pytest.raises(InputError, match="negative"):
        read_image(tmp_path / "f.tif")
    (tmp_path / "t.png").write_text("hello world")
    with pytest.raises(InputError, match="a text file, not a picture that is read here"):
        read_image(tmp_path / "t.png")
    (tmp_path / "e.png").write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        read_image(tmp_path / "e.png")
    with pytest.raises(NotFoundError):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "w.png", "w.tif"])
def test_truncated_pictures(tmp_path, name):
    write_image(
        pixels(3).transpose(2, 0, 1) / 255, tmp_path / name, bits=8 if name[0] == "a" else 16
    )
    content = (tmp_path / name).read_bytes()
    for keep in (0.2, 0.6, 0.9):
        (tmp_path / name).write_bytes(content[: int(keep * len(content))])
        with pytest.raises(InputError):
            read_image(tmp_path / name)


def test_decompression_bomb(tmp_path, monkeypatch):
    save(tmp_path / "big.png", np.zeros((3000, 3000), np.uint8))
    assert (tmp_path / "big.png").stat().st_size < 20_000
    monkeypatch.setenv("RESTORE_MAX_MEMORY_GB", "0.01")
    with pytest.raises(InputError, match="RESTORE_MAX_MEMORY_GB"):
        read_image(tmp_path / "big.png")


def test_refused_writes(tmp_path):
    good = np.zeros((3, 4, 4))
    for path, data, bits in [
        ("a.gif", good, 8),
        ("a.jpg", good, 16),
        ("a.png", good, 12),
        ("a.png", np.zeros((2, 4, 4)), 8),
        ("a.png", np.zeros(4), 8),
        ("a.png", good + 1j, 8),
    ]:
        with pytest.raises(ConfigError):
            write_image(data, tmp_path / path, bits=bits)
    with pytest.raises(OutputError, match="not finite"):
        write_image(good * np.nan, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_header_that_its_file_cannot_fill_is_refused_at_once(tmp_path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + sum_

    for width, height in ((20_000, 10_000), (200_000, 100_000)):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        body = chunk(b"IDAT", zlib.compress(bytes(5000))) + chunk(b"IEND", b"")
        (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
        with pytest.raises(InputError, match=r"can hold|RESTORE_MAX_MEMORY_GB"):
            read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_above_pillows_own_limit_the_budget_decides(tmp_path, monkeypatch, name):
    save(tmp_path / name, np.full((40, 60), 200, np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read_image(tmp_path / name).data.shape == (1, 40, 60)
