"""RED-diff's laws: order of levels, fixed points, reductions, Adam, items, volumes, operators, refusals."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, DivergenceError
from restore.noise import Gaussian, PreLogPoisson
from restore.operators.ct.beer_lambert import BeerLambert
from restore.operators.diagonal import Diagonal, Identity
from restore.operators.image.clipping import Clipping
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.operators.nonlinear import NonlinearOperator
from restore.priors.analytic import GaussianPrior
from restore.priors.base import Denoiser
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.base import Planned
from restore.samplers.dds import DDS
from restore.samplers.reddiff import REDdiff
from restore.samplers.toolbox.levels import place

DOUBLE = 1e-8  # float64: forty Adam steps, each a quotient by a root
NEIGHBOURHOOD = 0.05  # an optimiser with a finite step length stops in the neighbourhood
SAMPLED = 0.15  # a deviation over some hundred draws of a fixed seed
SINGLE = 1e-4  # float32: Adam's quotients over some steps
FITTED = 0.01  # Adam's step length at the end
RECOVERED = 2e-3  # an oracle's truth but for the last steps' length
UNSEEN = 1e-6  # where no data are nothing moves; float32
SLOPE = 1e-3  # a difference quotient, whose step is the error

SIDE = 16
PUBLISHED = REDdiff.configured("published", Identity, {})


class Still(Draws):
    """Noise of zero: its mean."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed, ())

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        return torch.zeros_like(x)


def white(channels: int | None = None) -> GaussianPrior:
    shape = (SIDE, SIDE) if channels is None else (channels, SIDE, SIDE)
    return GaussianPrior(torch.full(shape, 0.5, dtype=torch.float64), spectrum=0.2)


def images(count: int, seed: int = 1, *, complex_: bool = False) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    parts = torch.randn(2, count, SIDE, SIDE, generator=g, dtype=torch.float64)
    return torch.complex(parts[0], parts[1]) if complex_ else parts[0]


def run(sampler: REDdiff, problem: Problem, prior: Denoiser, seed: int = 0) -> Tensor:
    adapter = ImagePrior(prior, problem.item_shape, problem.operator.is_complex)
    return list(sampler.steps(problem, adapter, Draws(seed, problem.ids)))[-1].x0


# --- weights and levels


def test_orders():
    problem = Problem(images(2), Identity((SIDE, SIDE)))

    def visited(order, seed=0):
        prior = ImagePrior(white(), problem.item_shape, complex_=False)
        sampler = REDdiff(n_steps=12, order=order)
        return [s.sigma for s in sampler.steps(problem, prior, Draws(seed, problem.ids))]

    down = visited("descending")
    assert down == sorted(down, reverse=True)
    assert visited("ascending") == down[::-1]
    mixed = visited("random")
    assert sorted(mixed) == down[::-1]
    assert mixed not in (down, down[::-1])
    assert mixed == visited("random")
    assert mixed != visited("random", seed=1)


# --- fixed points on a Gaussian prior


def stored_problem(arrays, dense, name: str) -> tuple[Problem, GaussianPrior, dict[str, Tensor]]:
    p, g = arrays("gaussian_posterior/prior"), arrays(f"gaussian_posterior/{name}")
    problem = Problem(g["y"], dense(g["A"], (SIDE, SIDE)))
    return problem, GaussianPrior(p["mean"].reshape(SIDE, SIDE), spectrum=p["S"]), g


@pytest.mark.traces("name", "gaussian_posterior", "op_*")
def test_the_expected_gradient_vanishes_at_the_stored_fixed_points(name, arrays, dense):
    problem, prior, g = stored_problem(arrays, dense, name)
    weights = [k.removeprefix("reddiff_mu_") for k in g if k.startswith("reddiff_mu_")]
    assert {"linear", "sqrt", "square", "log", "trunc_linear", "const"} <= set(weights)
    for weight in weights:
        mu = g[f"reddiff_mu_{weight}"].reshape(SIDE, SIDE)
        sampler = dataclasses.replace(PUBLISHED, weight=weight, reduction="official")
        adapter = ImagePrior(prior, problem.item_shape, complex_=False)
        gradient = sampler.gradient_of(problem, adapter, Still())
        total = sum(gradient(mu, level)[1] for level in sampler.levels())
        data = dataclasses.replace(sampler, lam=0.0).gradient_of(problem, adapter, Still())(
            mu, place(0, 1, 1.0)
        )
        assert float(total.norm() / (1000 * data[1].norm())) < DOUBLE, weight


