"""Guided samplers on a Gaussian prior, where every rule is an affine map a step.

Three comparisons: stored conditional expectations at single noise levels; the mean and the variances that each rule
reaches after a thousand ancestral steps, its bias included, stored as the result of a moment recursion; and, for short
chains on other grids, a recursion with dense matrices that stands here.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.priors.analytic import GaussianMixture, GaussianPrior
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.samplers.dps import DPS
from restore.samplers.exact import Exact
from restore.samplers.pigdm import PiGDM
from restore.samplers.toolbox.moments import correction, posterior_moments

DOUBLE = 1e-9  # float64: solutions and sums of 256 pixels; 1e-12 seen
SCORE = 1e-6  # float64, divided by sigma squared, 1e-4 at the least; 1e-12 seen
PROBES = 0.02  # a mean over random probes of a fixed seed; 3e-4 of 0.08 seen
SAMPLED = 0.05  # deviations over samples of a fixed seed

SIDE, PIXELS = 16, 256
KINDS = ("inpaint", "blur", "sr2")

CHAIN = {
    "n_steps": 1000, "schedule": "vp", "start": "noise", "eta": 1.0, "noise_rule": "ddim", "turns": False,
}  # fmt: skip
RULES: dict[str, Sampler] = {
    "exact": Exact(**CHAIN, reverse="plain", cg_iters=40),
    "trace": Exact(**CHAIN, reverse="plain", covariance="isotropic", cg_iters=40),
    "pigdm": PiGDM(**CHAIN, rule="posterior", prior_std=1.0, w=1.0),
    "first_order": DPS(**CHAIN, guidance="likelihood", zeta=1.0),
    "dps_const_0.5": DPS(**CHAIN, guidance="square", zeta=0.5),
}


@dataclasses.dataclass
class Case:
    """A stored posterior with the operator of the package that has the same matrix up to the order of its rows."""

    kind: str
    operator: LinearOperator
    y: Tensor
    stored: dict[str, Tensor]
    prior: dict[str, Tensor]

    @property
    def std(self) -> float:
        return float(self.stored["sigma_y"])

    def problem(self, items: int) -> Problem:
        return Problem(self.y.expand(items, *self.y.shape), self.operator, Gaussian(self.std))

    def images(self, problem: Problem) -> ImagePrior:
        mean = self.prior["mean"].reshape(SIDE, SIDE)
        return ImagePrior(
            GaussianPrior(mean, spectrum=self.prior["S"]), problem.item_shape, complex_=False
        )

    def relative(self, got: Tensor, wanted: Tensor) -> float:
        """Error in units of the posterior mean's distance from the prior's."""
        scale = (self.stored["post_mean"] - self.prior["mean"]).norm()
        return float((got - wanted).norm() / scale)


def build(kind: str, arrays) -> Case:
    g, p = arrays(f"gaussian_posterior/op_{kind}"), arrays("gaussian_posterior/prior")
    square = (SIDE, SIDE)
    operator: LinearOperator
    if kind == "inpaint":
        operator = Inpainting(g["A"].sum(0).reshape(square), square)
        y = (g["A"].mT @ g["y"]).reshape(square)
    elif kind == "sr2":
        operator = Downsample(square, 2, "area", torch.empty(0, dtype=torch.float64))
        y = g["y"].reshape(SIDE // 2, SIDE // 2)
    else:
        kernel = g["A"][:, 0].reshape(square).roll((SIDE // 2, SIDE // 2), (0, 1))
        operator, y = Blur(kernel, square, "circular"), g["y"].reshape(square)
    eye = torch.eye(PIXELS, dtype=torch.float64).reshape(-1, *square)
    gram = operator.normal(eye).flatten(1)
    torch.testing.assert_close(gram, g["A"].mT @ g["A"], rtol=0, atol=DOUBLE)
    return Case(kind, operator, y, g, p)


@pytest.fixture(params=KINDS)
def case(request, arrays) -> Case:
    return build(request.param, arrays)


class Silent(Draws):
    """No noise, so that an affine chain follows its mean.

    With `probes` every second draw is a point: on a circulant prior its Rayleigh quotient is the trace, exactly.
    """

    def __init__(self, probes: bool) -> None:
        super().__init__(0, ())
        self.probes, self.calls = probes, 0

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        self.calls += 1
        n = torch.zeros_like(x)
        if self.probes and self.calls % 2 == 0:
            n[..., 3, 5] = 1
        return n


class Antithetic(Draws):
    """The second half of the items gets the negated noise of the first: an affine chain's mean is then exact."""

    def __init__(self, pairs: int, probes: bool = False) -> None:
        super().__init__(5, [str(k) for k in range(pairs)])
        self.point = Silent(probes)

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        point = self.point.normal_like(x, item_ndim)
        if bool(point.any()):
            return point
        half = super().normal_like(x[: len(x) // 2], item_ndim)
        return torch.cat([half, -half])


def final(case: Case, sampler: Sampler, draws: Draws, items: int = 1) -> Tensor:
    problem = case.problem(items)
    with torch.no_grad():
        *_, last = sampler.steps(problem, case.images(problem), draws)
    return last.x0.flatten(1)


# ---------------------------------------------------------------------------------------------
# Single noise levels


def test_conditional_expectations_at_stored_states(case):
    problem, alpha_bar = case.problem(1), case.prior["alphas_cumprod"]
    images, g = case.images(problem), case.stored
    for k, t in enumerate(g["t_list"].tolist()):
        a = float(alpha_bar[t]) ** 0.5
        s = (1 - a**2) ** 0.5
        x = g["x_t"][k].reshape(1, SIDE, SIDE) / a
        moments = posterior_moments(images, x, s / a)
        torch.testing.assert_close(moments.x0.flatten(), g["x0_given_xt"][k], rtol=0, atol=DOUBLE)
        shift = correction(
            problem, moments, moments.x0, inner=moments.covariance,
            precision=case.std**-2, cg_iters=80,
        )  # fmt: skip
        found = (moments.x0 + shift).flatten()
        torch.testing.assert_close(found, g["x0_given_xt_y"][k], rtol=0, atol=DOUBLE)
        score = g["grad_log_py_given_xt"][k]
        torch.testing.assert_close(shift.flatten() * a / s**2, score, rtol=SCORE, atol=SCORE)


def test_covariance_of_a_mixture(arrays):
    """P is sigma^2 times the derivative of the denoiser for any prior; symmetric because the prior is exact."""
    g = arrays("gaussian_posterior/gmm")
    shape = (2, 4)
    mixture = GaussianMixture(g["means"].reshape(-1, *shape), g["variances"], g["weights"])
    images, eye = ImagePrior(mixture, shape, complex_=False), torch.eye(8, dtype=torch.float64)
    for k, t in enumerate(g["t_list"].tolist()):
        a = g["alphas_cumprod"][t] ** 0.5
        sigma = float((1 - a**2) ** 0.5 / a)
        x = (g["x"][k] / a).reshape(1, *shape).expand(8, *shape)
        moments = posterior_moments(images, x, sigma)
        torch.testing.assert_close(moments.x0[0].flatten(), g["x0_mean"][k], rtol=0, atol=DOUBLE)
        rows = moments.covariance(eye.reshape(8, *shape)).flatten(1)
        torch.testing.assert_close(rows, g["x0_cov"][k], rtol=0, atol=DOUBLE)


def test_mean_variance_is_found_by_random_probes_item_by_item(case):
    problem = case.problem(400)
    x = torch.zeros(problem.image_shape, dtype=torch.float64)
    moments, sigma = posterior_moments(case.images(problem), x, 0.5), 0.5
    draws = Draws(2, problem.ids)
    found = moments.mean_variance(draws.normal_like(x, 2), 2)
    assert found.shape == (400, 1, 1)
    wanted = (sigma**2 * case.prior["S"] / (case.prior["S"] + sigma**2)).mean()
    assert float(found.mean()) == pytest.approx(float(wanted), rel=PROBES)
    assert float(found.std()) < 0.2 * float(wanted)


# ---------------------------------------------------------------------------------------------
# A thousand ancestral steps: the stored bias of every rule

QUICK = [("inpaint", "first_order"), ("blur", "dps_const_0.5")]
PAIRS = [(k, r) for k in KINDS for r in RULES if (k, r) != ("blur", "first_order")]
MARKED = [p if p in QUICK else pytest.param(*p, marks=pytest.mark.slow) for p in PAIRS]


@pytest.mark.parametrize(("kind", "rule"), MARKED)
def test_mean_after_a_thousand_steps(arrays, kind, rule):
    case = build(kind, arrays)
    found = final(case, RULES[rule], Silent(probes=rule == "trace"))[0]
    assert case.relative(found, case.stored[f"mean_{rule}"]) < SCORE


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rule"), PAIRS)
def test_variance_after_a_thousand_steps(arrays, kind, rule):
    """Within Monte-Carlo error: 100 independent pairs, whose differences are normal."""
    case, pairs = build(kind, arrays), 100
    sampler = RULES[rule]
    if isinstance(sampler, Exact) and sampler.covariance == "exact":
        sampler = dataclasses.replace(sampler, cg_iters=20)
    x = final(case, sampler, Antithetic(pairs, probes=rule == "trace"), 2 * pairs)
    ours = x[:pairs].sub(x.mean(0)).square().mean(0)
    wanted = case.stored[f"var_{rule}"]
    scale = 3 * float((2 * (case.stored["post_cov"] ** 2).sum() / pairs).sqrt())
    assert abs(float(ours.sum() - wanted.sum())) < scale
    assert float((ours / wanted).sqrt().mean()) == pytest.approx(1, abs=SAMPLED)


@pytest.mark.slow
def test_first_order_guidance_diverges_where_the_noise_is_small(arrays):
    """Stiff: (1 - s'^2/s^2) s^2 J A^T A J / sigma_y^2 > 2 for some mode."""
    case = build("blur", arrays)
    assert "mean_first_order" not in case.stored
    found = final(case, RULES["first_order"], Silent(probes=False))[0]
    assert case.relative(found, case.stored["post_mean"]) > 1e6


# ---------------------------------------------------------------------------------------------
# Short chains against dense matrices

SHORT = {"n_steps": 10, "sigma_start": 8.0, "sigma_end": 0.02, "start": "noise", "turns": False}
PLAIN = {**SHORT, "eta": 1.0, "noise_rule": "ddim"}
SHORT_RULES: dict[str, Sampler] = {
    "exact": Exact(**PLAIN, reverse="plain", cg_iters=30),
    "exact, ddim 0.6": Exact(**(PLAIN | {"eta": 0.6}), reverse="plain", cg_iters=30),
    "trace": Exact(**PLAIN, reverse="plain", covariance="isotropic", cg_iters=30),
    "pigdm": PiGDM(**PLAIN, rule="posterior", prior_std=0.7),
    "pigdm published": PiGDM(**PLAIN, rule="published", prior_std=1.0, w=0.8),
    "pigdm, ddnm": PiGDM(**(PLAIN | {"noise_rule": "ddnm", "eta": 0.8}), rule="posterior"),
    "dps square": DPS(**PLAIN, guidance="square", zeta=0.01),
    "dps relative": DPS(**(PLAIN | {"noise_rule": "ddnm"}), guidance="relative", zeta=0.7),
    "dps likelihood": DPS(**PLAIN, guidance="likelihood", zeta=0.01),
}


def guidance_matrix(sampler: Sampler, case: Case, matrix: np.ndarray, s: float, s_next: float):
    """Tweedie gain J, G with the estimate xh + G (y - A xh), and L with the state raised by L (y - A xh)."""
    c, eye = case.prior["C"].numpy(), np.eye(PIXELS)
    j = np.linalg.solve(c + s**2 * eye, c).T
    noise, rows = case.std**2, np.eye(len(matrix))
    none = np.zeros((PIXELS, len(matrix)))
    if isinstance(sampler, Exact):
        p = s**2 * j
        q = p if sampler.covariance == "exact" else np.trace(p) / PIXELS * eye
        return j, p @ matrix.T @ np.linalg.inv(matrix @ q @ matrix.T + noise * rows), none
    if isinstance(sampler, PiGDM):
        r2 = (sampler.prior_std * s) ** 2 / (sampler.prior_std**2 + s**2)
        raised = j @ matrix.T @ np.linalg.inv(r2 * matrix @ matrix.T + noise * rows)
        if sampler.rule == "posterior":
            return j, sampler.w * s**2 * raised, none
        return j, none, sampler.w * r2 * raised
    assert isinstance(sampler, DPS)
    vp = ((1 + s**2) * (1 + s_next**2)) ** 0.5
    weight = {
        "square": 2 * vp,
        "relative": np.linalg.norm(matrix, 2) ** -2,
        "likelihood": (s**2 - s_next**2) / noise,
    }[sampler.guidance]
    return j, none, sampler.zeta * weight * j @ matrix.T


def predicted(case: Case, sampler: Sampler):
    """Mean and covariance of the result of a short chain."""
    eye = torch.eye(PIXELS, dtype=torch.float64).reshape(-1, SIDE, SIDE)
    matrix = case.operator(eye).flatten(1).mT.numpy()
    y, m, unit = case.y.numpy().ravel(), case.prior["mean"].numpy(), np.eye(PIXELS)
    sigmas = [v.sigma for v in sampler.levels()]
    mean, covariance = np.zeros(PIXELS), sigmas[0] ** 2 * unit
    for s, s_next in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        j, estimate, state = guidance_matrix(sampler, case, matrix, s, s_next)
        offset = m - j @ m  # xh = j x + offset
        x0 = j - estimate @ matrix @ j
        x0_offset = offset + estimate @ (y - matrix @ offset)
        k = sampler.eta * ((1 - (s_next / s) ** 2) ** 0.5 if sampler.noise_rule == "ddim" else 1)
        kept = s_next * (1 - k**2) ** 0.5 / s
        step = (1 - kept) * x0 + kept * unit - state @ matrix @ j
        shift = (1 - kept) * x0_offset + state @ (y - matrix @ offset)
        mean = step @ mean + shift
        covariance = step @ covariance @ step.T + (s_next * k) ** 2 * unit
    return mean, covariance


@pytest.mark.parametrize("kind", ["inpaint", "sr2"])
@pytest.mark.parametrize("rule", SHORT_RULES)
def test_short_chains_have_the_predicted_mean_and_spread(arrays, kind, rule):
    case, sampler, pairs = build(kind, arrays), SHORT_RULES[rule], 150
    mean, covariance = (torch.as_tensor(v) for v in predicted(case, sampler))
    probes = rule == "trace"
    assert case.relative(final(case, sampler, Silent(probes))[0], mean) < SCORE
    if isinstance(sampler, Exact):
        return  # their spread is measured in test_exact.py
    x = final(case, sampler, Antithetic(pairs, probes), 2 * pairs)
    ours = x[:pairs].sub(x.mean(0)).square().mean(0)
    scale = 3 * float((2 * (covariance**2).sum() / pairs).sqrt())
    assert abs(float(ours.sum() - covariance.trace())) < scale
    ratio = (ours / covariance.diagonal()).sqrt()
    assert float(ratio.mean()) == pytest.approx(1, abs=SAMPLED)
