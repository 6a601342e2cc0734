"""Gradients back over wired steps: those of ordinary backpropagation to rounding, in memory that does not grow."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from restore.operators.base import LinearOperator
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.priors.distilled import FewSteps
from restore.priors.edm import build_unet_denoiser
from restore.priors.unet import UNetConfig
from restore.problem import Problem
from restore.samplers.toolbox.smooth_start import smoothest
from restore.samplers.toolbox.wired import coupled, moved, separated
from restore.solvers.differentiable_step import DifferentiableStep
from restore.solvers.proximal import data_step
from restore.training.distillation import FewStepNetwork, denoiser_around, restored
from restore.training.reversible import WiredStep, ordinary, reversibly

SIDE, SMALL = 16, (4, 4)
ROUNDING = (
    1e-12  # float64: inverses of wires and some thousand sums, of the largest value; 3e-16 seen
)
SOLVED = 1e-8  # CG from two starts in 16 unknowns of a well-conditioned system; 1e-11 seen


def steps_of(count: int) -> FewSteps:
    sigmas = tuple(0.3 * 0.6**k for k in range(count))
    return FewSteps(sigmas, tuple(2.0 + k for k in range(count)), (0.5,) * (count - 1))


def network(count: int, dtype: torch.dtype = torch.float64) -> FewStepNetwork:
    made = build_unet_denoiser(UNetConfig(1, (8, 8), (1, 1), embedding=8), seed=3).network
    g = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in (
            made.parameters()
        ):  # the ends of a fresh network are zero, and nothing would go through
            p.copy_(0.2 * torch.randn(p.shape, generator=g))
    return FewStepNetwork(made, steps_of(count)).to(dtype)


def problem(dtype: torch.dtype = torch.float64) -> Problem:
    g = torch.Generator().manual_seed(5)
    x = torch.rand(2, 1, SIDE, SIDE, generator=g, dtype=dtype)
    operator = Inpainting((torch.rand(SIDE, SIDE, generator=g) < 0.5).to(dtype), (1, SIDE, SIDE))
    return Problem(operator(x), operator)


def denoiser(net: FewStepNetwork) -> Callable[[Tensor, Tensor], Tensor]:
    prior = build_unet_denoiser(UNetConfig(1, (8, 8), (1, 1), embedding=8))
    return denoiser_around(prior, net.network)


def plain(net: FewStepNetwork, posed: Problem) -> Tensor:
    """The chain written out, with every activation kept by autograd."""
    (sigma, weight, mix), own = net.numbers(), denoiser(net)
    consistent = DifferentiableStep(posed.unweighted, 20)
    x = v = smoothest(posed)
    for k in range(len(sigma)):
        x0 = own(x, sigma[k])
        xh = consistent(x0, weight[k])
        if k == len(sigma) - 1:
            return xh
        x, v = coupled(moved(x, x0, xh, sigma[k + 1] / sigma[k]), v, mix[k]), x
    raise AssertionError


def test_a_wire_goes_there_and_back():
    g = torch.Generator().manual_seed(0)
    fx, v = torch.randn(2, 3, SIDE, generator=g, dtype=torch.float64)
    torch.testing.assert_close(separated(coupled(fx, v, 0.2), fx, 0.2), v, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_gradients_are_those_of_ordinary_backpropagation(count):
    net, posed = network(count), problem()
    (restored(net, denoiser(net), posed) - 0.5).square().sum().backward()
    found = {k: p.grad.clone() for k, p in net.named_parameters() if p.numel()}
    net.zero_grad()
    (plain(net, posed) - 0.5).square().sum().backward()
    for name, p in net.named_parameters():
        if p.numel():
            largest = float(p.grad.abs().max())
            assert largest > 0, name
            assert float((found[name] - p.grad).abs().max()) < ROUNDING * largest, name


def test_a_start_that_is_learnt_gets_its_gradient_too():
    def step(k: int, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sin(x) * factor[k], share.sigmoid()

    factor = torch.linspace(0.5, 1.5, 4, dtype=torch.float64, requires_grad=True)
    share = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    start = torch.linspace(-1, 1, 7, dtype=torch.float64, requires_grad=True)
    given = [start, factor, share]
    ours = torch.autograd.grad(reversibly(step, 4, start, given[1:]).cos().sum(), given)
    theirs = torch.autograd.grad(ordinary(step, 4, start).cos().sum(), given)
    torch.testing.assert_close(ours, theirs, rtol=ROUNDING, atol=ROUNDING)


class Held:
    """The most bytes that autograd held at once for the way back, activations and states alike."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __enter__(self) -> Held:
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda kept: kept[0])
        self.hooks.__enter__()
        return self

    def __exit__(self, *told: object) -> None:
        self.hooks.__exit__(*told)

    def pack(self, t: Tensor) -> Kept:
        kept, size = Kept([t]), t.numel() * t.element_size()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(kept, self.freed, size)
        return kept

    def freed(self, size: int) -> None:
        self.now -= size


class Kept(list):
    """A saved tensor in something that a weak reference can watch."""


def held(run: Callable[[FewStepNetwork, Problem], Tensor], count: int) -> int:
    net, posed = network(count, torch.float32), problem(torch.float32)
    with Held() as counted:
        run(net, posed).square().sum().backward()
    return counted.most


def test_memory_does_not_grow_with_steps():
    def ours(net: FewStepNetwork, posed: Problem) -> Tensor:
        return restored(net, denoiser(net), posed)

    few, many = held(ours, 3), held(ours, 12)
    # A step's own numbers (levels, weights, mixes) are vectors of its chain's length: some hundred bytes.
    assert many - few < 0.01 * few
    assert held(plain, 12) > 3.5 * held(plain, 3)  # what it would be: four times as much
    assert few < 0.6 * held(plain, 3)


@pytest.mark.parametrize("kind", ["inpaint", "superres", "blur"])
def test_the_data_step_knows_its_derivatives(kind):
    g = torch.Generator().manual_seed(1)
    operators: dict[str, LinearOperator] = {
        "inpaint": Inpainting((torch.rand(SMALL, generator=g) < 0.5).double(), SMALL),
        "superres": Downsample(SMALL, 2, "bicubic", torch.empty(0, dtype=torch.float64)),
        "blur": Blur(gaussian(0.4).double(), SMALL, boundary="reflect"),
    }
    operator = operators[kind]
    x0, truth = torch.rand(2, 2, *SMALL, generator=g, dtype=torch.float64)
    step = DifferentiableStep(Problem(operator(truth), operator).unweighted, 20)
    weight = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    found = step(x0, weight)
    by_cg = data_step(step.term, x0, 1.7, iters=20).x
    torch.testing.assert_close(found, by_cg, rtol=SOLVED, atol=SOLVED)
    assert torch.autograd.gradcheck(step, (x0.requires_grad_(), weight))


def test_steps_that_do_nothing_are_no_steps():
    start = torch.ones(3, requires_grad=True)
    step: WiredStep = lambda k, x: (x, x.sum())  # noqa: E731
    assert reversibly(step, 0, start, []) is start
