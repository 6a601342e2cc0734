"""What every sampler promises, whatever its name."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from restore.errors import ConfigError
from restore.front_door import prior_for
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.image.downsample import Downsample
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.registry import check_operator, load_sampler, sampler_names
from restore.samplers.base import Planned, Sampler

NAMES = sorted(sampler_names())
OPERATORS: dict[str, LinearOperator] = {
    "mri": MultiCoilMRI.single_coil(torch.arange(16) % 2 == 0, (16, 16)),
    "ct": ParallelBeamCT(ParallelBeam.covering(shape=(16, 16), views=9)),
    "image": Downsample((3, 16, 16), 2),
}


def configured(name: str, operator: LinearOperator) -> Sampler:
    settings = load_sampler(name)
    steps = {"n_steps": 3} if "n_steps" in {f.name for f in dataclasses.fields(settings)} else {}
    return settings.configured("tuned", operator, steps)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_values_and_every_preset_can_be_built(name):
    cls = load_sampler(name)
    assert cls.__doc__
    kinds = {"denoiser", "conditional", "latent", "distilled", "region", "cascade"}
    assert set(cls.prior_kinds) <= kinds
    assert cls() == cls()
    with pytest.raises(dataclasses.FrozenInstanceError):
        cls().anything = 1
    for preset in cls.presets:
        for operator in OPERATORS.values():
            if (name, preset) != ("diffpir", "volume") or operator.task in ("denoise", "deblur"):
                assert isinstance(cls.configured(preset, operator, {}), cls)


def test_a_preset_that_says_nothing_of_a_task_is_refused():
    """DiffPIR's for volumes would be its settings for pictures, unfilled holes among them (16 dB)."""
    for kind, task in (("image", "inpaint"), ("image", "superres"), ("mri", "")):
        with pytest.raises(ConfigError, match=f"is for denoise and deblur, not for {task or kind}"):
            load_sampler("diffpir").configured("volume", Planned(kind, task), {})
    assert load_sampler("diffpir").configured("volume", Planned(""), {})


def solved(name: str, operator: LinearOperator, seed: int) -> list | None:
    """The steps of a run on two items, or None where the pair is refused."""
    kind = torch.complex64 if operator.is_complex else torch.float32
    g = torch.Generator().manual_seed(1)
    x = torch.rand((2, *operator.in_shape), generator=g).to(kind)
    problem = Problem(operator(x), operator, Gaussian(0.05))
    sampler = configured(name, operator)
    flat = torch.full((16, 16), 0.5)
    model = GaussianPrior(flat, spectrum=0.1) if "denoiser" in sampler.prior_kinds else None
    try:
        check_operator(type(sampler), operator)
        prior = prior_for(model, sampler, problem)
        return list(sampler.steps(problem, prior, Draws(seed, problem.ids)))
    except ConfigError:
        return None


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize(
    "name",
    [
        n
        for n in NAMES
        if not load_sampler(n).prior_kinds or load_sampler(n).prior_kinds[0] == "denoiser"
    ],
)
def test_runs_are_finite_numbered_and_repeatable_or_refused(name, kind):
    operator = OPERATORS[kind]
    state = torch.random.get_rng_state()
    steps = solved(name, operator, seed=0)
    if steps is None:
        return
    assert [s.i for s in steps] == list(range(len(steps)))
    assert {s.n for s in steps} == {len(steps)}
    for step in steps:
        assert step.x0.shape == (2, *operator.in_shape)
        assert step.x0.is_complex() == operator.is_complex
        assert bool(torch.isfinite(step.x0).all())
    again = solved(name, operator, seed=0)
    assert again is not None
    assert torch.equal(steps[-1].x0, again[-1].x0)
    assert torch.equal(state, torch.random.get_rng_state())  # the global generator is nobody's


def test_every_kind_of_measurement_is_served_by_most_samplers():
    for kind in OPERATORS:
        served = [
            n
            for n in NAMES
            if not load_sampler(n).prior_kinds
            or (load_sampler(n).prior_kinds[0] == "denoiser" and solved(n, OPERATORS[kind], 0))
        ]
        assert {"dds", "cgsense", "tv"} <= set(served), (kind, served)
