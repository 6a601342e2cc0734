"""Denoisers told a level for every pixel: a constant map is a number, factors and their prior are one model."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from torch import Tensor

import restore.priors.unet
from restore.errors import ConfigError, ShapeError, WeightsError
from restore.priors.analytic import GaussianPrior, RegionGaussian
from restore.priors.base import per_pixel
from restore.priors.edm import EDMDenoiser, build_unet_denoiser
from restore.priors.image_prior import ImagePrior
from restore.priors.low_rank import LAYERS, Adapter, fresh_adapter
from restore.priors.region import Adapts, RegionDenoiser, push_pull, region_denoiser, with_factors
from restore.priors.store import kind_of, load_prior, read_card, save_prior
from restore.priors.unet import UNetConfig
from restore.priors.wrappers import FromDenoiser

CONFIG = UNetConfig(3, widths=(8, 12), blocks=(1, 1), embedding=8)
SINGLE = 2e-5  # float32: means of equal numbers, and sums of some hundred products in another order; 1e-6 seen
KNOWN = 1e-3  # what is shown of a pixel told 0.002, and what a network of weights of 0.1 adds at that level; 2e-4 seen
HALVED = (
    5e-3  # factors kept in half precision, 11 bits of numbers near 0.1, over two blocks; 2e-4 seen
)
DOUBLE = 1e-10  # float64: solves over 16 pixels of a condition below 1e4; 1e-13 seen


def base(config: UNetConfig = CONFIG) -> EDMDenoiser:
    """With weights everywhere: blocks of a new network end in zeros."""
    made, g = build_unet_denoiser(config, seed=1, name="tiny"), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in made.network.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=g))
    made.turnable = True
    return made


def learnt(sha256: str = "") -> RegionDenoiser:
    model, g = region_denoiser(base()), torch.Generator().manual_seed(3)
    fresh = fresh_adapter(model, 2, 0, LAYERS).factors
    factors = {
        n: (0.1 * torch.randn(up.shape, generator=g), down) for n, (up, down) in fresh.items()
    }
    return with_factors(model, Adapter(factors), Adapts("tiny", sha256))


def images(count: int = 2, height: int = 12, width: int = 10) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(4))


def patches(count: int = 2, height: int = 12, width: int = 10, levels: int = 3) -> Tensor:
    g = torch.Generator().manual_seed(5)
    which = torch.randint(levels, (count, 1, height, width), generator=g)
    return torch.linspace(0.0, 2.0, levels)[which]


@pytest.mark.parametrize("few", [0, 8])
def test_a_map_of_one_number_gives_what_the_number_gives(few, monkeypatch):
    monkeypatch.setattr(restore.priors.unet, "_FEW", few)
    network, x = base().network, images(height=8, width=12)
    for told in (-1.5, 0.0, 0.9):
        alone = network(x, torch.full((2,), told))
        torch.testing.assert_close(
            network(x, torch.full((2, 1, 8, 12), told)), alone, rtol=SINGLE, atol=SINGLE
        )


def test_few_levels_and_many_are_told_alike(monkeypatch):
    network, x, told = base().network, images(height=8, width=12), patches(height=8, width=12)
    few = network(x, told)
    monkeypatch.setattr(restore.priors.unet, "_FEW", 0)
    torch.testing.assert_close(network(x, told), few, rtol=SINGLE, atol=SINGLE)


def test_a_place_of_the_network_is_told_the_mean_over_its_pixels():
    network, noise = base().network, patches(1, 8, 12, levels=20)
    top, below = network.embedded(noise)
    assert (top.embedding.shape, below.embedding.shape) == ((1, 4, 6, 8), (1, 2, 3, 8))
    each = torch.stack(
        [network.embedded(n[None])[0].embedding[0] for n in noise[0, 0, :4, :4].flatten()]
    )
    torch.testing.assert_close(below.embedding[0, 0, 0], each.mean(0), rtol=SINGLE, atol=SINGLE)


def exact(x: Tensor, s: Tensor, spread: float = 0.15) -> tuple[Tensor, Tensor]:
    """The image that a fresh model shows to its denoiser, and the levels that it tells."""
    weight = spread**2 / (s**2 + spread**2)
    return push_pull(x, weight), s * weight.sqrt()


def test_before_it_has_learnt_it_is_the_denoiser_of_what_it_shows():
    before, made, x = base(), region_denoiser(base()), images()
    assert made.kind == "region"
    for sigma in (0.01, 0.3, 60.0, torch.tensor([0.1, 2.0])):
        u, v = exact(x, per_pixel(sigma, x))
        torch.testing.assert_close(
            made(x, sigma), before(u, v[:, 0, 0, 0]), rtol=SINGLE, atol=SINGLE
        )
    torch.testing.assert_close(made(x, 0.0), before(x, 0.0), rtol=0, atol=KNOWN)


def test_it_sees_which_pixel_of_a_square_has_the_noise():
    model, x, levels = learnt(), torch.full((1, 3, 8, 8), 0.5), torch.zeros(1, 1, 8, 8)
    levels[..., 4, 4] = 1.0
    moved = levels.roll((1, 1), (-2, -1))  # the same squares, told the same means
    one, other = model(x, levels), model(x, moved)
    assert not torch.allclose(one[..., 4:6, 4:6], other[..., 4:6, 4:6], rtol=0, atol=10 * SINGLE)


def test_a_known_pixel_stays_and_is_what_missing_ones_are_drawn_to():
    x, known = images(1, 16, 16), patches(1, 16, 16, levels=2) == 0
    s = torch.where(known, 0.0, 40.0)
    u, v = exact(
        x + s * torch.randn(x.shape, generator=torch.Generator().manual_seed(7)), s.clamp(min=0.002)
    )
    torch.testing.assert_close(
        u[known.expand(x.shape)], x[known.expand(x.shape)], rtol=0, atol=KNOWN
    )
    assert float((u - x).abs().max()) < 1.5  # of noise of 40 nothing is left; images have 0 to 1
    assert float(v.max()) < 0.15
    flat = torch.full((1, 1, 7, 9), 0.3)
    weight = torch.rand(1, 1, 7, 9, generator=torch.Generator().manual_seed(8)) + 1e-3
    torch.testing.assert_close(push_pull(flat, weight.clamp(max=1)), flat, rtol=SINGLE, atol=SINGLE)
    assert torch.equal(push_pull(x, torch.ones(1, 1, 16, 16)), x)


def test_what_lies_deep_in_a_hole_is_drawn_to_what_is_known():
    x, known = torch.full((1, 1, 96, 80), 0.7), torch.zeros(1, 1, 96, 80)
    known[..., :3, :], known[..., -3:, :] = 1.0, 1.0
    s = 1000 * (1 - known) + 0.002
    u, _ = exact(
        s * torch.randn(x.shape, generator=torch.Generator().manual_seed(9)) + x * known, s
    )
    assert float((u - 0.7).abs().max()) < 0.01  # 7000 pixels of noise of 1000 weigh 1e-4


def test_the_error_scale_is_that_of_the_preconditioning():
    model = region_denoiser(base())
    s = torch.tensor([0.01, 1.0, 40.0])[:, None, None, None]
    v = 1 / (1 / s**2 + 1 / 0.15**2).sqrt()  # two Gaussians of one pixel
    torch.testing.assert_close(model.error_scale(s), v * 0.5 / (v**2 + 0.25).sqrt())


def test_factors_are_kept_beside_the_prior_and_read_with_it(tmp_path):
    prior = save_prior(tmp_path / "tiny.safetensors", base(), {})
    kept = save_prior(
        tmp_path / "rad.safetensors", learnt(read_card(prior)["sha256"]), {"licence": "x"}
    )
    assert kind_of(kept) == "region"
    card = read_card(kept)
    assert card["adapts"] == {"name": "tiny", "sha256": read_card(prior)["sha256"]}
    assert card["rank"] == 2
    found = load_prior(kept)
    assert isinstance(found, RegionDenoiser)
    assert found.turnable
    with torch.no_grad():
        torch.testing.assert_close(
            found(images(), patches()), learnt()(images(), patches()), rtol=HALVED, atol=HALVED
        )
    again = save_prior(tmp_path / "again.safetensors", found, {})
    assert again.read_bytes() == kept.read_bytes()


def test_factors_without_their_prior_or_with_another_are_refused(tmp_path):
    prior = save_prior(tmp_path / "tiny.safetensors", base(), {})
    kept = save_prior(tmp_path / "rad.safetensors", learnt(read_card(prior)["sha256"]), {})
    alone = tmp_path / "alone"
    alone.mkdir()
    for suffix in (".safetensors", ".json"):
        shutil.copy(kept.with_suffix(suffix), alone)
    with pytest.raises(
        WeightsError, match="factors of the prior 'tiny', which cannot be had: no prior 'tiny'"
    ):
        load_prior(alone / kept.name)
    save_prior(prior, build_unet_denoiser(CONFIG, seed=9), {})
    with pytest.raises(WeightsError, match=r"is another one.*restore train rad"):
        load_prior(kept)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rank": 0}, "factors of rank 0"), ({"rank": 3}, "expected"), ({"adapts": {"name": "tiny"}}, "sha256"),
        ({"network": dataclasses.asdict(CONFIG)}, "no region prior"), ({"sigma_range": [2, 1]}, "noise 2"),
        ({"spread": 0}, "a spread of 0"),
    ],
)  # fmt: skip
def test_cards_that_cannot_be_are_refused(tmp_path, change, said):
    prior = save_prior(tmp_path / "tiny.safetensors", base(), {})
    kept = save_prior(tmp_path / "rad.safetensors", learnt(read_card(prior)["sha256"]), {})
    kept.with_suffix(".json").write_text(json.dumps(read_card(kept) | change))
    with pytest.raises(WeightsError, match=said):
        load_prior(kept)


def test_networks_of_others_and_of_complex_images_are_refused():
    other = EDMDenoiser(torch.nn.Conv2d(1, 1, 1))
    pairs = base(dataclasses.replace(CONFIG, channels=2))
    pairs.complex_mode = "channels"
    for model in (other, pairs):
        with pytest.raises(ConfigError, match=r"package's own U-Net, of real images"):
            region_denoiser(model)


def dense() -> RegionGaussian:
    at = torch.cartesian_prod(torch.arange(4), torch.arange(4)).double()
    return RegionGaussian(torch.full((4, 4), 0.5).double(), 0.04 * torch.exp(-torch.cdist(at, at)))


def test_the_exact_prior_is_the_mean_given_every_pixel():
    model, g = dense(), torch.Generator().manual_seed(6)
    x = torch.randn(3, 1, 4, 4, generator=g, dtype=torch.float64)
    plain = GaussianPrior(model.mean, covariance=model.covariance)
    for sigma in (0.2, torch.tensor([0.1, 0.5, 2.0])):
        torch.testing.assert_close(model(x, sigma), plain(x, sigma), rtol=DOUBLE, atol=DOUBLE)
    s = torch.rand(3, 1, 4, 4, generator=g, dtype=torch.float64)
    s[..., 0] = 0  # known exactly
    found = model(x, s)
    torch.testing.assert_close(found[..., 0], x[..., 0], rtol=DOUBLE, atol=DOUBLE)
    noise = (s**2).reshape(3, -1)
    for item in range(3):  # by the precision of the pixels that have noise, given the others
        c, known = model.covariance, noise[item] == 0
        gain = torch.linalg.solve(c[known][:, known], c[known]).T
        prior_mean = 0.5 + gain @ (x[item].flatten()[known] - 0.5)
        left = (c - gain @ c[known])[~known][:, ~known].inverse()
        weight = torch.diag(1 / noise[item][~known])
        wanted = torch.linalg.solve(
            left + weight, left @ prior_mean[~known] + weight @ x[item].flatten()[~known]
        )
        torch.testing.assert_close(found[item].flatten()[~known], wanted, rtol=DOUBLE, atol=1e-8)
    with pytest.raises(ConfigError, match="positive definite"):
        RegionGaussian(torch.zeros(2, 2).double(), torch.zeros(4, 4).double())
    with pytest.raises(ShapeError):
        RegionGaussian(torch.zeros(2, 2).double(), torch.eye(3).double())


class Telling(FromDenoiser):
    """Answers with the levels that it hears."""

    kind = "region"

    def __init__(self, channels: int, **more: object) -> None:
        super().__init__(lambda x, s: x, channels=channels, **more)  # type: ignore[arg-type]
        self.turnable = True

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        assert isinstance(sigma, Tensor)
        assert sigma.shape == (len(x), 1, *x.shape[-2:])
        return sigma.expand(x.shape)


@pytest.mark.parametrize("turn", [0, 3, 6])
@pytest.mark.parametrize("mode", ["real", "separate", "magnitude", "channels", "colour", "volume"])
def test_a_map_goes_the_way_of_the_image(mode, turn):
    complex_ = mode in ("separate", "magnitude", "channels")
    item = {"colour": (3, 6, 4), "volume": (4, 6, 5)}.get(mode, (6, 4))
    channels = {"colour": 3, "channels": 2}.get(mode, 1)
    model = Telling(channels, complex_mode=mode if complex_ else "separate")
    planes = (0, 1) if mode == "volume" else (0,)
    asked = ImagePrior(model, item, complex_, planes=planes)
    x = torch.randn(2, *item, dtype=torch.complex64 if complex_ else torch.float32)
    levels = torch.rand(2, *item) if mode == "volume" else torch.rand(item[-2:])
    found = asked(x, levels, turn=turn)
    wanted = levels.expand(x.shape)
    if mode == "magnitude":
        found, wanted = found.abs(), wanted.abs()
    assert torch.equal(
        found, torch.complex(wanted, wanted) if mode in ("separate", "channels") else wanted
    ) or (mode == "magnitude" and torch.allclose(found, wanted, atol=1e-6))


def test_channels_seen_at_once_have_one_level():
    asked = ImagePrior(Telling(3), (3, 6, 4), complex_=False)
    with pytest.raises(ConfigError, match=r"one level for all 3 channels.*use dds"):
        asked(torch.rand(1, 3, 6, 4), torch.rand(3, 6, 4))
