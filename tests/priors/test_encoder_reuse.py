"""Encoder features used again: bit-equal when off, the decoder's own answer when on, never where the state moved."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from restore.errors import ConfigError
from restore.front_door import solve
from restore.operators.image.inpainting import Inpainting
from restore.pipelines.prior_draws import draw_from
from restore.priors.edm import EDMDenoiser, build_unet_denoiser
from restore.priors.encoder_reuse import MOST_KEPT, EncoderReuse
from restore.priors.network_options import NetworkOptions
from restore.priors.store import load_prior
from restore.priors.unet import Told, UNet, UNetConfig, _fourier_features, _through

SMALL = UNetConfig(1, widths=(8, 12, 16), blocks=(1, 1, 1), embedding=16)


def small(options: NetworkOptions | None = None) -> EDMDenoiser:
    """A network with weights that are not trained, but not zero either: a new one answers with zeros."""
    prior = build_unet_denoiser(SMALL, name="small")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in prior.network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return prior if options is None else options.applied(prior)


def as_it_was(network: UNet, x: Tensor, noise: Tensor) -> Tensor:
    """The U-Net in one piece, as before there was anything to reuse."""
    embedding = Told(network.embed(_fourier_features(noise)))
    h, skips = network.enter(F.pixel_unshuffle(x, network.config.unshuffle)), []
    for i, blocks in enumerate(network.encode):
        if i:
            skips.append(h)
            h = network.down[i - 1](h)
        h = _through(blocks, h, embedding)
    for i in reversed(range(len(network.decode))):
        h = _through(network.decode[i], network.up[i](h) + skips[i], embedding)
    return F.pixel_shuffle(network.leave(h), network.config.unshuffle)


@torch.no_grad()
def test_off_it_is_the_same_network_to_the_bit(generator: torch.Generator) -> None:
    x, noise = torch.randn(2, 1, 16, 24, generator=generator), torch.tensor([-0.3, 0.2])
    network = small().network
    assert torch.equal(network(x, noise), as_it_was(network, x, noise))
    ones = small(NetworkOptions(skips="1/1")).network
    assert torch.equal(ones(x, noise), network(x, noise))
    assert isinstance(load_prior("natural@reuse=1").network, UNet)


@torch.no_grad()
def test_between_key_levels_the_decoder_has_the_features_of_the_last_one(
    generator: torch.Generator,
) -> None:
    prior, plain = small(NetworkOptions(reuse=2)), small()
    clean, n = (draw(1, 1, 16, 16, generator=generator) for draw in (torch.rand, torch.randn))
    answers = [prior(clean + s * n, s) for s in (0.5, 0.4, 0.3)]
    assert torch.equal(answers[0], plain(clean + 0.5 * n, 0.5))
    assert torch.equal(answers[2], plain(clean + 0.3 * n, 0.3))
    network = plain.network
    (_, out, _), (_, _, scale) = (plain.preconditioning(torch.tensor(s)) for s in (0.4, 0.5))
    then, now = (torch.tensor([s]).log() / 4 for s in (0.5, 0.4))
    features = network.encoded((clean + 0.5 * n) * scale, network.embedded(then))
    skip = plain.preconditioning(torch.tensor(0.4))[0]
    expected = skip * (clean + 0.4 * n) + out * network.decoded(features, network.embedded(now))
    torch.testing.assert_close(
        answers[1], expected, rtol=0, atol=1e-5
    )  # float32, values of some ones
    assert prior.remarks() == (
        "encoder features were used again in 1 of 3 network calls (reuse=2)",
    )
    assert prior.remarks() == ()


@torch.no_grad()
def test_what_moved_is_encoded_anew(generator: torch.Generator) -> None:
    """New noise, another image, another shape: the plain answer to the bit, and a sentence."""
    prior, plain = small(NetworkOptions(reuse=4)), small()
    shapes = ((0.5, 16), (0.4, 16), (0.4, 24))
    states = [(torch.randn(1, 1, side, 16, generator=generator), s) for s, side in shapes]
    for x, s in states:
        assert torch.equal(prior(x, s), plain(x, s))
    said = prior.remarks()
    assert "in none of 3 network calls (reuse=4): each state had moved" in said[0]


@torch.no_grad()
def test_several_calls_of_a_level_have_features_of_their_own(generator: torch.Generator) -> None:
    prior = small(NetworkOptions(reuse=3))
    parts = torch.randn(MOST_KEPT + 2, 1, 1, 8, 8, generator=generator)
    for s in (0.5, 0.45, 0.4, 0.35):
        for part in parts:
            prior(s * part, s)
    # two of four levels: 3 and 2 of every group of three; two calls are beyond what is kept
    assert f"in {2 * MOST_KEPT} of {4 * len(parts)} network calls" in prior.remarks()[0]


def test_gradients_are_those_of_the_whole_network(generator: torch.Generator) -> None:
    prior, plain = small(NetworkOptions(reuse=2)), small()
    x = torch.randn(1, 1, 8, 8, generator=generator)
    found = []
    for model in (prior, plain):
        for s in (0.5, 0.49):
            z = x.clone().requires_grad_()
            model(z, s).sum().backward()
            found.append(z.grad)
    assert torch.equal(found[1], found[3])


def test_runs_say_how_often_it_was_used() -> None:
    quick = {"n_steps": 20}
    drawn = draw_from("medical@reuse=2", count=1, size=(16, 16), settings=quick)
    assert drawn.record["prior"] == "medical@reuse=2"
    assert "of 20 network calls (reuse=2)" in drawn.notes[0]
    y = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    operator = Inpainting(torch.ones(16, 16), (16, 16))
    plain, reused = (
        solve(y, operator, noise=0.05, prior=p, sampler="dds", n_steps=3, turns=False)
        for p in ("medical", "medical@reuse=2")
    )
    assert torch.equal(plain.image, reused.image)
    assert any("in none of 3 network calls" in note for note in reused.notes)


@torch.no_grad()
def test_factors_of_skips_and_backbone(generator: torch.Generator) -> None:
    """Doubling the factors is doubling what they multiply."""
    x, noise = torch.randn(1, 1, 16, 16, generator=generator), torch.tensor([0.1])
    scaled = small(NetworkOptions(skips="1/0.5", backbone=2.0)).network
    assert scaled.config.skips == (1.0, 0.5)
    network = small().network
    embedding = network.embedded(noise)
    lowest, skips = network.encoded(x, embedding)
    h = _through(network.decode[1], 2 * network.up[1](lowest) + 0.5 * skips[1], embedding[1])
    h = _through(network.decode[0], 2 * network.up[0](h) + skips[0], embedding[0])
    expected = F.pixel_shuffle(network.leave(h), 2)
    torch.testing.assert_close(scaled(x, noise), expected, rtol=0, atol=1e-5)  # float32
    with pytest.raises(ConfigError, match="expected finite factors"):
        UNetConfig(1, skips=(1.0,))


def test_it_is_a_u_net_that_is_wrapped() -> None:
    wrapped = small(NetworkOptions(reuse=2))
    assert isinstance(wrapped.network, EncoderReuse)
    assert wrapped.turnable is False
