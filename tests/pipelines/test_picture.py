"""The picture of a comparison: what is drawn where, and what is refused."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from PIL import Image

from restore.errors import ConfigError, OutputError, ShapeError
from restore.pipelines.picture import Panel, comparison_picture


def panels(count: int = 3, shape: tuple[int, int] = (20, 30)) -> list[Panel]:
    truth = np.linspace(0, 100, shape[0] * shape[1]).reshape(shape)
    images = [truth + 5 * (count - k) for k in range(1, count)] + [truth]
    return [Panel(f"image {k}", image, "PSNR 30 dB") for k, image in enumerate(images)]


def test_a_picture_without_touching_global_state(tmp_path):
    before = dict(matplotlib.rcParams)
    path = comparison_picture(panels(), tmp_path / "a.png", title="three", units="HU")
    assert path == tmp_path / "a.png"
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size[0] > 900
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 200
    assert dict(matplotlib.rcParams) == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_errors_share_one_scale(tmp_path):
    """A panel whose error is half of the scale's end is drawn in the middle of the colours."""
    truth = np.zeros((16, 16))
    row = [Panel(str(e), truth + e) for e in (4, 2)] + [Panel("truth", truth)]
    comparison_picture(row, tmp_path / "a.png", window=(0, 1), error_limit=4)
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    for share in (1.0, 0.5):
        colour = np.array(matplotlib.colormaps["magma"](share)[:3]) * 255
        near = np.abs(pixels - colour).max(axis=-1) <= 3
        assert near.mean() > 0.05


def test_complex_images_are_drawn_as_magnitudes(tmp_path):
    row = panels(2)
    turned = [Panel("turned", row[1].image * 1j), row[1]]
    comparison_picture(turned, tmp_path / "a.png")
    same = [Panel("turned", row[1].image), row[1]]
    comparison_picture(same, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_refusals(tmp_path):
    with pytest.raises(ConfigError, match="and a reference"):
        comparison_picture(panels()[:1], tmp_path / "a.png")
    with pytest.raises(ShapeError, match="panel 'odd'"):
        comparison_picture([Panel("odd", np.zeros((3, 4))), *panels()], tmp_path / "a.png")
    with pytest.raises(ShapeError, match="expected"):
        comparison_picture([*panels(), Panel("stack", np.zeros((2, 3, 4)))], tmp_path / "a.png")
    with pytest.raises(OutputError, match="no such folder"):
        comparison_picture(panels(), tmp_path / "no" / "a.png")
    assert not list(tmp_path.iterdir())
