"""The Gaussian start: what images are like, measured; the posterior mean under it, against dense algebra; skipping."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.front_door import solve
from restore.noise import Gaussian
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior
from restore.priors.edm import build_unet_denoiser
from restore.priors.image_prior import ImagePrior
from restore.priors.image_spectrum import ImageSpectrum, measured_images
from restore.priors.store import load_denoiser, read_card, save_prior
from restore.priors.unet import UNetConfig
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.dds import DDS
from restore.samplers.diffpir import DiffPIR
from restore.samplers.pigdm import PiGDM
from restore.samplers.toolbox.gaussian_start import gaussian_mean

DENSE = 1e-8  # float64: CG to a residual of 1e-12 on a system of condition some 100
SAMPLED = 0.1  # a power by band of forty images of 64 x 64, of a fixed seed
PRINTED = 1e-3  # a card keeps four digits

SIDE = 8
TABLE = ImageSpectrum(0.4, 0.1, (0.01, 0.05, 0.2, 0.5), (20.0, 1.0, 0.05, 0.001))


def prior(mean: float = 0.4) -> GaussianPrior:
    return GaussianPrior(
        torch.full((SIDE, SIDE), mean).double(), spectrum=TABLE.covariance((SIDE, SIDE))
    )


def dense(linear) -> Tensor:
    """The matrix of a map of images."""
    eye = torch.eye(SIDE * SIDE, dtype=torch.complex128).reshape(-1, SIDE, SIDE)
    return torch.stack([linear(e).flatten() for e in eye], 1)


def covariance(centred: bool) -> Tensor:
    c = TABLE.covariance((SIDE, SIDE), centred=centred)
    return dense(lambda v: torch.fft.ifft2(torch.fft.fft2(v) * c))


@pytest.mark.parametrize("kind", ["inpaint", "mri"])
def test_the_start_is_the_posterior_mean_of_dense_algebra(kind):
    g = torch.Generator().manual_seed(1)
    if kind == "inpaint":
        known = (torch.rand(SIDE, SIDE, generator=g) < 0.4).double()
        operator, mean = Inpainting(known, (SIDE, SIDE)), 0.4
        y = known * torch.rand(2, SIDE, SIDE, generator=g, dtype=torch.float64)
        matrix = dense(lambda e: operator(e.real).to(e))
        real = True
    else:
        maps = torch.randn(3, SIDE, SIDE, generator=g, dtype=torch.complex128)
        operator, mean = MultiCoilMRI(maps, torch.rand(SIDE, generator=g) < 0.5), 0.0
        y = operator(torch.randn(2, SIDE, SIDE, generator=g, dtype=torch.complex128))
        matrix, real = dense(operator), False
    problem = Problem(y, operator, Gaussian(0.1))
    found = gaussian_mean(
        problem, ImagePrior(prior(), (SIDE, SIDE), complex_=not real), 1.0, iters=300, tol=1e-12
    )
    # complex: any phase, so around zero with the mean's power in the covariance
    c = covariance(centred=real)
    precision = torch.as_tensor(problem.precision).to(torch.complex128)
    normal = torch.eye(SIDE * SIDE) + precision * c @ matrix.mH @ matrix
    for image, data in zip(found, y, strict=True):
        m = torch.full((SIDE * SIDE,), mean, dtype=torch.complex128)
        right = m + precision * c @ (matrix.mH @ data.to(torch.complex128).flatten())
        wanted = torch.linalg.solve(normal, right).reshape(SIDE, SIDE)
        wanted = wanted.real if real else wanted
        torch.testing.assert_close(image, wanted.to(image), rtol=0, atol=DENSE)


def test_a_table_is_measured_and_gives_the_power_back():
    side, count = 64, 40
    white = ImageSpectrum(0.3, 0.05, TABLE.frequencies, TABLE.power)
    law = GaussianPrior(torch.full((side, side), 0.3), spectrum=white.covariance((side, side)))
    images = list(law.sample(count, torch.Generator().manual_seed(2)))
    found = measured_images(images)
    assert found.mean == pytest.approx(0.3, abs=3 * 0.05 / count**0.5)
    ratio = found.covariance((side, side)) / white.covariance((side, side))
    assert float(ratio[1:, 1:].log().square().mean().sqrt()) < SAMPLED
    variance = torch.stack(images).sub(0.3).square().mean()
    assert float(found.covariance((side, side)).mean()) == pytest.approx(
        float(variance), rel=SAMPLED
    )
    around_zero = found.covariance((side, side), centred=False)[0, 0]
    assert float(around_zero) == pytest.approx(side**2 * (found.level_std**2 + found.mean**2))


def test_a_card_keeps_the_table(tmp_path):
    model = build_unet_denoiser(UNetConfig(1, (8,), (1,)), name="small")
    assert not model.knows_images
    model.image_spectrum = TABLE
    save_prior(tmp_path / "small.safetensors", model, {"licence": "none"})
    found = load_denoiser(tmp_path / "small.safetensors")
    assert found.knows_images
    assert found.image_spectrum == TABLE
    card = json.loads((tmp_path / "small.json").read_text())
    assert card["image_spectrum"]["mean"] == pytest.approx(TABLE.mean, rel=PRINTED)


@pytest.mark.parametrize("name", ["natural", "medical"])
def test_bundled_denoisers_know_their_images(name):
    table = ImageSpectrum.from_card(read_card(name)["image_spectrum"])
    assert 0.1 < table.mean < 0.6
    assert table.power[0] > 1000 * table.power[-1]  # as pictures are: about 1/f^2
    assert 0.1 < float(table.covariance((128, 128)).mean()) ** 0.5 < 0.4


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"frequencies": (0.1,), "power": (1.0,)}, "two or more"),
        ({"frequencies": (0.2, 0.1), "power": (1.0, 1.0)}, "rising"),
        ({"frequencies": (0.1, 0.2), "power": (1.0, 0.0)}, "above zero"),
        ({"frequencies": (0.1, 0.2), "power": (1.0, math.inf)}, "above zero"),
        ({"level_std": -0.1}, "zero or more"),
    ],
)
def test_tables_that_make_no_sense_are_refused(table, said):
    with pytest.raises(ConfigError, match=said):
        dataclasses.replace(TABLE, **table)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([torch.rand(1, 32, 32)], "two images"),
        ([torch.rand(1, 8, 8)] * 2, "16 pixels"),
        ([torch.zeros(1, 16, 16)] * 2, "not constant"),
    ],
)
def test_images_that_tell_nothing_are_refused(images, said):
    with pytest.raises(ConfigError, match=said):
        measured_images(images)


# --- chains


def case() -> tuple[Problem, Tensor]:
    g = torch.Generator().manual_seed(3)
    truth = prior().sample(3, g)[:, 0]
    known = (torch.rand(SIDE, SIDE, generator=g) < 0.4).double()
    y = known * (truth + 0.05 * torch.randn(truth.shape, generator=g, dtype=torch.float64))
    return Problem(y, Inpainting(known, (SIDE, SIDE)), Gaussian(0.05)), truth


@pytest.mark.parametrize("cls", [DDS, DiffPIR, PiGDM])
def test_a_chain_skips_levels_and_begins_at_the_mean(cls):
    problem, _ = case()
    whole = cls(n_steps=10, sigma_start=2.0)
    sampler = dataclasses.replace(whole, start="gaussian", skip=0.3)
    assert [v.sigma for v in sampler.levels()] == [v.sigma for v in whole.levels()[3:]]
    assert sampler.cost() == 7
    images = ImagePrior(prior(), (SIDE, SIDE), complex_=False)
    steps = list(sampler.steps(problem, images, Draws(0, problem.ids)))
    assert images.evaluations == 7
    assert steps[-1].n == 7
    start = sampler.begun(problem, Draws(0, problem.ids), sampler.levels()[0], images)
    n = Draws(0, problem.ids).normal_like(problem.y, 2)
    mean = gaussian_mean(problem, images, sampler.levels()[0].sigma)
    torch.testing.assert_close(start, mean + sampler.levels()[0].sigma * n)


def test_on_the_gaussian_itself_few_steps_from_its_mean_beat_as_many_from_the_degraded_image():
    problem, _ = case()
    images = ImagePrior(prior(), (SIDE, SIDE), complex_=False)
    exact = gaussian_mean(problem, images, 1.0, iters=300, tol=1e-12)
    errors = {}
    for start in ("degraded", "gaussian"):
        sampler = DDS(n_steps=3, sigma_start=0.1, gamma=1.0, start=start)
        *_, last = sampler.steps(problem, images, Draws(0, problem.ids))
        errors[start] = float((last.x0 - exact).norm())
    assert errors["gaussian"] < 0.5 * errors["degraded"]


def test_priors_that_do_not_know_their_images_are_refused():
    problem, _ = case()
    blind = GaussianPrior(
        torch.zeros(SIDE, SIDE).double(), covariance=torch.eye(SIDE * SIDE).double()
    )
    with pytest.raises(ConfigError, match="restore train gaussian"):
        solve(problem.y, problem.operator, noise=0.05, prior=blind, sampler="dds", start="gaussian")


@pytest.mark.parametrize(
    ("cls", "settings", "said"),
    [
        (DDS, {"skip": 0.2}, "start=gaussian"),
        (DDS, {"skip": 1.0, "start": "gaussian"}, "skip must lie in"),
        (DiffPIR, {"start": "gaussian", "renoise": False}, "another start"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(cls, settings, said):
    with pytest.raises(ConfigError, match=said):
        cls(**settings)
