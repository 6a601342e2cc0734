"""Latent diffusion and Stable Diffusion 1 and 2 as CompVis' code saves them, and their autoencoders alone.

Rombach and others, CVPR 2022. A Lightning dictionary or a flat one with the prefixes `model.diffusion_model.` and
`first_stage_model.`; the average under `model_ema.`, where names have lost their dots. Text encoders are not read: what
a network is told of a text, of the empty one as a rule, is given as a tensor.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from restore.errors import ConfigError, InputError
from restore.priors.checkpoints.content import Checkpoint, StoredTensor
from restore.priors.families.base import Case, Family, Record, Weights, arguments, needed, outputs
from restore.priors.families.codes import CodedModel
from restore.priors.families.first_stages import (
    FirstStage,
    first_stage,
    first_stage_cases,
    first_stage_config,
    first_stage_weights,
    guessed_first_stage,
)
from restore.priors.families.irsde import check_context, contexts_of
from restore.priors.families.latent_network import StageCode, StageImage, ToldUNet
from restore.priors.families.ldm_parts import (
    Bag,
    Parts,
    guessed_parts,
    parts_cases,
    parts_config,
)
from restore.priors.families.meaning import Meaning, alphas_cumprod
from restore.priors.nets.ldm_unet import LDMUNet, LDMUNetConfig
from restore.priors.wrappers import wrapper_of

UNET, FIRST_STAGE, AVERAGE = "model.diffusion_model.", "first_stage_model.", "model_ema."
_DDPM = frozenset(
    "cls num_timesteps_cond log_every_t first_stage_key cond_stage_key image_size channels cond_stage_trainable "
    "concat_mode monitor use_ema cond_stage_config conditioning_key scale_by_std loss_type ckpt_path ignore_keys "
    "load_only_unet clip_denoised original_elbo_weight v_posterior l_simple_weight use_positional_encodings "
    "learn_logvar logvar_init scheduler_config beta_schedule cosine_s base_learning_rate unet_trainable".split()
)
_SCHEDULES = {"linear": "scaled_linear", "sqrt_linear": "linear"}
"""What the official code calls the schedules of `meaning.alphas_cumprod`."""
_ROUNDED = 1e-4
"""Products of a thousand float32 numbers, and settings that were printed with six digits."""
_UNET = frozenset(
    "image_size dropout dims use_checkpoint use_fp16 n_embed num_attention_blocks disable_self_attentions "
    "disable_middle_self_attn".split()
)


@dataclasses.dataclass(frozen=True)
class LDMConfig:
    """U-Net, first stage, and the factor from the first stage's codes to the U-Net's. linear_start, linear_end: ends of
    the schedule where the settings say them. averaged: the file has an average of the U-Net's weights beside them.
    """

    unet: LDMUNetConfig
    first_stage: FirstStage
    scale_factor: float = 1.0
    linear_start: float | None = None
    linear_end: float | None = None
    timesteps: int = 1000
    averaged: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.scale_factor < math.inf:
            raise ConfigError(f"scale_factor is {self.scale_factor}, expected a number above 0")


@dataclasses.dataclass(frozen=True)
class _Arguments:
    """Of the official `LatentDiffusion`."""

    unet_config: dict[str, Any]
    first_stage_config: dict[str, Any]
    scale_factor: float = 1.0
    linear_start: float | None = None
    linear_end: float | None = None
    timesteps: int = 1000
    parameterization: str = ""
    stored_scale_factor: float | None = None
    averaged: bool = True


Config = LDMConfig | FirstStage | Parts


class LatentDiffusion(nn.Module):
    """U-Net and first stage under the official names."""

    def __init__(self, config: LDMConfig) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.diffusion_model = LDMUNet(config.unet)
        self.first_stage_model = first_stage(config.first_stage)

    @property
    def unet(self) -> nn.Module:
        """The network of codes."""
        return self.model.get_submodule("diffusion_model")


class LDM(Family):
    """Latent diffusion."""

    name = "ldm"
    what = "CompVis latent diffusion and Stable Diffusion 1 and 2, and their autoencoders alone"
    ignored = _DDPM
    inferred = (
        "kind of first stage, codes in the book, width of the code, whether it is told a text"
    )
    asked = "the settings (--config), scale factor, heads; schedule, prediction; the embedding of the empty text"

    def claims(self, found: Checkpoint) -> bool:
        """A U-Net beside a first stage; or an autoencoder with what its training leaves beside it."""
        names = _flat(found)
        whole = any(n.startswith(UNET) for n in names)
        own = any("encoder.down.0." in n for n in names) or any(
            "encoder.mid.block_1" in n for n in names
        )
        alone = own and "quant_conv.weight" in names and "post_quant_conv.weight" in names
        return whole or alone

    def weights(self, found: Checkpoint, which: str) -> Weights:
        """U-Net and first stage with their prefixes, or the first stage alone without; of parts all that there is.

        Raises ConfigError, InputError.
        """
        if which not in ("", "ema", "raw"):
            raise ConfigError(f"weights are 'ema' or 'raw', not '{which}'")
        names = _flat(found)
        if "quant_conv.weight" in names:
            return first_stage_weights(names)
        if f"{UNET}input_blocks.0.0.weight" not in names:
            return names
        raw = {n: t for n, t in names.items() if n.startswith(UNET)}
        stage = first_stage_weights(
            {n.removeprefix(FIRST_STAGE): t for n, t in names.items() if n.startswith(FIRST_STAGE)}
        )
        if not raw or not stage:
            there = ", ".join(list(names)[:4])
            raise InputError(
                found.path,
                f"holds no latent diffusion ({UNET}... and {FIRST_STAGE}...), but: {there}",
            )
        average = {n: names[_without_dots(n)] for n in raw if _without_dots(n) in names}
        if which == "ema" and len(average) < len(raw):
            raise ConfigError(f"{found.path}: has no ema weights ({AVERAGE}...)")
        whole = len(average) == len(raw) and which != "raw"
        unet = average if whole else raw
        return unet | {FIRST_STAGE + n: t for n, t in stage.items()}

    def guess(self, weights: Weights) -> dict[str, Any]:
        """Of an autoencoder what its shapes say; of a whole model nothing, its settings are nested; names of parts."""
        if f"{UNET}input_blocks.0.0.weight" in weights:
            return {}
        return (
            guessed_first_stage(weights)
            if "quant_conv.weight" in weights
            else guessed_parts(weights)
        )

    def config(self, record: Record) -> Config:
        """From the `params` of an official model or autoencoder. Raises ConfigError."""
        if "tensors" in record:
            return parts_config(record)
        if {"ddconfig", "embed_dim"} & set(record):
            return first_stage_config(record)
        values = arguments(_Arguments, record, self.ignored)
        inner = dict(values.unet_config.get("params", values.unet_config))
        if isinstance(inner.get("context_dim"), list):
            inner["context_dim"] = inner["context_dim"][0]
        for name in ("num_attention_blocks", "disable_self_attentions", "n_embed"):
            if inner.get(name) is not None:
                raise ConfigError(f"{name} is {inner[name]!r}, which is not known here")
        unet = arguments(LDMUNetConfig, inner, _UNET)
        stage = values.first_stage_config
        target, params = str(stage.get("target", "")), dict(stage.get("params", stage))
        if "KL" in target:
            params.pop("n_embed", None)
        return LDMConfig(
            unet, first_stage_config(params), _scale_factor(values, record), values.linear_start, values.linear_end,
            values.timesteps, values.averaged,
        )  # fmt: skip

    def network(self, config: Config) -> nn.Module:
        """Both networks, or the autoencoder."""
        if isinstance(config, Parts):
            return Bag(config.tensors)
        return LatentDiffusion(config) if isinstance(config, LDMConfig) else first_stage(config)

    def stated(self, record: Record, found: Checkpoint) -> Meaning:
        """Schedule and prediction, where the settings say them; the schedule also from its buffer `betas`.

        Raises ConfigError where both do and differ.
        """
        start, end = record.get("linear_start"), record.get("linear_end")
        word = _SCHEDULES.get(str(record.get("beta_schedule", "linear")))
        schedule, betas = "", _flat(found).get("betas")
        if start is not None and end is not None and word is not None:
            schedule = f"{word}:{start:g}:{end:g}:{record.get('timesteps', 1000)}"
        if betas is not None and (stored := _schedule_of(betas.read(), schedule)) != schedule:
            if schedule:
                raise ConfigError(
                    f"{found.path}: the settings say the schedule {schedule}, and the file's own betas are "
                    f"{stored or 'others'}; correct linear_start, linear_end and timesteps"
                )
            schedule = stored
        return Meaning(schedule=schedule, prediction=str(record.get("parameterization", "")))

    def settings_of(self, document: Record, found: Checkpoint) -> Record:
        """The `params` of the model, or of its first stage for an autoencoder alone.

        A class of CompVis that says no `parameterization` predicts the noise: that is its default.
        """
        model = document.get("model")
        if not isinstance(model, Mapping):
            return document
        target, params = str(model.get("target", "")), model.get("params", {})
        if not isinstance(params, Mapping):
            raise ConfigError("model has no params")
        if "quant_conv.weight" in _flat(found) and isinstance(
            params.get("first_stage_config"), Mapping
        ):
            inner = params["first_stage_config"].get("params", {})
            return inner if isinstance(inner, Mapping) else {}
        default = {"parameterization": "eps"} if target.startswith("ldm.models.diffusion.") else {}
        return {**default, **params}

    def settings_in(self, found: Checkpoint) -> dict[str, Any]:
        """Whether there is an average of the U-Net; the factor of the codes, where training measured and kept it."""
        names = _flat(found)
        if not any(n.startswith(UNET) for n in names):
            return {}
        own: dict[str, Any] = {"averaged": any(n.startswith(AVERAGE) for n in names)}
        if "scale_factor" in names:
            own["stored_scale_factor"] = float(names["scale_factor"].read())
        return own

    def kind(self, config: Config) -> str:
        """A latent prior, or an autoencoder alone."""
        if isinstance(config, Parts):
            return "tensors"
        return "latent" if isinstance(config, LDMConfig) else "autoencoder"

    def unstated(self, config: Config, meaning: Meaning) -> list[str]:
        """Range, schedule, prediction, and the embedding of a text where the network is told one."""
        if not isinstance(config, LDMConfig):
            return []
        missing = needed(meaning, "range", "schedule", "prediction")
        if config.unet.context_dim is not None and "prompt" not in contexts_of(meaning):
            missing.append("context.prompt")
        if config.unet.num_classes is not None:
            missing += needed(meaning, "label")
        return missing

    def model(self, network: nn.Module, config: Config, meaning: Meaning, name: str) -> Any:
        """The latent prior. Raises ConfigError for a U-Net that is shown more than codes, and another text's width."""
        if not isinstance(config, LDMConfig):
            return network
        code = config.first_stage.embed_dim
        if config.unet.in_channels != code or config.unet.out_channels != code:
            raise ConfigError(
                f"{name}: the U-Net takes {config.unet.in_channels} channels and codes have {code}: it is shown "
                "something beside them (a mask, a small image), which no sampler here has; such weights can be "
                "converted and checked only"
            )
        prompt = contexts_of(meaning).get("prompt")
        check_context("prompt", prompt, config.unet.context_dim)
        assert meaning.range is not None  # noqa: S101  (for the type checker: see `unstated`)
        stage, unet = (getattr(network, n, network) for n in ("first_stage_model", "unet"))
        denoiser = wrapper_of(meaning.prediction, name)(
            ToldUNet(unet, prompt, meaning.label), alphas_cumprod(meaning.schedule), channels=code,
            multiple=config.unet.multiple, name=name,
        )  # fmt: skip
        dd = config.first_stage.dd
        return CodedModel(
            StageCode(stage), StageImage(stage), denoiser, channels=dd.in_channels, latent_channels=code,
            factor=dd.factor, trained=meaning.range, scale=config.scale_factor, name=name,
        )  # fmt: skip

    def replay(
        self, network: nn.Module, config: Config, arrays: Mapping[str, Tensor], source: str
    ) -> Iterator[Case]:  # fmt: skip
        """Outputs of the first stage (`vq_...`, `kl_...`), of the U-Net, and the buffers of the schedule."""
        if isinstance(config, Parts):
            yield from parts_cases(network, config, arrays)
            return
        if isinstance(config, FirstStage):
            yield from first_stage_cases(network, config, arrays)
            return
        assert isinstance(network, LatentDiffusion)  # noqa: S101  (for the type checker)
        yield from first_stage_cases(
            network.first_stage_model, config.first_stage, arrays, config.scale_factor
        )
        yield from _unet_cases(
            network, config, arrays, source.partition(":")[2] if config.averaged else "raw"
        )
        yield from _schedule_cases(config, arrays)


