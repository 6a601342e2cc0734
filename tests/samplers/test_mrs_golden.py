"""MR Sampler replayed on stored noise, step by step, against the published chains; orders of convergence in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.bridges.base import Level
from restore.operators.diagonal import Identity
from restore.priors.conditional import ConditionalPrior, FromFunction
from restore.problem import Problem
from restore.samplers.mrs import MRSampler

SINGLE = 2e-5  # float32 states: some roundings of 6e-8 a step; 1.2e-6 seen
ERRORS = 2e-3  # the stored errors are differences of float64 solutions; 8e-5 of them seen
FLOOR = 1e-5  # the official interpolation in float32 leaves errors of that size; 6e-7 seen
ORDER = 0.06  # the slope between two numbers of steps; the next power is left out
PRINTED = 0.05  # two or three digits are printed; 0.25 % and 0.3 % of them seen
MARTINGALE = 1e-13  # float64: some hundred steps of products that come to a mean of one
MOMENTS = 1e-2  # moments' errors are differences of float64 chains on a float32 grid; 8e-4 seen

HEADS = {"noise": "noise", "data": "x0", "velocity": "velocity"}
ARRAYS = "timesteps", "alphas", "sigmas", "lambdas"
S_INF = 50 / 255
# The released grid is float32. Its exp rounds 1 - s^2 by 6e-8, which is 1.3e-5 of a small s (6e-7 of the largest) and
# of exp(lambda); powers of rho = 7 round t by 7 times 6e-8.
GRID = 3e-5
AMPLIFIED = 5e-5  # noise heads divide a rounding of 6e-8 by small levels; 2e-6 seen


def close(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Largest deviation relative to the largest value."""
    error = float((got.double() - wanted.double()).abs().max() / wanted.double().abs().max())
    assert error <= tolerance, error


