"""Conditional models as priors: ranges, complex images, grey pictures, refusals, and the bundled form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import restore
from restore.bridges.base import Level, clean_estimate, implied_noise, mix
from restore.errors import ConfigError, ShapeError
from restore.operators.image.blur import Blur
from restore.operators.image.kernels import parse_kernel
from restore.priors.bridge_edm import BridgeDenoiser, build_bridge_denoiser
from restore.priors.conditional import ConditionalPrior, FromFunction
from restore.priors.unet import UNetConfig

SINGLE = 1e-3  # float32 through a network, of inputs that are scaled differently; 3e-6 seen

TINY = UNetConfig(channels=3, widths=(8, 8), blocks=(1, 1), embedding=16, condition=3)


def echo(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
    return (x,)


def test_heads_agree_on_the_clean_image(generator):
    x0, y, n = torch.randn(3, 2, 1, 4, 4, generator=generator, dtype=torch.float64)
    level, spread = Level(1, 0.6, 0.16), 0.2  # 0.6^2 + (0.16/0.2)^2 = 1
    x = mix(x0, y, n, level)
    torch.testing.assert_close(implied_noise(x, x0, y, level), n)
    velocity = -level.c / spread * (x0 - y) + spread * level.a * n
    outs = {
        "x0": (x0,), "residual": (y - x0,), "noise": (n,), "scaled-noise": (level.c * n,), "velocity": (velocity,),
        "residual+noise": (y - x0, n), "x0+sum": (x0, x0 + n),
    }  # fmt: skip
    for head, out in outs.items():
        found = clean_estimate(head, out, x, y, level, stationary_std=spread)
        torch.testing.assert_close(found, x0, msg=head)


def test_noise_heads_are_refused_where_no_image_is_left():
    z = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ConfigError, match="no image is left"):
        clean_estimate("noise", (z,), z, z, Level(99, 0.0, 1.0))
    with pytest.raises(ConfigError, match="unknown head 'eps'"):
        clean_estimate("eps", (z,), z, z, Level(1, 0.5, 0.5))


def test_a_model_of_another_range_sees_its_own(generator):
    """A chain in [-1, 1] with a model of [0, 1]: images are mapped, noise is halved."""
    seen = []

    def record(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        seen.append((x, level, y))
        return (x,)

    prior = ConditionalPrior(FromFunction(record, channels=1), (4, 4), (-1.0, 1.0))
    x, y = torch.randn(2, 3, 4, 4, generator=generator)
    (out,) = prior(x, Level(5, 0.5, 0.3), y)
    torch.testing.assert_close(out, x)
    shown, level, degraded = seen[0]
    assert (level.t, level.a, level.c) == (5, 0.5, 0.15)
    torch.testing.assert_close(shown[:, 0], (x + 1) / 2)
    torch.testing.assert_close(degraded[:, 0], (y + 1) / 2)
    assert prior.evaluations == 1
    torch.testing.assert_close(prior.to_unit(prior.in_range(x)), x)


def test_complex_images_go_as_real_and_imaginary_part(generator):
    x = torch.randn(2, 4, 4, generator=generator, dtype=torch.complex64)
    prior = ConditionalPrior(FromFunction(lambda x, level, y: (2 * x,), channels=1), (4, 4))
    torch.testing.assert_close(prior(x, Level(0, 1.0, 0.1), x)[0], 2 * x)


def test_a_grey_picture_is_three_equal_channels_to_a_colour_model(generator):
    def check(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        assert x.shape == (2, 3, 4, 4)
        return (x * torch.tensor([0.0, 1.0, 2.0])[:, None, None],)

    x = torch.randn(2, 1, 4, 4, generator=generator)
    prior = ConditionalPrior(FromFunction(check), (1, 4, 4))
    torch.testing.assert_close(prior(x, Level(0, 1.0, 0.1), x)[0], x)


def test_one_tensor_alone_is_an_answer_and_anything_else_is_named(generator):
    x = torch.randn(2, 3, 4, 4, generator=generator)
    level = Level(0, 1.0, 0.1)
    alone = ConditionalPrior(FromFunction(lambda x, level, y: 2 * x), (3, 4, 4))  # type: ignore[arg-type]
    torch.testing.assert_close(alone(x, level, x)[0], 2 * x)
    for wrong, words in (
        (lambda x, level, y: (x[:, :1],), r"\(2, 1, 4, 4\)"),
        (lambda x, level, y: ["a"], "a str"),
    ):
        with pytest.raises(ShapeError, match=f"returned {words}, expected"):
            ConditionalPrior(FromFunction(wrong), (3, 4, 4))(x, level, x)
    with pytest.raises(ConfigError, match="the class Level, expected an instance"):
        FromFunction(Level)  # type: ignore[arg-type]


@pytest.fixture
def model(generator) -> BridgeDenoiser:
    model = build_bridge_denoiser(TINY)
    with torch.no_grad():
        for p in model.network.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    return model


@torch.no_grad()
def test_the_bundled_form_depends_on_the_bridge_through_sigma_alone(model, generator):
    """The same x0 + sigma n, seen through two bridges, gets the same answer."""
    x0, y, n = torch.rand(3, 2, 3, 10, 14, generator=generator)
    answers = [
        model(mix(x0, y, n, Level(0, a, 0.3 * a)), Level(0, a, 0.3 * a), y)[0] for a in (1.0, 0.5, 0.01)
    ]  # fmt: skip
    for other in answers[1:]:
        torch.testing.assert_close(other, answers[0], rtol=SINGLE, atol=SINGLE)


@torch.no_grad()
def test_levels_without_image_or_without_noise_are_finite(model, generator):
    x, y = torch.rand(2, 1, 3, 8, 8, generator=generator)
    for level in (Level(9, 0.0, 1.0), Level(0, 1.0, 0.0), Level(0, 0.0199, 1.98)):
        (out,) = model(x, level, y)
        assert out.shape == x.shape
        assert bool(out.isfinite().all())
    assert Level(9, 0.0, 1.0).sigma == math.inf


@torch.no_grad()
def test_an_untrained_model_mixes_state_and_degraded_image(generator):
    """The exit starts at zero: the answer is the Wiener mixture for residuals of deviation sigma_data."""
    model = build_bridge_denoiser(TINY)
    x0, y, n = torch.rand(3, 1, 3, 8, 8, generator=generator)
    level = Level(0, 0.5, 0.2)
    share = model.sigma_data**2 / (model.sigma_data**2 + level.sigma**2)
    wanted = y + share * (x0 + level.sigma * n - y)
    torch.testing.assert_close(model(mix(x0, y, n, level), level, y)[0], wanted)


@pytest.mark.parametrize(
    ("noise", "width", "said"),
    [(0.01, 1.6, ""), (0.04, 1.6, "noise of 0.01 and not 0.04"), (0.01, 3.0, "width")],
)
def test_a_strength_that_the_bundled_model_never_saw_is_told(
    noise: float, width: float, said: str
) -> None:
    operator = Blur(parse_kernel(f"gaussian:{width}"), (3, 32, 32), boundary="circular")
    y = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    notes = restore.solve(y, operator, noise=noise, sampler="rddm").notes
    told = [n for n in notes if "was trained for deblur:gaussian:1.6@0.01" in n]
    assert (bool(told), said in " ".join(told)) == (bool(said), True)