def _unet_cases(
    network: LatentDiffusion, config: LDMConfig, arrays: Mapping[str, Tensor], which: str
) -> Iterator[Case]:
    """`vq_unet_raw`, `vq_unet_ema`, `vq_apply_model` (of the raw weights), `sd_unet`, `unet`, `out`."""
    told = config.unet.context_dim is not None
    z = arrays.get(f"z{config.unet.in_channels}", arrays.get("x"))
    t, context = arrays.get("t", arrays.get("time")), arrays.get("ctx", arrays.get("context"))
    if z is None or t is None or (told and context is None):
        return
    own = (
        {"sd_unet"}
        if told
        else {f"vq_unet_{which}", *(["vq_apply_model"] if which != "ema" else [])}
    )
    for output, reference in outputs(arrays).items():
        stem = output if output == "out" else output.rpartition("_")[0]
        if stem not in own | {"unet", "out"} or reference.shape != z.shape:
            continue
        given = context if told else None
        yield Case(output, reference, lambda c=given: network.unet(z, t, context=c))  # type: ignore[misc]


def _schedule_cases(config: LDMConfig, arrays: Mapping[str, Tensor]) -> Iterator[Case]:
    """The buffers of a schedule in the settings, `vq_buf_...`."""
    if config.linear_start is None or config.linear_end is None:
        return
    words = f"scaled_linear:{config.linear_start}:{config.linear_end}:{config.timesteps}"
    a = alphas_cumprod(words)
    before = torch.cat([a.new_ones(1), a[:-1]])
    betas = 1 - a / before
    posterior = betas * (1 - before) / (1 - a)
    found = {
        "betas": betas, "alphas_cumprod": a, "sqrt_recipm1_alphas_cumprod": (1 / a - 1).sqrt(),
        "posterior_variance": posterior, "posterior_log_variance_clipped": posterior.clamp(min=1e-20).log(),
    }  # fmt: skip
    for name, values in found.items():
        reference = arrays.get(f"vq_buf_{name}")
        if reference is not None and isinstance(config.first_stage.n_embed, int):
            yield Case(f"vq_buf_{name}", reference, lambda v=values: v)  # type: ignore[misc]


