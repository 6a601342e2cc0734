"""The few steps of distilled models: their closed form, what they are kept for, what is refused and what is said."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from skimage import data as pictures
from torch import Tensor

from restore.errors import ConfigError, WeightsError
from restore.front_door import solve
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.pipelines.prior_draws import draw_from
from restore.priors.analytic import GaussianPrior
from restore.priors.distilled import DistilledModel, FewSteps
from restore.priors.edm import build_unet_denoiser
from restore.priors.operator_family import OperatorFamily
from restore.priors.store import kind_of, load_denoiser, load_prior, read_card, save_prior
from restore.priors.traits import card_traits
from restore.priors.unet import UNetConfig
from restore.problem import Problem
from restore.samplers.toolbox.smooth_start import SMOOTHNESS, smoothest

SIDE = 8
CHAIN = FewSteps((0.4, 0.2, 0.1), (5.0, 20.0, 80.0), (0.3, 0.15))
DENSE = 1e-9  # float64: products of 64 x 64 matrices against FFTs and a closed form; 1e-14 seen
CONVERGED = 1e-6  # CG, 60 steps in 64 unknowns of condition 8000, against a dense solve; 1e-9 seen
HALF = 1e-3  # weights are kept in half precision, 11 bits


def family(**change: object) -> OperatorFamily:
    made = OperatorFamily("inpaint", "inpaint:0.5", {"share of seen pixels": 0.5}, 0.0)
    return dataclasses.replace(made, **change)


def masked(share: float = 0.5, side: int = SIDE) -> Inpainting:
    g = torch.Generator().manual_seed(2)
    keep = torch.rand(side, side, generator=g)
    return Inpainting((keep < keep.flatten().quantile(share)).double(), (side, side))


def gaussian_prior() -> GaussianPrior:
    return GaussianPrior(torch.full((SIDE, SIDE), 0.5).double(), spectrum=0.2)


def dense(f, size: int = SIDE * SIDE) -> tuple[Tensor, Tensor]:
    """Matrix and offset of an affine map of images."""
    zero = f(torch.zeros(1, SIDE, SIDE, dtype=torch.float64)).flatten()
    unit = torch.eye(size, dtype=torch.float64).reshape(size, SIDE, SIDE)
    return torch.stack([f(u[None]).flatten() - zero for u in unit], dim=1), zero


def test_the_chain_is_that_of_dense_matrices():
    """On a Gaussian prior every step is affine: solved here as linear systems, with no part of the sampler."""
    operator, prior = masked(), gaussian_prior()
    truth = torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(3)).double()
    y = operator(truth)
    a, _ = dense(operator)
    eye = torch.eye(len(a), dtype=torch.float64)
    x = v = smoothest(Problem(y, operator)).flatten()
    for k in range(CHAIN.count):
        d, offset = dense(lambda p, s=CHAIN.sigmas[k]: prior(p[:, None], s)[:, 0])
        x0, w = d @ x + offset, CHAIN.weights[k]
        xh = torch.linalg.solve(eye + w * a.T @ a, x0 + w * a.T @ y.flatten())
        if k < CHAIN.count - 1:
            f = xh + CHAIN.sigmas[k + 1] / CHAIN.sigmas[k] * (x - x0)
            x, v = (1 - CHAIN.mixes[k]) * f + CHAIN.mixes[k] * v, x
    found = solve(
        y, operator, noise=0.0, prior=DistilledModel(prior, CHAIN, family()), sampler="fewstep"
    )
    torch.testing.assert_close(found.image.flatten(), xh, rtol=DENSE, atol=DENSE)
    assert [r["evaluations"] for r in found.log] == [1, 2, 3]
    assert not found.notes


@pytest.mark.parametrize("kind", ["inpaint", "superres"])
def test_the_start_is_the_smoothest_image_that_explains_the_data(kind):
    like = torch.empty(0, dtype=torch.float64)
    operator = masked() if kind == "inpaint" else Downsample((SIDE, SIDE), 2, "bicubic", like)
    y = operator(torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(4)).double())
    a, _ = dense(operator)
    step = torch.diff(torch.eye(SIDE, dtype=torch.float64), dim=0)
    one = torch.eye(SIDE, dtype=torch.float64)
    rough = torch.kron(one, step.T @ step) + torch.kron(step.T @ step, one)
    wanted = torch.linalg.solve(a.T @ a + SMOOTHNESS * rough, a.T @ y.flatten())
    found = smoothest(Problem(y, operator))
    torch.testing.assert_close(found.flatten(), wanted, rtol=CONVERGED, atol=CONVERGED)


def run(operator, model, noise: float | None = 0.0, **settings):
    g = torch.Generator().manual_seed(1)
    y = operator(torch.rand((1, *operator.in_shape), generator=g).double())
    return solve(y, operator, noise=noise, prior=model, **{"sampler": "fewstep"} | settings)


def test_models_of_another_kind_or_task_or_length_are_refused_in_a_sentence():
    model = DistilledModel(gaussian_prior(), CHAIN, family(), name="mine")
    with pytest.raises(
        ConfigError, match=r"needs a distilled prior.*'gaussian' is a denoiser.*restore distill"
    ):
        run(masked(), gaussian_prior())
    with pytest.raises(ConfigError, match=r"dds needs a denoiser prior.*'mine' is a distilled one"):
        run(masked(), model, sampler="dds")
    with pytest.raises(ConfigError, match=r"'mine' was trained for inpaint.*restore distill"):
        run(Downsample((SIDE, SIDE), 2), model)
    with pytest.raises(ConfigError, match=r"'mine' was distilled to 3 evaluations.*set to 4"):
        run(masked(), model, n_steps=4)
    three = build_unet_denoiser(UNetConfig(3, (8,), (1,), embedding=8), name="rgb")
    with pytest.raises(
        ConfigError, match=r"'mine' has 3 channels.*1 channels with `restore distill`"
    ):
        run(masked(), DistilledModel(three, CHAIN, family(), name="mine"))
    with pytest.raises(ConfigError, match="its few steps begin at a measurement"):
        draw_from(model)
    with pytest.raises(ConfigError, match="fewstep serves what its model was trained on"):
        run(masked() @ Blur(gaussian(0.5).double(), (SIDE, SIDE)), model)


def test_a_measurement_that_differs_is_told():
    model = DistilledModel(gaussian_prior(), CHAIN, family(), name="mine")
    assert not run(masked(), model).notes
    for operator, noise, words in (
        (masked(0.25), 0.0, "distilled for inpaint:0.5: share of seen pixels 0.5 and not 0.25"),
        (masked(), 0.05, "noise of 0 and not 0.05"),
        (2.0 * masked(), 0.0, "share of seen pixels 0.5, of which this operator does not speak"),
    ):
        said = " ".join(run(operator, model, noise).notes)
        assert words in said
        assert "was not made for this" in said
    noisy = DistilledModel(gaussian_prior(), CHAIN, family(noise=0.05), name="mine")
    assert not run(masked(), noisy, 0.052).notes
    assert "noise of 0.05 and not 0" in " ".join(run(masked(), noisy, 0.0).notes)


def test_operators_say_how_strong_they_are():
    block = torch.ones(16, 16)
    block[2:14, 2:14] = 0
    scattered, box = (Inpainting(m, (3, 16, 16)).strength for m in (masked(0.44, 16).mask, block))
    share, distance = "share of seen pixels", "mean distance of lost pixels"
    assert scattered[share] == pytest.approx(box[share], abs=0.01)
    assert (
        scattered[distance] < 0.6 * box[distance]
    )  # as many pixels, and nothing to fill them from
    assert Inpainting(torch.ones(4, 4), (4, 4)).strength == {share: 1.0}
    assert Downsample((16, 16), 4, "area").strength == {"factor": 4.0, "method": "area"}
    # A Gaussian of 1.5 pixels along both axes, cut where little is left: the root of two times its variance.
    width = Blur(gaussian(1.5), (32, 32)).strength["width of the kernel"]
    assert width == pytest.approx(1.5 * 2**0.5, rel=0.02)


def test_a_model_goes_to_a_file_and_back(tmp_path):
    denoiser = build_unet_denoiser(UNetConfig(1, (8,), (1,), embedding=8))
    strength = {"factor": 4.0, "method": "bicubic"}
    own = OperatorFamily("superres", "superres:4@0.01", strength, 0.01)
    path = save_prior(tmp_path / "few.safetensors", DistilledModel(denoiser, CHAIN, own), {})
    assert kind_of(path) == "distilled"
    traits, model = card_traits(path), load_prior(path)
    assert isinstance(model, DistilledModel)
    assert (model.steps, model.family, model.name) == (CHAIN, own, "few")
    assert (traits.families, traits.evaluations, traits.tasks) == ((own,), 3, ("superres",))
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x, 0.2), denoiser(x, 0.2), rtol=HALF, atol=HALF)
    with pytest.raises(WeightsError, match="DistilledModel, expected EDMDenoiser"):
        load_denoiser(path)


@pytest.mark.parametrize(
    "change",
    [
        {"few_steps": {"sigmas": [0.1, -0.1], "weights": [1, 1], "mixes": [0.3]}},
        {"few_steps": {"sigmas": [0.1, 0.1], "weights": [1, 1], "mixes": [0.01]}},
        {"few_steps": {"sigmas": [], "weights": [], "mixes": []}},
        {"few_steps": {"sigmas": [0.1], "weights": [1]}},
        {"few_steps": 3},
        {"family": {"task": "inpaint", "words": "", "strength": {"share": "x", "y": []}, "noise": 0}},
        {"family": {"task": "inpaint", "words": "", "strength": {}, "noise": "much"}},
        {"family": {"task": "inpaint", "words": "", "strength": {}, "noise": -1}},
    ],
)  # fmt: skip
def test_an_impossible_card_is_refused(tmp_path, change):
    denoiser = build_unet_denoiser(UNetConfig(1, (8,), (1,), embedding=8))
    path = save_prior(tmp_path / "few.safetensors", DistilledModel(denoiser, CHAIN, family()), {})
    card = path.with_suffix(".json")
    card.write_text(json.dumps(read_card(path) | change))
    for read in (load_prior, card_traits):
        with pytest.raises(WeightsError, match="does not describe a prior"):
            read(path)


def test_the_bundled_model_does_in_three_evaluations_what_dds_does_in_thirty():
    """On a photograph that nothing was trained on, found by itself: within 0.5 dB, and far above dds at three."""
    truth = torch.from_numpy(pictures.astronaut()[40:136, 170:266]).permute(2, 0, 1) / 255
    mask = torch.rand(96, 96, generator=torch.Generator().manual_seed(0)) < 0.3
    operator = Inpainting(mask, (3, 96, 96))

    def psnr(sampler: str, steps: int) -> float:
        y = operator(truth)
        found = solve(y, operator, noise=0.0, sampler=sampler, n_steps=steps, precision="float32")
        assert not found.notes
        return -10 * float((found.image - truth).square().mean().log10())

    few = psnr("fewstep", 3)
    assert few > psnr("dds", 30) - 0.5
    assert few > psnr("dds", 3) + 2  # which begins low, where holes are shallow


def test_there_are_bundled_models_for_colour_and_two_tasks_alone():
    for operator, words in (
        (masked(0.3, 16), "no bundled one serves.*restore distill"),
        (Blur(gaussian(1.6), (3, 16, 16)), "'natural-inpaint' was trained for inpaint"),
    ):
        with pytest.raises(ConfigError, match=words):
            solve(operator(torch.ones(operator.in_shape)), operator, noise=0.0, sampler="fewstep")
