"""Converted networks at work in the samplers that they were made for, and what they refuse."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from fake_device import FakeDevices
from recipe_weights import filled
from torch import Tensor

import restore
from restore.bridges.base import Level
from restore.errors import ConfigError
from restore.operators.image.inpainting import Inpainting
from restore.priors.families.base import Family
from restore.priors.families.drunet import FAMILY as DRUNET
from restore.priors.families.ffdnet import FAMILY as FFDNET
from restore.priors.families.first_stages import FirstStage
from restore.priors.families.irsde import FAMILY as IRSDE
from restore.priors.families.ldm import FAMILY as LDM
from restore.priors.families.ldm import LDMConfig
from restore.priors.families.meaning import Meaning
from restore.priors.families.rddm import FAMILY as RDDM
from restore.priors.families.rddm import RDDMNetworks
from restore.priors.families.resshift import FAMILY as RESSHIFT
from restore.priors.families.resshift_joined import UNetAlone
from restore.priors.nets.drunet import DRUNetConfig
from restore.priors.nets.ffdnet import FFDNetConfig
from restore.priors.nets.first_stage import DDConfig
from restore.priors.nets.irsde_unet import UNetConfig
from restore.priors.nets.ldm_unet import LDMUNetConfig
from restore.priors.nets.rddm_unet import RDDMConfig
from restore.priors.traits import model_traits

_SWIN = UNetAlone(
    image_size=16, in_channels=3, model_channels=32, out_channels=3, num_res_blocks=(0, 0), attention_resolutions=(),
    channel_mult=(1, 1), num_head_channels=16, swin_embed_dim=32, window_size=4, mlp_ratio=1, lq_size=16,
    latent_flag=False, normalize_input=True,
)  # fmt: skip
_LATENT = LDMConfig(
    LDMUNetConfig(
        in_channels=3, out_channels=3, model_channels=32, num_res_blocks=0, channel_mult=(1, 1), num_heads=2,
        attention_resolutions=(), use_spatial_transformer=True, context_dim=6, legacy=False,
    ),
    FirstStage(DDConfig(32, 3, (1, 1), 0, 16, double_z=False), 3, 16), scale_factor=0.5,
)  # fmt: skip
_PROMPT = torch.linspace(-1, 1, 24).reshape(4, 6)
_RDDM = RDDMNetworks(RDDMConfig(8, dim_mults=(1, 2), condition=True), "shared", objective="pred_res_noise")  # fmt: skip

MODELS: dict[str, tuple[Family, Any, Meaning]] = {
    "rddm": (RDDM, _RDDM, Meaning(range=(-1, 1), schedule="rddm:decreased:increased:1:1000")),
    "irsde": (
        IRSDE, UNetConfig(3, 3, 8, (2, 4)),
        Meaning(range=(0, 1), prediction="eps", schedule="irsde:cosine:100:0.19607843:0.005:irsde"),
    ),
    "resshift": (
        RESSHIFT, _SWIN, Meaning(range=(-1, 1), prediction="x0", schedule="resshift:15:2:0.3:0.04:0.99"),
    ),
    "ldm": (
        LDM, _LATENT,
        Meaning(
            range=(-1, 1), prediction="v", schedule="scaled_linear:0.0015:0.0195:1000", context={"prompt": _PROMPT},
        ),
    ),
    "drunet": (DRUNET, DRUNetConfig(3, 3, (6, 8, 10, 12), 1), Meaning(range=(0, 1), sigma_range=(0, 0.2))),
    "ffdnet": (FFDNET, FFDNetConfig(1, 8, 4), Meaning((0, 1), sigma_range=(0, 0.3), complex_mode="separate")),
}  # fmt: skip


def model(name: str, **changed: Any) -> Any:
    """The model of that name in float32, its meaning changed here and there."""
    family, config, meaning = MODELS[name]
    meaning = dataclasses.replace(meaning, **changed)
    assert family.unstated(config, meaning) == []
    return family.model(filled(lambda: family.network(config)).float(), config, meaning, name)


def measured(*size: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Inpainting]:
    """A smooth picture with holes, and the operator."""
    waves = [torch.linspace(0, 5, n, dtype=dtype).cos() for n in size[-2:]]
    picture = (0.5 + 0.4 * waves[0][:, None] * waves[1]).expand(*size)
    mask = (torch.arange(size[-1]) % 5 > 0).to(dtype).expand(*size)
    operator = Inpainting(mask, size)
    return operator(picture), operator


RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "rddm": ("rddm", {"preset": "published-noise1", "n_steps": 2}),
    "irsde": ("irsde", {"n_steps": 2}),
    "resshift": ("resshift", {"preset": "published-15", "n_steps": 2, "input_scaling": "none"}),
    "ldm": ("stsl", {"n_steps": 2}),
    "drunet": ("dds", {"n_steps": 2, "sigma_start": 0.2}),
    "ffdnet": ("dds", {"n_steps": 2, "sigma_start": 0.2}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RUNS)
def test_a_sampler_runs_with_it_on_sides_that_do_not_divide(name: str, dtype: torch.dtype) -> None:
    sampler, settings = RUNS[name]
    y, operator = measured(3, 21, 26, dtype=dtype)
    result = restore.solve(y, operator, noise=0.05, prior=model(name), sampler=sampler, **settings)
    assert result.image.shape == (3, 21, 26)
    assert result.image.dtype == dtype
    assert bool(result.image.isfinite().all())
    again = restore.solve(y, operator, noise=0.05, prior=model(name), sampler=sampler, **settings)
    assert torch.equal(result.image, again.image)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("rddm", {"preset": "published"}, "sum_scale=1"),
        ("resshift", {"preset": "published"}, "min_noise=0.04"),
        ("irsde", {"n_steps": 2, "s_inf": 30 / 255}, "s_inf=0.196"),
    ],
)
def test_a_chain_at_other_levels_is_refused_with_the_settings(
    name: str, settings: dict[str, Any], words: str
) -> None:
    y, operator = measured(3, 16, 16)
    with pytest.raises(ConfigError, match=words):
        restore.solve(y, operator, noise=0.05, prior=model(name), sampler=name, **settings)


@pytest.mark.parametrize("name", ["rddm", "irsde", "resshift"])
def test_the_schedule_of_a_chain_has_to_be_said(name: str) -> None:
    family, config, meaning = MODELS[name]
    assert family.unstated(config, dataclasses.replace(meaning, schedule="")) == ["schedule"]


def test_the_input_of_resshift_is_scaled_by_the_networks_own_rule() -> None:
    """Whether the sampler asks for it or not; another rule is refused."""
    heard: list[Tensor] = []

    class Listening(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor, t: Tensor, degraded: Tensor) -> Tensor:
            heard.append(x)
            return x

    family, config, meaning = MODELS["resshift"]
    meaning = dataclasses.replace(meaning, schedule="")
    x, c = torch.ones(1, 3, 8, 8), 0.5
    for normalised, scales in ((True, (1.0, 1 / (3 * c + 1))), (False, (1.0,))):
        told = dataclasses.replace(config, normalize_input=normalised)
        for scale in scales:
            family.model(Listening(), told, meaning, "s")(x, Level(3, 0.5, c, scale), x)
    assert [round(float(h.mean()), 6) for h in heard] == [0.4, 0.4, 1.0]
    with pytest.raises(ConfigError, match="input_scaling=none"):
        family.model(Listening(), config, meaning, "s")(x, Level(3, 0.5, c, (c**2 + 1) ** -0.5), x)


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("rddm", {"prediction": "noise"}, ""),  # the objective stands in the settings
        ("irsde", {"prediction": "residual+sum"}, ""),
        ("resshift", {"prediction": "velocity"}, "this family knows"),
    ],
)
def test_what_a_network_predicts_must_be_known(
    name: str, wrong: dict[str, Any], words: str
) -> None:
    if not words:
        assert model(name, **wrong).head in ("residual+noise", "residual+sum")
        return
    with pytest.raises(ConfigError, match=words):
        model(name, **wrong)


def test_one_answer_cannot_serve_an_objective_of_two() -> None:
    one = RDDMNetworks(RDDMConfig(8, dim_mults=(1,)), "one", objective="pred_res_noise")
    network = filled(lambda: RDDM.network(one))
    with pytest.raises(ConfigError, match="give 1"):
        RDDM.model(network, one, Meaning(range=(-1, 1)), "one")


def test_times_are_told_in_the_way_of_the_experiment() -> None:
    """Experiments 0, 4 and 5 tell A_t T and B_t T instead of t."""
    heard: list[Tensor] = []

    class Listening(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor, *times: Tensor) -> tuple[Tensor, Tensor]:
            heard.extend(times)
            return x[:, :3], x[:, :3]

    x, level = torch.zeros(2, 3, 8, 8), Level(7.0, 0.25, 0.5)
    for pair in (False, True):
        config = RDDMNetworks(RDDMConfig(8, condition=True), "two", pair, "pred_res_noise")
        RDDM.model(Listening(), config, Meaning(range=(-1, 1)), "two")(x, level, x)
    assert [t.tolist() for t in heard] == [[7, 7], [7, 7], [750, 750], [500, 500]]


def test_a_text_is_given_and_never_guessed() -> None:
    family, config, meaning = MODELS["ldm"]
    assert family.unstated(config, Meaning(meaning.range, meaning.schedule, "v")) == [
        "context.prompt"
    ]
    one, other = model("ldm"), model("ldm", context={"prompt": _PROMPT.flip(0, 1)})
    z = torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8)
    assert not torch.allclose(one.denoise(z, 0.5), other.denoise(z, 0.5), atol=1e-3)


def test_codes_are_scaled_and_images_in_the_stated_range() -> None:
    latent = model("ldm")
    x = torch.linspace(0, 1, 768).reshape(1, 3, 16, 16)
    stage = latent.encoder.stage
    assert torch.equal(latent.encode(x), stage.encode(2 * x - 1) * 0.5)
    z = latent.encode(x)
    assert torch.equal(latent.decode(z), (stage.decode(z / 0.5) + 1) / 2)
    assert model_traits(latent).kind == "latent"


def test_decoding_through_the_codebook_passes_gradients() -> None:
    latent = model("ldm")
    z = torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8).requires_grad_()
    latent.decode(z).sum().backward()
    assert z.grad is not None
    assert float(z.grad.abs().max()) > 0


@pytest.mark.parametrize("name", ["drunet", "ffdnet"])
def test_noise_is_told_in_units_of_the_training_images(name: str) -> None:
    """A network of -1..1 used in 0..1 is told twice the noise."""
    unit, signed = model(name), model(name, range=(-1, 1))
    x = torch.linspace(0, 1, unit.channels * 1024).reshape(1, unit.channels, 32, 32)
    told = unit(2 * x - 1, 0.2)
    assert torch.allclose(signed(x, 0.1), (told + 1) / 2, atol=1e-6)
    assert signed.sigma_max == unit.sigma_max / 2


@pytest.mark.parametrize("name", RUNS)
def test_it_runs_on_another_device(name: str) -> None:
    sampler, settings = RUNS[name]
    with FakeDevices():
        y, operator = measured(3, 16, 16)
        y, operator = y.to("cuda:1"), operator.to("cuda:1")
        result = restore.solve(
            y, operator, noise=0.05, prior=model(name), sampler=sampler, **settings
        )
    assert str(result.image.device) == "cuda:1"


@pytest.mark.parametrize("name", RUNS)
def test_weights_in_half_precision_serve(name: str) -> None:
    sampler, settings = RUNS[name]
    y, operator = measured(3, 16, 16)
    half = model(name).to(torch.float16)
    result = restore.solve(y, operator, noise=0.05, prior=half, sampler=sampler, **settings)
    assert result.image.dtype == torch.float32
    assert bool(result.image.isfinite().all())


@pytest.mark.parametrize(
    ("name", "context", "words"),
    [
        ("ldm", {"prompt": torch.zeros(4, 5)}, "'prompt' has the shape (4, 5), expected (..., 6)"),
        ("irsde", {"image": torch.zeros(5)}, "the network is told none"),
    ],
)
def test_a_context_of_another_width_is_refused(
    name: str, context: dict[str, Tensor], words: str
) -> None:
    with pytest.raises(ConfigError) as found:
        model(name, context=context)
    assert words in str(found.value)


def test_tasks_that_nobody_stated_are_mentioned() -> None:
    y, operator = measured(3, 16, 16)
    for tasks, said in (((), True), (("inpaint",), False)):
        result = restore.solve(
            y, operator, noise=0.05, prior=model("irsde", tasks=tasks), sampler="irsde", n_steps=2
        )
        assert any("tasks it was trained" in note for note in result.notes) == said
    with pytest.raises(ConfigError, match="trained for deblur"):
        restore.solve(
            y, operator, noise=0.05, prior=model("irsde", tasks=("deblur",)), sampler="irsde"
        )


def test_levels_beyond_the_training_noise_are_refused() -> None:
    y, operator = measured(3, 16, 16)
    with pytest.raises(ConfigError, match="sigma_start"):
        restore.solve(
            y, operator, noise=0.05, prior=model("drunet"), sampler="dds", sigma_start=1.0
        )


def test_further_images_that_nobody_has_are_refused() -> None:
    shadows = RDDMNetworks(RDDMConfig(8, input_condition=True), "two", objective="pred_res_noise")
    with pytest.raises(ConfigError, match="third image"):
        RDDM.model(torch.nn.Identity(), shadows, Meaning(range=(-1, 1)), "shadows")
    masked = dataclasses.replace(_SWIN, cond_mask=True)
    with pytest.raises(ConfigError, match="and a mask"):
        RESSHIFT.model(torch.nn.Identity(), masked, Meaning(range=(-1, 1), prediction="x0"), "m")
