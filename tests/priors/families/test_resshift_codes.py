"""ResShift in codes: a network joined with its autoencoder, and the chain that runs between their codes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipe_weights import filled
from torch import Tensor

import restore
from restore.bridges.resshift import ResShiftSchedule
from restore.errors import ConfigError, OutputError, WeightsError
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.pipelines.model_files import Conversion, convert, state
from restore.pipelines.model_join import join_models
from restore.priors.families.meaning import Meaning
from restore.priors.families.resshift import FAMILY
from restore.priors.families.resshift_joined import Joined
from restore.priors.store import load_prior
from restore.problem import Problem
from restore.randomness import Draws

UNET: dict[str, Any] = {
    "cls": "UNetModelSwin", "image_size": 8, "in_channels": 3, "model_channels": 32, "out_channels": 3,
    "num_res_blocks": 0, "attention_resolutions": [], "channel_mult": [1], "num_head_channels": 16,
    "swin_embed_dim": 32, "window_size": 4, "mlp_ratio": 1, "lq_size": 8,
    "latent_flag": True, "normalize_input": True,
}  # fmt: skip
STAGE: dict[str, Any] = {
    "embed_dim": 3, "n_embed": 32,
    "ddconfig": {
        "double_z": False, "z_channels": 3, "resolution": 16, "in_channels": 3, "out_ch": 3, "ch": 32,
        "ch_mult": [1, 1], "num_res_blocks": 0, "attn_resolutions": [], "padding_mode": "zeros",
    },
}  # fmt: skip
SAID = Meaning(range=(-1, 1), prediction="x0", schedule="resshift:4:2:0.3:0.2:0.99")
SINGLE = 1e-4
"""Two runs of the same networks in float32, batched otherwise; 3e-7 of a result around 1 seen."""


def joined(**changed: Any) -> Any:
    """The model in memory, in float32."""
    config = FAMILY.config({"unet": UNET | changed, "autoencoder": STAGE})
    return FAMILY.model(filled(lambda: FAMILY.network(config)).float(), config, SAID, "codes")


def picture(*size: int) -> Tensor:
    rows, columns = (torch.linspace(0, 4, n).cos() for n in size[-2:])
    return (0.5 + 0.3 * rows[:, None] * columns).expand(*size)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The parts of `joined`, as files of their own that were converted."""
    whole = joined().network
    parts = {"net": (whole.model, UNET), "vq": (whole.autoencoder, STAGE)}
    for name, (network, settings) in parts.items():
        source, out = tmp_path / f"{name}.pth", tmp_path / f"{name}.safetensors"
        torch.save(network.state_dict(), source)
        convert(Conversion(source, "resshift", out, settings=settings, licence=f"of {name}"))
    return tmp_path / "net.safetensors", tmp_path / "vq.safetensors"


