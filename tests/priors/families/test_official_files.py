"""Files as the authors' trainers save them, converted and held against the outputs of the authors' code.

Two such files lie in tests/golden/checkpoints; where a folder `shared` lies beside the checkout, its others are tried.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipe_weights import filled

from restore.errors import ConfigError, InputError, WeightsError
from restore.pipelines.model_check import Replayed, replay
from restore.pipelines.model_files import Conversion, convert, inspect_file
from restore.priors.families.ldm import FAMILY
from restore.priors.families.meaning import Meaning
from restore.priors.families.rddm import schedule_of
from restore.priors.store import load_tensors

TESTS = Path(__file__).parents[2]
STORED = TESTS / "golden" / "checkpoints"
SHARED = TESTS.parents[1] / "shared" / "golden" / "checkpoints"
EXACT = 1e-12
"""The authors' code in float64 against ours in float64: 4e-15 seen."""
OF_SINGLE = 2e-5
"""Outputs that the authors' code stored in float32, or computed from codes in float32."""

LDM: dict[str, Any] = {
    "linear_start": 0.0015, "linear_end": 0.0195, "timesteps": 1000, "first_stage_key": "image", "use_ema": True,
    "unet_config": {
        "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
        "params": {
            "image_size": 16, "in_channels": 3, "out_channels": 3, "model_channels": 32, "attention_resolutions": [1],
            "num_res_blocks": 0, "channel_mult": [1], "num_head_channels": 16, "use_scale_shift_norm": True,
        },
    },
    "first_stage_config": {
        "target": "ldm.models.autoencoder.VQModelInterface",
        "params": {
            "embed_dim": 3, "n_embed": 64,
            "ddconfig": {
                "double_z": False, "z_channels": 3, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32,
                "ch_mult": [1, 1], "num_res_blocks": 0, "attn_resolutions": [], "dropout": 0.0,
            },
            "lossconfig": {"target": "torch.nn.Identity"},
        },
    },
}  # fmt: skip
RDDM: dict[str, Any] = {
    "unet": {"dim": 8, "dim_mults": [1], "share_encoder": 0, "condition": True, "input_condition": False},
    "diffusion": {"timesteps": 1000, "objective": "pred_res_noise", "sum_scale": 1, "condition": True},
    "time": "t",
}  # fmt: skip


def stored(name: str) -> tuple[dict[str, torch.Tensor], Path]:
    """The weights of a sample by official names, and the sample itself, which is its own file of outputs.

    Of the latent model the U-Net is stored; its first stage follows from the recipe.
    """
    path = STORED / f"{name}.npz"
    with np.load(path, allow_pickle=False) as found:
        weights = {
            k.removeprefix("weights/"): torch.from_numpy(found[k])
            for k in found.files
            if k.startswith("weights/")
        }
    if name.startswith("ldm"):
        whole = filled(lambda: FAMILY.network(FAMILY.config(LDM))).float().state_dict()
        weights = {n: weights.get(n, t) for n, t in whole.items()}
    return weights, path


def saved(folder: Path, name: str, content: dict[str, Any], config: dict[str, Any]) -> Conversion:
    """A torch file and its config.json, to convert."""
    kind = "ldm" if "unet_config" in config else "rddm"
    torch.save(content, folder / name)
    (folder / "config.json").write_text(json.dumps({"files": {name: config}}), encoding="utf-8")
    return Conversion(
        folder / name, kind, folder / f"{name}.safetensors", config=folder / "config.json"
    )


def check(found: Replayed, *names: str) -> None:
    """All outputs that were stored are the same, and these are among them."""
    assert set(names) <= {c.output for c in found.compared}
    for c in found.compared:
        exact = c.output.endswith("_f64") and "noquant" not in c.output
        assert c.difference < (EXACT if exact else OF_SINGLE), c


@pytest.fixture
def latent(tmp_path: Path) -> Conversion:
    weights, _ = stored("ldm_vq_uncond")
    content = {"epoch": 1, "pytorch-lightning_version": "1.4.2", "state_dict": weights}
    return saved(tmp_path, "ldm.ckpt", content, LDM)


def test_latent_diffusion_answers_as_the_authors_code(latent: Conversion) -> None:
    made = convert(latent)
    assert made.kind == "latent"
    assert made.meaning.schedule == "scaled_linear:0.0015:0.0195:1000"
    found = replay(latent.out, stored("ldm_vq_uncond")[1])
    check(found, "vq_unet_raw_f64", "vq_buf_alphas_cumprod", "vq_buf_posterior_variance")


