"""Every parametrisation of the same exact Gaussian network must give the same posterior mean."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.priors.wrappers import FromEps, FromFlow, FromScore, FromV, FromX0
from restore.samplers.toolbox.levels import alpha_bar_to_sigma, vp_alphas_cumprod

DOUBLE = 1e-8  # float64: a few products and quotients; 3e-15 seen

SIDE = 12
ALPHAS = vp_alphas_cumprod()
SIGMAS = alpha_bar_to_sigma(ALPHAS)
UNIT, SIGNED = (0.0, 1.0), (-1.0, 1.0)


class World:
    """N(mean, circulant) in [0, 1] units and the networks that know it in `trained` units."""

    def __init__(self, trained: tuple[float, float] = UNIT) -> None:
        rows = torch.arange(SIDE, dtype=torch.float64)
        self.mean = 0.4 + 0.3 * torch.cos(2 * torch.pi * rows / SIDE)[:, None].expand(SIDE, SIDE)
        f = torch.fft.fftfreq(SIDE, dtype=torch.float64)
        self.spectrum = 0.3 / (1 + (f[:, None] ** 2 + f**2) / 0.02)
        self.low, self.gain = trained[0], trained[1] - trained[0]

    def clean(self, x: Tensor, s: Tensor) -> Tensor:
        """E[x0 | x] in [0, 1] units; s (N,)."""
        s = s.reshape(-1, 1, 1, 1)
        gain = self.spectrum / (self.spectrum + s**2)
        return self.mean + torch.fft.ifft2(torch.fft.fft2(x - self.mean) * gain).real

    def clean_trained(self, u: Tensor, s: Tensor) -> Tensor:
        x0 = self.clean((u - self.low) / self.gain, s / self.gain)
        return x0 * self.gain + self.low

    def at_time(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Clean image, noise and alpha-bar of a VP state; fractional times by log sigma."""
        low = t.double().floor().long().clamp(max=998)
        part = t.double() - low
        log_s = SIGMAS[low].log() * (1 - part) + SIGMAS[low + 1].log() * part
        s = log_s.exp()
        a = (1 / (1 + s**2)).reshape(-1, 1, 1, 1)
        x0 = self.clean_trained(x_t / a.sqrt(), s)
        return x0, (x_t - a.sqrt() * x0) / (1 - a).sqrt(), a

    def eps(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.at_time(x_t, t)[1]

    def v(self, x_t: Tensor, t: Tensor) -> Tensor:
        x0, n, a = self.at_time(x_t, t)
        return a.sqrt() * n - (1 - a).sqrt() * x0

    def x0(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.at_time(x_t, t)[0]

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        return (self.clean_trained(x, sigma) - x) / sigma.reshape(-1, 1, 1, 1) ** 2

    def flow(self, x_t: Tensor, t: Tensor) -> Tensor:
        t = t.reshape(-1, 1, 1, 1)
        x0 = self.clean_trained(x_t / (1 - t), (t / (1 - t)).flatten())
        return (x_t - x0) / t


def build(kind: str, world: World, **images):
    if kind in ("eps", "v", "x0"):
        wrapper = {"eps": FromEps, "v": FromV, "x0": FromX0}[kind]
        return wrapper(getattr(world, kind), ALPHAS, **images)
    return {"score": FromScore, "flow": FromFlow}[kind](getattr(world, kind), **images)


@pytest.mark.parametrize("trained", [UNIT, SIGNED, (-0.5, 3.5)])
@pytest.mark.parametrize("kind", ["eps", "v", "x0", "score", "flow"])
def test_every_parametrisation_gives_the_posterior_mean(kind, trained, generator):
    world = World(trained)
    prior = build(kind, world, trained=trained)
    x = torch.randn(4, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    for sigma in (0.05, float(SIGMAS[400]) / world.gain, 0.9, torch.tensor([0.02, 0.1, 0.7, 1.3])):
        levels = torch.as_tensor(sigma, dtype=torch.float64).expand(4)
        torch.testing.assert_close(
            prior(x, sigma), world.clean(x, levels), rtol=DOUBLE, atol=DOUBLE
        )


def test_noise_range_is_told_in_the_units_of_the_images():
    unit, signed = build("eps", World()), build("eps", World(SIGNED), trained=SIGNED)
    assert unit.sigma_min == pytest.approx(float(SIGMAS[0]))
    assert unit.sigma_max == pytest.approx(float(SIGMAS[-1]))
    assert signed.sigma_max == pytest.approx(unit.sigma_max / 2)
    assert (signed.intensity, signed.trained) == (UNIT, SIGNED)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_level_of_the_schedule_gives_its_whole_number(dtype):
    prior = build("eps", World())
    index = torch.arange(0, 1000, 7)
    assert torch.equal(prior.time(SIGMAS[index].to(dtype)), index.double())
    halfway = (SIGMAS[500] * SIGMAS[501]).sqrt()
    assert float(prior.time(halfway[None])) == pytest.approx(500.5)
    ends = torch.tensor([1e-9, 0.0, 1e9])
    assert prior.time(ends).tolist() == [0, 0, 999]


def test_nearest_level_is_an_integer_and_close():
    times = []
    world = World()

    def network(x: Tensor, t: Tensor) -> Tensor:
        times.append(t)
        return world.eps(x, t)

    prior = FromEps(network, ALPHAS, levels="nearest")
    x = torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()
    s = torch.full((2,), 0.3456, dtype=torch.float64)
    error = (prior(x, 0.3456) - world.clean(x, s)).norm() / world.clean(x, s).norm()
    assert times[0].dtype == torch.int64
    assert times[0].shape == (2,)
    assert error < 5e-3


def test_learned_variance_is_dropped_and_sides_are_padded():
    seen = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        return torch.cat([torch.ones_like(x), torch.full_like(x, 99)], dim=1)

    prior = FromEps(network, ALPHAS, channels=3, multiple=8)
    x = torch.zeros(2, 3, 9, 16)
    assert torch.equal(prior(x, 0.5), torch.full_like(x, -0.5))
    assert seen == [(2, 3, 16, 16)]


def test_padding_repeats_the_edge_where_reflection_is_impossible():
    prior = FromX0(lambda x, t: x, ALPHAS, multiple=16)
    x = torch.rand(1, 1, 3, 2)
    torch.testing.assert_close(prior(x, 1e-6), x)


def test_network_keeps_its_precision_and_the_image_its_own():
    network = torch.nn.Conv2d(1, 1, 1, bias=False)
    torch.nn.init.ones_(network.weight)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = network

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            assert x.dtype == t.dtype == torch.float32
            return self.conv(x)

    prior = FromX0(Net(), ALPHAS)
    assert prior(torch.ones(1, 1, 4, 4, dtype=torch.float64), 0.1).dtype == torch.float64
    assert prior.to("cpu") is prior


def test_gradients_pass_through():
    world = World(SIGNED)
    prior = build("v", world, trained=SIGNED)
    x = torch.rand(1, 1, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    direction = torch.rand(1, 1, SIDE, SIDE, dtype=torch.float64)
    (got,) = torch.autograd.grad((prior(x, 0.4) * direction).sum(), x)
    gain = world.spectrum / (world.spectrum + 0.16)
    wanted = torch.fft.ifft2(torch.fft.fft2(direction) * gain).real
    torch.testing.assert_close(got, wanted, rtol=DOUBLE, atol=DOUBLE)


def test_faults_are_named():
    with pytest.raises(ConfigError, match="trained range is 1"):
        FromScore(lambda x, s: x, trained=(1.0, 1.0))
    with pytest.raises(ConfigError, match="noise range"):
        FromScore(lambda x, s: x, sigma_min=3.0, sigma_max=1.0)
    for bad in (ALPHAS.flip(0), ALPHAS[None], ALPHAS[:1], torch.tensor([1.0, 0.5])):
        with pytest.raises(ConfigError, match="alphas_cumprod"):
            FromEps(lambda x, t: x, bad)
    with pytest.raises(ConfigError, match="flow times"):
        FromFlow(lambda x, t: x, t_min=0.0)
    prior = FromEps(lambda x, t: x[:, :, ::2], ALPHAS, name="half")
    with pytest.raises(ShapeError, match=r"'half'.*\(1, 1, 4, 8\).*\(1, 1, 8, 8\)"):
        prior(torch.zeros(1, 1, 8, 8), 0.1)
