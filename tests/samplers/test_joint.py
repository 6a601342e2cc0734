"""Joint on priors whose posterior is linear algebra, where nothing but the image is there, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.errors import RestoreError
from restore.front_door import prior_for, solve
from restore.noise import Gaussian
from restore.operators.algebra import Stack
from restore.operators.base import dense
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.diagonal import Identity
from restore.operators.image.clipping import Clipping
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.operators.mri.soft_sense import SoftSenseMRI
from restore.priors.analytic import GaussianPrior
from restore.priors.edm import build_unet_denoiser
from restore.priors.image_prior import ImagePrior
from restore.priors.second import Estimate, FromFunction, SecondUnknown, Seen, StructuredNoise
from restore.priors.store import save_prior
from restore.priors.unet import UNetConfig
from restore.priors.veil import Veil
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.joint import Joint, JointWith
from restore.samplers.toolbox.seeking import _Search
from restore.scaling import Scaling

CHAIN = 1e-8  # float64 against dense algebra, to what 40 CG steps leave; 1e-12 seen
MEAN_OFF = 0.06  # the mean of 100 draws is uncertain by 1 to 2 % of the distance; 2 % seen
SPREAD = 0.06  # of the trace, over 100 draws of 72 numbers: uncertain by 2 %
SAME = 1e-4  # float32: CG over two unknowns sums in another order than over one

SIDE, STD, ITEMS = 6, 0.1, 100
PIXELS, SQUARE = SIDE * SIDE, (SIDE, SIDE)


class DenseNoise(StructuredNoise):
    """u ~ N(0, C)."""

    def __init__(self, covariance: Tensor) -> None:
        self.values, self.vectors = torch.linalg.eigh(covariance)

    def estimate(self, u: Tensor, sigma: float, seen: Seen | None = None) -> Estimate:
        gain = self.values / (self.values + sigma**2)

        def by(v: Tensor, g: Tensor) -> Tensor:
            return ((v.flatten(-2) @ self.vectors * g) @ self.vectors.mT).reshape(v.shape)

        return Estimate(by(u, gain), lambda v: by(v, gain.sqrt()))


def smooth(width: float, std: float) -> Tensor:
    """A covariance that falls off with the distance, and a little of a white one."""
    at = torch.cartesian_prod(*2 * [torch.arange(SIDE).double()])
    r2 = (at[:, None] - at).square().sum(-1)
    return std**2 * (0.95 * torch.exp(-r2 / (2 * width**2)) + 0.05 * torch.eye(PIXELS))


def drawn(covariance: Tensor, seed: int) -> Tensor:
    white = torch.randn(PIXELS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (torch.linalg.cholesky(covariance) @ white).reshape(SQUARE)


CX, CU = smooth(0.8, 0.3), smooth(3.0, 0.3)
MEAN = torch.full(SQUARE, 0.5, dtype=torch.float64)
A = Stack((Identity(SQUARE), 0.3 * Identity(SQUARE)))
B = Stack((0.4 * Identity(SQUARE), Identity(SQUARE)))
Y = A(MEAN + drawn(CX, 3)) + B(drawn(CU, 4))
Y = Y + STD * torch.randn(Y.shape, generator=torch.Generator().manual_seed(5)).double()
ROW = torch.cat([dense(A), dense(B)], 1).double()
PRIOR_MEAN = torch.cat([MEAN.flatten(), torch.zeros(PIXELS)])
PRIOR = torch.block_diag(CX, CU)


def gain(covariance: Tensor, variance: float) -> Tensor:
    """Of a measurement by [A B]: C M^T (M C M^T + variance)^-1."""
    eye = torch.eye(len(ROW), dtype=torch.float64)
    return torch.linalg.solve(ROW @ covariance @ ROW.mT + variance * eye, ROW @ covariance).mT


def run(sampler: Joint, items: int, draws: Draws | None = None) -> list[Step]:
    problem = Problem(Y.expand(items, *Y.shape), A, Gaussian(STD))
    prior = prior_for(GaussianPrior(MEAN, covariance=CX), sampler, problem)
    return list(sampler.steps(problem, prior, draws or Draws(0, problem.ids)))


def unknowns(step: Step) -> Tensor:
    """(items, 2 PIXELS): image and structured noise, which the second measurement shows as it is."""
    assert step.structured is not None
    return torch.cat([step.x0.flatten(1), step.structured[:, 1].flatten(1)], 1)


def joint(preset: str = "tuned", **settings) -> Joint:
    second = SecondUnknown(B, DenseNoise(CU))
    return JointWith.configured(preset, A, {"turns": False, **settings, "second": second})


class Silent(Draws):
    """No noise, so that a chain of affine maps shows its mean."""

    def __init__(self, seed: int, ids: tuple[str, ...]) -> None:
        super().__init__(seed, ids)

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        return torch.zeros_like(x)


@pytest.mark.parametrize("eta", [1.0, 0.3])
def test_steps_are_those_of_dense_algebra(monkeypatch, eta):
    """The chain without noise: Wiener filters, and a data step by the gain of the errors' covariance."""
    monkeypatch.setattr("restore.samplers.joint.Draws", Silent)
    sampler = joint(n_steps=8, sigma_start=0.5, eta=eta, gamma=0.7, cg_iters=40)
    steps = run(sampler, 1, Silent(0, ("0",)))
    problem = Problem(Y[None], A, Gaussian(STD))
    z = torch.cat([problem.degraded.flatten(), torch.zeros(PIXELS)])
    for step, level in zip(steps, sampler.levels(), strict=True):
        s2 = level.sigma**2
        wiener = torch.linalg.solve(PRIOR + s2 * torch.eye(2 * PIXELS).double(), PRIOR)
        z0 = PRIOR_MEAN + wiener.mT @ (z - PRIOR_MEAN)
        errors = wiener.clone()
        errors[:PIXELS, :PIXELS] = torch.eye(PIXELS)  # of the image the level itself is taken
        zh = z0 + gain(sampler.gamma * s2 * errors, STD**2) @ (Y.flatten() - ROW @ z0)
        torch.testing.assert_close(unknowns(step)[0], zh, rtol=CHAIN, atol=CHAIN)
        z = zh + level.next * (1 - eta**2) ** 0.5 * (z - z0) / level.sigma