@pytest.mark.parametrize("weight", ["const", "trunc_linear"])
def test_a_long_run_in_random_order_ends_at_the_fixed_point(weight, arrays, dense):
    problem, prior, g = stored_problem(arrays, dense, "op_sr2")
    sampler = dataclasses.replace(
        PUBLISHED, weight=weight, order="random", lr=0.05, lr_decay=1.0, beta2=0.999
    )
    adapter = ImagePrior(prior, problem.item_shape, complex_=False)
    mu = list(sampler.steps(problem, adapter, Still()))[-1].x0.flatten()
    wanted = g[f"reddiff_mu_{weight}"]
    offset = wanted - prior.mean.flatten()
    assert float((mu - wanted).norm() / offset.norm()) < NEIGHBOURHOOD


# --- the gradient's two terms


def gradient_at(sampler: REDdiff, problem: Problem, x: Tensor, sigma: float = 0.3) -> Tensor:
    adapter = ImagePrior(white(), problem.item_shape, problem.operator.is_complex)
    return sampler.gradient_of(problem, adapter, Still())(x, place(0, 1, sigma))[1]


@pytest.mark.parametrize("std", [0.01, 0.5])
def test_sigma_weight_is_the_precision_and_unit_where_the_noise_is_unknown(std):
    x, operator = images(2), Downsample((SIDE, SIDE), 2, "area", torch.empty(0).double())
    y = operator(images(2, 5))
    unit = dataclasses.replace(PUBLISHED, reduction="sum", lam=0.0)
    sigma = dataclasses.replace(unit, data_weight="sigma")
    plain = gradient_at(unit, Problem(y, operator, Gaussian(std)), x)
    torch.testing.assert_close(plain, operator.adjoint(operator(x) - y))
    got = gradient_at(sigma, Problem(y, operator, Gaussian(std)), x)
    torch.testing.assert_close(got, plain / std**2)
    torch.testing.assert_close(gradient_at(sigma, Problem(y, operator), x), plain)


@pytest.mark.parametrize("std", [0.01, 0.5])
def test_annealed_weight_does_not_depend_on_the_units_of_the_measurement(std):
    x, truth, sigma = images(2), images(2, 5), 0.3
    sampler = REDdiff(lam=0.0)

    def at(scale: float) -> Tensor:
        operator = Diagonal(torch.tensor(scale, dtype=torch.float64), (SIDE, SIDE))
        problem = Problem(operator(truth), operator, Gaussian(scale * std))
        return gradient_at(sampler, problem, x, sigma)

    torch.testing.assert_close(at(1e3), at(1.0))
    share = sigma**2 / (sigma**2 + std**2)  # weight "const": all over sigma
    torch.testing.assert_close(at(1.0), share / sigma * (x - truth))


def test_reductions(generator):
    operator = Downsample((SIDE, SIDE), 2, "area", torch.empty(0).double())
    x, y = images(3), operator(images(3, 5))
    problem, pixels = Problem(y, operator), SIDE * SIDE
    data, prior = (
        gradient_at(dataclasses.replace(PUBLISHED, reduction="sum", **off), problem, x)
        for off in ({"lam": 0.0}, {"obs_weight": 0.0})
    )
    mean = gradient_at(PUBLISHED, problem, x)
    torch.testing.assert_close(mean, 4 * data + prior)
    official = gradient_at(dataclasses.replace(PUBLISHED, reduction="official"), problem, x)
    torch.testing.assert_close(official, mean / (3 * pixels))


