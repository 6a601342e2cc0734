"""Settings of published networks that cannot be: each ends in a sentence that names it, before anything is built."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from restore.errors import ConfigError
from restore.priors.converted import Converted
from restore.priors.families.known import family_of
from restore.priors.families.meaning import Meaning

STAGE: dict[str, Any] = {
    "embed_dim": 3, "n_embed": 64,
    "ddconfig": {
        "double_z": False, "z_channels": 3, "resolution": 32, "ch": 32, "ch_mult": [1, 1], "num_res_blocks": 0,
        "attn_resolutions": [],
    },
}  # fmt: skip
LDM: dict[str, Any] = {
    "unet_config": {
        "params": {
            "in_channels": 3, "out_channels": 3, "model_channels": 32, "attention_resolutions": [1],
            "num_res_blocks": 0, "channel_mult": [1], "num_head_channels": 16,
        },
    },
    "first_stage_config": {"target": "ldm.models.autoencoder.VQModelInterface", "params": STAGE},
}  # fmt: skip
SWIN: dict[str, Any] = {
    "image_size": 16, "in_channels": 3, "model_channels": 32, "out_channels": 3, "attention_resolutions": [16],
    "channel_mult": [1, 1], "num_res_blocks": 1, "num_head_channels": 16, "swin_embed_dim": 32, "window_size": 4,
    "lq_size": 16,
}  # fmt: skip
RDDM: dict[str, Any] = {"unet": {"dim": 8, "dim_mults": [1], "share_encoder": 0}, "time": "t"}
IRSDE: dict[str, Any] = {"in_nc": 3, "out_nc": 3, "nf": 8, "depth": 2}
NAFNET: dict[str, Any] = {"width": 8, "enc_blk_nums": [1, 2], "dec_blk_nums": [1, 1]}
DACLIP = IRSDE | {"ch_mult": [1, 2, 4, 4], "use_image_context": True}


def unet(**changed: Any) -> dict[str, Any]:
    return LDM | {"unet_config": {"params": LDM["unet_config"]["params"] | changed}}


def stage(**changed: Any) -> dict[str, Any]:
    return STAGE | {"ddconfig": STAGE["ddconfig"] | changed}


def rddm(**changed: Any) -> dict[str, Any]:
    return RDDM | {"unet": RDDM["unet"] | changed}


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "ldm, no settings": ("ldm", {}, "unet_config, first_stage_config are missing"),
    "ldm, no heads": ("ldm", unet(num_head_channels=-1), "num_heads or num_head_channels"),
    "ldm, width": ("ldm", unet(model_channels=40), "32 groups"),
    "ldm, far too wide": ("ldm", unet(model_channels=10**9), "65536"),
    "ldm, no context": ("ldm", unet(use_spatial_transformer=True), "context_dim=None"),
    "ldm, depth": (
        "ldm", unet(use_spatial_transformer=True, context_dim=6, transformer_depth=0), "transformer_depth is 0",
    ),
    "ldm, unknown attention": ("ldm", unet(disable_self_attentions=[True]), "not known here"),
    "ldm, text for a dictionary": ("ldm", LDM | {"unet_config": "x"}, "'unet_config' is 'x'"),
    "ldm, scale": ("ldm", LDM | {"scale_factor": 0}, "above 0"),
    "stage, ch": ("ldm", stage(ch=20), "32 groups"),
    "stage, no levels": ("ldm", stage(ch_mult=[]), "ch_mult is ()"),
    "stage, blocks": ("ldm", stage(num_res_blocks=[1]), "one entry a level"),
    "stage, linear attention": ("ldm", stage(attn_type="linear"), "'vanilla' and 'none'"),
    "stage, padding": ("resshift", stage(padding_mode="reflect"), "'zeros'"),
    "stage, book": ("resshift", STAGE | {"n_embed": 10**15}, "n_embed"),
    "stage, tanh": ("ldm", stage(tanh_out=True), "tanh_out is True"),
    "swin, heads": ("resshift", SWIN | {"num_head_channels": 0}, "num_head_channels 0"),
    "swin, sizes": ("resshift", SWIN | {"lq_size": 24}, "power of two"),
    "swin, no size": ("resshift", SWIN | {"image_size": 0}, "image_size is 0"),
    "swin, width": ("resshift", SWIN | {"swin_embed_dim": 30}, "32 groups"),
    "swin, unseen": ("resshift", SWIN | {"cond_lq": False}, "cond_lq"),
    "swin, levels": ("resshift", SWIN | {"num_res_blocks": [1]}, "one entry a level"),
    "rddm, share": ("rddm", rddm(share_encoder=3), "share_encoder is 3"),
    "rddm, width": ("rddm", rddm(dim=12), "8 groups"),
    "rddm, narrow": ("rddm", rddm(dim=2), "dim is 2"),
    "rddm, no levels": ("rddm", rddm(dim_mults=[]), "dim_mults is ()"),
    "rddm, first width": ("rddm", rddm(init_dim=16), "init_dim 16"),
    "rddm, time": ("rddm", RDDM | {"time": "later"}, "say time='t'"),
    "rddm, objective": ("rddm", RDDM | {"diffusion": {"objective": "auto_res_noise"}}, "auto_res"),
    "rddm, steps": ("rddm", RDDM | {"diffusion": {"timesteps": "a"}}, "timesteps 'a'"),
    "rddm, not by name": ("rddm", {"unet": 5}, "unet is 5"),
    "irsde, depth": ("irsde", IRSDE | {"depth": 60}, "depth is 60"),
    "irsde, narrow": ("irsde", IRSDE | {"nf": 2}, "nf is 2"),
    "irsde, text": ("irsde", IRSDE | {"nf": "8"}, "'nf' is '8'"),
    "daclip, width": ("irsde", DACLIP | {"nf": 12}, "multiple of 32"),
    "nafnet, levels": ("irsde", NAFNET | {"dec_blk_nums": [1]}, "one entry a level"),
    "nafnet, width": ("irsde", NAFNET | {"width": 60_000}, "width 60000"),
    "drunet, dimensions": ("drunet", {"dim": 3}, "dim is not 2"),
    "drunet, activation": ("drunet", {"act_mode": "Q"}, "act_mode is 'Q'"),
    "drunet, levels": ("drunet", {"nc": [4, 4, 4]}, "4 levels"),
    "drunet, channels": ("drunet", {"in_nc": "2"}, "'in_nc' is '2'"),
    "ffdnet, activation": ("ffdnet", {"in_nc": 1, "nc": 8, "nb": 4, "act_mode": "L"}, "act_mode is 'L'"),
    "ffdnet, one layer": ("ffdnet", {"in_nc": 1, "nc": 8, "nb": 1}, "convolutions is 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_cannot_be_are_refused(name: str) -> None:
    kind, record, words = WRONG[name]
    with pytest.raises(ConfigError) as found:
        family_of(kind).config(record)
    assert words in str(found.value)


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("ldm", LDM), ("ldm", STAGE), ("resshift", SWIN), ("rddm", RDDM), ("irsde", IRSDE), ("irsde", NAFNET),
        ("irsde", DACLIP | {"nf": 32}), ("drunet", {"in_nc": 2, "out_nc": 1}),
        ("ffdnet", {"in_nc": 1, "nc": 8, "nb": 4, "act_mode": "BR"}),
        ("ffdnet", {"img_channels": 3, "nf": 8, "n_conv_layers": 4, "norm": "instance_norm"}),
    ],
)  # fmt: skip
def test_shapes_of_a_file_say_what_its_settings_are(kind: str, record: dict[str, Any]) -> None:
    """What a family guesses from the shapes of a network agrees with the settings that made it."""
    from restore.priors.checkpoints.content import StoredTensor

    family = family_of(kind)
    made = Converted(family, family.config(record), Meaning(), "x")
    shapes = made.shapes()
    stored = {
        n: StoredTensor(tuple(t.shape), "float32", lambda t=t: torch.zeros(t.shape))  # type: ignore[misc]
        for n, t in shapes.items()
    }
    found = family.guess(stored)
    again = Converted(family, family.config({**found, **record}), Meaning(), "x").shapes()
    assert {n: t.shape for n, t in again.items()} == {n: t.shape for n, t in shapes.items()}
    for name, value in found.items():
        said = record.get(name, value)
        assert (list(said) if isinstance(said, tuple) else said) == value, name


def test_what_torch_cannot_build_is_refused_too() -> None:
    class Wrong:
        name = "x"

        def network(self, config: Any) -> torch.nn.Module:
            return torch.nn.Conv2d(3, 4, 3, groups=2)

    with pytest.raises(ConfigError, match="no network has these settings"):
        Converted(Wrong(), None, Meaning(), "x").shapes()  # type: ignore[arg-type]
