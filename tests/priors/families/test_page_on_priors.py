"""The commands of docs/priors.md on chains, codes and denoisers, in order, on small networks by the recipe."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipe_weights import drawn, filled
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.picture.images import write_image
from restore.priors.families.known import family_of

PAGE = Path(__file__).parents[3] / "docs" / "priors.md"

STAGE = {
    "embed_dim": 3, "n_embed": 16,
    "ddconfig": {
        "double_z": False, "z_channels": 3, "resolution": 16, "in_channels": 3, "out_ch": 3, "ch": 32,
        "ch_mult": [1, 1], "num_res_blocks": 0, "attn_resolutions": [],
    },
}  # fmt: skip
SWIN = {
    "image_size": 8, "in_channels": 3, "model_channels": 32, "out_channels": 3, "attention_resolutions": [],
    "channel_mult": [1], "num_res_blocks": [0], "num_head_channels": 16, "swin_embed_dim": 32, "window_size": 4,
    "mlp_ratio": 1, "lq_size": 8,
}  # fmt: skip
REALSR = {
    "model": {"target": "models.unet.UNetModelSwin", "params": SWIN},
    "autoencoder": {"params": STAGE},
    "diffusion": {
        "params": {
            "schedule_name": "exponential", "schedule_kwargs": {"power": 0.3}, "etas_end": 0.99, "steps": 4,
            "min_noise_level": 0.2, "kappa": 2.0, "predict_type": "xstart", "normalize_input": True,
            "latent_flag": True,
        },
    },
}  # fmt: skip
RDDM = {
    "unet": {"dim": 8, "dim_mults": [1], "share_encoder": 0, "condition": True},
    "diffusion": {"objective": "pred_res_noise"}, "time": "t",
}  # fmt: skip
NAFNET = {"width": 8, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
REFUSION = {
    "sde": {"max_sigma": 50, "T": 100, "schedule": "cosine", "eps": 0.005},
    "network_G": {"which_model_G": "ConditionalNAFNet", "setting": NAFNET},
}
INFERENCE: dict[str, Any] = {
    "model": {
        "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
        "params": {
            "linear_start": 0.00085, "linear_end": 0.012, "timesteps": 1000, "scale_factor": 0.18215,
            "unet_config": {
                "params": {
                    "in_channels": 4, "out_channels": 4, "model_channels": 32, "attention_resolutions": [1],
                    "num_res_blocks": 0, "channel_mult": [1], "num_heads": 4, "use_spatial_transformer": True,
                    "context_dim": 6, "legacy": False,
                },
            },
            "first_stage_config": {
                "target": "ldm.models.autoencoder.AutoencoderKL",
                "params": {"embed_dim": 4, "ddconfig": STAGE["ddconfig"] | {"double_z": True, "z_channels": 4}},
            },
        },
    },
}  # fmt: skip
DRUNET = {"in_channels": 1, "out_channels": 1, "nc": [4, 4, 4, 4], "nb": 1}


def state_of(kind: str, record: dict[str, Any]) -> dict[str, torch.Tensor]:
    family = family_of(kind)
    return filled(lambda: family.network(family.config(record))).float().state_dict()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page's commands begin with."""
    from restore.bridges.rddm import RDDMSchedule

    schedule = RDDMSchedule(1000, 1.0)
    buffers = {"alphas_cumsum": schedule.A.float(), "betas2_cumsum": schedule.B2.float()}
    files = {
        "resshift_s4.pth": state_of("resshift", SWIN),
        "autoencoder.pth": state_of("resshift", STAGE),
        "model-7.pt": {
            "model": buffers | {f"model.{n}": t for n, t in state_of("rddm", RDDM).items()}
        },
        "700000_G.pth": state_of("irsde", NAFNET),
        "sd.ckpt": {"state_dict": state_of("ldm", INFERENCE["model"]["params"])},
        "drunet_gray.pth": state_of("drunet", DRUNET),
    }
    for name, content in files.items():
        torch.save(content, tmp_path / name)
    texts = {
        "realsr.yaml": REALSR,
        "rddm.json": RDDM,
        "refusion.yml": REFUSION,
        "v1-inference.yaml": INFERENCE,
    }
    for name, record in texts.items():
        (tmp_path / name).write_text(json.dumps(record), encoding="utf-8")  # JSON is YAML too
    np.save(tmp_path / "prompt.npy", drawn("prompt", (7, 6)).numpy().astype(np.float32))
    picture = drawn("picture", (3, 24, 20), 0.4, 0.5).float()
    write_image(picture, tmp_path / "rain.png")
    write_image(picture[:, :12, :10], tmp_path / "small.png")
    write_image(picture[:1], tmp_path / "grey.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_on_families_run(folder: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1:]
    assert len(blocks) == 3
    for command in "".join(blocks).splitlines():
        result = CliRunner().invoke(app, command.split()[1:])
        assert result.exit_code == 0, (command, result.stderr)
        assert "not told" not in result.stderr, command
        out = command.split()[command.split().index("-o") + 1]
        assert (folder / out).is_file()
