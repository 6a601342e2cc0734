"""Unrolled networks: closed forms of the walk, what it does not depend on, what is said of measurements and refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from restore.datasets.mri.pattern.masks import make_mask
from restore.datasets.open import read
from restore.datasets.simulate.coils import birdcage
from restore.datasets.simulate.mri import simulate_mri
from restore.errors import ConfigError, WeightsError
from restore.front_door import solve, solve_problem
from restore.metrics import psnr
from restore.noise import Gaussian
from restore.operators.base import LinearOperator, dense
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.operators.mri.noncartesian import NonCartesianMRI
from restore.operators.mri.real_images import RealImages
from restore.priors.acquisition import OTHER, Acquisition, Seen, differences, seen_in
from restore.priors.analytic import GaussianPrior
from restore.priors.cascade import CascadePrior, LeastSquares
from restore.priors.store import load_prior, read_card, save_prior, write_card
from restore.priors.varnet import FIRST, PACE, VarNet, VarNetConfig, new_varnet
from restore.problem import Problem
from restore.solvers.proximal import DataTerm

ALGEBRA = 1e-10  # float64, some dozen operations on numbers near one; 1e-14 seen
SOLVED = 1e-6  # conjugate gradients of 64 unknowns to the end, at a weight of 0.007; 4e-15 seen
ENOUGH = 64  # steps that solve it
EIGENVALUE = 0.02  # ten Lanczos steps, not rounding; 2e-4 seen

SIDE = 8
TINY = VarNetConfig(3, (8,), (1,), memory=2)
SHAPE = (32, 64)
TOLD = Acquisition(noise=(0.002, 0.02))


def operator(coils: int = 3, height: int = SIDE, seed: int = 1) -> MultiCoilMRI:
    g = torch.Generator().manual_seed(seed)
    maps = torch.randn(coils, height, SIDE, generator=g, dtype=torch.complex128)
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    return MultiCoilMRI(maps, torch.rand(SIDE, generator=g) < 0.6)


def image(height: int = SIDE, seed: int = 2) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(height, SIDE, generator=g, dtype=torch.complex128)


class Mixing(nn.Module):
    """In place of the U-Net: one 1 x 1 product of what it is shown, image (2), memory (2), gradient (2)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, shown: Tensor, told: Tensor) -> Tensor:
        return torch.einsum("oc,nchw->nohw", self.weight, shown)


def trained(config: VarNetConfig = TINY, seed: int = 3) -> VarNet:
    """With weights everywhere, also where a new one has zeros; in double precision."""
    model, g = new_varnet(config, seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.network.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=g))
    model.acquisition = TOLD
    return model.to(torch.float64)


def walked(model: VarNet, op: LinearOperator, y: Tensor, start: Tensor, turns: int = 10) -> Tensor:
    with torch.no_grad():
        *_, end = CascadePrior(model).walk(start, LeastSquares(DataTerm(op, y), turns))
    return end


def unit_of(op: LinearOperator, y: Tensor) -> float:
    """The L that a misfit is divided by."""
    return float(LeastSquares(DataTerm(op, y)).largest)


def nearest(op: LinearOperator, y: Tensor, z: Tensor, weight: float) -> Tensor:
    """argmin |A x - y|^2 / L + weight |x - z|^2 by dense algebra, flat."""
    matrix, largest = dense(op), unit_of(op, y)
    system = matrix.mH @ matrix / largest + weight * torch.eye(z.numel(), dtype=torch.float64)
    right = matrix.mH @ y.flatten() / largest + weight * z.flatten()
    return torch.linalg.solve(system, right)


def test_without_weights_it_is_iterated_tikhonov_regularisation():
    op, x = operator(), image()
    y, start = op(x), image(seed=5)
    found = start
    for _ in range(TINY.cascades):
        found = nearest(op, y, found, math.exp(FIRST))
    end = walked(new_varnet(TINY).to(torch.float64), op, y, start, ENOUGH)
    torch.testing.assert_close(end.flatten(), found, rtol=SOLVED, atol=SOLVED)


def test_misfits_are_in_units_of_the_largest_eigenvalue():
    op = MultiCoilMRI(
        torch.from_numpy(birdcage((12, 16), 4)),
        torch.from_numpy(make_mask("random", (12, 16), 2, 0.2, 3)),
    )
    y, matrix = op(torch.ones(12, 16) + 0j), dense(op)
    largest = float(torch.linalg.matrix_norm(matrix, 2) ** 2)
    assert unit_of(op, y) == pytest.approx(largest, rel=EIGENVALUE)
    assert unit_of(5 * op, 5 * y) == pytest.approx(25 * largest, rel=EIGENVALUE)