def test_means_count_real_numbers():
    mask = torch.ones(SIDE)
    operator = MultiCoilMRI.single_coil(mask, (SIDE, SIDE)).to(torch.float64)
    x = images(2, complex_=True)
    problem = Problem(operator(images(2, 5, complex_=True)), operator)
    mean, official = (
        gradient_at(dataclasses.replace(PUBLISHED, reduction=r), problem, x)
        for r in ("mean", "official")
    )
    torch.testing.assert_close(official, mean / (2 * 2 * SIDE * SIDE))


def test_mean_and_official_agree_once_eps_is_in_the_same_units():
    problem = Problem(images(1), Identity((SIDE, SIDE)))
    mean = dataclasses.replace(PUBLISHED, n_steps=20, eps=1e-3)
    official = dataclasses.replace(mean, reduction="official", eps=1e-3 / SIDE**2)
    torch.testing.assert_close(run(mean, problem, white()), run(official, problem, white()))


def test_noise_of_x0_enters_data_and_prior():
    problem = Problem(images(1), Identity((SIDE, SIDE)))
    sampler = dataclasses.replace(PUBLISHED, n_steps=3, sigma_x0=0.1, result="x0")
    plain = dataclasses.replace(sampler, sigma_x0=0.0)
    adapter = ImagePrior(white(), problem.item_shape, complex_=False)
    first, last = (list(s.steps(problem, adapter, Draws(0, ("0",)))) for s in (sampler, plain))
    spread = float((first[0].x0 - last[0].x0).std())
    assert spread == pytest.approx(0.1, rel=SAMPLED)


# --- the optimiser


@pytest.mark.parametrize("complex_", [False, True])
def test_adam_is_torchs_on_real_and_imaginary_parts(complex_):
    kind = torch.complex128 if complex_ else torch.float64
    operator = Diagonal(torch.ones(1, dtype=kind), (SIDE, SIDE))
    problem = Problem(images(2, complex_=complex_), operator)
    sampler = dataclasses.replace(PUBLISHED, n_steps=8, beta1=0.8, beta2=0.95, eps=1e-4)
    adapter = ImagePrior(white(), problem.item_shape, complex_)
    got = list(sampler.steps(problem, adapter, Draws(0, problem.ids)))
    mu = problem.degraded.clone()
    leaf = torch.view_as_real(mu) if complex_ else mu
    adam = torch.optim.Adam([leaf], lr=0.1, betas=(0.8, 0.95), eps=1e-4)
    gradient = sampler.gradient_of(problem, adapter, Draws(0, problem.ids))
    for step in got:
        g = gradient(mu, place(step.i, step.n, step.sigma))[1]
        leaf.grad = torch.view_as_real(g) if complex_ else g
        adam.step()
        torch.testing.assert_close(step.x0, mu)


def test_the_rate_falls_at_the_end():
    problem = Problem(images(1), Identity((SIDE, SIDE)))
    adapter = ImagePrior(white(), problem.item_shape, complex_=False)
    sampler = REDdiff(n_steps=10, lr=0.2, lr_decay=0.4)
    rates = [s.info["lr"] for s in sampler.steps(problem, adapter, Still())]
    assert rates[:6] == [0.2] * 6
    wanted = [0.1 * (1 + math.cos(math.pi * k / 5)) for k in (1, 2, 3, 4)]
    assert rates[6:] == pytest.approx(wanted)


def test_steps_are_in_units_of_the_image():
    """An image ten times as bright, with a prior for such images, takes the same path ten times as far."""

    class Scaled(Denoiser):
        def __init__(self, factor: float) -> None:
            self.factor, self.inner = factor, white()

        def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            return self.factor * self.inner(x / self.factor, sigma / self.factor)

    truth, operator = images(2), Inpainting(torch.ones(SIDE, SIDE).tril(), (SIDE, SIDE))

    def restored(factor: float) -> Tensor:
        problem = Problem(operator(factor * truth), operator, Gaussian(0.05 * factor))
        levels = {"sigma_start": 0.3 * factor, "sigma_end": 0.01 * factor}
        return run(REDdiff(n_steps=20, **levels), problem, Scaled(factor))

    torch.testing.assert_close(restored(10.0), 10 * restored(1.0), rtol=SINGLE, atol=SINGLE)


