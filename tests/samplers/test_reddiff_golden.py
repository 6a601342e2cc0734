"""RED-diff replayed on stored noise, step by step, against the published numerics.

Every stored chain of the folder is found by its name; the stored images lie in -1..1 and are taken as they are.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.operators.base import LinearOperator
from restore.operators.diagonal import Identity
from restore.operators.image.clipping import Clipping
from restore.operators.image.inpainting import Inpainting
from restore.operators.nonlinear import NonlinearOperator
from restore.priors.analytic import GaussianPrior
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.samplers.reddiff import REDdiff
from restore.samplers.toolbox.levels import place

DOUBLE = (
    1e-8  # float64: Adam's quotients over some hundred steps, noise divided by sigma; 2e-10 seen
)
GRADIENT = 1e-4  # float32: a difference of images that are close, over sigma; 6.8e-6 seen
SINGLE = 5e-3  # float32: Adam divides by the root of small squares; 5e-4 seen

SHAPE = (3, 16, 16)
KINDS = "inp_*", "sr4_*", "deblur_*", "deno_*", "hdr_*"


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got.flatten() - wanted.flatten()).norm() / wanted.norm())


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Stored(LinearOperator):
    """A stored matrix with the stored start of its chain."""

    matrix: Tensor
    first: Tensor

    @property
    def in_shape(self) -> tuple[int, ...]:
        return SHAPE

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.matrix.shape[0],)

    def _apply(self, x: Tensor) -> Tensor:
        return x.flatten(x.ndim - 3) @ self.matrix.mT

    def _adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix).reshape(*y.shape[:-1], *SHAPE)

    def _pinv(self, y: Tensor) -> Tensor:
        return self.first


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A stored chain as a problem, a prior, settings and noise."""

    stored: dict[str, Tensor]
    problem: Problem
    prior: GaussianPrior
    sampler: REDdiff
    noise: list[Tensor]
    kept: list[int]


def operator_of(name: str, g: dict[str, Tensor]) -> LinearOperator | NonlinearOperator:
    if "A" in g:
        return Stored(g["A"], g["init_pinv"])
    if name.startswith("inp"):
        return Inpainting(g["mask"][0].to(g["y"].dtype), SHAPE)
    return Clipping(SHAPE, 2.0, -1.0, 1.0) if name.startswith("hdr") else Identity(SHAPE)


def stored_noise(g: dict[str, Tensor], n: int) -> Tensor:
    if "noise" in g:
        return g["noise"]
    draws = np.random.default_rng(int(g["noise_seed"]))
    draws.standard_normal(tuple(g["y"].shape))
    return torch.as_tensor(draws.standard_normal((n, 2, 1, *SHAPE)))


def settings_of(config: dict[str, Any], n: int) -> REDdiff:
    names = {"weight": "denoise_term_weight", "lam": "grad_term_weight"}
    names |= {k: k for k in ("obs_weight", "lr", "sigma_x0")}
    published = REDdiff.configured("published", Identity, {k: config[v] for k, v in names.items()})
    return dataclasses.replace(published, n_steps=n, reduction="official")


@pytest.fixture
def case(arrays) -> Callable[[str], Case]:
    def build(name: str) -> Case:
        g = arrays(f"reddiff/{name}")
        config = ast.literal_eval(g.pop("config"))
        operator, n = operator_of(name, g), len(g["t_visited"])
        sampler, noise = settings_of(config, n), stored_noise(g, n)
        y = g["y"].reshape(1, *operator.out_shape)
        drawn = noise.flatten(0, 1) if sampler.sigma_x0 else noise[:, 1]
        prior = GaussianPrior(g["mean"][0].to(y.dtype), spectrum=g["S"])
        kept = g["kept_steps"].tolist() if "kept_steps" in g else list(range(n))
        return Case(g, Problem(y, operator), prior, sampler, list(drawn), kept)

    return build


@pytest.mark.traces("name", "reddiff", *KINDS, without="*_f32")
def test_chain(name, case, replay, watched):
    c = case(name)
    g, seen = c.stored, watched(c.prior)
    torch.testing.assert_close(c.problem.degraded, g["init_pinv"], rtol=0, atol=DOUBLE)
    images = ImagePrior(seen, SHAPE, complex_=False)
    steps = list(c.sampler.steps(c.problem, images, replay(c.noise)))
    assert len(steps) == len(g["t_visited"])
    alpha_bar = g["alphas"][g["t_visited"] + 1]
    rho = ((1 - alpha_bar) / alpha_bar).sqrt()
    for k, step in enumerate(steps):
        assert step.sigma == pytest.approx(float(rho[k]), rel=DOUBLE)
        assert step.evaluations == k + 1
    for j, k in enumerate(c.kept):
        s = steps[k].sigma
        assert relative(seen.inputs[k] / (1 + s**2) ** 0.5, g["xt"][j]) < DOUBLE
        assert relative((seen.inputs[k] - seen.outputs[k]) / s, g["eps_hat"][j]) < DOUBLE
        assert relative(steps[k].x0, g["mu_after"][j]) < DOUBLE
    assert relative(steps[-1].x0, g["out_mu"]) < DOUBLE


