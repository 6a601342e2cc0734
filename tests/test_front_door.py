"""`restore.solve`: scale, company, seeds, samples, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import restore
from restore.errors import ConfigError, DivergenceError, ShapeError, WeightsError
from restore.front_door import default_scaling, solve
from restore.noise import Gaussian, PostLogPoisson
from restore.operators.ct.geometry import ParallelBeam, hu_to_mu
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianMixture, GaussianPrior
from restore.priors.base import Denoiser
from restore.problem import Problem, Step
from restore.samplers.dds import DDS
from restore.samplers.dps import DPS
from restore.samplers.tv import TV
from restore.scaling import Scaling

SIDE = 16
UNIT = Scaling(1.0, "given")
QUICK = DDS(n_steps=5)


def smooth_prior() -> GaussianPrior:
    f = torch.fft.fftfreq(SIDE, dtype=torch.float64)
    return GaussianPrior(
        torch.full((SIDE, SIDE), 0.2, dtype=torch.float64),
        spectrum=0.5 / (1 + (f[:, None] ** 2 + f**2) / 0.01),
    )


@pytest.fixture
def mri(generator) -> tuple[Tensor, MultiCoilMRI]:
    """Two noisy complex slices in float64, and their operator."""
    maps = torch.randn(3, SIDE, SIDE, generator=generator, dtype=torch.complex128)
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    operator = MultiCoilMRI(maps, torch.rand(SIDE, generator=generator) < 0.5)
    prior = smooth_prior()
    x = torch.complex(prior.sample(3, generator)[:, 0], prior.sample(3, generator)[:, 0])
    return Gaussian(0.02).sample(operator(x), generator), operator


@pytest.mark.parametrize("c", [1e-3, 0.37, 1e3])
def test_scaling_the_measurement_scales_the_answer(mri, c):
    y, operator = mri
    mask = operator(torch.ones(3, SIDE, SIDE, dtype=torch.complex128)) != 0
    one = solve(y * mask, operator, noise=0.02, prior=smooth_prior(), sampler=QUICK)
    other = solve(c * y * mask, operator, noise=c * 0.02, prior=smooth_prior(), sampler=QUICK)
    torch.testing.assert_close(other.image, c * one.image, rtol=1e-8, atol=1e-9 * c)
    assert other.provenance["scaling"]["scale"] == pytest.approx(
        c * one.provenance["scaling"]["scale"]
    )
    assert other.log[-1]["misfit"] == pytest.approx(one.log[-1]["misfit"], rel=1e-8)


def test_a_batch_gives_what_its_items_give(mri):
    y, operator = mri
    whole = solve(
        y, operator, noise=0.02, prior=smooth_prior(), sampler=QUICK, scaling=UNIT, samples=2
    )
    for k in (2, 0):
        alone = solve(
            y[k], operator, noise=0.02, prior=smooth_prior(), sampler=QUICK, scaling=UNIT, samples=2,
            ids=(str(k),),
        )  # fmt: skip
        torch.testing.assert_close(alone.image, whole.image[k], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(alone.samples, whole.samples[:, k], rtol=1e-10, atol=1e-12)


def test_a_batch_gives_what_its_items_give_in_single_precision_through_the_network(generator):
    operator = Inpainting.random((SIDE, SIDE), 0.6, generator)
    y = operator(torch.rand(3, SIDE, SIDE, generator=generator))
    whole = solve(y, operator, noise=0.05, sampler=QUICK).image
    alone = solve(y[1:2], operator, noise=0.05, sampler=QUICK, ids=("1",)).image[0]
    torch.testing.assert_close(alone, whole[1], rtol=1e-4, atol=1e-5)


def test_seeds(mri):
    y, operator = mri
    runs = [
        solve(y, operator, noise=0.02, prior=smooth_prior(), sampler=QUICK, seed=seed).image
        for seed in (0, 0, 1)
    ]
    assert torch.equal(runs[0], runs[1])
    assert float((runs[0] - runs[2]).abs().max()) > 1e-3


def test_samples_give_mean_and_spread(mri):
    y, operator = mri
    one = solve(y, operator, noise=0.02, prior=smooth_prior(), sampler=QUICK)
    many = solve(y, operator, noise=0.02, prior=smooth_prior(), sampler=QUICK, samples=3)
    assert one.std is None
    assert one.samples is None
    assert many.samples.shape == (3, *one.image.shape)
    assert torch.equal(many.samples[0], one.image)
    assert [(r["sample"], r["step"]) for r in many.log] == [
        (k, i) for k in range(3) for i in range(5)
    ]
    assert many.log[:4] == one.log[:4]
    assert [end["step"] for end in many.ends] == [4, 4, 4]
    assert len({end["misfit"] for end in many.ends}) == 3
    torch.testing.assert_close(many.image, many.samples.mean(0))
    torch.testing.assert_close(many.std, many.samples.abs().std(0))
    assert not torch.equal(many.samples[0], many.samples[1])


def test_log_steps_and_provenance(mri):
    y, operator = mri
    seen: list[Step] = []
    result = solve(
        y, operator, noise=0.02, prior=smooth_prior(), n_steps=4, eta="0.5", seed=9, on_step=seen.append
    )  # fmt: skip
    assert [s.i for s in seen] == [0, 1, 2, 3]
    assert [r["evaluations"] for r in result.log] == [1, 2, 3, 4]
    assert 0.3 < result.log[-1]["misfit"] < 1.5
    assert result.log[-1]["seconds"] > 0
    record = result.provenance
    assert (record["sampler"], record["prior"], record["seed"]) == ("dds", "gaussian", 9)
    assert (record["settings"]["n_steps"], record["settings"]["eta"]) == (4, 0.5)
    assert "MultiCoilMRI" in record["operator"]
    wavelet = solve(y, operator, sampler="wavelet", n_steps=2)
    assert (wavelet.provenance["sampler"], wavelet.provenance["prior"]) == ("wavelet", None)


def test_lazy_front_door():
    assert restore.solve is solve


class Broken(Denoiser):
    name = "broken"
    calls = 0

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        self.calls += 1
        return x * (math.nan if self.calls == 4 else 1)  # two calls at the door, then the steps


def test_a_nan_stops_with_its_step(mri):
    y, operator = mri
    with pytest.raises(DivergenceError, match="step 2 of 5"):
        solve(y, operator, noise=0.02, prior=Broken(), sampler=QUICK)


def test_faulty_measurements_are_named(mri):
    y, operator = mri
    bad = y.clone()
    columns = operator.mask.nonzero()[:3, 0]
    bad[0, 0, 0, columns] = math.nan
    with pytest.raises(ConfigError, match="3 non-finite"):
        solve(bad, operator)
    with pytest.raises(ShapeError, match="MultiCoilMRI"):
        solve(y[..., :-1], operator)
    with pytest.raises(ShapeError, match="empty"):
        solve(y[:0], operator)
    with pytest.raises(ShapeError, match=r"noise of shape \(2,\) does not broadcast.*such as"):
        solve(y, operator, noise=torch.tensor([0.1, 0.2]))
    with pytest.raises(ShapeError, match="2 ids for 3 items"):
        solve(y, operator, ids=("a", "b"))
    with pytest.raises(ConfigError, match="zero everywhere"):
        solve(torch.zeros_like(y), operator)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"samples": 0}, "samples must be at least 1"),
        ({"samples": "3"}, "samples must be a whole number, got '3'"),
        ({"seed": None}, "seed must be a whole number, got None"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": torch.Generator()}, "seed must be a whole number"),
        ({"sampler": None}, "sampler is None, expected a name"),
        ({"scaling": 255}, "scaling is 255, expected restore.scaling.Scaling"),
        ({"on_step": 3}, "on_step is 3, expected a function"),
        ({"noise": Gaussian}, "noise is the class Gaussian"),
        ({"noise": torch.tensor(0.1, device="meta")}, "holds no numbers"),
        ({"noise": -0.1}, "noise std must be zero or more"),
        ({"noise": math.inf}, "zero or more and finite"),
        ({"noise": "much"}, "noise is 'much', expected a standard deviation"),
        ({"noise": True}, "noise is True, expected a standard deviation"),
        ({"samples": 10**9}, "samples must be at least 1 and at most 10000"),
        ({"sampler": "ddss"}, "no sampler 'ddss', did you mean 'dds'"),
        ({"n_step": 3}, "no setting 'n_step', did you mean 'n_steps'"),
        ({"n_steps": "many"}, "DDS: n_steps"),
        ({"eta": 2}, "eta must lie in 0..1"),
        ({"preset": "publishd"}, "no preset 'publishd', did you mean 'published'"),
        ({"schedule": "linear"}, "'karras', 've', 'vp'"),
        ({"sampler": DDS(), "eta": 0.5}, "dataclasses.replace"),
        ({"prior": None}, "needs a prior"),
        ({"prior": GaussianMixture(torch.zeros(1, 3, 4, 4), torch.ones(1), torch.ones(1))}, "'mixture' has 3 channels"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_named(mri, arguments, words):
    y, operator = mri
    with pytest.raises(ConfigError) as caught:
        solve(y, operator, **arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize("sampler", [QUICK, DPS(n_steps=4), TV(n_steps=4)])
def test_what_was_not_measured_does_not_matter(mri, sampler, generator):
    """A whole picture with its mask, k-space with lines that the mask leaves out, NaN where nothing was measured."""
    mask = Inpainting.random((SIDE, SIDE), 0.6, generator).to(torch.float64)
    x = torch.rand(SIDE, SIDE, generator=generator, dtype=torch.float64)
    y, operator = mri
    for A, whole in ((mask, x), (operator, y)):
        for hole in (7.0, math.nan):
            filled = torch.where(A.project(torch.ones_like(whole)) == 0, hole, whole)
            wanted, got = (
                solve(v, A, noise=0.02, prior=smooth_prior(), sampler=sampler)
                for v in (A.project(whole), filled)
            )
            assert torch.equal(got.image, wanted.image)
            assert got.log[-1]["misfit"] == wanted.log[-1]["misfit"]


def test_unknown_prior(mri):
    y, operator = mri
    with pytest.raises(WeightsError, match="no prior 'medicine'"):
        solve(y, operator, prior="medicine")


def test_classical_samplers_need_no_prior(mri):
    y, operator = mri
    assert solve(y, operator, prior=None, sampler=TV(n_steps=2)).image.shape == (3, SIDE, SIDE)


def test_presets_follow_the_operator(mri):
    y, operator = mri
    result = solve(y, operator, prior=smooth_prior(), preset="published", n_steps=3)
    settings = result.provenance["settings"]
    assert (settings["schedule"], settings["eta"], settings["n_steps"]) == ("vp", 0.85, 3)


def ct_scan() -> ParallelBeamCT:
    return ParallelBeamCT(ParallelBeam.covering(shape=(SIDE, SIDE), views=20), dtype=torch.float64)


def test_ct_scaling_puts_air_and_1500_hu_at_the_ends():
    operator = ct_scan()
    scaling = default_scaling(operator(torch.zeros(SIDE, SIDE).double()), operator)
    assert scaling.to_unit(hu_to_mu(-1000.0)) == 0
    assert scaling.to_unit(hu_to_mu(1500.0)) == pytest.approx(1)
    assert default_scaling(torch.zeros(3, 4), Inpainting(torch.ones(3, 4), (3, 4))) == Scaling()


def test_precision_follows_the_scaling():
    """The weighted data term has the same minimum and curvature whatever unit the image is in."""
    operator = ct_scan()
    x = torch.rand(SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 50
    y = operator(x)
    for noise in (Gaussian(0.01), PostLogPoisson(1e4)):
        plain, scaled = (Problem(y, operator, noise, Scaling(s)) for s in (1.0, 0.05))
        direction = torch.ones_like(x)
        curvature = scaled.data.normal(direction / 0.05) / 0.05
        torch.testing.assert_close(curvature, plain.data.normal(direction))
        assert scaled.misfit(x / 0.05 * 1.1) == pytest.approx(plain.misfit(x * 1.1))


def test_misfit_is_one_for_the_truth(generator):
    operator = ct_scan()
    x = torch.rand(40, SIDE, SIDE, generator=generator, dtype=torch.float64) / 50
    y = PostLogPoisson(1e5).sample(operator(x), generator)
    problem = Problem(y, operator, PostLogPoisson(1e5), Scaling(0.05))
    assert problem.misfit(x / 0.05) == pytest.approx(1, abs=0.02)
    unknown = Problem(y, operator)
    assert unknown.misfit(torch.zeros_like(x)) == pytest.approx(1)
    maps = torch.ones(1, SIDE, SIDE, dtype=torch.complex128)
    mri = MultiCoilMRI(maps, torch.arange(SIDE) % 3 == 0)
    clean = mri(x.to(torch.complex128))
    noisy = torch.where(clean != 0, Gaussian(0.1).sample(clean, generator), 0)
    assert Problem(noisy, mri, Gaussian(0.1)).misfit(x.to(torch.complex128)) == pytest.approx(
        1, abs=0.02
    )
