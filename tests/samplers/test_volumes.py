"""Items that are volumes, of 3-D k-space: every sampler gives what it should, and what couples slices couples them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.front_door import solve
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.mri.fourier import fftc
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior
from restore.priors.base import Denoiser
from restore.priors.demand import Demand
from restore.priors.image_prior import ImagePrior
from restore.priors.matching import check
from restore.priors.traits import Traits
from restore.problem import Problem
from restore.randomness import Draws
from restore.registry import load_sampler
from restore.samplers.base import Sampler
from restore.scaling import Scaling

SHAPE = DEPTH, ROWS, COLUMNS = 3, 8, 10
NOISE = 0.02
DOUBLE = 1e-9  # float64: the same CG steps, transforms in another order; 1e-14 seen
BATCHED = 1e-5  # float32: sums of a batch in another order; 2e-7 seen
FEW = {"n_steps": 6}
SAMPLERS = {
    "zerofilled": {}, "cgsense": {}, "tv": {"n_steps": 10}, "wavelet": {"n_steps": 20},
    "dds": FEW, "reddiff": FEW, "diffpir": FEW, "split": FEW,
    "diffusionmbir": FEW, "dps": FEW, "stsl": FEW, "flowchef": FEW,
}  # fmt: skip


def volume(dtype: torch.dtype = torch.complex64) -> Tensor:
    """A block that changes from slice to slice."""
    x = torch.full(SHAPE, 0.2, dtype=dtype)
    x[1:, 2:6, 3:8] = 0.8 + 0.2j
    return x


def maps(dtype: torch.dtype = torch.complex64) -> Tensor:
    """(coils, D, H, W), two coils that differ along rows."""
    slope = torch.linspace(0.2, 1.2, ROWS).to(dtype)[:, None].expand(SHAPE)
    found = torch.stack([torch.cos(slope), torch.sin(slope) * 1j])
    return found.contiguous()


def cartesian() -> MultiCoilMRI:
    mask = torch.rand(DEPTH, ROWS, 1, generator=torch.Generator().manual_seed(0)) < 0.7
    mask[1, 3:6] = True
    return MultiCoilMRI(maps(), mask, image_ndim=3)


def stack_of_stars() -> LinearOperator:
    pytest.importorskip("finufft")
    from restore.operators.mri.noncartesian import NonCartesianMRI
    from restore.operators.mri.trajectories import Trajectory, radial

    spokes = radial(7, 10, (ROWS, COLUMNS))
    levels = [np.full((*spokes.shape[:2], 1), float(k)) for k in range(-1, 2)]
    points = np.concatenate([np.concatenate([k, spokes], -1) for k in levels])
    return NonCartesianMRI(maps(), Trajectory(points))


def measured(operator: LinearOperator) -> Tensor:
    clean = operator(volume())
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1), dtype=clean.dtype)
    return operator.project(clean + NOISE * 2**0.5 * noise)


def plain_prior(dtype: torch.dtype = torch.float32) -> GaussianPrior:
    """Of one slice: smooth, about the mean of the volume."""
    f = (
        torch.fft.fftfreq(ROWS, dtype=dtype)[:, None] ** 2
        + torch.fft.fftfreq(COLUMNS, dtype=dtype) ** 2
    )
    return GaussianPrior(torch.full((ROWS, COLUMNS), 0.3, dtype=dtype), spectrum=0.3 / (1 + f / 0.02) ** 2)  # fmt: skip


@pytest.mark.parametrize("encoding", [cartesian, stack_of_stars])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_serves_a_volume(name, encoding):
    operator = encoding()
    y = measured(operator)
    found = solve(y, operator, noise=NOISE, sampler=name, prior=plain_prior(), **SAMPLERS[name])
    assert found.image.shape == SHAPE
    truth = volume()
    error = (found.image - truth).norm() / truth.norm()
    assert error < 0.3, float(error)
    assert not any("channel" in note for note in found.notes)
    if name in ("dds", "diffusionmbir", "tv"):
        again = solve(
            torch.stack([y, 2 * y]), operator, noise=NOISE, sampler=name, prior=plain_prior(),
            scaling=Scaling(**found.provenance["scaling"]), **SAMPLERS[name],
        )  # fmt: skip
        torch.testing.assert_close(again.image[0], found.image, rtol=BATCHED, atol=BATCHED)


def last(sampler: Sampler, problem: Problem, model: Denoiser) -> Tensor:
    """What a sampler ends with, under one noise."""
    *_, step = sampler.steps(problem, ImagePrior(model, SHAPE[1:], complex_=True), OneNoise())
    return step.x0


class OneNoise(Draws):
    """The same numbers for an image of any division into items."""

    def __init__(self) -> None:
        super().__init__(0, ["0"])

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        flat = torch.empty(x.numel(), dtype=x.dtype)
        return super().normal_like(flat[None], 1).reshape(x.shape)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("diffusionmbir", {"tv_weight": 0.5}),
        ("diffusionmbir", {"tv_weight": 0.5, "tv_axes": "all", "consistency": "noisy"}),
        ("dds", {"tv_weight": 0.1}),
    ],
)
def test_a_volume_is_coupled_as_its_slices_are(name, settings):
    """Where the partitions are all measured, a volume is its slices after one more transform, which loses nothing."""
    kind = torch.complex128
    mask = torch.arange(ROWS)[:, None] % 3 != 1
    slices = MultiCoilMRI(maps(kind).movedim(1, 0), mask)
    whole = MultiCoilMRI(maps(kind), mask, image_ndim=3)
    y = slices(volume(kind))
    y = y + 0.1 * torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=kind)
    y = slices.project(y)
    along_z = fftc(y.movedim(0, -1), 1).movedim(-1, 1)
    sampler = load_sampler(name)(n_steps=4, cg_iters=6, **settings)
    stacked = last(sampler, Problem(y, slices, Gaussian(0.1)), plain_prior(torch.float64))
    found = last(sampler, Problem(along_z, whole, Gaussian(0.1)), plain_prior(torch.float64))
    torch.testing.assert_close(found, stacked, rtol=DOUBLE, atol=DOUBLE)
    alone = load_sampler(name)(n_steps=4, cg_iters=6, **settings | {"tv_weight": 0.0})
    apart = last(alone, Problem(along_z, whole, Gaussian(0.1)), plain_prior(torch.float64))
    assert (apart - found).norm() > 1e-3 * found.norm()


def test_samples_of_a_volume_are_centred_by_dds():
    operator = cartesian()
    found = solve(
        measured(operator), operator, noise=NOISE, sampler="split", prior=plain_prior(), samples=2, n_steps=3
    )  # fmt: skip
    assert found.provenance["mean_by"]["sampler"] == "dds"
    assert found.samples is not None
    assert found.samples.shape == (2, *SHAPE)
    assert found.std is not None
    assert (found.std.flatten(1).mean(1) > 0).all()


def test_a_volume_of_three_slices_is_no_colour_picture():
    asked = Demand("dds", ("denoiser",), "mri", item_shape=SHAPE, volume=True, is_complex=True)
    assert check(Traits("mine", "denoiser", 1), asked) == ()
    with pytest.raises(ConfigError, match="has 3 channels and cannot serve complex images"):
        check(Traits("mine", "denoiser", 3), asked)
    with pytest.raises(ConfigError, match=r"is a latent one, and serves no volumes .*\(3, 8, 10\)"):
        check(Traits("mine", "latent", 1), dataclasses.replace(asked, kinds=("latent",)))
