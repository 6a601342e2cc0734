"""Folders of the diffusers package: one model with its config.json, or a pipeline of several with model_index.json.

Nothing of that package is imported. Missing entries of a config mean the defaults of its classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from restore.errors import ConfigError, InputError
from restore.priors.checkpoints.content import Checkpoint, StoredTensor
from restore.priors.families import diffusers_model
from restore.priors.families.base import Case, Family, Record, Weights, arguments, needed
from restore.priors.families.diffusers_replay import cases
from restore.priors.families.diffusers_scheduler import meaning_of
from restore.priors.families.meaning import Meaning
from restore.priors.nets.diffusers_unet import DiffusersUNet, UNet2DConditionConfig, UNet2DConfig
from restore.priors.nets.diffusers_vae import DiffusersVAE, VAEConfig

Part = UNet2DConfig | UNet2DConditionConfig | VAEConfig

_CLASSES: dict[str, type[Part]] = {
    "UNet2DModel": UNet2DConfig, "UNet2DConditionModel": UNet2DConditionConfig, "AutoencoderKL": VAEConfig,
    "VQModel": VAEConfig,
}  # fmt: skip
_CODES = ("vae", "vqvae", "movq")
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Of attention in autoencoders before 2023."""
_CENTRED = ("DDPMPipeline", "DDIMPipeline", "LDMPipeline", "PNDMPipeline", "ScoreSdeVePipeline")
"""Pipelines that turn their images from -1..1 to 0..1 at the end."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "conv_in_kernel": (3,), "conv_out_kernel": (3,), "norm_type": ("group",), "addition_embed_type": (None,),
    "encoder_hid_dim": (None,), "encoder_hid_dim_type": (None,), "time_cond_proj_dim": (None,),
    "timestep_post_act": (None,), "time_embedding_act_fn": (None,), "attention_type": ("default",),
    "dual_cross_attention": (False,), "only_cross_attention": (False,), "mid_block_only_cross_attention": (None, False),
    "class_embeddings_concat": (False,), "cross_attention_norm": (None,), "resnet_skip_time_act": (False,),
    "resnet_out_scale_factor": (1.0, 1), "reverse_transformer_layers_per_block": (None,),
    "projection_class_embeddings_input_dim": (None,), "lookup_from_codebook": (False,),
    "latents_mean": (None,), "latents_std": (None,),
}  # fmt: skip
"""Settings that would change the network, and the values that do not."""
_WITHOUT_EFFECT = frozenset(
    "sample_size dropout force_upcast upcast_attention addition_embed_type_num_heads addition_time_embed_dim".split()
)


@dataclasses.dataclass(frozen=True)
class DiffusersConfig:
    """The models by sub-folder, "" for a single one."""

    parts: Mapping[str, Part]


class Pipeline(nn.Module):
    """Models by sub-folder."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, module in parts.items():
            self.add_module(name, module)


