"""Priors, samplers and whole reconstructions on a device that is not the CPU: every sampler, through the registry."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from fake_device import FakeCuda
from torch import Tensor, nn

from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import head_phantom
from restore.errors import ConfigError
from restore.front_door import solve
from restore.noise import Gaussian
from restore.operators.base import Operator
from restore.operators.ct.beer_lambert import BeerLambert
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.diagonal import Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.scan_to_volume import reconstruct
from restore.priors.autoencoder import AutoencoderConfig, new_autoencoder
from restore.priors.base import Denoiser
from restore.priors.bridge_edm import build_bridge_denoiser
from restore.priors.distilled import DistilledModel, FewSteps
from restore.priors.edm import build_unet_denoiser
from restore.priors.image_spectrum import ImageSpectrum
from restore.priors.latent_edm import LatentEDM
from restore.priors.networks import networks_in
from restore.priors.operator_family import OperatorFamily
from restore.priors.region import region_denoiser
from restore.priors.traits import Model
from restore.priors.unet import UNetConfig
from restore.priors.varnet import VarNetConfig, new_varnet
from restore.priors.wrappers import FromDenoiser, FromEps, FromFlow, FromScore
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.registry import load_sampler, sampler_names
from restore.samplers.base import Sampler
from restore.samplers.dds import DDS
from restore.samplers.toolbox.levels import vp_alphas_cumprod

THERE = "cuda:1"
SIDE = 16
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
"""The same float32 operations: sums over other memory layouts may round otherwise, some hundred times after another."""


def operators() -> dict[str, Operator]:
    g = torch.Generator().manual_seed(3)
    shape, picture = (SIDE, SIDE), (3, SIDE, SIDE)
    maps = torch.randn(3, *shape, generator=g, dtype=torch.complex64)
    ct = ParallelBeamCT(ParallelBeam.covering(shape=shape, views=9))
    return {
        "mri": MultiCoilMRI(
            maps / torch.linalg.vector_norm(maps, dim=0), torch.rand(SIDE, generator=g) < 0.5
        ),
        "ct": ct,
        "inpaint": Inpainting.random(picture, 0.5, g),
        "superres": Downsample(picture, 2),
        "deblur": Blur(gaussian(1.2), picture, boundary="circular"),
        "valid": Blur(gaussian(1.2), picture, boundary="valid"),
        "denoise": Identity(picture),
        "counts": BeerLambert(ct, 1.0),
    }


OPERATORS = operators()
TINY = UNetConfig(3, (8,), (1,), embedding=8)


def network(channels: int) -> UNetConfig:
    return dataclasses.replace(TINY, channels=channels)


def model_for(sampler: Sampler, channels: int) -> Model | None:
    """A small untrained model of the first kind that the sampler takes."""
    if not sampler.prior_kinds:
        return None
    if sampler.prior_kinds[0] == "conditional":
        return build_bridge_denoiser(
            UNetConfig(channels, (8,), (1,), embedding=8, condition=channels)
        )
    if sampler.prior_kinds[0] == "cascade":
        return new_varnet(VarNetConfig(2, (8,), (1,), memory=1))
    denoiser = build_unet_denoiser(network(channels))
    if sampler.prior_kinds[0] == "region":
        return region_denoiser(denoiser)
    if sampler.prior_kinds[0] != "distilled":
        return denoiser
    steps = FewSteps((0.2, 0.1), (30.0, 100.0), (0.3,))
    return DistilledModel(denoiser, steps, OperatorFamily("", "any task", {}, 0.05))


def quick(name: str, operator: Operator) -> Sampler:
    cls = load_sampler(name)
    fields = {f.name for f in dataclasses.fields(cls)}
    few = {
        "n_steps": 2,
        "cg_iters": 2,
        "inner_iters": 2,
        "rank": 2,
    }  # a turn of every loop, and one more
    second = {"mri": "herringbone", "ct": "stripes"}.get(operator.kind, "haze")
    told = {"second_prior": second} if cls.separates else {}
    return cls.configured("tuned", operator, {k: v for k, v in few.items() if k in fields} | told)


def measured(operator: Operator) -> Tensor:
    """Two items, as a volume where samplers couple slices."""
    g = torch.Generator().manual_seed(1)
    x = torch.rand((2, *operator.in_shape), generator=g)
    x = 0.1 * x if operator.task == "counts" else x  # not all photons are stopped
    return operator(x.to(torch.complex64) if operator.is_complex else x)


NAMES = sorted(sampler_names())
PAIRS = [
    (name, kind)
    for name, kind in itertools.product(NAMES, OPERATORS)
    if load_sampler(name).fits(OPERATORS[kind])
    # stripes ask for more views, and of the others no structured noise has a name
    and not (
        load_sampler(name).separates and kind in ("ct", "inpaint", "superres", "deblur", "valid")
    )
]


def test_every_sampler_and_every_kind_of_measurement_is_tried():
    assert {name for name, _ in PAIRS} == set(NAMES)
    assert {kind for _, kind in PAIRS} == set(OPERATORS)


# Seconds each; what these samplers do on a device does not depend on the task
TAKING_LONG = [
    ("joint", "denoise"), *(("redpsm", k) for k in ("inpaint", "denoise", "valid", "deblur", "superres")),
    *(("fewstep", k) for k in ("valid", "superres", "deblur")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"),
    [pytest.param(*p, marks=[pytest.mark.slow] if p in TAKING_LONG else []) for p in PAIRS],
)
def test_every_sampler(name, kind):
    if (name, kind) == ("unsupervised-wiener", "valid"):
        pytest.skip("it refuses measurements smaller than the image, on every device")
    operator = OPERATORS[kind]
    sampler, y = quick(name, operator), measured(operator)
    if (name, kind) == ("redpsm", "ct"):
        # its turns grow the rounding of singles, other with matrices than without, to 1e-3; doubles agree to 1e-12
        operator, y = operator.to(torch.float64), y.double()
    model = model_for(sampler, operator.in_shape[0] if len(operator.in_shape) == 3 else 1)
    samples = 2 if kind == "inpaint" else 1
    frames = 2 if sampler.couples_frames else 1
    run = {
        "noise": 0.05,
        "prior": model,
        "sampler": sampler,
        "samples": samples,
        "trace": True,
        "frames": frames,
    }
    there = solve(y.to(THERE), operator.to(THERE), **run)  # type: ignore[arg-type]
    here = solve(y, operator, **run)  # type: ignore[arg-type]
    for result in (there.image, there.std, there.samples)[: 1 if samples == 1 else 3]:
        assert isinstance(result, FakeCuda)
        assert str(result.device) == THERE
    torch.testing.assert_close(there.image.cpu(), here.image, **CLOSE)
    if model is not None:  # the caller's network is where it was
        assert {p.device.type for n in networks_in(model) for p in n.parameters()} == {"cpu"}
        assert not any(isinstance(p, FakeCuda) for n in networks_in(model) for p in n.parameters())


@pytest.mark.parametrize("kind", ["mri", "inpaint"])
@pytest.mark.parametrize("solver", ["unipc", "deis", "plms"])
def test_solvers_and_the_gaussian_start(kind, solver):
    operator = OPERATORS[kind]
    y, model = measured(operator), build_unet_denoiser(network(1 if kind == "mri" else 3))
    model.image_spectrum = ImageSpectrum(0.4, 0.1, (0.01, 0.5), (20.0, 0.001))
    settings = {"start": "gaussian", "skip": 0.2, "eta": 0.0, "n_steps": 5, "cg_iters": 2}
    run = {"noise": 0.05, "prior": model, "sampler": "dds", "solver": solver, **settings}
    there = solve(y.to(THERE), operator.to(THERE), **run)  # type: ignore[arg-type]
    assert isinstance(there.image, FakeCuda)
    torch.testing.assert_close(there.image.cpu(), solve(y, operator, **run).image, **CLOSE)  # type: ignore[arg-type]


def convolution(channels: int = 1) -> nn.Module:
    first, last = nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(4, channels, 3, padding=1)
    layers = nn.Sequential(first, nn.SiLU(), last)
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in layers.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=g))
    return layers


class Bare(nn.Module):
    """D(x, sigma) as people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.drop = convolution(), nn.Dropout(0.5)
        self.register_buffer("level", torch.ones(1))

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        return self.drop(x + sigma * self.level * self.layers(x))


