"""What every sampler owes its users, whoever wrote it: found through the registry, run on every operator it serves."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from restore.bridges.base import Level
from restore.errors import ConfigError, DivergenceError
from restore.front_door import prior_for, solve, solve_problem
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.diagonal import Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior, RegionGaussian
from restore.priors.base import Denoiser
from restore.priors.cascade import CascadeModel
from restore.priors.conditional import ConditionalModel, FromFunction
from restore.priors.distilled import DistilledModel, FewSteps
from restore.priors.operator_family import OperatorFamily
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.registry import check_operator, load_sampler, sampler_names
from restore.samplers.base import Sampler
from restore.time_limit import TimeLimit

RECOVERED = 2e-3  # what the last level and CG leave, not rounding; 1.4e-3 seen
NEIGHBOURHOOD = 0.05  # an optimiser with a finite step length stops there
SINGLE = 1e-4  # float32: some ten steps of sums over some hundred pixels, in units 1e4 times larger
COMPANY = (
    1e-5  # float64, but for samplers that keep float32 states: sums of a batch in another order
)
TOLD = 1e-5  # sigmas are told in float32

SIDE = 16
STD = 0.05
CHAIN = FewSteps((0.3, 0.1, 0.05), (30.0, 100.0, 300.0), (0.3, 0.2))


def operators() -> dict[str, LinearOperator]:
    g = torch.Generator().manual_seed(3)
    maps = torch.randn(4, SIDE, SIDE, generator=g, dtype=torch.complex128)
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    like = torch.empty(0, dtype=torch.float64)
    shape = (SIDE, SIDE)
    return {
        "mri": MultiCoilMRI(maps, torch.rand(SIDE, generator=g) < 0.5),
        "ct": ParallelBeamCT(ParallelBeam.covering(shape=shape, views=9), dtype=torch.float64),
        "inpaint": Inpainting((torch.rand(shape, generator=g) < 0.4).double(), shape),
        "superres": Downsample(shape, 2, "bicubic", like),
        "deblur": Blur(gaussian(1.2).double(), shape, boundary="circular"),
        "denoise": Identity(shape),
    }


OPERATORS = operators()
NAMES = [n for n in sorted(sampler_names()) if load_sampler(n).prior_kinds]


def serves(name: str, kind: str) -> bool:
    if load_sampler(name).separates and kind in ("ct", "inpaint", "superres", "deblur"):
        return False  # stripes ask for more views, and of the others no structured noise has a name
    try:
        check_operator(load_sampler(name), OPERATORS[kind])
    except ConfigError:
        return False
    return True


PAIRS = [(n, k) for n, k in itertools.product(NAMES, OPERATORS) if serves(n, k)]
ONE_EACH = [next((n, k) for n, k in PAIRS if n == name) for name in NAMES]
CLASSICAL = [("tv", "mri"), ("wavelet", "ct"), ("cgls", "ct"), ("sirt", "ct"), ("cgsense", "mri")]
TWO_EACH = [p for name in NAMES for p in [q for q in PAIRS if q[0] == name][:2]]


def second_prior(name: str, kind: str) -> dict[str, str]:
    """The structured noise that a sampler which separates it has to be told."""
    if not load_sampler(name).separates:
        return {}
    return {"second_prior": {"mri": "herringbone", "ct": "stripes"}.get(kind, "haze")}


def tuned(name: str, kind: str) -> Sampler:
    """The tuned preset; long chains are shortened, which none of these laws depends on."""
    cls, operator = load_sampler(name), OPERATORS[kind]
    sampler = cls.configured("tuned", operator, second_prior(name, kind))
    most = 60 if name == "reddiff" else 12  # an optimiser needs steps to travel
    steps = getattr(sampler, "n_steps", 1)
    fewer: dict[str, Any] = {"n_steps": most} if steps > most else {}
    if name == "redpsm":  # two frames that have nothing in common
        fewer |= {"rank": 2, "change": 0.0}
    return dataclasses.replace(sampler, **fewer)


def images(count: int, complex_: bool, seed: int = 1) -> Tensor:
    """Values far beyond 1 and below 0: nothing may clip them."""
    g = torch.Generator().manual_seed(seed)
    parts = 2 * torch.randn(2, count, SIDE, SIDE, generator=g, dtype=torch.float64)
    return torch.complex(parts[0], parts[1]) if complex_ else parts[0]


def planes(x: Tensor) -> Tensor:
    """Items as network planes (N, 1, H, W): re before im."""
    both = torch.stack([x.real, x.imag]) if x.is_complex() else x
    return both.reshape(-1, 1, SIDE, SIDE)


class Oracle(Denoiser):
    """Answers with the truth."""

    name = "oracle"

    def __init__(self, truth: Tensor) -> None:
        self.truth, self.parts = planes(truth), 2 if truth.is_complex() else 1

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        # Several states of each item: the items by turns, all re before all im. Samplers that differentiate the
        # denoiser find a Jacobian of zero.
        again = x.shape[0] // self.truth.shape[0]
        return (
            self.truth.unflatten(0, (self.parts, -1))
            .repeat(1, again, 1, 1, 1)
            .reshape(x.shape)
            .to(x)
            + 0 * x
        )


def distilled(denoiser: Denoiser) -> DistilledModel:
    """Three steps around a denoiser, for whatever operator."""
    return DistilledModel(denoiser, CHAIN, OperatorFamily("", "any task", {}, STD))


def of_kind(name: str, denoiser: Denoiser) -> Denoiser:
    """The model as the sampler wants it: distilled, one of regions, or as it is."""
    kind = load_sampler(name).prior_kinds[0]
    if kind == "region":
        denoiser.kind = kind  # type: ignore[misc]
    return distilled(denoiser) if kind == "distilled" else denoiser


class Answering(CascadeModel):
    """Steps that answer with a function of the image so far: as many as the sampler says that there are."""

    name = "answering"

    def __init__(self, cascades: int, answer: Callable[[Tensor], Tensor]) -> None:
        self.cascades, self.answer = cascades, answer

    def __call__(
        self, number: int, x: Tensor, gradient: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.answer(x - gradient), memory

    def weight(self, number: int) -> Tensor:
        return torch.tensor(0.1, dtype=torch.float64)


AnyModel = Denoiser | ConditionalModel | CascadeModel


def model_of(name: str, truth: Tensor) -> AnyModel:
    sampler = load_sampler(name)
    if sampler.prior_kinds[0] == "cascade":
        both = torch.view_as_real(truth).movedim(-1, 1)
        return Answering(sampler().cost(), lambda x: both.to(x))
    if sampler.prior_kinds[0] != "conditional":
        return of_kind(name, Oracle(truth))

    def answer(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        beyond = (x.shape[-1] - SIDE) // 2  # what a periodic operator shows of the opposite border
        return (F.pad(planes(truth), 4 * (beyond,), mode="circular").to(x),)

    return FromFunction(answer, channels=1, name="oracle")


def gaussian_model(name: str) -> AnyModel:
    mean, sampler = torch.full((SIDE, SIDE), 0.5).double(), load_sampler(name)
    kind = sampler.prior_kinds[0]
    if kind == "cascade":
        return Answering(sampler().cost(), lambda x: 0.9 * x)
    if kind == "region":
        return RegionGaussian(mean, 0.2 * torch.eye(SIDE**2).double())
    prior = GaussianPrior(mean, spectrum=0.2)
    if kind != "conditional":
        return of_kind(name, prior)

    def estimate(x: Tensor, level, y: Tensor) -> tuple[Tensor, ...]:
        if level.a == 0:
            return (0.5 + 0.5 * (y - 0.5),)
        u = (x - (1 - level.a) * y) / level.a
        return (0.5 * prior(u, level.sigma) + 0.5 * y,)

    return FromFunction(estimate, channels=1)


def run(sampler: Sampler, problem: Problem, model: AnyModel, seed: int = 0) -> list[Step]:
    with torch.no_grad():
        prior = prior_for(model, sampler, problem)
        return list(sampler.steps(problem, prior, Draws(seed, problem.ids)))


def some(name: str, count: int) -> int:
    """So many items, two at least where they are frames over time."""
    return max(count, load_sampler(name)().least_frames)


def frames_of(name: str, count: int) -> int:
    """How many frames over time so many items are to a sampler."""
    return count if load_sampler(name)().couples_frames else 1


def problem_of(
    kind: str, x: Tensor, ids: tuple[str, ...] = (), seed: int = 5, name: str = "dds"
) -> Problem:
    """A noisy measurement as a sampler takes it; the noise of an item is its own."""
    operator, noise = OPERATORS[kind], Gaussian(STD)
    names = ids or tuple(str(k) for k in range(len(x)))
    ys = [
        noise.sample(operator(v), torch.Generator().manual_seed(seed + int(n)))
        for n, v in zip(names, x, strict=True)
    ]
    y = torch.stack(ys)
    if isinstance(operator, Inpainting):
        y = y * operator.mask
    return Problem(y, operator, noise, ids=names, frames=frames_of(name, len(x)))


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_an_oracle_recovers_the_truth(name, kind):
    truth = images(2, OPERATORS[kind].is_complex)
    problem = Problem(
        OPERATORS[kind](truth), OPERATORS[kind], Gaussian(STD), frames=frames_of(name, 2)
    )
    steps = run(tuned(name, kind), problem, model_of(name, truth))
    error = float((steps[-1].x0 - truth).norm() / truth.norm())
    # An optimiser with a finite step length, or a dozen iterations of ADMM, stops in the neighbourhood.
    assert error < (NEIGHBOURHOOD if name in ("reddiff", "redpsm") else RECOVERED), error


@pytest.mark.parametrize(("name", "kind"), TWO_EACH)
def test_steps_are_numbered_and_cost_what_is_said(name, kind):
    sampler = tuned(name, kind)
    problem = problem_of(kind, images(2, OPERATORS[kind].is_complex), name=name)
    steps = run(sampler, problem, gaussian_model(name))
    assert [s.i for s in steps] == list(range(len(steps)))
    assert {s.n for s in steps} == {len(steps)}
    assert all(s.x0.shape == problem.image_shape for s in steps)
    assert all(s.x0.is_complex() == OPERATORS[kind].is_complex for s in steps)
    assert steps[-1].evaluations == sampler.cost(problem)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(*p, marks=[pytest.mark.slow] if p == ("reddiff", "ct") else [])
        for p in TWO_EACH
    ],
)
def test_a_batch_gives_what_its_items_give(name, kind):
    x = images(3, OPERATORS[kind].is_complex)
    sampler, model = tuned(name, kind), gaussian_model(name)
    if sampler.couples_slices:
        pytest.skip("couples the slices of a volume on purpose")
    whole = run(sampler, problem_of(kind, x), model)[-1].x0
    for k in (2, 0):
        alone = run(sampler, problem_of(kind, x[k : k + 1], (str(k),)), model)[-1].x0[0]
        torch.testing.assert_close(alone, whole[k], rtol=COMPANY, atol=COMPANY)


@pytest.mark.parametrize(("name", "kind"), ONE_EACH)
def test_seed_zero_is_a_seed_and_no_global_generator_is_touched(name, kind):
    problem = problem_of(kind, images(2, OPERATORS[kind].is_complex), name=name)
    sampler, model = tuned(name, kind), gaussian_model(name)
    state = torch.random.get_rng_state()
    first, second = (run(sampler, problem, model, seed=0)[-1].x0 for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(("name", "kind"), ONE_EACH)
def test_a_nan_from_the_network_stops_with_the_step_named(name, kind):
    sampler, calls = tuned(name, kind), itertools.count()

    def spoiled(x: Tensor) -> Tensor:
        return x * torch.nan if next(calls) >= 2 else x

    class Failing(Denoiser):
        def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            return spoiled(0.5 * x)

    model: AnyModel = of_kind(name, Failing())
    if type(sampler).prior_kinds[0] == "cascade":
        model = Answering(sampler.cost(), spoiled)
    if type(sampler).prior_kinds[0] == "conditional":
        model = FromFunction(lambda x, level, y: (spoiled(0.5 * y),), channels=1)
    problem = problem_of(kind, images(some(name, 1), OPERATORS[kind].is_complex), name=name)
    if sampler.cost() < 3:
        calls = itertools.count(2)
    with pytest.raises(DivergenceError, match=r"step \d+ of \d+"):
        run(sampler, problem, model)


@pytest.mark.parametrize("name", [n for n in NAMES if serves(n, "mri")])
@pytest.mark.parametrize("factor", [pytest.param(1e-4, marks=pytest.mark.slow), 1e5])
def test_a_scaled_measurement_gives_the_scaled_image(name, factor):
    problem = problem_of("mri", images(some(name, 1), complex_=True), name=name)
    model = gaussian_model(name)
    sampler = tuned(name, "mri")
    how = {"prior": model, "sampler": sampler, "frames": problem.frames}
    one = solve(problem.y, problem.operator, noise=STD, **how).image
    many = solve(factor * problem.y, problem.operator, noise=factor * STD, **how).image
    torch.testing.assert_close(
        many / factor, one, rtol=SINGLE, atol=SINGLE * float(one.abs().max())
    )


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_the_noise_range_is_what_the_denoiser_hears(name, kind):
    heard: list[float] = []

    class Listening(Denoiser):
        def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            heard.extend(torch.as_tensor(sigma).unique().tolist())
            return 0.5 * x

    sampler = tuned(name, kind)
    problem = problem_of(kind, images(some(name, 1), OPERATORS[kind].is_complex), name=name)
    if sampler.prior_kinds[0] not in ("denoiser", "region"):
        assert sampler.noise_range(problem) is None
        return
    run(sampler, problem, of_kind(name, Listening()))
    found = sampler.noise_range(problem)
    assert found is not None
    # The noise of the measurement, in single precision in some paths: 1e-6.
    assert found == pytest.approx((min(heard), max(heard)), rel=TOLD)


@pytest.mark.parametrize(("name", "kind"), [*ONE_EACH, *CLASSICAL])
def test_a_time_limit_ends_it_with_the_estimate_of_then(name, kind):
    """Of a clock on which each step takes a second: three steps in 3.5, or all where there are no more."""
    problem, seen, now = (
        problem_of(kind, images(some(name, 1), OPERATORS[kind].is_complex), name=name),
        [],
        [0.0],
    )

    def passing(step: Step) -> None:
        seen.append(step)
        now[0] += 1

    limit = TimeLimit.starting(3.5, lambda: now[0])
    prior = gaussian_model(name) if (name, kind) in ONE_EACH else None
    result = solve_problem(
        problem, prior=prior, sampler=tuned(name, kind), on_step=passing, time_limit=limit
    )
    assert len(seen) == min(3, seen[0].n)
    assert torch.equal(result.image, seen[-1].x0)
    assert result.ends[0].get("ended_after") == ([3, seen[0].n] if seen[0].n > 3 else None)
    assert bool(torch.isfinite(result.image.abs()).all())


@pytest.mark.parametrize(("name", "kind"), ONE_EACH)
def test_a_chosen_start_is_all_of_its_noise_or_is_refused(name, kind):
    sampler, model = tuned(name, kind), gaussian_model(name)
    problem = problem_of(kind, images(2, OPERATORS[kind].is_complex), name=name)
    how = {"prior": model, "sampler": sampler}
    if not sampler.takes_start or sampler.couples_slices:
        with pytest.raises(ConfigError, match="leave --start out"):
            solve_problem(problem, chosen_start="1:8", **how)
        return
    found = [
        solve_problem(problem, chosen_start=start, seed=seed, **how).image
        for seed, start in ((1, "1:8"), (2, "1:8"), (1, "2:8"))
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