@pytest.mark.parametrize("complex_", [False, True])
def test_newton_of_the_whole_way_is_dds_with_fresh_noise(complex_):
    """Adam's gradient times the inverse of I + w A^H Lambda A, so that lr 1 lands on the proximal point."""
    if complex_:
        operator = MultiCoilMRI.single_coil(torch.arange(SIDE) % 2 == 0, (SIDE, SIDE))
        operator = operator.to(torch.float64)
    else:
        operator = Inpainting(torch.ones(SIDE, SIDE).double().tril(), (SIDE, SIDE))
    problem = Problem(operator(images(2, complex_=complex_)), operator, Gaussian(0.05))
    walk = {"n_steps": 6, "sigma_start": 0.4, "sigma_end": 0.02, "cg_iters": 10, "turns": False}
    newton = REDdiff(optimiser="newton", lam=0.25, lr=1.0, lr_decay=0.0, **walk)
    adapter = ImagePrior(white(), problem.item_shape, complex_)
    dds = list(DDS(gamma=4.0, **walk).steps(problem, adapter, Draws(0, problem.ids)))[-1].x0
    torch.testing.assert_close(run(newton, problem, white()), dds, rtol=DOUBLE, atol=DOUBLE)


def test_newton_is_for_linear_operators_and_weighs_by_noise():
    problem = Problem(images(1).abs(), Clipping((SIDE, SIDE)), Gaussian(0.05))
    with pytest.raises(ConfigError, match=r"is not linear.*optimiser=adam"):
        run(REDdiff(optimiser="newton"), problem, white())
    with pytest.raises(ConfigError, match="needs data_weight 'annealed' and lam above 0"):
        REDdiff(optimiser="newton", lam=0.0)


def test_tuned_presets_of_scans_are_for_linear_operators():
    linear = Planned("ct", "", frozenset({"linear"}))
    assert REDdiff.configured("tuned", linear, {}).optimiser == "newton"
    assert REDdiff.configured("tuned", Planned("ct"), {}).optimiser == "newton"
    assert REDdiff.configured("tuned", Planned("ct", "", frozenset()), {}) == REDdiff()


def test_the_last_images_are_averaged():
    problem = Problem(images(1), Identity((SIDE, SIDE)), Gaussian(0.1))
    adapter = ImagePrior(white(), problem.item_shape, complex_=False)
    plain = REDdiff(n_steps=10, lr_decay=0.0)
    each, tail = (
        [step.x0 for step in s.steps(problem, adapter, Draws(0, ("0",)))]
        for s in (plain, dataclasses.replace(plain, average=0.3))
    )
    assert all(torch.equal(a, b) for a, b in zip(each[:8], tail[:8], strict=True))
    torch.testing.assert_close(tail[-1], torch.stack(each[-3:]).mean(0))


# --- items, volumes, complex images


@pytest.mark.parametrize(
    "sampler",
    [
        REDdiff(n_steps=15, order="random"),
        dataclasses.replace(PUBLISHED, n_steps=15, sigma_x0=0.01),
        dataclasses.replace(PUBLISHED, n_steps=15, reduction="sum", data_weight="sigma", lam=40.0),
    ],
    ids=["tuned-random", "published-mean", "sigma-sum"],
)
def test_an_item_does_not_see_its_company(sampler):
    mask = torch.arange(SIDE) % 2 == 0
    operator = MultiCoilMRI.single_coil(mask, (SIDE, SIDE)).to(torch.float64)
    size = torch.tensor([1.0, 30.0, 0.01], dtype=torch.float64).reshape(3, 1, 1)
    y = operator(size * images(3, complex_=True))
    whole = run(sampler, Problem(y, operator, Gaussian(0.05)), white())
    for k in range(3):
        alone = run(sampler, Problem(y[k : k + 1], operator, Gaussian(0.05), ids=(str(k),)), white())  # fmt: skip
        torch.testing.assert_close(alone[0], whole[k], rtol=DOUBLE, atol=DOUBLE)