def test_the_joint_posterior_is_reached():
    """Fully stochastic steps reach the mean of both unknowns and half their covariance, as dds does of one."""
    mean = PRIOR_MEAN + gain(PRIOR, STD**2) @ (Y.flatten() - ROW @ PRIOR_MEAN)
    covariance = PRIOR - gain(PRIOR, STD**2) @ ROW @ PRIOR
    found = unknowns(run(joint(n_steps=60, sigma_start=2.0, sigma_end=0.01, gamma=1.0), ITEMS)[-1])
    off = torch.linalg.vector_norm(found.mean(0) - mean) / torch.linalg.vector_norm(
        mean - PRIOR_MEAN
    )
    assert off < MEAN_OFF
    ratio = float(found.var(0).sum() / covariance.trace())
    assert ratio == pytest.approx(0.5, abs=SPREAD)


@pytest.mark.slow
def test_small_eta_gives_the_covariance_too():
    """The preset "posterior" at 150 levels: variances of both within a tenth."""
    covariance = PRIOR - gain(PRIOR, STD**2) @ ROW @ PRIOR
    found = unknowns(run(joint("posterior", n_steps=150, sigma_start=2.0, sigma_end=0.01), 300)[-1])
    for part in (slice(None, PIXELS), slice(PIXELS, None)):
        ratio = float(found.var(0)[part].sum() / covariance.diagonal()[part].sum())
        assert ratio == pytest.approx(1, abs=0.12)  # 0.92 and 0.93 seen; 300 draws: 0.02


# --- beside dds


def coils(sampled: float = 0.5) -> MultiCoilMRI:
    g = torch.Generator().manual_seed(3)
    maps = torch.randn(4, 16, 16, generator=g, dtype=torch.complex64)
    mask = torch.rand(16, generator=g) < sampled
    return MultiCoilMRI(maps / torch.linalg.vector_norm(maps, dim=0), mask)


def image() -> Tensor:
    at = torch.linspace(-1, 1, 16)
    disc = ((at[:, None] ** 2 + at**2) < 0.6).float()
    return torch.complex(0.7 * disc, 0.2 * disc)


WHITE = GaussianPrior(torch.full((16, 16), 0.3), spectrum=0.1)


@pytest.mark.parametrize("kind", ["herringbone", "zipper"])
def test_without_an_artefact_it_is_dds(kind):
    A = coils()
    y = Gaussian(0.01).sample(A(image()), torch.Generator().manual_seed(1))
    how = {"noise": 0.01, "prior": WHITE, "n_steps": 12}
    found = solve(y, A, sampler="joint", second_prior=kind, **how)
    # What joint has not: other starts of CG, which end elsewhere within its residual.
    plain = solve(y, A, sampler="dds", recycled=0, imaginary_every=1, **how)
    torch.testing.assert_close(found.image, plain.image, rtol=SAME, atol=SAME)
    assert found.structured is not None
    assert float(found.structured.abs().max()) < 0.01