def labelled(x: Tensor, level: Tensor) -> Tensor:
    return 0.1 * x


ALPHAS = vp_alphas_cumprod()
MODELS: dict[str, object] = {
    "network": Bare(), "function": lambda x, sigma: x / (1 + sigma), "FromDenoiser": FromDenoiser(Bare(), channels=1),
    "FromEps": FromEps(labelled, ALPHAS), "nearest": FromEps(labelled, ALPHAS, levels="nearest"),
    "FromScore": FromScore(labelled), "FromFlow": FromFlow(labelled),
    "magnitude": FromDenoiser(labelled, complex_mode="magnitude"),
    "pairs": FromDenoiser(labelled, channels=2, complex_mode="channels"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_everybodys_priors(name):
    operator, model = OPERATORS["mri"], MODELS[name]
    y = measured(operator)
    run = {"noise": 0.05, "prior": model, "sampler": DDS(n_steps=3)}
    there = solve(y.to(THERE), operator.to(THERE), **run)  # type: ignore[arg-type]
    torch.testing.assert_close(there.image.cpu(), solve(y, operator, **run).image, **CLOSE)  # type: ignore[arg-type]
    assert not any(isinstance(p, FakeCuda) for n in networks_in(model) for p in n.parameters())
    assert all(n.training for n in networks_in(model))


def test_latent_priors():
    codes = new_autoencoder(AutoencoderConfig(3, 4, (8, 8), (1, 1)))
    denoiser = build_unet_denoiser(
        UNetConfig(4, (8,), (1,), unshuffle=1, embedding=8), sigma_data=1.0
    )
    model = LatentEDM(codes, denoiser, torch.zeros(4), torch.ones(4), name="tiny")
    operator, sampler = OPERATORS["inpaint"], load_sampler("stsl")(n_steps=2)  # type: ignore[call-arg]
    y = measured(operator)
    there = solve(y.to(THERE), operator.to(THERE), noise=0.05, prior=model, sampler=sampler)
    here = solve(y, operator, noise=0.05, prior=model, sampler=sampler)
    torch.testing.assert_close(there.image.cpu(), here.image, **CLOSE)


def test_a_function_around_a_network_that_lies_elsewhere_is_named():
    layers = convolution()
    operator = OPERATORS["mri"]
    with pytest.raises(ConfigError, match=r"function around a network.*network\.to"):
        solve(measured(operator).to(THERE), operator.to(THERE), prior=lambda x, sigma: layers(x))


class Careless(Sampler):
    """Draws on the CPU and forgets to move: what these tests are there to find."""

    def steps(self, problem: Problem, prior: object, draws: Draws):
        noise = torch.randn(problem.image_shape, generator=torch.Generator().manual_seed(0))
        yield Step(0, 1, 1.0, problem.degraded + noise, 0)


class Far(Denoiser):
    """Answers from the CPU, wherever it is asked."""

    name = "far"

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return x.cpu()


def test_a_sampler_and_a_prior_that_forget_the_device_are_caught():
    operator = OPERATORS["inpaint"]
    y = measured(operator)
    solve(y, operator, sampler=Careless(), prior=lambda x, sigma: x)
    with pytest.raises(RuntimeError, match="same device"):
        solve(y.to(THERE), operator.to(THERE), sampler=Careless(), prior=lambda x, sigma: x)
    with pytest.raises(ConfigError, match=r"'far' returned torch\.float32 on cpu.*on cuda:1"):
        solve(y.to(THERE), operator.to(THERE), prior=Far())


@pytest.mark.parametrize("kind", ["mri", "ct"])
@pytest.mark.parametrize("sampler", ["dds", pytest.param("tv", marks=pytest.mark.slow)])
def test_a_scan_becomes_a_volume_on_the_device_that_is_asked_for(kind, sampler, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**33, 2**34))
    volume = head_phantom()
    scan = (
        simulate_mri(volume, coils=2, acceleration=2, slices=slice(16, 18), seed=7)
        if kind == "mri"
        else simulate_ct(volume, views=12, photons=1e5, slices=slice(16, 18), seed=7)
    )
    seen: set[str] = set()
    chosen = load_sampler(sampler).configured("tuned", scan, {"n_steps": 2})
    model = build_unet_denoiser(network(1)) if chosen.prior_kinds else None

    def watch(before: int, size: int, step: Step) -> None:
        seen.add(str(step.x0.device))

    run = {"options": ReconOptions(), "on_step": watch}
    there = reconstruct(scan, chosen, model, device=torch.device(THERE), **run)  # type: ignore[arg-type]
    assert seen == {THERE}
    here = reconstruct(scan, chosen, model, device=torch.device("cpu"), **run)  # type: ignore[arg-type]
    size = float(abs(here.volume.data).max())
    torch.testing.assert_close(
        torch.as_tensor(there.volume.data),
        torch.as_tensor(here.volume.data),
        rtol=1e-3,
        atol=1e-4 * size,
    )


def test_noise_is_drawn_where_the_measurement_lies():
    y = torch.zeros(3, 4).to(THERE)
    assert str(Gaussian(0.1).sample(y, torch.Generator().manual_seed(0)).device) == THERE
    assert str(Draws(0, ["a", "b", "c"]).normal_like(y, 1).device) == THERE
