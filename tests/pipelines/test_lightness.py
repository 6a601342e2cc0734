"""Lightness by the grey prior: colours stay, noise is that of Y, grey stays grey, and photographs become better."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from skimage import data as samples
from skimage.color import rgb2ycbcr
from torch import Tensor

from restore.errors import ConfigError
from restore.metrics import psnr
from restore.pipelines.degrade import Degradation
from restore.pipelines.lightness import coloured, luma, luma_noise
from restore.pipelines.photograph import restore_image

STEPS = {"n_steps": 8}


def photograph(name: str = "astronaut", side: int = 64) -> Tensor:
    image = getattr(samples, name)()[30 : 30 + side, 180 : 180 + side] / 255.0
    return torch.from_numpy(image).float().movedim(-1, 0)


def known(side: int = 64) -> Tensor:
    return (torch.rand(side, side, generator=torch.Generator().manual_seed(1)) < 0.4).float()


TASKS: dict[str, tuple[Degradation, dict[str, Any]]] = {
    "denoise": (Degradation("denoise"), {"noise": 0.1}),
    "deblur": (Degradation("deblur", kernel="gaussian:1.6"), {"noise": 0.02, "settings": STEPS}),
    "superres": (Degradation("superres", factor=2), {"settings": STEPS}),
    "inpaint": (Degradation("inpaint", mask=known()), {"noise": 0.02, "settings": {"n_steps": 40}}),
}


def chroma(picture: Tensor) -> Tensor:
    """Cb and Cr by scikit-image, in units of the full range."""
    found = rgb2ycbcr(picture.double().movedim(0, -1).numpy())[..., 1:] / 224
    return torch.from_numpy(found).movedim(-1, 0)


def test_luma_is_the_y_of_bt601():
    x = photograph()
    expected = (rgb2ycbcr(x.double().movedim(0, -1).numpy())[..., 0] - 16) / 219
    # Theirs has weights of five digits: 65.481 / 219 is 0.299.
    torch.testing.assert_close(luma(x)[0].double(), torch.from_numpy(expected), atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="RGB"):
        luma(x[:1])


def test_lightness_is_exchanged_and_colour_kept():
    x, new = photograph(), photograph("coffee")
    found = coloured(luma(new), x)
    # A sum of three products in single precision.
    torch.testing.assert_close(luma(found), luma(new), atol=1e-6, rtol=0)
    torch.testing.assert_close(chroma(found), chroma(x), atol=1e-6, rtol=0)


def test_noise_of_the_lightness():
    noise = 0.1 * torch.randn(3, 300, 300, generator=torch.Generator().manual_seed(0))
    # 90,000 values: their deviation is right to a quarter of a percent.
    assert float(luma(noise).std()) == pytest.approx(luma_noise(noise, 0.1), rel=0.02)
    grey = noise[:1].expand(3, 300, 300)
    assert luma_noise(grey, 0.1) == 0.1


@pytest.mark.parametrize("task", TASKS)
def test_photographs_become_better_than_by_the_classical_method(task):
    degradation, how = TASKS[task]
    found = restore_image(photograph(), degradation, simulate=True, luma=True, **how)
    figures = found.record["metrics"]
    classical = next(v["psnr"] for k, v in figures.items() if k.startswith("classical"))
    assert figures["restored"]["psnr"] > max(classical, figures["degraded"]["psnr"]) + 0.3
    assert found.record["prior"] == "medical"
    assert found.record["luma"]["lightness"] == "Y of YCbCr"
    # The colours are those of the photograph: wrong by less than what the degraded picture's are.
    truth = photograph()
    error = (chroma(found.restored) - chroma(truth)).square().mean()
    assert float(error) < 1.5e-3
    assert psnr(luma(found.restored), luma(truth), data_range=1.0) > 24


@pytest.mark.parametrize(
    "task", [pytest.param(t, marks=[] if t == "denoise" else pytest.mark.slow) for t in TASKS]
)
def test_grey_stays_grey(task):
    """A grey picture stored as RGB: three channels that are equal, with one noise in all of them."""
    degradation, how = TASKS[task]
    grey = luma(photograph()).expand(3, -1, -1).contiguous()
    found = restore_image(grey, degradation, luma=True, **how).restored
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    alone = restore_image(grey[:1], degradation, luma=True, **how).restored
    plain = restore_image(grey[:1], degradation, **how).restored
    assert torch.equal(alone, plain)
    # Y of three equal channels is their value to rounding, 1e-7, which some steps of a network enlarge.
    torch.testing.assert_close(found[:1], alone, atol=2e-3, rtol=0)


def test_samples_share_their_colours():
    degradation, _ = TASKS["superres"]
    found = restore_image(
        photograph(side=32), degradation, luma=True, samples=2, settings=STEPS, simulate=True
    )
    assert found.std is not None
    assert found.std.shape == found.restored.shape
    assert torch.equal(found.std[0], found.std[2])
    assert float(found.std.mean()) > 0
    assert found.record["luma"]["colour"] == ["bicubic"]


def test_a_prior_for_colour_is_refused():
    with pytest.raises(ConfigError):
        restore_image(photograph(), *TASKS["denoise"][:1], noise=0.1, prior="natural", luma=True)