def test_a_linear_network_gives_what_dense_algebra_gives():
    """Image x (re, im), memory h, gradient g: z = x + W_z (x, h, 10 g), h' = W_h (x, h, 10 g), then the data."""
    op, y, start = operator(), operator()(image()), image(seed=5)
    model = new_varnet(TINY).to(torch.float64)
    weight = 0.2 * torch.randn(4, 6, generator=torch.Generator().manual_seed(4)).double()
    model.network.networks[0] = Mixing(weight)
    numbers = (0.03, 0.2, 0.6)
    with torch.no_grad():
        logs = torch.tensor(numbers, dtype=torch.float64).log()
        model.network.weights.copy_((logs - FIRST) / PACE)
    matrix, largest = dense(op), unit_of(op, y)
    x, h = start.flatten(), torch.zeros(2, start.numel(), dtype=torch.float64)
    for number in numbers:
        g = matrix.mH @ (matrix @ x - y.flatten()) / largest
        shown = torch.cat([torch.stack([x.real, x.imag]), h, 10 * torch.stack([g.real, g.imag])])
        out = weight @ shown
        z, h = x + torch.complex(out[0], out[1]), out[2:]
        x = nearest(op, y, z, number)
    end = walked(model, op, y, start, ENOUGH)
    torch.testing.assert_close(end.flatten(), x, rtol=SOLVED, atol=SOLVED)


def test_gradients_of_weights_are_those_of_finite_differences():
    op, y, start = operator(height=4), operator(height=4)(image(4)), image(4, seed=5)
    model, data = trained(), LeastSquares(DataTerm(op, y), ENOUGH)
    bias = model.network.networks[0].leave.bias.detach().clone().requires_grad_()
    weights = model.network.weights.detach().clone().requires_grad_()

    def distance(weights: Tensor, bias: Tensor) -> Tensor:
        own = {"networks.0.leave.bias": bias}
        bound = VarNet(model.network)
        bound.network = lambda *a: torch.func.functional_call(model.network, own, a)  # type: ignore[assignment]
        bound.weight = lambda k: weights[k].exp()  # type: ignore[method-assign]
        *_, end = CascadePrior(bound).walk(start, data)
        return torch.view_as_real(end - image(4)).square().sum()

    assert torch.autograd.gradcheck(distance, (weights, bias))


def test_a_trajectory_is_served_too():
    """Off a grid: the misfit falls although the network was never trained."""
    op = NonCartesianMRI.example(torch.Generator().manual_seed(0))
    y = op(torch.ones(op.in_shape, dtype=torch.complex64))
    problem = Problem(y, op)
    seen = seen_in(problem)
    assert (seen.pattern, seen.coils) == (OTHER, op.maps.shape[-3])
    result = solve(y, op, noise=0, prior=new_varnet(TINY), sampler="varnet")
    assert problem.misfit(result.image) < problem.misfit(op.pinv(y))
    assert any("does not say on which" in note for note in result.notes)


def test_neither_the_order_nor_the_number_of_coils_matters():
    op, x = operator(), image()
    start, model = image(seed=5), trained()
    one = walked(model, op, op(x), start)
    turned = MultiCoilMRI(op.maps[[2, 0, 1]], op.mask)
    halves = MultiCoilMRI(torch.cat([op.maps, op.maps]) / 2**0.5, op.mask)
    for other in (turned, halves):
        torch.testing.assert_close(
            walked(model, other, other(x), start), one, rtol=ALGEBRA, atol=ALGEBRA
        )


@pytest.mark.parametrize("shared", [True, False])
def test_slices_of_odd_sides_do_not_see_each_other(shared):
    """Sides that are no multiple of the U-Net's, three slices with maps of their own."""
    model = trained(VarNetConfig(2, (8, 8), (1, 1), memory=1, shared=shared))
    ops = [operator(height=7, seed=s) for s in (1, 2, 3)]
    xs = [image(7, seed=s) for s in (4, 5, 6)]
    mask = torch.stack([o.mask.expand(7, SIDE) for o in ops])
    whole = MultiCoilMRI(torch.stack([o.maps for o in ops]), mask)
    end = walked(model, whole, whole(torch.stack(xs)), torch.zeros(3, 7, SIDE, dtype=xs[0].dtype))
    for o, x, found in zip(ops, xs, end, strict=True):
        alone = walked(model, o, o(x), torch.zeros_like(x))
        torch.testing.assert_close(found, alone, rtol=ALGEBRA, atol=ALGEBRA)


def test_images_that_are_held_real_stay_so():
    op = RealImages(operator())
    y = op(image().real)
    seen = seen_in(Problem(y, op))
    assert (seen.pattern == OTHER, seen.coils) == (False, 3)
    assert seen.factor == pytest.approx(SIDE / int(operator().mask.sum()))
    found = solve(y, op, noise=0.01, prior=trained(), sampler="varnet").image
    assert found.shape == (SIDE, SIDE)
    assert not found.is_complex()


def test_a_card_brings_back_the_model(tmp_path):
    model = trained().to(torch.float32)
    model.scaling, model.subjects = {"MR": "a rule"}, "two heads"
    path = save_prior(tmp_path / "mine.safetensors", model, {"licence": "none"})
    again = load_prior(path)
    assert (again.acquisition, again.scaling, again.subjects) == (
        TOLD,
        {"MR": "a rule"},
        "two heads",
    )
    op = operator()
    y = op(image())
    a, b = (walked(m.to(torch.float64), op, y, image(seed=5)) for m in (model, again))
    assert float((a - b).abs().max()) < 0.05 * float(a.abs().max())  # weights in half precision
    for entry in ({"noise": [0.5, 0.1]}, {"masks": ["spiral"]}, {"accelerations": []}):
        card = read_card(path)
        write_card(path, card | {"acquisition": card["acquisition"] | entry})
        with pytest.raises(WeightsError, match="does not describe a prior"):
            load_prior(path)
        write_card(path, card)