@pytest.mark.parametrize("kind", ["herringbone", "zipper"])
def test_an_artefact_is_found_and_taken_out(kind):
    A, g = coils(0.8), torch.Generator().manual_seed(7)
    column = int(A.mask.nonzero()[1])
    noise = torch.zeros(4, 16, 16, dtype=torch.complex64)
    if kind == "herringbone":
        noise[:, 3, column] = 4 * torch.randn(4, generator=g, dtype=torch.complex64)
    else:
        tone = torch.exp(2j * torch.pi * torch.arange(16) * 5 / 16)
        noise = tone[:, None] * torch.randn(4, 1, 16, generator=g, dtype=torch.complex64) * A.mask
    y = Gaussian(0.01).sample(A(image()), torch.Generator().manual_seed(1)) + noise
    how = {"noise": 0.01, "prior": WHITE, "n_steps": 12, "scaling": Scaling()}
    found = solve(y, A, sampler="joint", second_prior=kind, **how)
    plain = solve(y, A, sampler="dds", **how)
    clean = solve(y - noise, A, sampler="dds", **how)
    off = [float(torch.linalg.vector_norm(r.image - clean.image)) for r in (found, plain)]
    # Of a row of the image that a tone covers, what all coils see alike could be the image.
    assert off[0] < (0.75 if kind == "zipper" else 0.2) * off[1]
    left = torch.linalg.vector_norm(found.structured - noise) / torch.linalg.vector_norm(noise)
    assert float(left) < (0.4 if kind == "zipper" else 0.1)
    assert found.ends[0]["misfit"] < 2


# --- a veil that is sought

GREY = GaussianPrior(torch.full((16, 16), 0.3).double(), spectrum=0.01)
DARK = Gaussian(0.1).sample(torch.full((16, 16), 0.3), torch.Generator().manual_seed(8))
FALLING = 0.3 * torch.exp(-2 * torch.arange(16)[:, None] / 16).expand(16, 16)


def test_evidence_is_the_ratio_of_densities():
    """Of two pictures under a Gaussian prior; levels from 0.0015 to 3 leave out a hundredth."""
    prior = ImagePrior(GREY, (16, 16), False)
    search = _Search(Veil((16, 16), 0.2, 0.15), DARK[None].double(), 0.05, prior, Draws(0, ["a"]))
    search.ends = (0.0502, 30.0)
    veil = FALLING.double()[None]
    found = torch.stack([search.gain(0 * veil, veil) for _ in range(20)]).mean()
    squares = [
        (DARK - 0.3 - v).square().sum() / (2 * (0.01 + 0.05**2)) for v in (0 * FALLING, FALLING)
    ]
    assert float(found) == pytest.approx(float(squares[0] - squares[1]), rel=0.1)


def test_a_veil_is_found_and_a_picture_without_one_is_left_alone():
    how = {"noise": 0.02, "prior": GREY, "n_steps": 12}
    hazy = solve(DARK + FALLING, Identity(SHAPE), sampler="joint", second_prior="haze", **how)
    assert hazy.structured is not None
    off = float((hazy.structured - FALLING).square().mean().sqrt())
    assert off < 0.04  # of 0.17 in the mean; a tenth of the tissue's deviation would be 0.01
    assert any("haze: found in 1 of 1 measurements" in note for note in hazy.notes)
    clear = solve(DARK, Identity(SHAPE), sampler="joint", second_prior="haze", **how)
    plain = solve(DARK, Identity(SHAPE), sampler="dds", **how)
    torch.testing.assert_close(clear.image, plain.image, rtol=SAME, atol=SAME)
    assert any("haze: none is shown" in note for note in clear.notes)


def test_bins_that_are_off_are_found():
    A = ParallelBeamCT(ParallelBeam.covering(shape=SHAPE, views=24))
    at, noise = torch.linspace(-1, 1, 16), torch.zeros(A.out_shape)
    blob = 0.3 * torch.exp(-4 * (at[:, None] ** 2 + at**2))
    noise[:, [6, 15]] = torch.tensor([1.0, -1.0])
    y = Gaussian(0.05).sample(A(blob), torch.Generator().manual_seed(8)) + noise
    how = {"noise": 0.05, "prior": GaussianPrior(blob, spectrum=0.001), "n_steps": 6}
    found = solve(y, A, sampler="joint", second_prior="stripes", scaling=Scaling(), **how)
    assert found.structured is not None
    off = torch.linalg.vector_norm(found.structured - noise) / torch.linalg.vector_norm(noise)
    assert float(off) < 0.3  # 0.03 seen
    assert any("stripes: found in 1 of 1" in note for note in found.notes)


