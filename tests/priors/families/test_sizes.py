"""Published configurations have the published numbers of parameters and tensors; nothing is allocated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from restore.priors.checkpoints.content import StoredTensor
from restore.priors.families.known import family_of

GUIDED = {
    "num_res_blocks": 2, "learn_sigma": True, "num_head_channels": 64, "use_scale_shift_norm": True,
    "resblock_updown": True, "num_channels": 256, "attention_resolutions": "32,16,8", "channel_mult": "",
}  # fmt: skip
DDS = GUIDED | {
    "num_res_blocks": 1, "attention_resolutions": "16", "channel_mult": "1,1,2,2,4,4",
}  # fmt: skip
NCSNPP = {
    "centered": False, "nf": 128, "ch_mult": [1, 2, 2, 2], "num_res_blocks": 4, "attn_resolutions": [16],
    "num_scales": 2000, "sde": "vesde", "continuous": True, "scale_by_sigma": True, "embedding_type": "fourier",
    "progressive": "none", "progressive_input": "residual", "resblock_type": "biggan", "skip_rescale": True,
    "fir": True, "num_channels": 1,
}  # fmt: skip
SONG = {"model_type": "SongUNet", "img_channels": 3, "channel_mult": [2, 2, 2], "augment_dim": 9}
VE = {
    "embedding_type": "fourier", "encoder_type": "residual", "channel_mult_noise": 2,
    "resample_filter": [1, 3, 3, 1],
}  # fmt: skip
LARGE = {"channel_mult": [1, 2, 2, 2], "img_resolution": 64}
INVERSE = {
    "model_type": "DhariwalUNet",
    "model_channels": 128,
    "num_blocks": 1,
    "attn_resolutions": [16],
}
SD_UNET = {"_class_name": "UNet2DConditionModel", "cross_attention_dim": 768}
SD_VAE = {
    "_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip

# kind, settings, parameters, parameter tensors, tensors of the state dict
PUBLISHED: dict[str, tuple[str, dict[str, Any], int, int, int]] = {
    "DDS AAPM-256": ("adm", DDS | {"image_size": 256, "in_channels": 1}, 374_022_658, 362, 362),
    "DDS knee-320": ("adm", DDS | {"image_size": 320, "in_channels": 2}, 361_428_228, 344, 344),
    "DPS FFHQ-256": (
        "adm", DDS | {"image_size": 256, "num_channels": 128, "num_heads": 4}, 93_563_910, 362, 362,
    ),
    "ImageNet-256 conditional": (
        "adm", GUIDED | {"image_size": 256, "class_cond": True}, 553_838_086, 567, 567,
    ),
    "ImageNet-256": ("adm", GUIDED | {"image_size": 256}, 552_814_086, 566, 566),
    "ImageNet-512 conditional": (
        "adm", GUIDED | {"image_size": 512, "class_cond": True}, 558_997_638, 645, 645,
    ),
    "ImageNet-64 conditional": (
        "adm", GUIDED | {"image_size": 64, "class_cond": True, "num_channels": 192, "num_res_blocks": 3,
                         "use_new_attention_order": True}, 295_904_454, 541, 541,
    ),
    "NCSN++ AAPM-256": ("ncsnpp", NCSNPP | {"image_size": 256}, 61_433_601, 521, 522),
    "NCSN++ knee-320": ("ncsnpp", NCSNPP | {"image_size": 320}, 61_433_601, 521, 522),
    "EDM CIFAR-10 cond ve": ("edm", SONG | VE | {"img_resolution": 32, "label_dim": 10}, 56_400_643, 423, 434),
    "EDM CIFAR-10 cond vp": ("edm", SONG | {"img_resolution": 32, "label_dim": 10}, 55_735_299, 419, 427),
    "EDM CIFAR-10 ve": ("edm", SONG | VE | {"img_resolution": 32}, 56_397_827, 421, 432),
    "EDM CIFAR-10 vp": ("edm", SONG | {"img_resolution": 32}, 55_733_891, 417, 425),
    "EDM FFHQ-64 ve": ("edm", SONG | VE | LARGE, 62_761_091, 547, 563),
    "EDM FFHQ-64 vp": ("edm", SONG | LARGE, 61_805_571, 541, 553),
    "EDM ImageNet-64": (
        "edm", {"model_type": "DhariwalUNet", "img_resolution": 64, "img_channels": 3, "label_dim": 1000},
        295_899_267, 541, 553,
    ),
    "InverseBench MRI-320": (
        "edm", INVERSE | {"img_resolution": 320, "img_channels": 2, "channel_mult": [1, 1, 1, 2, 2]},
        26_002_050, 288, 304,
    ),
    "InverseBench FWI-128": (
        "edm", INVERSE | {"img_resolution": 128, "img_channels": 1, "channel_mult": [1, 1, 1, 2, 2]},
        26_790_785, 306, 322,
    ),
    "Stable Diffusion v1 U-Net": ("diffusers", SD_UNET, 859_520_964, 686, 686),
    "Stable Diffusion v1 autoencoder": ("diffusers", SD_VAE, 83_653_863, 248, 248),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str):
    kind, settings, parameters, tensors, stored = PUBLISHED[name]
    family = family_of(kind)
    with torch.device("meta"):
        network: nn.Module = family.network(family.config(settings))
    sizes = [p.numel() for p in network.parameters()]
    assert (sum(sizes), len(sizes), len(network.state_dict())) == (parameters, tensors, stored)


@pytest.mark.parametrize("name", [n for n, case in PUBLISHED.items() if case[0] in ("adm", "edm")])
def test_shapes_tell_the_network(name: str):
    """From names and shapes alone the same network is built again, but for what no shape shows."""
    kind, settings, *_ = PUBLISHED[name]
    family = family_of(kind)
    with torch.device("meta"):
        state = family.network(family.config(settings)).state_dict()
    stored = {n: StoredTensor(tuple(t.shape), "float32", torch.Tensor) for n, t in state.items()}
    told = family.guess(stored) | ({"num_head_channels": 64} if kind == "adm" else {})
    with torch.device("meta"):
        again = family.network(family.config(told)).state_dict()
    assert {n: t.shape for n, t in again.items()} == {n: t.shape for n, t in state.items()}
