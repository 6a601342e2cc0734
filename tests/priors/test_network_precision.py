"""Networks in half precision: who computes in it, what of the answer stays single, what gradients and records say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from restore import precision, solve
from restore.errors import ConfigError
from restore.operators import Identity
from restore.priors.edm import EDMDenoiser, build_unet_denoiser
from restore.priors.image_prior import ImagePrior
from restore.priors.unet import UNetConfig

BF16, SINGLE = torch.bfloat16, torch.float32
EPS = torch.finfo(BF16).eps


@pytest.fixture
def denoiser(generator) -> EDMDenoiser:
    """A tiny one of the bundled kind whose weights are none of them zero."""
    made = build_unet_denoiser(UNetConfig(widths=(8, 8), blocks=(1, 1), embedding=8), name="tiny")
    with torch.no_grad():
        for p in made.network.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * p[0].numel() ** -0.5)
    made.network.requires_grad_(False)
    return made


@pytest.fixture
def fast(monkeypatch) -> None:
    """A processor with bfloat16, whatever this one is."""
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: True)


def run(prior, *, double=False, sampler="tweedie", **how):
    y = torch.rand(1, 16, 12, generator=torch.Generator().manual_seed(1))
    y = y.double() if double else y
    return solve(y, Identity((1, 16, 12)), noise=0.1, prior=prior, sampler=sampler, **how)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("how", "used"),
    [
        ({}, "bfloat16"),
        ({"precision": "float32"}, "float32"),
        ({"precision": "float16"}, "float16"),
        ({"double": True}, "float32"),
        ({"double": True, "precision": "bfloat16"}, "bfloat16"),
        ({"sampler": "dps", "n_steps": 2}, "float32"),  # it differentiates the network
        ({"sampler": "dps", "n_steps": 2, "precision": "bfloat16"}, "bfloat16"),
        ({"sampler": "tv", "n_steps": 2}, None),
    ],
)
def test_what_a_run_computes_in_and_records(denoiser, how, used):
    found = run(denoiser, **how)
    assert found.provenance["precision"] == used
    assert found.image.dtype == (torch.float64 if how.get("double") else SINGLE)
    assert any("emulates float16" in n for n in found.notes) is (used == "float16")


def test_without_the_instructions_auto_is_single_and_the_others_are_noted(denoiser, monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: False)
    assert run(denoiser).provenance["precision"] == "float32"
    found = run(denoiser, precision="bfloat16")
    assert found.provenance["precision"] == "bfloat16"
    assert any("only emulates bfloat16" in note for note in found.notes)


@pytest.mark.usefixtures("fast")
def test_somebody_elses_network_only_when_asked():
    network = nn.Conv2d(1, 1, 3, padding=1).eval()

    def denoise(x, sigma):
        return network(x)

    assert run(denoise).provenance["precision"] == "float32"
    assert run(denoise, precision="bfloat16").provenance["precision"] == "bfloat16"
    found = run(lambda x, sigma: 0.9 * x, precision="bfloat16")
    assert found.provenance["precision"] == "float32"
    assert any("has no network in float32" in note for note in found.notes)


def test_what_cannot_be_is_refused(denoiser):
    with pytest.raises(ConfigError, match="small ones vanish"):
        run(denoiser, sampler="dps", precision="float16")
    for sampler in ("tweedie", "tv"):
        with pytest.raises(ConfigError, match="unknown precision 'half'"):
            run(denoiser, sampler=sampler, precision="half")


def test_only_the_inside_of_the_network_is_rounded(denoiser, generator):
    """At a low level D(x) is x and a little of the network: in bfloat16 x alone would be off by EPS / 2."""
    x = torch.rand(2, 1, 16, 12, generator=generator) + 1
    sigma = 0.002
    exact = ImagePrior(denoiser, (16, 12), False)(x[:, 0], sigma)
    rounded = ImagePrior(denoiser, (16, 12), False, BF16)(x[:, 0], sigma)
    error = float((exact - rounded).abs().max())
    assert rounded.dtype is SINGLE
    assert 0 < error < 0.25 * EPS  # seen: 0.023 EPS, the network's own error times c_out


def test_a_picture_goes_in_as_it_is(denoiser, generator):
    """Rounded to bfloat16 it would have noise of 0.002, above that of low levels."""
    seen = {}
    parts = {"first": denoiser.network.enter, "next": denoiser.network.encode[0][0].conv1}
    for name, part in parts.items():
        part.register_forward_pre_hook(
            lambda _, given, name=name: seen.update({name: given[0].dtype})
        )
    ImagePrior(denoiser, (16, 12), False, BF16)(torch.rand(1, 16, 12, generator=generator), 0.01)
    assert seen == {"first": SINGLE, "next": BF16}


def test_gradients_through_it_are_those_of_single_precision(denoiser, generator):
    x = torch.rand(1, 16, 12, generator=generator)
    cotangent = torch.randn(1, 16, 12, generator=generator)
    found = {}
    for dtype in (SINGLE, BF16):
        leaf = x.clone().requires_grad_()
        out = ImagePrior(denoiser, (16, 12), False, dtype)(leaf, 0.5)
        (found[dtype],) = torch.autograd.grad(out, leaf, cotangent)
    assert found[BF16].dtype is SINGLE
    off = torch.linalg.vector_norm(found[BF16] - found[SINGLE])
    size = torch.linalg.vector_norm(found[SINGLE])
    # Each of some ten convolutions rounds what it takes and gives, forwards and back, to EPS / 2.
    assert 0 < off < 20 * EPS * size


@pytest.mark.gpu
@pytest.mark.parametrize("word", ["auto", "bfloat16", "float16"])
def test_on_a_gpu_halves_change_a_run_by_their_rounding(denoiser, word):
    def image(precision: str):
        y = torch.rand(1, 16, 12, generator=torch.Generator().manual_seed(1)).cuda()
        operator = Identity((1, 16, 12), like=y)
        return solve(
            y, operator, noise=0.1, prior=denoiser, sampler="tweedie", precision=precision
        ).image

    exact, rounded = image("float32"), image(word)
    assert rounded.dtype is SINGLE
    # c_out, about 0.1, times ten roundings of EPS / 2 in the network
    assert float((exact - rounded).abs().max()) < EPS