class Network(FromFunction):
    """The stored runs' stand-in networks; keeps what it was shown."""

    def __init__(self, g: dict[str, Tensor], head: str = "x0", *, tanh: bool = False) -> None:
        super().__init__(self.tanh if tanh else self.gauss, head=head, bridge="mrs")
        self.g, self.inputs, self.levels = g, [], []

    def tanh(self, x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        self.inputs.append(x)
        self.levels.append(level)
        return (torch.tanh(2 * (x - y) + 0.3 * y - 0.01 * level.t),)

    def gauss(self, x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        """E[x0 | x_t] for x0 ~ N(m0, s^2), in float64."""
        self.inputs.append(x)
        self.levels.append(level)
        a, c, variance = level.a, level.c, float(self.g["s"]) ** 2
        m, mu, xt = self.g["m0"].double(), y.double(), x.double()
        x0 = m + variance * a / (variance * a**2 + c**2) * (xt - a * m - (1 - a) * mu)
        noise = (xt - a * x0 - (1 - a) * mu) / c
        velocity = -(c / S_INF) * (x0 - mu) + S_INF * a * noise
        answers = {"x0": x0, "noise": noise, "velocity": velocity}
        return (answers[self.head].to(x.dtype),)


def settings_of(case: str) -> dict:
    """The settings that a file's name states."""
    _, solver, parameterization, fit, grid, count, *more = case.split("_")
    settings = {
        "kind": solver[:3], "order": int(solver[3:]), "parameterization": parameterization, "grid": grid,
        "n_steps": int(count[1:]),
    }  # fmt: skip
    if "lm-3" in more:
        settings["lambda_min"] = -3.0
    if "dlast" in more:
        settings["denoise_last"] = "official"
    if "thr" in more:
        settings |= {"thresholding": True, "threshold_ratio": 0.9, "threshold_max": 1.5}
    return settings | {"fit": fit.removeprefix("fit-"), "tanh": "tanh" in more}


def run(sampler: MRSampler, network: Network, mu: Tensor, draws) -> list:
    problem = Problem(mu, Identity(tuple(mu.shape[1:])))
    prior = ConditionalPrior(network, problem.item_shape, MRSampler.intensity)
    return list(sampler.steps(problem, prior, draws))


@pytest.mark.traces("case", "mrs", "mrs_*_N*")
def test_published_chains(arrays, replay, case):
    g, settings = arrays(f"mrs/{case}"), settings_of(case)
    network = Network(g, HEADS[settings.pop("fit")], tanh=settings.pop("tanh"))
    sampler = MRSampler.configured("published", Identity, settings)
    grid = sampler.levels
    for ours, name in zip(("t", "a", "c", "lam"), ARRAYS, strict=True):
        close(torch.tensor(getattr(grid, ours), dtype=torch.float64), g[name], GRID)
    steps = run(sampler, network, g["mu"], replay([g["noise_T"], *g["step_noise"]]))
    n, tolerance = sampler.n_steps, AMPLIFIED if network.head == "noise" else SINGLE
    assert [(s.i, s.n, s.evaluations) for s in steps] == [(i, n, i + 1) for i in range(n)]
    close(network.inputs[0], g["x_T"], SINGLE)
    for i in range(n - 1):
        close(network.inputs[i + 1], g["states"][i], tolerance)
    close(steps[-1].x0, g["raw"], tolerance)
    close(g["states"][-1], g["raw"], 0)
    clipped = MRSampler.configured("published", Identity, settings | {"clip": True})
    *_, last = run(clipped, network, g["mu"], replay([g["noise_T"], *g["step_noise"]]))
    close(last.x0, g["out"], tolerance)


def test_the_grid_is_that_of_the_released_code(arrays):
    g = arrays("mrs/mrs_grid_arrays")
    grid = MRSampler.configured("published", Identity, {"n_steps": 100}).levels
    columns = (grid.t, grid.a, grid.c, grid.lam)
    t, a, c, lam = (torch.tensor(v, dtype=torch.float64).flip(0) for v in columns)
    assert torch.equal(t, g["t"].double())
    for ours, name in ((a, "alpha"), (c, "sigma"), (c / a, "ksigma"), (lam, "lam")):
        close(ours, g[name], GRID)
    for ours, name in ((a, "alpha"), (c, "sigma")):  # to the last bit but for the kernel's exp
        assert int((ours == g[name].double()).sum()) >= 75


# ---------------------------------------------------------------------------------------------
# A Gaussian prior, whose reverse ODE and SDE are solved in closed form. The stored errors are those of the published
# steps; their lambda_0 has a float32 cancellation of 6e-5, hence errors equal to 1e-3 of themselves.

BARE = {"denoise_last": "none", "lower_order": "official", "data_consistency": False}


def gaussian_end(sampler: MRSampler, g: dict[str, Tensor], noises: list[Tensor], replay) -> Tensor:
    network = Network(g, "noise" if sampler.parameterization == "noise" else "x0")
    mu = g["mu"].expand(noises[0].shape)
    first = [(g["x_T"] - g["mu"]).expand(mu.shape) / sampler.s_inf]
    return run(sampler, network, mu, replay([*first, *noises]))[-1].x0


def ode_errors(g, replay, counts, **settings) -> Tensor:
    errors = []
    for n in counts:
        sampler = MRSampler(n_steps=n, **(BARE | settings))
        end = gaussian_end(sampler, g, [torch.zeros_like(g["mu"])], replay)
        errors.append((end - g["exact_end"]).abs().max())
    return torch.stack(errors)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("parameterization", ["data", "noise"])
def test_orders_of_convergence_of_the_ode(arrays, replay, parameterization, order):
    g = arrays("mrs/convergence")
    counts = g["Ns_ode"].tolist()
    errors = ode_errors(g, replay, counts, order=order, parameterization=parameterization)
    wanted = g[f"ode_{parameterization}_order{order}"]
    torch.testing.assert_close(errors, wanted, rtol=ERRORS, atol=0)
    rates = (errors[:-1] / errors[1:]).log2()
    assert float(rates[-1]) == pytest.approx(
        min(order, 2), abs=ORDER
    )  # an order-1 start caps order 3


@pytest.mark.parametrize("grid", ["linspace", "linear-lambda", "karras-n"])
@pytest.mark.parametrize("order", [1, 2])
def test_errors_of_the_published_grids(arrays, replay, grid, order):
    g = arrays("mrs/convergence")
    counts = g[f"official_{grid}_N"].tolist()
    errors = ode_errors(g, replay, counts, order=order, grid=grid, interpolation="official")
    torch.testing.assert_close(
        errors, g[f"official_{grid}_order{order}_err"], rtol=ERRORS, atol=FLOOR
    )


def test_order_one_on_the_last_step_repairs_uniform_times(arrays, replay):
    g = arrays("mrs/convergence")
    common = {"grid": "linspace", "interpolation": "official"}
    published = ode_errors(g, replay, [5, 10, 20], **common)
    repaired = ode_errors(g, replay, [5, 10, 20], **common, lower_order="last")
    torch.testing.assert_close(
        published, torch.tensor([0.121, 0.130, 0.036]).double(), rtol=PRINTED, atol=0
    )
    torch.testing.assert_close(
        repaired, torch.tensor([0.088, 0.0010, 0.011]).double(), rtol=PRINTED, atol=0
    )


def test_the_interpolation_of_one_quantity_has_no_floor(arrays, replay):
    g = arrays("mrs/convergence")
    official = ode_errors(g, replay, [200], grid="linspace", interpolation="official")
    exact = ode_errors(g, replay, [200], grid="linspace")
    assert float(exact) < float(official) / 5


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("parameterization", ["data", "noise"])
def test_mean_and_variance_of_the_sde(arrays, replay, parameterization, order):
    """The chain is affine: its mean is the run without noise, its variance the squared answers to unit noises."""
    g = arrays("mrs/convergence")
    settings = {"kind": "sde", "order": order, "parameterization": parameterization}
    means, variances = [], []
    for n in g["Ns_sde"].tolist():
        sampler = MRSampler(n_steps=n, **(BARE | settings))
        mean, variance = moments(g, sampler, replay)
        exact_mean, exact_variance = closed_form(g, sampler)
        means.append((mean - exact_mean).abs().max())
        variances.append(abs(variance - exact_variance))
    stored = g[f"sde_{parameterization}_order{order}_mean"]
    if parameterization == "data":  # exact, the posterior mean being a martingale
        assert max(means) < MARTINGALE
    else:
        torch.testing.assert_close(torch.stack(means), stored, rtol=MOMENTS, atol=0)
    stored = g[f"sde_{parameterization}_order{order}_var"]
    torch.testing.assert_close(torch.tensor(variances).double(), stored, rtol=MOMENTS, atol=0)


def moments(g: dict[str, Tensor], sampler: MRSampler, replay) -> tuple[Tensor, float]:
    """Mean of the result given x_T, and the variance of its pixels, which is one number."""
    n = sampler.n_steps
    mean = gaussian_end(sampler, g, [torch.zeros_like(g["mu"])] * n, replay)
    pixel = {name: g[name][:1, :1, :1, :1] for name in ("mu", "x_T", "m0")} | {"s": g["s"]}
    units = torch.eye(n + 1, dtype=torch.float64)[1:].reshape(n, n + 1, 1, 1, 1)
    ends = gaussian_end(sampler, pixel, list(units), replay).flatten()
    return mean, float((ends[1:] - ends[0]).square().sum())


def closed_form(g: dict[str, Tensor], sampler: MRSampler) -> tuple[Tensor, float]:
    """Mean and variance of the exact reverse SDE at t = 0 given x_T."""
    grid, m, mu, s = sampler.levels, g["m0"], g["mu"], float(g["s"])
    (a_t, a), (c_t, c) = ((v[0], v[-1]) for v in (grid.a, grid.c))
    v_t, v = a_t**2 * s**2 + c_t**2, a**2 * s**2 + c**2
    mean = mu + a * (m - mu) + a_t / a * v / v_t * (g["x_T"] - mu - a_t * (m - mu))
    return mean, v - (a_t / a * v) ** 2 / v_t
