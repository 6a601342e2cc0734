"""Large planes in tiles: no seams, every pixel once, gradients as of the whole, small images untouched."""

from __future__ import annotations

import pytest
import torch

from restore.errors import ConfigError
from restore.front_door import solve
from restore.operators.image.inpainting import Inpainting
from restore.priors import tiles
from restore.priors.base import Denoiser
from restore.priors.image_prior import ImagePrior
from restore.priors.store import load_prior
from restore.priors.tiles import USUAL, Tiling, tiled

SEAM = 1e-3  # a quarter of a grey level of 8 bits


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles small enough for a test; the overlap is the real one."""
    monkeypatch.setattr(tiles, "TILED_ABOVE", 2**16)
    monkeypatch.setattr(tiles, "SIDE", 448)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.1, 5.0])
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


KINDS = [
    Tiling(window="uniform", side=64, overlap=56),
    Tiling(side=64),
    Tiling(side=64, overlap=56),
    Tiling(side=64, overlap=24, window="gaussian", shift=True),
    Tiling(side=64, overlap=16, shift=True),
]


@pytest.mark.parametrize("tiling", KINDS, ids=str)
def test_tiles_cover_an_axis_and_their_weights_sum_to_one(tiling):
    firsts = set()
    for length in (65, 130, 203):
        for call in range(8):
            spans = tiling.spans(length, call)
            total = torch.zeros(length, dtype=torch.float64)
            for part, weights in zip(spans, tiling.windows(spans, length), strict=True):
                assert 0 < part.stop - part.start <= 64
                assert part.start % 8 == 0
                total[part] += weights
            # float64: a few weights that sum to one
            torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)
            firsts.add(spans[1].start)
    assert (len(firsts) > 1) is tiling.shift


def test_the_usual_windows_are_what_they_were(small_tiles):
    """Written out for one tile between two others: rise, ones, fall."""
    usual = Tiling()
    spans = usual.spans(1000)
    assert spans == [slice(0, 448), slice(256, 704), slice(512, 960), slice(768, 1000)]
    t = ((torch.arange(448, dtype=torch.float64) + 0.5 - 80) / 32).clamp(0, 1)
    rise = t * t * (3 - 2 * t)
    assert torch.equal(usual.windows(spans, 1000)[1], rise * rise.flip(0))


def test_tiles_are_joined_as_least_squares_have_it():
    """Every tile answers with a constant of its own: the joined answer is their weighted mean, and a step from joined
    estimates is the joined step."""
    tiling, count = Tiling(side=64, overlap=32, window="uniform"), iter(range(99))
    x = torch.rand(1, 1, 64, 96, dtype=torch.float64)
    answers = tiled(lambda p: (torch.full_like(p, next(count)),), tiling)(x)[0]
    expected = torch.tensor([0.0] * 32 + [0.5] * 32 + [1.0] * 32, dtype=torch.float64)
    torch.testing.assert_close(answers[0, 0, 0], expected, rtol=0, atol=1e-12)  # float64
    estimates = tiled(lambda p: (p.mean((-2, -1), keepdim=True).expand_as(p),), tiling)(x)[0]
    steps = tiled(lambda p: (0.7 * p + 0.3 * p.mean((-2, -1), keepdim=True).expand_as(p),), tiling)(
        x
    )[0]
    torch.testing.assert_close(steps, 0.7 * x + 0.3 * estimates, rtol=0, atol=1e-12)  # float64


def test_tiles_are_told_after_a_priors_name():
    prior = load_prior("medical@tile=32,overlap=16,window=gaussian,shift=true")
    assert prior.tiling == Tiling(32, 16, "gaussian", True)
    x = torch.rand(40, 56, generator=torch.Generator().manual_seed(0))
    moving = ImagePrior(prior, (40, 56), complex_=False)
    still = ImagePrior(load_prior("medical@tile=32,overlap=16"), (40, 56), complex_=False)
    with torch.no_grad():
        first, second = (moving(x, 0.1) for _ in range(2))
        assert torch.equal(still(x, 0.1), still(x, 0.1))
    assert not torch.equal(first, second)
    said = solve(x, Inpainting(torch.ones(40, 56), (40, 56)), noise=0.1, sampler="dds", n_steps=1,
                 prior="medical@tile=32,overlap=16").notes  # fmt: skip
    assert any("in tiles of 32 x 32 that overlap by 16" in note for note in said)
    assert USUAL.at_once(512, 512) == 512**2
    assert Tiling(side=64).at_once(512, 40) == 64 * 40


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("natural@tile=100", "both must be multiples of 8"),
        ("natural@tile=64,overlap=64", "the overlap below the side"),
        ("natural@overlap=64", "an overlap of tiles needs their side"),
        ("natural@tile=64,window=round", "window must be one of"),
        ("natural@reuse=2,tile=64,shift=true", "shift moves them"),
    ],
)
def test_tiles_that_cannot_be_are_refused(name, said):
    with pytest.raises(ConfigError, match=said):
        load_prior(name)