class Diffusers(Family):
    """diffusers."""

    name = "diffusers"
    what = "folders of diffusers: UNet2DModel, UNet2DConditionModel, AutoencoderKL, VQModel, pipelines of them"
    inferred = "nothing: every setting is in config.json, which must lie beside the weights"
    asked = "range (said by pipelines of pixels), schedule and prediction (said by scheduler_config.json), complex mode"

    def claims(self, found: Checkpoint) -> bool:
        """A config.json with the class of a model, or names that only these networks have."""
        if _models(found.configs):
            return True
        names = {n for n, v in found.tree.items() if isinstance(v, StoredTensor)}
        return "conv_in.weight" in names and any(
            n.startswith("down_blocks.0.resnets") for n in names
        )

    def weights(self, found: Checkpoint, which: str) -> Weights:
        """Names as they are; in a pipeline after the name of the sub-folder."""
        if which not in ("", "raw"):
            raise ConfigError(f"weights '{which}': a folder of diffusers has one set of weights")
        single = any(isinstance(v, StoredTensor) for v in found.tree.values())
        if single:
            return _modern(found.tensors())
        parts = [n for n in found.tree if n in _models(found.configs)]
        if not parts:
            raise InputError(found.path, "holds no weights of a U-Net or an autoencoder")
        return {
            f"{part}.{name}" if part else name: tensor
            for part in parts
            for name, tensor in _modern(found.tensors(part)).items()
        }

    def guess(self, weights: Weights) -> dict[str, Any]:
        """Nothing."""
        return {}

    def settings_in(self, found: Checkpoint) -> Record:
        """The configs of the folder, by sub-folder where there are several models."""
        models = _models(found.configs)
        if list(models) == [""]:
            return models[""]
        return dict(models) | {
            k: found.configs[k] for k in ("scheduler", "model_index") if k in found.configs
        }

    def config(self, record: Record) -> DiffusersConfig:
        """Of one model, or of models by sub-folder. Raises ConfigError for what would change the network unseen."""
        models = _models({"": record}) if "_class_name" in record else _models(record)
        if not models:
            raise ConfigError(
                f"no settings of a model ({', '.join(_CLASSES)}): its config.json must lie beside the weights, or be "
                "given by --config"
            )
        return DiffusersConfig({name: _part(name, model) for name, model in models.items()})

    def network(self, config: DiffusersConfig) -> nn.Module:
        """One model, or several as children."""
        made: dict[str, nn.Module] = {
            name: DiffusersVAE(part) if isinstance(part, VAEConfig) else DiffusersUNet(part)
            for name, part in config.parts.items()
        }
        return made[""] if "" in made else Pipeline(made)

    def stated(self, record: Record, found: Checkpoint) -> Meaning:
        """Schedule and prediction of the scheduler; the range of pipelines that are known to be centred."""
        said = meaning_of(found.configs.get("scheduler", {}))
        pipeline = found.configs.get("model_index", {}).get("_class_name")
        centred = Meaning(range=(-1.0, 1.0) if pipeline in _CENTRED else None)
        return said.over(centred)

    def kind(self, config: DiffusersConfig) -> str:
        """A denoiser or latent model where everything for one is there."""
        unet, vae = _unet(config), _vae(config)
        if unet is None:
            return "autoencoder"
        if isinstance(unet, UNet2DConditionConfig):
            return "part"  # it looks at the answers of a text encoder
        return "denoiser" if vae is None else "latent"

    def unstated(self, config: DiffusersConfig, meaning: Meaning) -> list[str]:
        """Range, schedule, prediction; complex mode of one or two channels; class."""
        missing = needed(meaning, "range", "schedule", "prediction")
        unet = _unet(config)
        if isinstance(unet, UNet2DConfig):
            if _vae(config) is None and unet.in_channels in (1, 2):
                missing += needed(meaning, "complex_mode")
            if unet.num_class_embeds is not None or unet.class_embed_type is not None:
                missing += needed(meaning, "label")
        return missing

    def model(
        self, network: nn.Module, config: DiffusersConfig, meaning: Meaning, name: str
    ) -> Any:
        """A pixel denoiser, a latent model, or the autoencoder itself."""
        unet, vae = _unet(config), _vae(config)
        if not isinstance(unet, UNet2DConfig):
            return network
        parts = dict(network.named_children()) if isinstance(network, Pipeline) else {}
        inner = parts.get("unet", network)
        if vae is None:
            return diffusers_model.denoiser(inner, unet, meaning, name)
        codes = next((parts[n] for n in _CODES if n in parts), network)
        return diffusers_model.latent(inner, unet, codes, vae, meaning, name)

    def replay(
        self, network: nn.Module, config: DiffusersConfig, arrays: Mapping[str, Tensor], source: str
    ) -> Iterator[Case]:
        """Outputs of every model whose shapes fit."""
        parts = dict(network.named_children()) if isinstance(network, Pipeline) else {"": network}
        for name, part in config.parts.items():
            yield from cases(parts[name], part, arrays)


def _models(configs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The configs of models that are known here, by sub-folder."""
    return {
        k: dict(v)
        for k, v in configs.items()
        if isinstance(v, Mapping) and v.get("_class_name") in _CLASSES
    }


def _part(name: str, record: Mapping[str, Any]) -> Part:
    kind = str(record["_class_name"])
    values = {k: v for k, v in record.items() if not k.startswith("_")}
    for key, neutral in _NEUTRAL.items():
        if key in values and values.pop(key) not in neutral:
            raise ConfigError(
                f"{name or kind}: {key} is {record[key]!r}, and only {neutral[0]} can be built here"
            )
    if kind == "VQModel":
        values.setdefault("num_vq_embeddings", 256)
        values.setdefault("latent_channels", 3)
    if kind == "UNet2DConditionModel":
        values.pop("class_embed_type", None) if values.get("class_embed_type") is None else None
    return arguments(_CLASSES[kind], values, _WITHOUT_EFFECT)


def _unet(config: DiffusersConfig) -> UNet2DConfig | UNet2DConditionConfig | None:
    parts = config.parts.values()
    return next((p for p in parts if isinstance(p, UNet2DConfig | UNet2DConditionConfig)), None)


def _vae(config: DiffusersConfig) -> VAEConfig | None:
    return next((p for p in config.parts.values() if isinstance(p, VAEConfig)), None)


def _modern(tensors: Weights) -> Weights:
    """Names of attention as they are today."""
    found: Weights = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if "attentions" in parts and parts[-2] in _OLD_NAMES:
            parts[-2] = _OLD_NAMES[parts[-2]]
        found[".".join(parts)] = tensor
    return found


FAMILY = Diffusers()