def test_the_official_mean_lets_the_batch_in():
    problem = Problem(images(3), Identity((SIDE, SIDE)))
    official = dataclasses.replace(PUBLISHED, n_steps=15, reduction="official", eps=1e-4)
    alone = run(official, Problem(problem.y[:1], problem.operator), white())
    whole = run(official, problem, white())
    assert float((alone[0] - whole[0]).norm() / alone.norm()) > 1e-3


def test_a_volume_is_one_variable_whose_slices_pass_in_chunks(watched):
    operator = Inpainting(torch.ones(SIDE, SIDE).tril(), (SIDE, SIDE))
    problem = Problem(operator(images(7)), operator, Gaussian(0.05))
    sampler, sizes = REDdiff(n_steps=6), []
    for chunk in (2**20, 2 * SIDE * SIDE):
        seen = watched(white())
        adapter = ImagePrior(seen, problem.item_shape, complex_=False)
        adapter._chunk = chunk
        steps = list(sampler.steps(problem, adapter, Draws(0, problem.ids)))
        assert steps[-1].evaluations == 6
        sizes.append(([len(x) for x in seen.inputs], steps[-1].x0))
    assert sizes[0][0] == [7] * 6
    assert sizes[1][0] == [2, 2, 2, 1] * 6
    torch.testing.assert_close(sizes[0][1], sizes[1][1])


@pytest.mark.parametrize("complex_", [False, True])
def test_an_oracle_recovers_the_truth(complex_, oracle):
    truth = 3 * images(2, complex_=complex_)
    mask = torch.rand(SIDE, generator=torch.Generator().manual_seed(2)) < 0.4
    if complex_:
        operator = MultiCoilMRI.single_coil(mask, (SIDE, SIDE)).to(torch.float64)
    else:
        operator = Inpainting(mask.double().expand(SIDE, SIDE), (SIDE, SIDE))
    problem = Problem(operator(truth), operator, Gaussian(0.05))
    errors = []
    for steps in (100, 400):  # the steps are finite, and shrink with their number
        settings = {"turns": False, "n_steps": steps}
        found = run(REDdiff.configured("tuned", type(operator), settings), problem, oracle(truth))
        errors.append(float((found - truth).norm() / truth.norm()))
    assert errors[1] < 1e-3
    assert errors[1] <= errors[0] / 2


def test_without_data_the_image_drifts_to_the_prior_mean():
    operator = Inpainting(torch.zeros(SIDE, SIDE, dtype=torch.float64), (SIDE, SIDE))
    problem = Problem(operator(images(2)), operator, Gaussian(0.05))
    adapter = ImagePrior(white(), problem.item_shape, complex_=False)
    found = list(REDdiff(n_steps=200, sigma_start=1.0).steps(problem, adapter, Still()))[-1].x0
    torch.testing.assert_close(found, torch.full_like(found, 0.5), rtol=0, atol=FITTED)


# --- weights near zero


def test_a_start_that_noise_blew_up_is_not_kept(generator):
    """Own weights of 0 to 1: the smallest turn noise into pixels of 70, which Adam's hundred steps did not leave."""
    weights = torch.rand(SIDE, SIDE, generator=generator).double()
    weights[2, 3], weights[5, 6] = 1e-4, 3e-5
    truth = 0.5 + 0.2 * images(1)
    y = weights * truth
    y[0, 2, 3], y[0, 5, 6] = 0.02, -0.015  # noise alone
    problem = Problem(y, Diagonal(weights, (SIDE, SIDE)), Gaussian(0.01))
    assert float(problem.degraded.abs().max()) > 100
    found = run(REDdiff(turns=False), problem, white())
    assert float((found - truth).abs().max()) < 2
    zeros = run(REDdiff(turns=False, start="zeros"), problem, white())
    assert float((found - zeros).abs().max()) < 0.2


