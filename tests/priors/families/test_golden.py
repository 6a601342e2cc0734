"""Converted checkpoints reproduce the stored outputs of the published classes, through the verbs' own functions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from restore.errors import ConfigError, InputError, WeightsError
from restore.pipelines.model_check import replay
from restore.pipelines.model_files import Conversion, convert, inspect_file
from restore.priors.families.known import family_of

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoints"
BESIDE = Path(__file__).parents[4] / "shared" / "golden" / "checkpoints"
FLOAT64 = 1e-10
"""In float64 the same formulas in another order differ by some 1e-14 of the largest value."""

# Folder here, folder beside, file, kind, outputs.
CASES = [
    ("adm", "adm_additive_convresample.pt", "adm", 2),
    ("ncsnpp", "checkpoint_ve_continuous.pth", "ncsnpp", 1),
    ("edm", "songunet_ddpmpp.pt", "edm", 6),
    ("edm", "unetblock_4heads.pt", "edm", 1),
    ("diffusers", "autoencoder_kl_old_names", "diffusers", 3),
]
# Where the whole set lies beside the checkout: folder, file, outputs at least.
MORE = [
    ("1_guided_diffusion", "adm_uncond_ema_0.9999.pt", "adm", 4),
    ("1_guided_diffusion", "adm_additive_convresample.pt", "adm", 2),
    ("1_guided_diffusion", "adm_class_cond_additive.pt", "adm", 2),
    ("2_score_sde_ncsnpp", "checkpoint_ve_continuous.pth", "ncsnpp", 1),
    ("2_score_sde_ncsnpp", "checkpoint_ve_2ch_centered.pth", "ncsnpp", 1),
    ("3_edm", "songunet_ddpmpp.pt", "edm", 11),
    ("3_edm", "songunet_ncsnpp.pt", "edm", 9),
    ("3_edm", "songunet_skip.pt", "edm", 3),
    ("3_edm", "dhariwalunet.pt", "edm", 11),
    ("3_edm", "dhariwalunet_attn.pt", "edm", 3),
    ("3_edm", "dhariwalunet_iDDPMPrecond.pt", "edm", 2),
    ("3_edm", "unetblock_4heads.pt", "edm", 1),
    ("4_diffusers", "ddpm", "diffusers", 1),
    ("4_diffusers", "adm_like_unet", "diffusers", 1),
    ("4_diffusers", "autoencoder_kl", "diffusers", 3),
    ("4_diffusers", "autoencoder_kl_old_names", "diffusers", 3),
    ("4_diffusers", "vqmodel", "diffusers", 5),
    ("4_diffusers", "sd_unet", "diffusers", 1),
]


def job(folder: Path, name: str, kind: str, out: Path) -> Conversion:
    config = folder / "config.json"
    return Conversion(
        folder / name, kind, out / "x.safetensors", config if config.exists() else None
    )


@pytest.mark.parametrize(("folder", "name", "kind", "count"), CASES)
def test_published_outputs_are_reproduced(
    folder: str, name: str, kind: str, count: int, tmp_path: Path
):
    convert(job(GOLDEN / folder, name, kind, tmp_path))
    found = replay(tmp_path / "x.safetensors", GOLDEN / folder / "io.npz")
    assert len(found.compared) == count
    assert all(c.same for c in found.compared), found.compared
    exact = [c for c in found.compared if c.output.endswith("_f64")]
    assert exact
    assert max(c.difference for c in exact) < FLOAT64


@pytest.mark.parametrize(("folder", "name", "kind", "count"), MORE)
def test_the_whole_set_is_reproduced(folder: str, name: str, kind: str, count: int, tmp_path: Path):
    if not (BESIDE / folder / name).exists():
        pytest.skip("an extra on checkpoints that lie beside a checkout only")
    convert(job(BESIDE / folder, name, kind, tmp_path))
    found = replay(tmp_path / "x.safetensors", BESIDE / folder / "io.npz")
    assert len(found.compared) >= count
    assert all(c.same for c in found.compared), found.compared


def test_float32_stays_within_the_tolerance(tmp_path: Path):
    convert(job(GOLDEN / "edm", "songunet_ddpmpp.pt", "edm", tmp_path))
    found = replay(tmp_path / "x.safetensors", GOLDEN / "edm" / "io.npz", "float32")
    assert len(found.compared) == 6
    assert all(c.same for c in found.compared), found.compared


def test_the_raw_weights_are_another_entry(tmp_path: Path):
    raw = dataclasses.replace(
        job(GOLDEN / "ncsnpp", "checkpoint_ve_continuous.pth", "ncsnpp", tmp_path), weights="raw"
    )
    convert(raw)
    found = replay(tmp_path / "x.safetensors", GOLDEN / "ncsnpp" / "io.npz")
    assert [c.output for c in found.compared] == ["ve_raw_f64"]
    assert found.compared[0].same
    assert found.others == ["ve_ema_f64"]


@pytest.mark.parametrize(("folder", "name", "kind", "count"), CASES)
def test_inspect_names_the_family(folder: str, name: str, kind: str, count: int):
    found = inspect_file(GOLDEN / folder / name)
    assert found.kinds == (kind,)
    assert found.parameters > 1000


def test_a_wrong_reading_is_seen_in_the_numbers(tmp_path: Path):
    """The attention order cannot be seen in the weights; its outputs are another reading's, and none is left."""
    wrong = dataclasses.replace(
        job(GOLDEN / "adm", "adm_additive_convresample.pt", "adm", tmp_path),
        settings={"use_new_attention_order": True},
    )
    convert(wrong)
    with pytest.raises(InputError, match="no output that belongs"):
        replay(tmp_path / "x.safetensors", GOLDEN / "adm" / "io.npz")


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"num_head_chanels": 8}, ConfigError, "did you mean 'num_head_channels'"),
        ({"num_res_blocks": 1}, InputError, "do not fit the weights.*missing"),
        ({"model_channels": 33}, ConfigError, "32 groups"),
        ({"model_channels": "many"}, ConfigError, "expected int"),
        ({"num_heads": 3}, ConfigError, "do not divide 32"),
        ({"channel_mult": "1,x"}, ConfigError, "numbers and commas"),
        ({"attention_resolutions": "16"}, InputError, "do not fit the weights"),
        ({"num_classes": 4}, InputError, "label_emb.weight is missing"),
        ({"model_channels": 10**9}, ConfigError, r"expected 1\.\.65536"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(
    settings: dict[str, object], error: type[Exception], words: str, tmp_path: Path
):
    wrong = dataclasses.replace(
        job(GOLDEN / "adm", "adm_additive_convresample.pt", "adm", tmp_path), settings=settings
    )
    with pytest.raises(error, match=words):
        convert(wrong)
    assert not list(tmp_path.iterdir())


def test_settings_that_the_shapes_tell_may_be_left_out(tmp_path: Path):
    plain = dataclasses.replace(
        job(GOLDEN / "adm", "adm_additive_convresample.pt", "adm", tmp_path), config=None
    )
    with pytest.raises(ConfigError, match="number of attention heads is not in the file"):
        convert(plain)
    convert(dataclasses.replace(plain, settings={"num_heads": 2, "num_heads_upsample": 4}))
    found = replay(tmp_path / "x.safetensors", GOLDEN / "adm" / "io.npz")
    assert len(found.compared) == 2
    assert all(c.same for c in found.compared)


def test_the_options_that_edm_leaves_beside_its_snapshots(tmp_path: Path):
    """The class that trained a network is its preconditioning; sizes of the data follow from the weights."""
    network = {
        "class_name": "training.networks.EDMPrecond", "model_type": "SongUNet", "embedding_type": "positional",
        "model_channels": 8, "channel_mult": [1, 2], "dropout": 0.13, "use_fp16": False,
    }  # fmt: skip
    options = tmp_path / "training_options.json"
    options.write_text(json.dumps({"network_kwargs": network, "batch_size": 512}))
    home, out = GOLDEN / "edm", tmp_path / "x.safetensors"
    made = convert(Conversion(home / "songunet_ddpmpp.pt", "edm", out, options))
    assert made.config.precond == "EDMPrecond"
    found = replay(out, home / "io.npz")
    assert {c.output.split("_")[3] for c in found.compared} == {"EDMPrecond"}
    assert all(c.same for c in found.compared)


def test_another_kind_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="looks like --kind edm"):
        convert(job(GOLDEN / "edm", "songunet_ddpmpp.pt", "adm", tmp_path))
    with pytest.raises(ConfigError, match="did you mean 'ncsnpp'"):
        family_of("ncsnp")


def test_a_name_that_config_does_not_have(tmp_path: Path):
    wrong = dataclasses.replace(
        job(GOLDEN / "edm", "songunet_ddpmpp.pt", "edm", tmp_path), entry="songunet_ddpm.pt"
    )
    with pytest.raises(ConfigError, match=r"did you mean 'songunet_ddpmpp\.pt'"):
        convert(wrong)


def test_bundled_weights_are_not_checked_this_way():
    with pytest.raises(WeightsError, match="no converted model"):
        replay(Path("medical"), GOLDEN / "edm" / "io.npz")
