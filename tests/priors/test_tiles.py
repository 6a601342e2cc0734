"""Large planes in tiles: no seams, every pixel once, gradients as of the whole, small images untouched."""

from __future__ import annotations

import pytest
import torch

from restore.priors import tiles
from restore.priors.base import Denoiser
from restore.priors.image_prior import ImagePrior
from restore.priors.store import load_prior
from restore.priors.tiles import tiled

SEAM = 1e-3  # a quarter of a grey level of 8 bits


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles small enough for a test; the overlap is the real one."""
    monkeypatch.setattr(tiles, "TILED_ABOVE", 2**16)
    monkeypatch.setattr(tiles, "SIDE", 448)


@pytest.mark.parametrize("sigma", [pytest.param(0.1, marks=pytest.mark.slow), 5.0])
def test_no_seam_shows_in_a_noisy_photograph(small_tiles, sigma):
    data = pytest.importorskip("skimage.data")
    clean = torch.from_numpy(data.camera()).float()[None] / 255
    noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    prior = load_prior("medical")
    with torch.no_grad():
        whole = prior(noisy[None], sigma)[0]
        pieces = ImagePrior(prior, (1, 512, 512), complex_=False)(noisy, sigma)
    assert not torch.equal(whole, pieces), "the picture was not cut"
    assert float((whole - pieces).abs().max()) < SEAM


def test_a_local_function_comes_out_exact_and_the_windows_sum_to_one(small_tiles):
    x = torch.rand(1, 2, 601, 1000, dtype=torch.float64)
    out = tiled(lambda p: (2 * p, p + 1))(x)
    # float64 rounding of two weights that sum to one
    torch.testing.assert_close(out[0], 2 * x, rtol=0, atol=1e-13)
    torch.testing.assert_close(out[1], x + 1, rtol=0, atol=1e-13)


def test_gradients_of_tiles_are_those_of_the_whole(small_tiles):
    x = torch.rand(1, 1, 500, 700, dtype=torch.float64, requires_grad=True)
    (tiled(lambda p: (p**3,))(x)[0] * 0.5).sum().backward()
    # float64 rounding of products of a few factors
    torch.testing.assert_close(x.grad, 1.5 * x.detach() ** 2, rtol=0, atol=1e-13)


def test_tiles_stay_within_their_size_and_what_is_small_or_not_local_is_not_cut(small_tiles):
    class Seen(Denoiser):
        channels = 0

        def __init__(self) -> None:
            self.shapes: list[tuple[int, ...]] = []

        def __call__(self, x, sigma):
            self.shapes.append(tuple(x.shape))
            return x

    prior = Seen()
    ImagePrior(prior, (3, 700, 300), complex_=False)(torch.rand(3, 700, 300), 0.1)
    assert prior.shapes == [(1, 3, 448, 300), (1, 3, 444, 300)]
    prior.shapes.clear()
    ImagePrior(prior, (256, 256), complex_=False)(torch.rand(256, 256), 0.1)
    prior.local = False
    ImagePrior(prior, (300, 700), complex_=False)(torch.rand(300, 700), 0.1)
    assert prior.shapes == [(1, 1, 256, 256), (1, 1, 300, 700)]
