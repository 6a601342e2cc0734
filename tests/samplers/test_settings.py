"""Settings of samplers: refused from a script as from a command line; presets follow what an operator is."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import pytest
import torch

from restore.config import settings_of
from restore.errors import ConfigError
from restore.front_door import solve
from restore.operators.base import LinearOperator
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.diagonal import Diagonal, Identity
from restore.operators.image.blur import Blur
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior
from restore.registry import check_operator, load_sampler, sampler_names
from restore.samplers.base import Planned
from restore.samplers.dds import DDS

SINGLE = 1e-5  # float32: the same sampler asked in two ways

SHAPE = (16, 16)
NAMES = sorted(sampler_names())
SETTINGS = [(name, record) for name in NAMES for record in settings_of(load_sampler(name))]


def named(pair: tuple[str, dict[str, Any]]) -> str:
    return f"{pair[0]}-{pair[1]['name']}"


def wrong_values(record: dict[str, Any]) -> list[Any]:
    """What no setting of this kind may be."""
    if record["type"] == "word":
        return [
            record["words"][0] + "s",
            record["words"][0].upper(),
            1,
            *([] if record["none"] else [None]),
        ]
    if record["type"] == "bool":
        return ["yes", 1, None]
    if record["type"] == "int":
        return [10**9, 1.5, "1", True, math.nan]
    if record["type"] == "str":
        return [1, 2.5, None]
    return [math.nan, math.inf, -math.inf, "1.0", True]


@pytest.mark.parametrize("pair", SETTINGS, ids=map(named, SETTINGS))
def test_every_setting_says_what_it_is_and_refuses_what_it_cannot_be(pair):
    name, record = pair
    cls = load_sampler(name)
    assert record["what"]
    if record["type"] == "int":
        assert ".." in record["range"]  # an upper limit, so that no run goes on for ever
    for value in wrong_values(record):
        with pytest.raises(ConfigError, match=f"{cls.__name__}: {record['name']} must "):
            cls(**{record["name"]: value})


@pytest.mark.parametrize("name", NAMES)
def test_numbers_at_the_borders_of_their_range(name):
    """One below the least and one above the most; what lies inside is at worst refused together with others."""
    cls, tried = load_sampler(name), 0
    for record in settings_of(cls):
        declared = next(f for f in dataclasses.fields(cls) if f.name == record["name"]).metadata[
            "setting"
        ]
        outside = {
            declared.at_least: -1e-6, declared.above: 0.0, declared.at_most: 1e-6, declared.below: 0.0,
        }  # fmt: skip
        for bound, step in outside.items():
            if bound is None:
                continue
            whole = record["type"] == "int"
            value = int(bound + math.copysign(1, step)) if whole else float(bound + step)
            with pytest.raises(ConfigError, match=f"{record['name']} must "):
                cls(**{record["name"]: value})
            tried += 1
    numbers = [r for r in settings_of(cls) if r["type"] in ("int", "float")]
    assert tried or not numbers


def test_a_misspelt_word_is_answered_with_the_right_one():
    with pytest.raises(ConfigError, match=r"DDS: schedule .* got 'karas', did you mean 'karras'\?"):
        DDS(schedule="karas")
    with pytest.raises(ConfigError, match=r"FBP: filter .* did you mean 'hann'\?"):
        load_sampler("fbp")(filter="hanning")


@pytest.mark.parametrize("name", [n for n in NAMES if load_sampler(n).prior_kinds])
def test_a_network_sampler_without_a_prior_is_refused(name):
    candidates = Identity(SHAPE), Inpainting(torch.ones(SHAPE), SHAPE), mri()
    operator = next(o for o in candidates if load_sampler(name).fits(o))
    frames = load_sampler(name)().least_frames
    told = {"second_prior": "haze"} if load_sampler(name).separates else {}
    y = operator(torch.ones(frames, *SHAPE, dtype=operator.dtype))
    with pytest.raises(ConfigError, match=f"{name} needs a .*prior"):
        solve(y, operator, noise=0.1, prior=None, sampler=name, frames=frames, **told)


# --- what is served


def mri(coils: int = 4) -> MultiCoilMRI:
    maps = torch.full((coils, *SHAPE), coils**-0.5, dtype=torch.complex64)
    return MultiCoilMRI(maps, torch.arange(16) % 2 == 0)


def ct(views: int = 9) -> ParallelBeamCT:
    return ParallelBeamCT(ParallelBeam.covering(shape=SHAPE, views=views))


def test_zerofilled_refuses_ct_of_which_the_adjoint_is_no_image():
    sinogram = torch.ones(1, *ct().out_shape)
    with pytest.raises(ConfigError, match=r"zerofilled serves MRI and inpainting, not .*fbp"):
        solve(sinogram, ct(), sampler="zerofilled")
    with pytest.raises(ConfigError, match="zerofilled serves"):
        solve(
            sinogram,
            Diagonal(torch.ones(ct().out_shape), ct().out_shape) @ ct(),
            sampler="zerofilled",
        )
    masked = Inpainting((torch.arange(16) % 2 == 0).float().expand(SHAPE), SHAPE)
    x = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(solve(masked(x), masked, sampler="zerofilled").image, masked(x))


@pytest.mark.parametrize(
    ("name", "operator", "served"),
    [
        ("fbp", ct(), True),
        ("fbp", ParallelBeamCT, True),
        ("fbp", Planned("ct"), True),
        ("fbp", Planned("ct", abilities=frozenset({"linear"})), False),
        ("fbp", Planned("mri"), False),
        ("fbp", Blur(gaussian(1.0), SHAPE), False),
        ("bicubic", Planned("mri"), False),
        ("tweedie", Identity(SHAPE), True),
        ("tweedie", mri(), False),
        ("ddrm", Blur(gaussian(1.0), SHAPE, "circular"), True),
        ("ddrm", Planned("mri", "", frozenset({"linear"})), False),
        ("ddrm", Planned("mri"), True),
        ("dds", Planned("image", "", frozenset()), False),
        ("dps", Planned("image", "", frozenset()), True),
    ],
)
def test_samplers_serve_kinds_tasks_and_abilities(name, operator, served):
    if served:
        check_operator(load_sampler(name), operator)
        return
    with pytest.raises(ConfigError, match=rf"{name} serves .*; use .*dps"):
        check_operator(load_sampler(name), operator)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (ct(), {"few_data": 1.2, "n_steps": 60}),
        (ct() @ Identity(SHAPE), {"few_data": 1.2, "n_steps": 60}),
        (2.0 * ct(), {"few_data": 1.2}),
        (Diagonal(torch.ones(ct().out_shape), ct().out_shape) @ ct(), {"few_data": 1.2}),
        (mri(), {"gamma_end": 1.5, "cg_iters": 20, "cg_tol": 0.0, "cg_residual": 2e-4}),
        (Identity(SHAPE), {"gamma": 1.0, "n_steps": 30}),
        (Inpainting(torch.ones(SHAPE), SHAPE), {"sigma_start": "auto"}),
        (Blur(gaussian(1.0), SHAPE), {"sigma_start": 0.3, "gamma_end": None}),
        (Planned("ct"), {"few_data": 1.2}),
        (MultiCoilMRI, {"gamma_end": 1.5}),
    ],
)
def test_tuned_settings_follow_the_kind_and_the_task(operator: LinearOperator, expected):
    made = DDS.configured("tuned", operator, {})
    assert {name: getattr(made, name) for name in expected} == expected


def test_the_task_comes_after_the_kind():
    @dataclasses.dataclass(frozen=True)
    class Mine(DDS):
        presets: ClassVar[dict[str, dict[str, Any]]] = {
            "tuned": {"n_steps": 1, "eta": 0.1},
            "tuned image": {"n_steps": 2, "gamma": 2.0},
            "tuned deblur": {"n_steps": 3},
        }

    found = [Mine.configured("tuned", Planned("image", t), {}) for t in ("deblur", "inpaint")]
    assert [(s.n_steps, s.gamma, s.eta) for s in found] == [(3, 2.0, 0.1), (2, 2.0, 0.1)]


def test_a_composed_ct_operator_keeps_the_quality_of_the_plain_one():
    """A @ Identity lost scale and presets: 28.0 instead of 36.2 dB on a thorax."""
    plain, prior = ct(8), GaussianPrior(torch.full(SHAPE, 0.5), spectrum=0.05)
    x = 0.02 * torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    images = [
        solve(plain(x), a, noise=0.01, prior=prior, sampler="dds", n_steps=4).image
        for a in (plain, plain @ Identity(SHAPE))
    ]
    torch.testing.assert_close(images[0], images[1], rtol=SINGLE, atol=SINGLE)
