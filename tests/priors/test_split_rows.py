"""One image in strips: the answer of the whole, borders of the step before where asked for, and what is not split."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from restore.priors.analytic import GaussianPrior
from restore.priors.edm import EDMDenoiser, build_unet_denoiser
from restore.priors.split_rows import SYNCHRONOUS, SplitDenoiser
from restore.priors.spread import Planes
from restore.priors.store import load_prior
from restore.priors.unet import UNetConfig

ROUNDING = 2e-5  # float32 convolutions of other sizes, which may be summed in another order; 1e-6 seen of values near 1
SMALL = UNetConfig(1, widths=(8, 12), blocks=(1, 1), embedding=16)


def small() -> EDMDenoiser:
    """Weights that are not trained, but not zero either; it depends on 30 pixels around one."""
    prior = build_unet_denoiser(SMALL, name="small")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in prior.network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return prior


class Near:
    """A helper in this process; lost after so many answers."""

    def __init__(self, inner: EDMDenoiser, answers: int = 99) -> None:
        self.inner, self.answers, self.rows = inner, answers, list[int]()

    def ask(self, planes: Planes, sigma: float, precision: str) -> Callable[[], Planes | None]:
        self.rows.append(planes.shape[-2])
        self.answers -= 1
        lost = self.answers < 0
        return lambda: None if lost else self.inner(torch.from_numpy(planes), sigma).numpy()


@torch.no_grad()
@pytest.mark.parametrize("height", [96, 101])
def test_strips_answer_as_the_whole(height: int, generator: torch.Generator) -> None:
    prior = small()
    near, lost = Near(prior), Near(prior, answers=1)
    split = SplitDenoiser(prior, [near, lost])
    x = torch.randn(2, 1, height, 20, generator=generator)
    for sigma in (1.0, 0.5):
        torch.testing.assert_close(split(x, sigma), prior(x, sigma), rtol=0, atol=ROUNDING)
    each = -(-height // 12) * 4
    assert near.rows == [each + 2 * 24, each + 2 * 24]
    assert split.helpers == [near]  # the lost one's strip was done here
    torch.testing.assert_close(split(x, 0.4), prior(x, 0.4), rtol=0, atol=ROUNDING)
    # the third call had as many images as places
    said = "images were split among 3 places in 2 of 3 network calls and given to them whole in 1"
    assert split.remarks() == (f"{said}, 1 of them lost on the way",)
    assert copy.deepcopy(split).borders == "now"


@torch.no_grad()
def test_the_reach_of_the_bundled_network_is_that_of_its_convolutions() -> None:
    """The furthest pixel that a change of one shows at, against what is computed of the blocks."""
    prior = small()
    x = torch.zeros(1, 1, 120, 8)
    moved = x.clone()
    moved[..., 60, :] = 1.0
    changed = (prior(moved, 0.5) != prior(x, 0.5)).any(-1).flatten().nonzero().flatten()
    reach = prior.network.config.reach
    assert reach - 8 < max(60 - int(changed.min()), int(changed.max()) - 60) <= reach
    assert load_prior("medical").network.config.reach == 94


@torch.no_grad()
def test_borders_of_the_step_before_come_from_the_last_level(generator: torch.Generator) -> None:
    prior = small()
    split = SplitDenoiser(prior, [Near(prior)], "before")
    states = torch.randn(SYNCHRONOUS + 2, 1, 1, 64, 8, generator=generator)
    answers = [split(x, 1 / (k + 1)) for k, x in enumerate(states)]
    for k, x in enumerate(states[:SYNCHRONOUS]):
        torch.testing.assert_close(answers[k], prior(x, 1 / (k + 1)), rtol=0, atol=ROUNDING)
    last = len(states) - 1
    above = torch.cat([states[-1][..., :32, :], states[-2][..., 32:, :]], dim=-2)
    expected = prior(above, 1 / (last + 1))[..., :32, :]
    torch.testing.assert_close(answers[-1][..., :32, :], expected, rtol=0, atol=ROUNDING)
    assert not torch.allclose(answers[-1], prior(states[-1], 1 / (last + 1)), atol=100 * ROUNDING)
    # A second run, and several calls at a level: borders of now
    torch.testing.assert_close(split(states[0], 1.0), prior(states[0], 1.0), rtol=0, atol=ROUNDING)
    for x in states:
        torch.testing.assert_close(split(x, 0.5), prior(x, 0.5), rtol=0, atol=ROUNDING)
    torch.testing.assert_close(split(states[1], 0.1), prior(states[1], 0.1), rtol=0, atol=ROUNDING)


def test_what_cannot_be_split_is_done_as_ever_and_said(generator: torch.Generator) -> None:
    prior = small()
    near = Near(prior)
    split = SplitDenoiser(prior, [near])
    x = torch.randn(1, 1, 64, 8, generator=generator, requires_grad=True)
    split(x, 0.5).sum().backward()
    with torch.no_grad():
        split(torch.zeros(1, 1, 4, 8), 0.5)  # a strip alone
        split(torch.zeros(1, 1, 64, 8), torch.tensor([0.5]))
        assert near.rows == []
    assert "in 0 of 3 network calls: it needs a bundled U-Net, 8 rows or more" in split.remarks()[0]
    with torch.no_grad():
        split(torch.zeros(3, 1, 64, 8), 0.5)  # images one by one
    assert near.rows == [64]
    assert split.remarks()[0].endswith("in 0 of 1 network calls and given to them whole in 1")
    other = SplitDenoiser(GaussianPrior(torch.zeros(1, 16, 4), spectrum=0.1), [near])
    other(torch.zeros(1, 1, 16, 4), 0.5)
    assert "in 0 of 1 network calls" in other.remarks()[0]