# --- non-linear operators


def test_a_saturated_image_comes_back(oracle, generator):
    truth = torch.rand(2, SIDE, SIDE, generator=generator, dtype=torch.float64)
    operator = Clipping((SIDE, SIDE))
    problem = Problem(operator(truth), operator, Gaussian(0.01))
    found = run(REDdiff(turns=False, sigma_start=1.0), problem, oracle(truth))
    assert float((found - truth).norm() / truth.norm()) < RECOVERED
    low = truth < 0.5
    data_only = run(REDdiff(turns=False, lam=0.0), problem, oracle(truth))
    torch.testing.assert_close(data_only[low], truth[low])
    assert float((data_only[~low] - 0.5).abs().max()) < UNSEEN


def test_counts_are_restored(generator):
    projector = Diagonal(0.5 + torch.rand(SIDE, SIDE, generator=generator).double(), (SIDE, SIDE))
    operator, truth = BeerLambert(projector, 1e4), images(2).abs() / 3
    problem = Problem(operator(truth), operator, PreLogPoisson())
    found = run(REDdiff(n_steps=60), problem, white())
    assert float((found - truth).norm() / truth.norm()) < NEIGHBOURHOOD


def test_the_curvature_of_a_non_linear_operator_is_measured():
    @dataclasses.dataclass(frozen=True, eq=False, repr=False)
    class Curved(NonlinearOperator):
        weight: Tensor

        @property
        def in_shape(self) -> tuple[int, ...]:
            return (SIDE, SIDE)

        @property
        def out_shape(self) -> tuple[int, ...]:
            return (SIDE, SIDE)

        def _apply(self, x: Tensor) -> Tensor:
            return self.weight * x

    weight = torch.ones(SIDE, SIDE, dtype=torch.float64)
    weight[0, 0] = 5.0
    x, y = images(2), images(2, 5)
    sampler = REDdiff(lam=0.0)
    linear, curved = Diagonal(weight, (SIDE, SIDE)), Curved(weight)
    wanted = gradient_at(sampler, Problem(y, linear, Gaussian(0.1)), x)
    torch.testing.assert_close(
        gradient_at(sampler, Problem(y, curved, Gaussian(0.1)), x), wanted, rtol=SLOPE, atol=SLOPE
    )


# --- refusals


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weight": "linaer"}, "weight must be one of.*did you mean 'linear'"),
        ({"order": "downward"}, "order"),
        ({"schedule": "cosine"}, "schedule"),
        ({"data_weight": "noise"}, "data_weight"),
        ({"reduction": "max"}, "reduction"),
        ({"start": "noise"}, "start"),
        ({"result": "both"}, "result"),
        ({"lr_unit": "two"}, "lr_unit"),
        ({"lam": -1.0}, "lam"),
        ({"obs_weight": math.inf}, "obs_weight"),
        ({"sigma_x0": math.nan}, "sigma_x0"),
        ({"lr": 0.0}, "lr"),
        ({"eps": 0.0}, "eps"),
        ({"beta1": 1.0}, "beta1"),
        ({"beta2": -0.1}, "beta2"),
        ({"lr_decay": 1.5}, "lr_decay"),
        ({"average": -0.1}, "average"),
        ({"reduction": "mean"}, "'annealed' needs reduction 'sum'"),
        ({"n_steps": 0}, "n_steps"),
        ({"n_steps": 0, "schedule": "continuous"}, "n_steps"),
        ({"n_steps": 1001, "schedule": "vp"}, "n_steps"),
        ({"sigma_end": 0.0}, "sigma_end"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        REDdiff(**settings)


def test_a_nan_names_the_step():
    class Broken(Denoiser):
        calls = 0

        def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            self.calls += 1
            return x * (math.nan if self.calls == 3 else 1.0)

    problem = Problem(images(1), Identity((SIDE, SIDE)))
    with pytest.raises(DivergenceError, match="step 3 of 5"):
        run(REDdiff(n_steps=5), problem, Broken())