def test_the_average_is_found_under_names_without_dots(tmp_path: Path) -> None:
    weights, io = stored("ldm_vq_uncond")
    averaged = {
        "model_ema." + n.removeprefix("model.").replace(".", ""): t
        for n, t in weights.items()
        if n.startswith("model.")
    }
    other = {n: t + 0.1 if n.startswith("model.") else t for n, t in weights.items()}
    content = {"state_dict": other | averaged | {"model_ema.decay": torch.tensor(0.9999)}}
    job = saved(tmp_path, "ldm.ckpt", content, LDM)
    convert(job)  # what the official code samples with: the average
    raw = Conversion(
        job.path, "ldm", tmp_path / "raw.safetensors", config=job.config, weights="raw"
    )
    convert(raw)
    with np.load(io, allow_pickle=False) as arrays:
        given = {k: arrays[k] for k in ("z3", "t")} | {"unet_f64": arrays["vq_unet_raw_f64"]}
    np.savez(tmp_path / "io.npz", **given)
    check(replay(job.out, tmp_path / "io.npz"), "unet_f64")
    assert not replay(raw.out, tmp_path / "io.npz").compared[0].same


def test_an_autoencoder_alone_leaves_its_losses_behind(tmp_path: Path) -> None:
    weights, _ = stored("ldm_vq_uncond")
    prefix = "first_stage_model."
    alone = {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}
    content = {"state_dict": alone | {"loss.logvar": torch.zeros(())}}
    torch.save(content, tmp_path / "vq.ckpt")
    settings = LDM["first_stage_config"]["params"]
    job = Conversion(tmp_path / "vq.ckpt", "ldm", tmp_path / "vq.safetensors", settings=settings)
    made = convert(job)
    assert made.kind == "autoencoder"
    assert set(made.shapes()) == set(alone)
    assert all(torch.equal(t, alone[n]) for n, t in load_tensors(job.out)[1].items())


@pytest.mark.parametrize(("time", "outputs"), [("t", "shared0_two_nets"), ("pair", "exp0class")])
def test_two_networks_of_rddm_answer_as_the_authors_code(
    tmp_path: Path, time: str, outputs: str
) -> None:
    weights, io = stored("rddm_two_nets")
    job = saved(
        tmp_path,
        "model-1_shared0_two_nets.pt",
        {"step": 2, "model": weights},
        RDDM | {"time": time},
    )
    job = Conversion(job.path, "rddm", job.out, config=job.config, weights="raw")
    made = convert(job)
    assert made.meaning.schedule == "rddm:decreased:increased:1:1000"
    check(replay(job.out, io), *(f"model-1_{outputs}_raw_out{i}_f64" for i in (0, 1)))


def test_the_average_of_ema_pytorch_is_what_sampling_uses(tmp_path: Path) -> None:
    weights, io = stored("rddm_two_nets")
    ema = {f"ema_model.{n}": t for n, t in weights.items()} | {"initted": torch.tensor(True)}
    ema |= {f"online_model.{n}": t + 0.1 for n, t in weights.items()}
    other = {n: t + 0.1 for n, t in weights.items()}
    job = saved(tmp_path, "model-1.pt", {"step": 2, "model": other, "ema": ema}, RDDM)
    convert(job)
    with np.load(io, allow_pickle=False) as arrays:
        given = {k: arrays[k] for k in ("x", "x_input", "t")}
        given |= {f"out{i}_f64": arrays[f"model-1_shared0_two_nets_raw_out{i}_f64"] for i in (0, 1)}
    np.savez(tmp_path / "io.npz", **given)
    check(replay(job.out, tmp_path / "io.npz"), "out0_f64", "out1_f64")


def test_parts_of_a_model_are_kept_by_name(tmp_path: Path) -> None:
    weights, _ = stored("ldm_vq_uncond")
    names = ["model.diffusion_model.time_embed.0.bias", "first_stage_model.quant_conv.weight"]
    few = {n: weights[n].half() for n in names}
    torch.save({"state_dict": few}, tmp_path / "few.ckpt", _use_new_zipfile_serialization=False)
    job = Conversion(tmp_path / "few.ckpt", "ldm", tmp_path / "few.safetensors")
    assert convert(job).kind == "tensors"
    np.savez(tmp_path / "io.npz", **{f"few_{n}": weights[n].numpy() for n in names})
    found = replay(job.out, tmp_path / "io.npz")
    assert [c.same for c in found.compared] == [True, True]


def test_what_cannot_be_is_refused(latent: Conversion, tmp_path: Path) -> None:
    wrong = {
        "channel_mult": (LDM["unet_config"]["params"] | {"channel_mult": [1, 1]}, InputError, "not fit the weights"),
        "heads": (LDM["unet_config"]["params"] | {"num_head_channels": 24}, ConfigError, "32 channels"),
        "unknown": (LDM["unet_config"]["params"] | {"num_hands": 2}, ConfigError, "num_hands"),
    }  # fmt: skip
    for params, kind, words in wrong.values():
        config = LDM | {"unet_config": {"params": params}}
        path = tmp_path / "other.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises(kind, match=words):
            convert(Conversion(latent.path, "ldm", tmp_path / "x.safetensors", config=path))
    with pytest.raises(InputError, match="looks like --kind ldm"):
        convert(Conversion(latent.path, "rddm", tmp_path / "x.safetensors"))


