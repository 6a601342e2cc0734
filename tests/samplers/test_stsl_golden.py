"""STSL with PSLD's settings against the released code's chains, and its trace estimator on a mixture, in float64.

The stored chains preserve variance: z here is z_stored * sqrt(1 + sigma^2), and stored gradients are with respect to
z_stored. Variants of which no chain is stored are compared with a twin in those coordinates, written below from the
published steps and itself compared with the stored chains.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.operators.base import LinearOperator
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.priors.analytic import GaussianMixture
from restore.priors.image_prior import ImagePrior
from restore.priors.latent import LatentModel, LatentPrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.stsl import STSL
from restore.samplers.toolbox.levels import NoiseLevel, latent, place, scaled_linear_alphas_cumprod
from restore.samplers.toolbox.surrogate import Surrogate

DOUBLE = 1e-8  # float64: up to 1000 steps, sums over 768 pixels, a gradient; 2e-10 seen
PRINTED = 5e-8  # eight digits after the point are printed; 4e-9 seen

IMAGE = (3, 16, 16)
CODE = (4, 8, 8)
# name: operator, steps, eta, deviation of the noise in the loss, omega, gamma
VARIANTS = {
    "inp_S50": ("inp", 50, 0.0, 0.0, 1.0, 0.1),
    "inp_S1000": ("inp", 1000, 0.0, 0.0, 1.0, 0.1),
    "blur_S100_eta1": ("blur", 100, 1.0, 0.0, 1.0, 0.1),
    "sr4_S50_noisyloss": ("sr4", 50, 0.0, 0.05, 1.0, 0.1),
    "sr4_S4_to_end": ("sr4", 4, 0.0, 0.0, 1.0, 0.1),
    "blur_S4_noisy_eta": ("blur", 4, 0.7, 0.05, 0.1, 0.01),
    "inp_S100_no_glue": ("inp", 100, 0.0, 0.0, 0.9, 0.0),
}


def close(got: Tensor, wanted: Tensor, tolerance: float = DOUBLE) -> None:
    error = float((got.flatten() - wanted.flatten()).norm() / wanted.norm())
    assert error <= tolerance, error


class AnalyticLatents(LatentModel):
    """Codes N(0, C) with a spectrum, decoder x = v + sin(v)/10 of v = W z / k, encoder k W^T x."""

    def __init__(self, w: Tensor, spectrum: Tensor, k: float) -> None:
        self.w, self.spectrum, self.k = w, spectrum, k
        self.seen: list[tuple[Tensor, float]] = []

    def encode(self, x: Tensor) -> Tensor:
        return (self.k * x.flatten(1) @ self.w).reshape(-1, *CODE)

    def decode(self, z: Tensor) -> Tensor:
        v = z.flatten(1) @ self.w.mT / self.k
        return (v + 0.1 * torch.sin(v)).reshape(-1, *IMAGE)

    def denoise(self, z: Tensor, sigma: float | Tensor) -> Tensor:
        assert isinstance(sigma, float)
        self.seen.append((z.detach(), sigma))
        gain = self.spectrum / (self.spectrum + sigma**2)
        return torch.fft.ifft2(torch.fft.fft2(z) * gain).real


def model_of(g: dict[str, Tensor]) -> AnalyticLatents:
    return AnalyticLatents(g["W_dec"], g["S"], float(g["scale"]))


class Unprojected(Inpainting):
    """The released code's noise lies on hidden pixels too and counts in its loss, where ours sets them to zero."""

    def project(self, y: Tensor) -> Tensor:
        return y


def operator_of(kind: str, mask: Tensor) -> LinearOperator:
    if kind == "inp":
        return Unprojected(mask.reshape(1, 16, 16), IMAGE)
    if kind == "sr4":
        return Downsample(IMAGE, 4, "area", torch.empty(0, dtype=torch.float64))
    offset = torch.arange(16, dtype=torch.float64) - 8
    line = torch.exp(-(offset**2) / (2 * 1.2**2))
    kernel = line[:, None] * line
    return Blur(kernel / kernel.sum(), IMAGE, "circular")