def scan(kind: str, acceleration: float, coils: int = 8) -> tuple[Tensor, MultiCoilMRI]:
    mask = torch.from_numpy(make_mask(kind, SHAPE, acceleration, 0.32 / acceleration, 3))
    op = MultiCoilMRI(torch.from_numpy(birdcage(SHAPE, coils)), mask)
    y, x = np.mgrid[:32, :64]
    disc = torch.from_numpy(((y - 16) ** 2 / 150 + (x - 32) ** 2 / 600 < 1).astype(np.float32))
    return op(disc.to(torch.complex64)), op


@pytest.mark.parametrize(
    ("kind", "acceleration", "coils", "noise", "words"),
    [
        ("random", 4, 8, 0.01, ""), ("gaussian1d", 4, 12, 0.01, ""), ("random", 8, 8, 0.01, "it is 8x"),
        ("equispaced", 4, 8, 0.01, "evenly spaced lines"), ("poisson2d", 4, 8, 0.01, "points"),
        ("random", 4, 2, 0.01, "2 coils"), ("random", 4, 8, 0.1, "noise is 0.1"),
    ],
)  # fmt: skip
def test_what_differs_from_the_card_is_said(kind, acceleration, coils, noise, words):
    y, op = scan(kind, acceleration, coils)
    seen = seen_in(Problem(y, op, Gaussian(noise)))
    said = differences(TOLD, seen)
    assert bool(said) == bool(words)
    assert words in "".join(said)


def test_solve_says_it_and_what_k_space_does_not_tell():
    y, op = scan("random", 8)
    model = trained().to(torch.float32)
    model.subjects = "heads"
    notes = " ".join(solve(y, op, noise=0.01, prior=model, sampler="varnet").notes)
    assert "simulated from heads" in notes
    assert "it is 8x" in notes
    model.acquisition = None
    notes = " ".join(solve(y, op, noise=0.01, prior=model, sampler="varnet").notes)
    assert "does not say on which acquisitions" in notes


def test_combs_are_measured_against_what_they_are():
    comb = Acquisition(masks=("equispaced",))
    y, op = scan("equispaced", 4)
    assert differences(comb, seen_in(Problem(y, op))) == ()
    assert differences(comb, Seen(9.0, OTHER, 8))


def test_what_it_cannot_serve_is_refused_with_what_would():
    y, op = scan("random", 4)
    model = trained().to(torch.float32)
    with pytest.raises(ConfigError, match="varnet needs a cascade prior"):
        solve(
            y,
            op,
            prior=GaussianPrior(torch.zeros(SHAPE), spectrum=1.0),
            sampler="varnet",
            noise=0.01,
        )
    with pytest.raises(ConfigError, match="dds needs a denoiser prior"):
        solve(y, op, prior=model, sampler="dds", noise=0.01)
    ct = ParallelBeamCT(ParallelBeam.covering(shape=(16, 16), views=5))
    with pytest.raises(ConfigError, match="varnet serves MRI"):
        solve(torch.zeros(ct.out_shape), ct, prior=model, sampler="varnet", noise=0.01)
    volume = MultiCoilMRI(torch.ones(2, 4, 8, 8, dtype=torch.complex64), torch.ones(4, 8, 8), 3)
    with pytest.raises(ConfigError, match="measured as a whole"):
        solve(volume(torch.ones(4, 8, 8) + 0j), volume, prior=model, sampler="varnet", noise=0.01)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"coils": (0,)}, "coils"), ({"masks": ("spiral",)}, "unknown mask"), ({"accelerations": (0.5,)}, "at least 1"),
        ({"accelerations": ()}, "expected an acceleration"), ({"noise": (0.0, 0.1)}, "noise"),
    ],
)  # fmt: skip
def test_impossible_acquisitions_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        Acquisition(**wrong)


def test_the_bundled_one_is_better_than_its_start_on_a_head_it_never_saw():
    """Crops of a contrast T1 of 112 x 112, of which two slices are measured as the card says."""
    series = read(Path(__file__).resolve().parents[1] / "data" / "dicom_mr")
    scan = simulate_mri(series, slices=slice(2, 4), acceleration=4, coils=8)
    problem = scan.setup().problem(range(2), torch.device("cpu"))
    truth = np.asarray(scan.reference)
    found = {}
    for sampler in ("cgsense", "varnet"):
        result = solve_problem(problem, sampler=sampler)
        found[sampler] = psnr(
            scan.in_source_units(result.image), truth, data_range=float(truth.max())
        )
    assert found["varnet"] > found["cgsense"] + 1  # 2.9 seen
    assert not any("unlike those of the training" in note for note in result.notes)