# --- what it refuses


def scan_of(operator, **settings):
    x = torch.ones(operator.in_shape, dtype=torch.complex64 if operator.is_complex else None)
    return solve(operator(x), operator, noise=0.1, prior=WHITE, sampler="joint", **settings)


SHAPE = (16, 16)
SOFT = SoftSenseMRI(torch.ones(2, 3, 16, 16, dtype=torch.complex64), torch.ones(16))
FEW = ParallelBeamCT(ParallelBeam.covering(shape=SHAPE, views=9))
POINTS = MultiCoilMRI.single_coil(torch.eye(16), SHAPE)


@pytest.mark.parametrize(
    ("operator", "settings", "said"),
    [
        (Identity(SHAPE), {}, "no second prior; say what the structured noise is"),
        (Identity(SHAPE), {"second_prior": "hase"}, "no structured noise 'hase', did you mean 'haze'"),
        (Identity(SHAPE), {"second_prior": "zipper"}, "of measurements of the kind mri.*use haze"),
        (coils(), {"second_prior": "haze"}, "use herringbone or zipper"),
        (coils(), {"second_prior": "zipper", "second_width": 3}, "no width; leave out second_width"),
        (coils(), {"second_prior": "zipper", "second_rate": 1}, "must be above 0 and below 1"),
        (SOFT, {"second_prior": "herringbone"}, "one set of coil maps"),
        (POINTS, {"second_prior": "zipper"}, "whole readouts along the rows"),
        (Identity(SHAPE), {"second_prior": "natural-latent.safetensors"}, "no prior"),
        (Clipping(SHAPE), {"second_prior": "haze"}, "serves any linear operator"),
        (FEW, {"second_prior": "stripes"}, "stripes needs 20 views at least, and there are 9"),
        (Inpainting(torch.ones(SHAPE), SHAPE), {"second_prior": "haze"}, "take it off by --task denoise first"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(operator, settings, said):
    with pytest.raises(RestoreError, match=said):
        scan_of(operator, **settings)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"second": DenseNoise(CU)}, "second is a DenseNoise"),
        ({}, "second is a NoneType"),
        ({"second": SecondUnknown(A, DenseNoise(CU))}, r"does not go with the image.*expected.*\(16, 16\)"),
        (
            {"second": SecondUnknown(Identity(SHAPE), DenseNoise(CU)), "second_prior": "haze"},
            "no name beside it",
        ),
    ],
)  # fmt: skip
def test_a_second_unknown_of_ones_own_has_to_fit(given, said):
    with pytest.raises(RestoreError, match=said):
        solve(
            torch.ones(SHAPE), Identity(SHAPE), noise=0.1, prior=WHITE, sampler=JointWith(**given)
        )


def test_any_function_serves_as_second_prior():
    """What it does not know of its error is taken as the level: white noise of a known deviation, here."""
    y = torch.full(SHAPE, 0.9)
    second = SecondUnknown(
        Identity(SHAPE), FromFunction(lambda u, sigma: u * 0.04 / (0.04 + sigma**2))
    )
    found = solve(y, Identity(SHAPE), noise=0.01, prior=WHITE, sampler=JointWith(second=second))
    assert found.structured is not None
    assert found.ends[0]["misfit"] < 2
    assert float(found.structured.mean()) > 0.05


def test_a_weight_file_serves_as_second_prior(tmp_path):
    """An untrained one: what is tried is that it is read, asked at each level and refused numbers that it has not."""
    network = build_unet_denoiser(UNetConfig(1, (8,), (1,), embedding=8))
    path = str(save_prior(tmp_path / "veil.safetensors", network, {}))
    how = {"noise": 0.1, "prior": WHITE, "sampler": "joint", "second_prior": path, "n_steps": 2}
    found = solve(torch.full(SHAPE, 0.9), Identity(SHAPE), **how)
    assert found.structured is not None
    assert bool(torch.isfinite(found.structured).all())
    with pytest.raises(RestoreError, match="learnt and has no rate; leave out second_rate"):
        solve(torch.full(SHAPE, 0.9), Identity(SHAPE), **how, second_rate=0.1)
