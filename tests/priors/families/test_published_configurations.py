"""Configuration files as authors keep them: YAML of trainings, and what they say of a network's meaning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recipe_weights import filled

from restore.errors import ConfigError, InputError
from restore.pipelines.model_files import Conversion, convert
from restore.priors.families.known import family_of
from restore.priors.families.meaning import Meaning
from restore.priors.families.resshift_joined import UNetAlone

LDM = """\
model:
  base_learning_rate: 2.0e-06
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.0015
    linear_end: 0.0195
    timesteps: 1000
    first_stage_key: image
    cond_stage_config: __is_unconditional__
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params: {image_size: 16, in_channels: 3, out_channels: 3, model_channels: 32, attention_resolutions: [1],
               num_res_blocks: 0, channel_mult: [1], num_head_channels: 16}
    first_stage_config:
      target: ldm.models.autoencoder.VQModelInterface
      params:
        embed_dim: 3
        n_embed: 16
        ddconfig: {double_z: false, z_channels: 3, resolution: 32, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 1],
                   num_res_blocks: 0, attn_resolutions: [], dropout: 0.0}
        lossconfig:
          target: torch.nn.Identity
data:
  target: main.DataModuleFromConfig
"""
RESSHIFT = """\
model:
  target: models.unet.UNetModelSwin
  ckpt_path: ~
  params: {image_size: 8, in_channels: 3, model_channels: 32, out_channels: 3, attention_resolutions: [], dropout: 0,
           channel_mult: [1], num_res_blocks: [0], conv_resample: True, dims: 2, use_fp16: False, num_head_channels: 16,
           use_scale_shift_norm: True, resblock_updown: False, swin_depth: 2, swin_embed_dim: 32, window_size: 4,
           mlp_ratio: 4, cond_lq: True, lq_size: 8}
diffusion:
  target: models.script_util.create_gaussian_diffusion
  params:
    sf: 4
    schedule_name: exponential
    schedule_kwargs:
      power: 0.3
    etas_end: 0.99
    steps: 4
    min_noise_level: 0.2
    kappa: 2.0
    weighted_mse: False
    predict_type: xstart
    timestep_respacing: ~
    scale_factor: 1.0
    normalize_input: True
    latent_flag: True
autoencoder:
  target: ldm.models.autoencoder.VQModelTorch
  use_fp16: True
  params:
    embed_dim: 3
    n_embed: 16
    ddconfig: {double_z: False, z_channels: 3, resolution: 16, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 1],
               num_res_blocks: [1, 0], attn_resolutions: [], dropout: 0.0, padding_mode: zeros}
train:
  lr: 5e-5
  val_freq: ${train.save_freq}
"""
IRSDE = """\
name: refusion
sde:
  max_sigma: 50
  T: 100
  schedule: cosine # linear, cosine
  eps: 0.005
network_G:
  which_model_G: ConditionalNAFNet
  setting:
    width: 8
    enc_blk_nums: [1]
    middle_blk_num: 1
    dec_blk_nums: [1]
path:
  pretrain_model_G: ~
"""


def conversion(folder: Path, kind: str, text: str, whose: str = "") -> Conversion:
    """A file of weights that fits the configuration, and the configuration beside it. whose: a part of the document."""
    (folder / "official.yaml").write_text(text, encoding="utf-8")
    family = family_of(kind)
    record = family.settings_of(_document(folder, kind), _Weights(whose))  # type: ignore[arg-type]
    network = filled(lambda: family.network(family.config(record))).float()
    torch.save(network.state_dict(), folder / "weights.pth")
    return Conversion(
        folder / "weights.pth", kind, folder / f"{whose or kind}.safetensors", config=folder / "official.yaml",
    )  # fmt: skip


def _document(folder: Path, kind: str) -> dict[str, object]:
    from restore.pipelines.model_settings import settings_from

    class Everything:
        def settings_of(self, document: dict[str, object], found: object) -> dict[str, object]:
            return document

    return settings_from(folder / "official.yaml", "", Everything(), None)  # type: ignore[arg-type]


class _Weights:
    """A file whose names are those of a network, or of an autoencoder."""

    def __init__(self, whose: str) -> None:
        from restore.priors.checkpoints.content import StoredTensor

        name = "quantize.embedding.weight" if whose == "autoencoder" else "time_embed.0.weight"
        self.tree = {
            n: StoredTensor((1, 1), "float32", lambda: torch.zeros(1, 1)) for n in (name, "x")
        }
        self.path = Path("x")

    def entry(self, *names: str) -> None:
        return None


def test_a_configuration_of_latent_diffusion_says_schedule_and_prediction(tmp_path: Path) -> None:
    made = convert(conversion(tmp_path, "ldm", LDM))
    assert made.meaning == Meaning(schedule="scaled_linear:0.0015:0.0195:1000", prediction="eps")
    assert made.missing() == ["range"]
    assert made.config.unet.num_head_channels == 16


def test_a_configuration_of_resshift_serves_both_of_its_files(tmp_path: Path) -> None:
    made = convert(conversion(tmp_path, "resshift", RESSHIFT))
    assert made.meaning == Meaning(schedule="resshift:4:2:0.3:0.2:0.99", prediction="x0")
    assert isinstance(made.config, UNetAlone)
    assert (made.config.latent_flag, made.config.normalize_input) == (True, True)
    assert made.kind == "part"
    stage = convert(conversion(tmp_path, "resshift", RESSHIFT, "autoencoder"))
    assert stage.kind == "autoencoder"
    assert stage.config.dd.blocks == (1, 0)


def test_options_of_refusion_say_the_chain(tmp_path: Path) -> None:
    made = convert(conversion(tmp_path, "irsde", IRSDE))
    assert made.meaning == Meaning(
        schedule="irsde:cosine:100:0.19607843:0.005:irsde", prediction="noise"
    )
    assert made.missing() == ["range"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: [1, 2", "not YAML"),
        ("model:\n  params: 3\n", "model has no params"),
        ("network_G:\n  setting: 3\n", "'network_G' is unknown"),
        ("files: {a.pth: {}}\n", r"no settings for 'weights\.pth'"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    job = conversion(tmp_path, "ldm", LDM)
    (tmp_path / "official.yaml").write_text(text, encoding="utf-8")
    with pytest.raises((ConfigError, InputError), match=words):
        convert(job)