def sampler_of(n_steps: int, eta: float, noisy: float, omega: float, gamma: float) -> STSL:
    settings = {
        "n_steps": n_steps,
        "eta_ddim": eta,
        "noisy_loss": noisy,
        "lam": omega,
        "gamma": gamma,
    }
    return STSL.configured("published-psld", LinearOperator, settings)  # fmt: skip


def vp(z: Tensor, sigma: float) -> Tensor:
    return z / (1 + sigma**2) ** 0.5


# ---------------------------------------------------------------------------------------------
# The twin: one step of PSLD in variance-preserving coordinates.


class Twin:
    def __init__(self, g: dict[str, Tensor], kind: str) -> None:
        self.model, self.operator, self.kind = model_of(g), operator_of(kind, g["mask"]), kind
        self.abar, self.y = g["alphas_cumprod"], g["y"]

    def eps(self, z: Tensor, t: int) -> Tensor:
        abar = self.abar[min(t, 999)]
        share = (1 - abar).sqrt() / (abar * self.model.spectrum + 1 - abar)
        return torch.fft.ifft2(torch.fft.fft2(z) * share).real

    def back(self, y: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(y, scale_factor=4) if self.kind == "sr4" else y

    def error(
        self, z: Tensor, t: int, a_t: Tensor, m: Tensor | float, omega: float, gamma: float
    ) -> Tensor:
        zh = (z - (1 - a_t).sqrt() * self.eps(z, t)) / a_t.sqrt()
        x = self.model.decode(zh)
        seen = self.operator(x)
        glued = self.back(self.y) + x - self.back(seen)
        return omega * (seen + m - self.y).norm() + gamma * (self.model.encode(glued) - zh).norm()

    def step(self, z: Tensor, at: dict[str, Any], n: Tensor | None, m: Tensor | float) -> Tensor:
        a_t, a_p, eta = at["a_t"], at["a_prev"], at["eta"]
        s = eta * ((1 - a_p) / (1 - a_t) * (1 - a_t / a_p)).sqrt()
        e = self.eps(z, at["t"])
        zh = (z - (1 - a_t).sqrt() * e) / a_t.sqrt()
        ahead = a_p.sqrt() * zh + (1 - a_p - s**2).sqrt() * e + (0 if n is None else s * n)
        leaf = z.clone().requires_grad_()
        with torch.enable_grad():
            error = self.error(leaf, at["t"], a_t, m, at["omega"], at["gamma"])
            (gradient,) = torch.autograd.grad(error, leaf)
        return ahead - gradient


def places(n_steps: int, abar: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Time told to the network, alpha-bar and the next alpha-bar, by the released sampler's rule."""
    skip = 1000 // n_steps
    told = np.arange(0, 1000, skip) + 1
    index = told if skip > 1 else told - 1
    after = np.concatenate([[0], index[:-1]])
    for t, k, p in list(zip(told, index, after, strict=True))[::-1]:
        yield int(t), abar[int(k)], abar[int(p)]


def noises_of(
    g: dict[str, Tensor], stochastic: bool, noisy: Tensor | None, steps: int
) -> list[Tensor]:
    found = [g["z_T"]]
    for i in range(steps):
        found += [g["ddim_noise"][i]] if stochastic else []
        found += [noisy[i]] if noisy is not None else []
    return found


# ---------------------------------------------------------------------------------------------


@pytest.mark.traces("chain", "psld", "psld_*")
def test_published_chains(arrays, replay, chain):
    """Chains that are not stored are those of the twin below."""
    g, case = arrays(f"psld/{chain}"), chain.removeprefix("psld_")
    kind, n_steps, eta, noisy, *_ = VARIANTS.get(case, VARIANTS["inp_S50"])
    kind = case.split("_")[0]
    sampler = sampler_of(n_steps, eta, noisy, float(g["omega"]), float(g["gamma"]))
    if n_steps == 1000:
        sampler = STSL.configured("published-psld", LinearOperator, {"official_offset": True})
    assert sampler.eta_ddim == float(g["eta"])
    model, operator = model_of(g), operator_of(kind, g["mask"])
    problem, prior = Problem(g["y"], operator), LatentPrior(model, IMAGE)
    count = len(g["a_t"])
    stored = noises_of(
        g, eta > 0, g["meas_noise"] if noisy else None, count + 1 if count < n_steps else count
    )
    levels = sampler.levels()
    steps = sampler.steps(problem, prior, replay([*stored, *stored[-2:]]))
    for i, step in enumerate(islice(steps, count)):
        sigma = float(((1 - g["a_t"][i]) / g["a_t"][i]).sqrt())
        assert step.sigma == pytest.approx(sigma, rel=DOUBLE)
        told = float(g["alphas_cumprod"][min(int(g["t_net"][i]), 999)])
        z, told_sigma = model.seen[i]
        assert told_sigma == pytest.approx(((1 - told) / told) ** 0.5, rel=DOUBLE)
        close(vp(z, told_sigma), g["z_t"][i])
        assert step.info["loss"] == pytest.approx(float(g["total_error"][i]), rel=DOUBLE)
        assert step.evaluations == i + 1
        if step.i < step.n - 1:
            close(step.x0, g["decoded"][i])
    gradients(g, sampler, problem, levels, replay)
    last = model.decode(g["z_next"][-1])
    if count == n_steps:
        close(step.x0, last)
        return
    if not eta and not noisy:
        next(steps)
        close(vp(*model.seen[count]), g["z_next"][-1])


def gradients(
    g: dict[str, Tensor], sampler: STSL, problem: Problem, levels: list[NoiseLevel], replay
) -> None:
    """Each stored state on its own: gradient, noise and estimate, by the sampler's guide."""
    prior = LatentPrior(model_of(g), IMAGE)
    drawn = g["meas_noise"] if sampler.noisy_loss else []
    run = Surrogate(sampler, problem, prior, replay(drawn))
    for i, level in zip(range(len(g["a_t"])), levels, strict=False):
        guided = run.guide(g["z_t"][i] / level.a, level, level.next, 0)
        close(guided.push / (1 + level.next**2) ** 0.5, g["gradient"][i])
        close(guided.zh, g["z0_hat"][i])
        close(guided.e, g["eps_hat"][i])


@pytest.mark.parametrize("case", VARIANTS)
def test_every_variant_follows_the_twin(arrays, replay, generator, case):
    kind, n_steps, eta, noisy, omega, gamma = VARIANTS[case]
    g = arrays(f"psld/psld_{'sr4' if kind == 'sr4' else 'inp'}_S50")
    twin, model = Twin(g, kind), model_of(g)
    sampler = sampler_of(n_steps, eta, noisy, omega, gamma)
    if n_steps == 1000:
        sampler = STSL.configured("published-psld", LinearOperator, {"official_offset": True})
    count = min(n_steps, 4)
    m = torch.randn((count + 1, *g["y"].shape), generator=generator, dtype=torch.float64)
    g["ddim_noise"] = torch.randn((count + 1, *g["z_T"].shape), generator=generator, dtype=torch.float64)  # fmt: skip
    drawn = noises_of(g, eta > 0, m if noisy else None, count + 1)
    problem, prior = Problem(g["y"], twin.operator), LatentPrior(model, IMAGE)
    steps = list(islice(sampler.steps(problem, prior, replay(drawn)), count + 1))
    z, gains = g["z_T"], {"eta": eta, "omega": omega, "gamma": gamma}
    for i, (t, a_t, a_p) in enumerate(islice(places(n_steps, g["alphas_cumprod"]), count)):
        close(vp(*model.seen[i]), z)
        z = twin.step(z, {"t": t, "a_t": a_t, "a_prev": a_p, **gains}, g["ddim_noise"][i],
                      noisy * m[i] if noisy else 0.0)  # fmt: skip
    if count == n_steps:
        close(steps[-1].x0, model.decode(z))
    else:
        close(vp(*model.seen[count]), z)


def test_the_twin_follows_a_published_chain(arrays):
    for case in ("inp_S50", "sr4_S50"):
        g = arrays(f"psld/psld_{case}")
        twin = Twin(g, case.split("_")[0])
        for i, (t, a_t, a_p) in enumerate(islice(places(50, g["alphas_cumprod"]), 4)):
            assert (t, float(a_t), float(a_p)) == (g["t_net"][i], g["a_t"][i], g["a_prev"][i])
            at = {"t": t, "a_t": a_t, "a_prev": a_p, "eta": 0.0, "omega": 1.0, "gamma": 0.1}
            close(twin.step(g["z_t"][i], at, None, 0.0), g["z_next"][i])


def test_the_schedule_of_latent_models(arrays):
    g = arrays("psld/psld_inp_S50")
    close(scaled_linear_alphas_cumprod("sd"), g["alphas_cumprod"], DOUBLE)
    faces = scaled_linear_alphas_cumprod("ldm")
    table = {0: 0.99850000, 100: 0.82311704, 500: 0.11492200, 999: 0.00014230}
    for t, value in table.items():
        assert float(faces[t]) == pytest.approx(value, abs=PRINTED)
    levels = latent("sd", 50)
    assert (len(levels), levels[-1].next) == (50, 0.0)
    close(torch.tensor([v.a**2 for v in levels[:4]], dtype=torch.float64), g["a_t"], DOUBLE)
    offset = latent("sd", 1000, offset=True, landing=True)
    assert offset[0].told == offset[0].sigma
    assert all(low.told == high.sigma for high, low in pairwise(offset))
    assert offset[-1].next == offset[-1].sigma


# ---------------------------------------------------------------------------------------------
# The trace estimator on the stored mixture


def mixture(g: dict[str, Tensor]) -> LatentPrior:
    prior = GaussianMixture(g["means"].reshape(3, 2, 4), g["variances"], g["weights"])
    return LatentPrior(ImagePrior(prior, (2, 4), complex_=False), (2, 4))


def estimator(g: dict[str, Tensor], dense, **settings) -> Surrogate:
    operator = dense(g["A"], (2, 4))
    problem = Problem(g["y"][None], operator)
    sampler = STSL(
        data_step="none", lam=0.0, eta=8.0, trace_weight="const", cap=None, turns=False, **settings
    )
    return Surrogate(sampler, problem, mixture(g), Draws(0, ("0",)))


def level_at(g: dict[str, Tensor], i: int) -> NoiseLevel:
    abar = float(g["alphas_cumprod"][g["t_list"][i]])
    sigma = ((1 - abar) / abar) ** 0.5
    return place(0, 1, sigma)


@pytest.mark.parametrize("i", range(6))
def test_one_draw_of_the_trace_and_its_gradient(arrays, dense, replay, i):
    g = arrays("gaussian_posterior/gmm")
    run, level = estimator(g, dense, delta="paper"), level_at(g, i)
    z = g["x"][i].reshape(1, 2, 4) / level.a
    v = g["eps_one"][i].reshape(1, 2, 4)
    zh, e, trace = run.estimate(z, level, 0, v)
    close(trace, g["one_unit"][i])
    close(zh, g["x0_mean"][i])
    close(-e / level.s, g["score"][i])
    # With lam 0 and eta = d the surrogate is the estimate itself.
    run.draws = replay([v])
    guided = run.guide(z, level, level.sigma, 0)
    close(guided.loss, g["one_unit"][i])
    close(level.a * guided.push, g["one_unit_grad"][i])


@pytest.mark.parametrize("i", range(6))
def test_the_average_of_many_draws(arrays, dense, i):
    g = arrays("gaussian_posterior/gmm")
    level, count = level_at(g, i), 20000
    v = torch.as_tensor(np.random.default_rng(1).standard_normal((count, 2, 4)))
    z = (g["x"][i].reshape(1, 2, 4) / level.a).expand(count, 2, 4)
    for name, settings in [
        ("mc_unit", {"delta": "paper"}),
        ("mc_small", {"delta": "scaled", "delta_scale": float(g["delta"]) / level.s}),
    ]:
        _, _, trace = estimator(g, dense, **settings).estimate(z, level, 0, v)
        error = (trace.std() ** 2 / count + g[f"{name}_se"][i] ** 2).sqrt()
        assert abs(float(trace.mean() - g[name][i])) < 5 * float(error), name
