"""Small networks of published families with weights by the recipe (`recipe_weights`), and calls of each.

What they answer is stored in tests/golden/checkpoints/by_recipe.npz.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from recipe_weights import drawn
from torch import Tensor, nn

from restore.priors.nets.drunet import DRUNet, DRUNetConfig
from restore.priors.nets.ffdnet import FFDNet, FFDNetConfig
from restore.priors.nets.first_stage import AutoencoderKL, DDConfig, VQModel
from restore.priors.nets.irsde_nafnet import ConditionalNAFNet, NAFNetConfig
from restore.priors.nets.irsde_unet import ConditionalUNet, UNetConfig
from restore.priors.nets.ldm_unet import LDMUNet, LDMUNetConfig
from restore.priors.nets.rddm_unet import RDDMConfig, SharedUnet, Unet
from restore.priors.nets.swin_unet import SwinUNet, SwinUNetConfig


@dataclasses.dataclass(frozen=True)
class Entry:
    """A network and one call of it."""

    build: Callable[[], nn.Module]
    call: Callable[[Any], Tensor]


def picture(name: str, channels: int, *size: int) -> Tensor:
    """Two images in [0, 1], float64."""
    return drawn(f"input {name}", (2, channels, *size), 0.5, 0.5)


_T = torch.tensor([3.0, 717.25], dtype=torch.float64)
_SIGMA = torch.tensor([0.1, 0.02], dtype=torch.float64)
_DD: dict[str, Any] = {"ch": 32, "ch_mult": (1, 1), "resolution": 16, "z_channels": 3}
_SWIN: dict[str, Any] = {
    "image_size": 16, "in_channels": 3, "model_channels": 32, "out_channels": 3, "channel_mult": (1, 1),
    "num_head_channels": 16, "swin_embed_dim": 32, "window_size": 4, "mlp_ratio": 1,
}  # fmt: skip
_LDM: dict[str, Any] = {
    "in_channels": 3, "out_channels": 3, "model_channels": 32, "num_res_blocks": 0, "channel_mult": (1, 1),
    "attention_resolutions": (1, 2), "use_scale_shift_norm": True,
}  # fmt: skip


def _x(channels: int = 3, *size: int) -> Tensor:
    return picture("x", channels, *(size or (16, 16)))


def _y(*size: int) -> Tensor:
    return picture("y", 3, *(size or (16, 16)))


def _both(network: Any, *given: Tensor) -> Tensor:
    return torch.cat(network(*given), dim=1)


ENTRIES: dict[str, Entry] = {
    "irsde_unet": Entry(
        lambda: ConditionalUNet(UNetConfig(3, 3, 8, (2, 4))),
        lambda n: n(_x(3, 11, 14), _y(11, 14), _T),
    ),
    "irsde_daclip": Entry(
        lambda: ConditionalUNet(UNetConfig(3, 3, 32, (1, 1, 1, 1), 6, True, True)),
        lambda n: n(_x(), _y(), _T, drawn("degradation", (2, 6)), drawn("image", (2, 6))),
    ),
    "irsde_nafnet": Entry(
        lambda: ConditionalNAFNet(NAFNetConfig(3, 8, 1, (1, 2), (1, 1))),
        lambda n: n(_x(3, 13, 18), _y(13, 18), _T),
    ),
    "rddm_shared": Entry(
        lambda: SharedUnet(RDDMConfig(8, dim_mults=(1, 2), condition=True)),
        lambda n: _both(n, torch.cat([_x(), _y()], dim=1), _T),
    ),
    "rddm_learned": Entry(
        lambda: Unet(
            RDDMConfig(8, dim_mults=(1,), self_condition=True, learned_sinusoidal_cond=True)
        ),
        lambda n: n(_x(), _T / 1000),
    ),
    "swin_same": Entry(
        lambda: SwinUNet(
            SwinUNetConfig(**_SWIN, num_res_blocks=(1, 1), attention_resolutions=(16,), lq_size=16)
        ),
        lambda n: n(_x(), _T, _y()),
    ),
    "swin_larger_and_mask": Entry(
        lambda: SwinUNet(
            SwinUNetConfig(
                **_SWIN,
                num_res_blocks=(0, 0),
                attention_resolutions=(),
                lq_size=32,
                cond_mask=True,
                patch_norm=True,
                resblock_updown=True,
            )
        ),
        lambda n: n(_x(3, 16, 24), _T, _y(32, 48), picture("mask", 1, 32, 48)),
    ),
    "vq_attention": Entry(
        lambda: VQModel(
            DDConfig(**_DD, num_res_blocks=1, attn_resolutions=(8,), double_z=False), 3, 16
        ),
        lambda n: n.decode(n.encode(_x())),
    ),
    "kl_moments": Entry(
        lambda: AutoencoderKL(DDConfig(**_DD, num_res_blocks=0), 4),
        lambda n: torch.cat(n.moments(_x()), dim=1),
    ),
    "ldm_told_a_text": Entry(
        lambda: LDMUNet(
            LDMUNetConfig(
                **_LDM, num_heads=4, use_spatial_transformer=True, context_dim=6, legacy=False
            )
        ),
        lambda n: n(_x(), _T, context=drawn("text", (2, 7, 6))),
    ),
    "ldm_linear_projections": Entry(
        lambda: LDMUNet(
            LDMUNetConfig(
                **_LDM,
                num_head_channels=16,
                use_spatial_transformer=True,
                context_dim=6,
                legacy=False,
                use_linear_in_transformer=True,
            )
        ),
        lambda n: n(_x(), _T, context=drawn("text", (2, 7, 6))),
    ),
}

FROM_DEEPINV: dict[str, Entry] = {
    **{
        f"drunet_{act}_{down}_{up}_{channels}": Entry(
            lambda c=channels, a=act, d=down, u=up: DRUNet(
                DRUNetConfig(c, c, (6, 8, 10, 12), 2, a, d, u)
            ),
            lambda n, c=channels, s=size: n(_x(c, *s), _SIGMA),
        )
        for act, down, up, channels, size in (
            ("R", "strideconv", "convtranspose", 1, (32, 40)),
            ("R", "strideconv", "convtranspose", 3, (33, 47)),
            ("E", "avgpool", "upconv", 1, (32, 32)),
            ("L", "maxpool", "pixelshuffle", 3, (20, 32)),
            ("E", "strideconv", "convtranspose", 1, (65, 140)),
        )
    },
    **{
        f"ffdnet_{norm or 'plain'}_{channels}": Entry(
            lambda c=channels, m=norm, r=residual: FFDNet(
                FFDNetConfig(c, 8, 4, "deepinv", m, residual=r)
            ),
            lambda n, c=channels: n(_x(c), _SIGMA),
        )
        for norm, channels, residual in (("", 1, False), ("", 3, True), ("batch_norm", 3, False))
    },
}