@pytest.mark.traces("name", "reddiff", *KINDS, without="*_f32")
def test_released_code_saves_the_image_before_the_last_step(name, case, replay):
    c = case(name)
    sampler = dataclasses.replace(c.sampler, result="x0")
    steps = list(sampler.steps(c.problem, ImagePrior(c.prior, SHAPE, False), replay(c.noise)))
    assert relative(steps[-1].x0, c.stored["out_x0_pred"]) < DOUBLE


@pytest.mark.traces("name", "reddiff", *KINDS)
def test_gradients(name, case, replay):
    c = case(name)
    g, each = c.stored, 1 + bool(c.sampler.sigma_x0)
    levels = c.sampler.levels()
    for j, k in enumerate(c.kept):
        noise = c.noise[each * k : each * (k + 1)]
        images = ImagePrior(c.prior, SHAPE, complex_=False)
        _, got = c.sampler.gradient_of(c.problem, images, replay(noise))(g["mu_before"][j], levels[k])  # fmt: skip
        assert relative(got, g["grad"][j]) < (GRADIENT if name.endswith("f32") else DOUBLE)


def test_single_precision_stays_near(case, replay):
    c = case("inp_linear_f32")
    steps = list(c.sampler.steps(c.problem, ImagePrior(c.prior, SHAPE, False), replay(c.noise)))
    for step, wanted in zip(steps, c.stored["mu_after"], strict=True):
        assert step.x0.dtype == torch.float32
        assert relative(step.x0, wanted) < SINGLE


# ---------------------------------------------------------------------------------------------
# InverseBench's variant, with and without its double scaling


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fourier(LinearOperator):
    """Masked samples of the unitary 2-D DFT of a complex image, without centring."""

    mask: Tensor

    @property
    def in_shape(self) -> tuple[int, ...]:
        return tuple(self.mask.shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return tuple(self.mask.shape)

    @property
    def is_complex(self) -> bool:
        return True

    def _apply(self, x: Tensor) -> Tensor:
        return self.mask * torch.fft.fft2(x, norm="ortho")

    def _adjoint(self, y: Tensor) -> Tensor:
        return torch.fft.ifft2(self.mask * y, norm="ortho")


def planes(x: Tensor) -> Tensor:
    return torch.stack([x.real, x.imag], dim=1)


@pytest.mark.traces("name", "reddiff", "invbench_*")
def test_inversebench(name, arrays, replay, watched):
    g = arrays(f"reddiff/{name}")
    config = ast.literal_eval(g["config"])
    weight = {"constant": "const"}.get(*[config["lambda_scheduling_type"]] * 2)
    settings = {"weight": weight, "lam": config["base_lambda"], "lr": config["base_lr"]}
    settings |= {"n_steps": len(g["noise"]), "official_double_scaling": True}
    sampler = REDdiff.configured("published-inversebench", Fourier, settings)
    problem = Problem(torch.view_as_complex(g["y"].contiguous()), Fourier(g["mask"]))
    seen = watched(GaussianPrior(torch.zeros(16, 16, dtype=torch.float64), spectrum=g["S"]))
    noise = [torch.complex(n[:, 0], n[:, 1]) for n in g["noise"]]
    images = ImagePrior(seen, (16, 16), complex_=True)
    steps = list(sampler.steps(problem, images, replay(noise)))
    torch.testing.assert_close(torch.tensor([s.sigma for s in steps], dtype=g["sigma"].dtype), g["sigma"])  # fmt: skip
    for k, step in enumerate(steps):
        assert relative(seen.inputs[k], g["net_in"][k]) < DOUBLE
        assert relative(seen.outputs[k], g["denoised"][k]) < DOUBLE
        assert relative(planes(step.x0), g["mu_after"][k]) < DOUBLE
    assert relative(planes(steps[-1].x0), g["out"]) < DOUBLE
    before = torch.zeros_like(noise[0])
    for k, step in enumerate(steps):
        fresh = ImagePrior(seen.inner, (16, 16), complex_=True)
        _, got = sampler.gradient_of(problem, fresh, replay([noise[k]]))(
            before, place(0, 1, step.sigma)
        )
        assert relative(planes(got), g["grad"][k]) < DOUBLE
        before = step.x0


def test_without_double_scaling_the_network_sees_image_plus_noise(arrays, replay, watched):
    g = arrays("reddiff/invbench_constant")
    sampler = REDdiff.configured("published-inversebench", Fourier, {"n_steps": 5})
    problem = Problem(torch.view_as_complex(g["y"].contiguous()), Fourier(g["mask"]))
    seen = watched(GaussianPrior(torch.zeros(16, 16, dtype=torch.float64), spectrum=g["S"]))
    noise = [torch.complex(n[:, 0], n[:, 1]) for n in g["noise"]]
    steps = sampler.steps(problem, ImagePrior(seen, (16, 16), complex_=True), replay(noise))
    first = next(iter(steps))
    assert relative(seen.inputs[0], first.sigma * g["noise"][0].movedim(1, 0)) < DOUBLE