def test_two_files_become_one_prior(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "whole.safetensors"
    made = join_models(*files, out)
    assert isinstance(made.config, Joined)
    assert made.missing() == ["range", "prediction", "schedule"]
    with pytest.raises(ConfigError, match="--range"):
        load_prior(out)
    state(out, SAID, {})
    stored, own = load_prior(out), joined()
    x = picture(1, 3, 16, 16)
    assert torch.equal(stored.encode(x), own.encode(x))  # type: ignore[union-attr]
    with pytest.raises(OutputError, match="exists"):
        join_models(*files, out)


def test_only_what_belongs_together_is_joined(files: tuple[Path, Path], tmp_path: Path) -> None:
    network, autoencoder = files
    with pytest.raises(ConfigError, match="then its autoencoder"):
        join_models(autoencoder, network, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="do not belong"):
        FAMILY.config({"unet": UNET | {"in_channels": 4, "out_channels": 4}, "autoencoder": STAGE})
    with pytest.raises(ConfigError, match="no fraction"):
        FAMILY.config({"unet": UNET | {"lq_size": 64}, "autoencoder": STAGE})
    with pytest.raises(WeightsError, match="no prior by itself"):
        load_prior(autoencoder)


def test_a_network_alone_has_to_say_that_it_is_one_of_pixels(files: tuple[Path, Path]) -> None:
    silent = {k: v for k, v in UNET.items() if k not in ("latent_flag", "normalize_input")}
    assert FAMILY.unstated(FAMILY.config(silent), SAID) == ["latent_flag", "normalize_input"]
    assert state(files[0], SAID, {}).kind == "part"
    with pytest.raises(WeightsError, match="no prior by itself"):
        load_prior(files[0])


def test_the_chain_is_that_of_the_paper_between_codes() -> None:
    """Written out by hand: codes of the enlarged picture, the posterior of each step, decoding through the codebook."""
    model, operator = joined(), Downsample((3, 16, 24), 2)
    y = operator(picture(3, 16, 24))
    result = restore.solve(
        y,
        operator,
        noise=0,
        prior=model,
        sampler="resshift",
        preset="published",
        stochastic=False,
        seed=3,
    )
    schedule = ResShiftSchedule(4, input_scaling="latent")
    draws = Draws(3, ["sample 0/0"])
    degraded = Problem(y, operator).observed
    small, code = (2 * y - 1)[None], model.encode((2 * degraded - 1)[None])
    z = code + schedule.level(3).c * draws.normal_like(code[0], 3)[None]
    for k in (3, 2, 1, 0):
        (z0,) = model(z, schedule.level(k), small)
        z = schedule.deterministic(z, z0, code, k) if k else z0
    expected = (model.decode(z)[0] + 1) / 2
    assert (result.image - expected).abs().max() < SINGLE * expected.abs().max()


@pytest.mark.parametrize("size", [(16, 16), (22, 34)])
def test_pictures_of_any_size_and_batches(size: tuple[int, int]) -> None:
    operator = Downsample((3, *size), 2)
    y = operator(picture(3, *size)).expand(2, -1, -1, -1)
    result = restore.solve(
        y, operator, noise=0, prior=joined(), sampler="resshift", preset="published"
    )
    assert result.image.shape == (2, 3, *size)
    assert bool(result.image.isfinite().all())
    assert not torch.equal(result.image[0], result.image[1])  # every picture draws its own noise


def test_the_degraded_picture_is_shown_in_its_own_size() -> None:
    seen: list[Tensor] = []

    class Listening(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor, degraded: Tensor) -> Tensor:
            seen.append(degraded)
            return x

    for lq_size, operator in (
        (8, Downsample((3, 16, 16), 2)),
        (16, Inpainting(torch.ones(3, 16, 16), (3, 16, 16))),
    ):
        model = joined(lq_size=lq_size)
        model.network.model = Listening()
        y = operator(picture(3, 16, 16))
        restore.solve(y, operator, noise=0, prior=model, sampler="resshift", preset="published")
        assert torch.allclose(seen[-1][0], 2 * y - 1, atol=1e-6)


def test_data_consistency_passes_through_pictures() -> None:
    operator = Downsample((3, 16, 16), 2)
    y = operator(picture(3, 16, 16))
    result = restore.solve(
        y,
        operator,
        noise=0,
        prior=joined(),
        sampler="resshift",
        preset="published",
        data_consistency=True,
    )
    assert bool(result.image.isfinite().all())


def test_what_it_cannot_serve_is_refused() -> None:
    model = joined()
    grey = Downsample((16, 16), 2)
    with pytest.raises(ConfigError, match="codes of 3-channel"):
        restore.solve(
            grey(picture(16, 16)),
            grey,
            noise=0,
            prior=model,
            sampler="resshift",
            preset="published",
        )
    other = Downsample((3, 16, 16), 4)
    with pytest.raises(ConfigError, match="super-resolution by 2"):
        restore.solve(
            other(picture(3, 16, 16)),
            other,
            noise=0,
            prior=model,
            sampler="resshift",
            preset="published",
        )
    fits = Downsample((3, 16, 16), 2)
    with pytest.raises(ConfigError, match="clip=False"):
        restore.solve(
            fits(picture(3, 16, 16)),
            fits,
            noise=0,
            prior=model,
            sampler="resshift",
            preset="published",
            clip=True,
        )
    masked = dataclasses.replace(FAMILY.config(UNET), cond_mask=True)
    config = Joined(masked, FAMILY.config(STAGE))
    with pytest.raises(ConfigError, match="mask"):
        FAMILY.model(torch.nn.Identity(), config, SAID, "masked")


def test_stored_outputs_of_both_parts_are_replayed(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    from restore.pipelines.model_check import replay

    out = tmp_path / "whole.safetensors"
    join_models(*files, out)
    own = joined()
    x, img = picture(2, 3, 8, 8), picture(2, 3, 16, 16)
    with torch.no_grad():
        arrays = {
            "x": x, "t": torch.tensor([3, 0]), "lq": x, "img": img,
            "swin_same_f64": own.network.double().model(x.double(), torch.tensor([3, 0]), x.double()),
            "vq_encode_f64": own.network.autoencoder.encode(img.double()),
        }  # fmt: skip
    np.savez(tmp_path / "io.npz", **{k: v.numpy() for k, v in arrays.items()})
    found = replay(out, tmp_path / "io.npz")
    assert {c.output: c.same for c in found.compared} == {
        "swin_same_f64": True,
        "vq_encode_f64": True,
    }
