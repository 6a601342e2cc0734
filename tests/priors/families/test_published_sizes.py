"""Parameters of published configurations, counted on the meta device: no network has a layer too many or too few.

The numbers were counted in the authors' own classes: parameters, tensors of them, tensors and values of the state dict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from restore.priors.nets.first_stage import AutoencoderKL, DDConfig, VQModel
from restore.priors.nets.irsde_nafnet import ConditionalNAFNet, NAFNetConfig
from restore.priors.nets.irsde_unet import ConditionalUNet, UNetConfig
from restore.priors.nets.ldm_unet import LDMUNet, LDMUNetConfig
from restore.priors.nets.rddm_unet import RDDMConfig, SharedUnet, TwoUnets
from restore.priors.nets.swin_unet import SwinUNet, SwinUNetConfig


def _vq_f4() -> nn.Module:
    dd = DDConfig(128, 3, (1, 2, 4), 2, 256, double_z=False)
    return VQModel(dd, 3, 8192)


def _vq_f8_faces() -> nn.Module:
    dd = DDConfig(64, 8, (1, 2, 4, 8), (1, 2, 3, 4), 512, double_z=False)
    return VQModel(dd, 8, 4096)


def _kl_f8() -> nn.Module:
    return AutoencoderKL(DDConfig(128, 4, (1, 2, 4, 4), 2, 256), 4)


def _ldm_ffhq() -> nn.Module:
    return LDMUNet(
        LDMUNetConfig(
            in_channels=3,
            out_channels=3,
            model_channels=224,
            attention_resolutions=(8, 4, 2),
            num_res_blocks=2,
            channel_mult=(1, 2, 3, 4),
            num_head_channels=32,
        )
    )


def _stable_diffusion() -> nn.Module:
    return LDMUNet(
        LDMUNetConfig(
            in_channels=4,
            out_channels=4,
            model_channels=320,
            attention_resolutions=(4, 2, 1),
            num_res_blocks=2,
            channel_mult=(1, 2, 4, 4),
            num_heads=8,
            use_spatial_transformer=True,
            context_dim=768,
            legacy=False,
        )
    )


def _swin(lq_size: int, channels: int = 3, **further: Any) -> Callable[[], nn.Module]:
    return lambda: SwinUNet(
        SwinUNetConfig(
            image_size=64,
            in_channels=channels,
            model_channels=160,
            out_channels=channels,
            attention_resolutions=(64, 32, 16, 8),
            num_res_blocks=(2, 2, 2, 2),
            channel_mult=(1, 2, 2, 4),
            num_head_channels=32,
            use_scale_shift_norm=True,
            swin_depth=2,
            swin_embed_dim=192,
            window_size=8,
            mlp_ratio=4,
            lq_size=lq_size,
            **further,
        )
    )


def _rddm(count: int, **further: bool) -> Callable[[], nn.Module]:
    return lambda: TwoUnets(RDDMConfig(64, **further), count)


SIZES: dict[str, tuple[Callable[[], nn.Module], int, int, int, int]] = {
    "LDM FFHQ-256, first stage": (_vq_f4, 55_322_782, 205, 205, 55_322_782),
    "LDM FFHQ-256, U-Net": (_ldm_ffhq, 274_056_163, 368, 368, 274_056_163),
    "Stable Diffusion 1, first stage": (_kl_f8, 83_653_863, 248, 248, 83_653_863),
    "Stable Diffusion 1, U-Net": (_stable_diffusion, 859_520_964, 686, 686, 859_520_964),
    "ResShift x4": (_swin(64), 118_593_583, 540, 564, 119_355_439),
    "ResShift x2": (_swin(128), 118_640_431, 544, 568, 119_402_287),
    "ResShift inpainting": (_swin(256, cond_mask=True), 118_714_399, 548, 572, 119_476_255),
    "ResShift faces": (_swin(512, 8), 118_931_604, 552, 576, 119_693_460),
    "ResShift faces, autoencoder": (_vq_f8_faces, 77_009_115, 285, 285, 77_009_115),
    "RDDM generation": (_rddm(2), 72_503_558, 552, 552, 72_503_558),
    "RDDM one network": (_rddm(1, condition=True), 36_261_187, 276, 276, 36_261_187),
    "RDDM two networks": (_rddm(2, condition=True), 72_522_374, 552, 552, 72_522_374),
    "RDDM shadows": (_rddm(2, condition=True, input_condition=True), 72_541_190, 552, 552, 72_541_190),
    "RDDM shared encoder": (
        lambda: SharedUnet(RDDMConfig(64, condition=True)), 51_980_614, 396, 396, 51_980_614,
    ),
    "IR-SDE ConditionalUNet": (
        lambda: ConditionalUNet(UNetConfig(3, 3, 64, (2, 4, 8, 16))), 137_147_523, 151, 151, 137_147_523,
    ),
    "Refusion ConditionalNAFNet": (
        lambda: ConditionalNAFNet(NAFNetConfig(3, 64, 1, (1, 1, 1, 28), (1, 1, 1, 1))),
        76_608_387, 668, 668, 76_608_387,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_published_configurations_have_the_published_size(name: str) -> None:
    build, *expected = SIZES[name]
    with torch.device("meta"):
        network = build()
    parameters, state = list(network.parameters()), network.state_dict()
    found = [
        sum(p.numel() for p in parameters), len(parameters), len(state), sum(t.numel() for t in state.values()),
    ]  # fmt: skip
    assert found == expected
