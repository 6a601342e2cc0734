"""Exact inversion: what goes up comes down again, on exact priors and on a network; and where it ends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.priors.analytic import GaussianMixture, GaussianPrior
from restore.priors.store import load_prior
from restore.samplers.toolbox.inversion import (
    bdia_down,
    bdia_up,
    edict_down,
    edict_up,
    inverted,
)
from restore.samplers.toolbox.levels import NoiseLevel, geometric

EXACT = (
    1e-9  # float64: forty steps, the rounding of each grown by 1/0.93 a step in EDICT; 2e-15 seen
)
NETWORK = 1e-6  # the same with a network in float32 inside, whose answers may jump by its rounding; 6e-16 seen
FLOW = 0.02  # of the code's norm, what forty steps of BDIA leave; 0.0014 seen, of order 1 0.03
SIDE = 16


def mixture() -> GaussianMixture:
    g = torch.Generator().manual_seed(1)
    means = torch.rand(3, SIDE, SIDE, generator=g, dtype=torch.float64)
    return GaussianMixture(means, torch.tensor([0.02, 0.05, 0.1]).double(), torch.ones(3).double())


def asking(prior):
    def predict(z: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            zh = prior(z, level.told)
        return zh, (z - zh) / level.sigma

    return predict


def clean() -> Tensor:
    return mixture().sample(2, torch.Generator().manual_seed(2))


def grid(steps: int, high: float = 2.0) -> list[float]:
    return geometric(steps + 1, high, 0.01)[::-1]


def round_trip(rule: str, predict, z: Tensor, sigmas: list[float]) -> Tensor:
    if rule == "bdia":
        return bdia_down(predict, *bdia_up(predict, z, sigmas), sigmas)
    return edict_down(predict, *edict_up(predict, z, sigmas), sigmas)[0]


@pytest.mark.parametrize("steps", [2, 10, 40])
@pytest.mark.parametrize("rule", ["bdia", "edict"])
def test_what_goes_up_comes_down(rule, steps):
    predict, z, sigmas = asking(mixture()), clean(), grid(steps)
    found = round_trip(rule, predict, z, sigmas)
    torch.testing.assert_close(found, z, rtol=0, atol=EXACT)


def test_ddim_does_not_come_back():
    """The same ten steps downward, e taken from the upper level."""
    predict, z, sigmas = asking(mixture()), clean(), grid(10)
    x = inverted(predict, z, sigmas, "ddim")
    for s, lower in zip(sigmas[:0:-1], sigmas[-2::-1], strict=True):
        zh, e = predict(x, NoiseLevel(0, 1, s, lower, s))
        x = zh + lower * e
    assert (x - z).abs().max() > 0.01


@pytest.mark.parametrize("rule", ["bdia", "edict"])
def test_a_network_is_inverted_as_exactly(rule):
    z = 0.4 + 0.2 * torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    found = round_trip(rule, asking(load_prior("medical")), z.double(), grid(8))
    torch.testing.assert_close(found, z.double(), rtol=0, atol=NETWORK)


@pytest.mark.parametrize("rule", ["ddim", "bdia", "edict"])
def test_every_rule_ends_where_the_flow_does(rule):
    """A Gaussian, whose flow scales every mode by the ratio of its deviations."""
    f = torch.fft.fftfreq(SIDE, dtype=torch.float64)
    spectrum = 0.02 / (0.02 + f[:, None] ** 2 + f**2)
    prior = GaussianPrior(torch.full((SIDE, SIDE), 0.5).double(), spectrum=spectrum)
    z, sigmas = prior.sample(2, torch.Generator().manual_seed(4)), grid(40)
    low, high = sigmas[0], sigmas[-1]
    gain = ((spectrum + high**2) / (spectrum + low**2)).sqrt()
    wanted = 0.5 + torch.fft.ifft2(torch.fft.fft2(z - 0.5) * gain).real
    found = inverted(asking(prior), z, sigmas, rule)
    coarse = {"ddim": 10 * FLOW, "edict": 10 * FLOW, "bdia": FLOW}[rule]  # BDIA is of order 2
    assert (found - wanted).norm() < coarse * wanted.norm()