def _flat(found: Checkpoint) -> Weights:
    """The tensors of `state_dict`, or of the file itself."""
    tree = found.entry("state_dict")
    tree = tree if isinstance(tree, Mapping) else found.tree
    return {n.removeprefix("module."): t for n, t in tree.items() if isinstance(t, StoredTensor)}


def _scale_factor(values: _Arguments, record: Record) -> float:
    """The factor of the codes: that of the file where it has one. Raises ConfigError where the settings say another."""
    stored, said = values.stored_scale_factor, values.scale_factor
    if stored is None:
        return said
    if "scale_factor" in record and abs(said - stored) > _ROUNDED * stored:
        raise ConfigError(
            f"scale_factor is {said}, and the file itself says {stored:.6g}; leave it out of the settings"
        )
    return stored


def _schedule_of(betas: Tensor, expected: str) -> str:
    """The schedule in words of these betas; `expected` where that is it, "" for none that is known."""
    ends = f"{float(betas[0]):.6g}:{float(betas[-1]):.6g}:{len(betas)}"
    for words in (expected, f"scaled_linear:{ends}", f"linear:{ends}"):
        if words and len(betas) > 1:
            own = alphas_cumprod(words)
            stored = torch.cumprod(1 - betas.double(), 0)
            if own.shape == stored.shape and float((own - stored).abs().max()) < _ROUNDED:
                return words
    return ""


def _without_dots(name: str) -> str:
    """What the average of a weight under `model.` is called."""
    return AVERAGE + name.removeprefix("model.").replace(".", "")


FAMILY = LDM()