def test_a_schedule_is_recognised_by_its_buffers() -> None:
    from restore.bridges.rddm import RDDMSchedule

    for words in (
        "rddm:decreased:increased:0.01:1000", "rddm:ddpm:ddpm:1:1000", "rddm:average:increased:0.5:200",
        "rddm:decreased^1:increased^1:1:1000",
    ):  # fmt: skip
        _, alpha, beta, scale, steps = words.split(":")
        powers = [float(k.partition("^")[2]) if "^" in k else None for k in (alpha, beta)]
        kinds = [k.partition("^")[0] for k in (alpha, beta)]
        own = RDDMSchedule(int(steps), float(scale), *kinds, *powers)  # type: ignore[arg-type]
        assert schedule_of(own.A.float(), own.B2.float()) == words
    assert schedule_of(torch.linspace(0, 1, 100).sqrt(), torch.linspace(1e-4, 1, 100)) == ""


def test_inspection_names_the_family(latent: Conversion) -> None:
    assert inspect_file(latent.path).kinds == ("ldm",)


@pytest.mark.parametrize(
    ("said", "kept"),
    [({}, 0.25), ({"scale_factor": 0.25}, 0.25), ({"scale_factor": 0.18215}, None)],
)
def test_a_factor_that_training_measured_is_the_one_that_counts(
    tmp_path: Path, said: dict[str, float], kept: float | None
) -> None:
    weights, _ = stored("ldm_vq_uncond")
    content = {"state_dict": weights | {"scale_factor": torch.tensor(0.25)}}
    job = saved(tmp_path, "ldm.ckpt", content, LDM | said)
    if kept is None:
        with pytest.raises(ConfigError, match=r"itself says 0\.25"):
            convert(job)
    else:
        assert convert(job).config.scale_factor == kept


def test_the_schedule_is_that_of_the_files_own_betas(tmp_path: Path) -> None:
    weights, _ = stored("ldm_vq_uncond")
    roots = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64)
    content = {"state_dict": weights | {"betas": roots.square().float()}}
    silent = {k: v for k, v in LDM.items() if not k.startswith("linear_")}
    made = convert(saved(tmp_path, "silent.ckpt", content, silent))
    assert made.meaning.schedule == "scaled_linear:0.0015:0.0195:1000"
    with pytest.raises(ConfigError, match=r"own betas are scaled_linear:0\.0015:0\.0195:1000"):
        convert(saved(tmp_path, "other.ckpt", content, LDM | {"linear_end": 0.012}))


def test_a_network_with_swin_layers_is_not_taken_for_another(tmp_path: Path) -> None:
    names = ("input_blocks.0.0.weight", "time_embed.0.weight", "x.relative_position_bias_table")
    torch.save({n: torch.zeros(2, 2) for n in names}, tmp_path / "swin.pth")
    assert inspect_file(tmp_path / "swin.pth").kinds == ("resshift",)


FOLDERS = {
    "5_latent_diffusion": "ldm", "6_resshift": "resshift", "7_rddm": "rddm", "8_irsde": "irsde",
}  # fmt: skip
FILES = [
    (folder, path.name)
    for folder in FOLDERS
    for path in sorted((SHARED / folder).glob("*"))
    if path.suffix in (".pt", ".pth", ".ckpt")
]


@pytest.mark.skipif(not FILES, reason="no folder shared beside the checkout")
@pytest.mark.parametrize("weights", ["", "raw"])
@pytest.mark.parametrize(("folder", "name"), FILES)
def test_every_stored_file_answers_as_the_authors_code(
    tmp_path: Path, folder: str, name: str, weights: str
) -> None:
    entries = json.loads((SHARED / folder / "config.json").read_text(encoding="utf-8"))["files"]
    job = Conversion(
        SHARED / folder / name, FOLDERS[folder], tmp_path / f"{Path(name).stem}.safetensors",
        config=SHARED / folder / "config.json" if name in entries else None, weights=weights,
    )  # fmt: skip
    if weights and name not in ("ldm_vq_uncond.ckpt",) and folder != "7_rddm":
        pytest.skip("one entry only")
    convert(job)
    found = replay(job.out, SHARED / folder / "io.npz")
    assert found.compared
    assert [c.output for c in found.compared if not c.same] == []


def test_meaning_is_asked_for_and_then_kept(latent: Conversion) -> None:
    made = convert(latent)
    assert made.missing() == ["range", "prediction"]
    with pytest.raises(ConfigError, match="--prediction"):
        made.model()
    whole = Conversion(
        latent.path, "ldm", latent.out, config=latent.config, overwrite=True,
        meaning=Meaning(range=(-1, 1), prediction="eps"),
    )  # fmt: skip
    assert convert(whole).missing() == []


def test_an_autoencoder_is_no_prior(tmp_path: Path) -> None:
    from restore.priors.store import load_prior

    weights, _ = stored("ldm_vq_uncond")
    prefix = "first_stage_model."
    alone = {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}
    torch.save(alone, tmp_path / "vq.pth")
    settings = LDM["first_stage_config"]["params"]
    job = Conversion(
        tmp_path / "vq.pth", "resshift", tmp_path / "vq.safetensors", settings=settings
    )
    convert(job)
    with pytest.raises(WeightsError, match="no prior by itself"):
        load_prior(job.out)
