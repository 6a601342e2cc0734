"""The settings of first stages as `ldm` and `resshift` files name them, and the replay of their stored outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.families.base import Case, Record, Weights, arguments
from restore.priors.nets.first_stage import AutoencoderKL, DDConfig, VQModel
from restore.priors.nets.sizes import check_sizes

IGNORED = frozenset(
    "cls dropout lossconfig monitor ckpt_path ignore_keys image_key colorize_nlabels remap sane_index_shape "
    "batch_resize_range scheduler_config lr_g_factor use_ema tanh_out give_pre_end use_linear_attn use_timestep "
    "rank lora_alpha lora_tune_decoder padding_mode stored_scale_factor".split()
)
_LARGEST_BOOK = 2**24
_FALSE = ("tanh_out", "give_pre_end", "use_linear_attn", "remap", "lora_tune_decoder")
_NAMES = ("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv.")


@dataclasses.dataclass(frozen=True)
class FirstStage:
    """An autoencoder: its encoder and decoder, channels of the code, and codes in the book (None: KL)."""

    dd: DDConfig
    embed_dim: int
    n_embed: int | None = None

    def __post_init__(self) -> None:
        check_sizes(self, "embed_dim")
        if self.n_embed is not None:
            check_sizes(self, "n_embed", largest=_LARGEST_BOOK)


@dataclasses.dataclass(frozen=True)
class _Arguments:
    """Of the official autoencoder classes."""

    ddconfig: dict[str, Any]
    embed_dim: int
    n_embed: int | None = None


def first_stage_config(record: Record) -> FirstStage:
    """From the arguments of AutoencoderKL, VQModel, VQModelInterface or VQModelTorch. Raises ConfigError."""
    given = arguments(_Arguments, record, IGNORED)
    for name in _FALSE:
        if record.get(name) or given.ddconfig.get(name):
            found = record.get(name, given.ddconfig.get(name))
            raise ConfigError(f"{name} is {found!r}, which is not known here")
    if given.ddconfig.get("padding_mode", "zeros") != "zeros":
        raise ConfigError(f"padding_mode is {given.ddconfig['padding_mode']!r}, known is 'zeros'")
    dd = arguments(DDConfig, given.ddconfig, IGNORED)
    if dd.attn_type == "vanilla-xformers":  # the same with another kernel
        dd = dataclasses.replace(dd, attn_type="vanilla")
    if dd.attn_type not in ("vanilla", "none"):
        raise ConfigError(f"attn_type is '{dd.attn_type}', known are 'vanilla' and 'none'")
    return FirstStage(dd, given.embed_dim, given.n_embed)


def first_stage(config: FirstStage) -> AutoencoderKL | VQModel:
    """The network."""
    if config.n_embed is None:
        return AutoencoderKL(config.dd, config.embed_dim)
    return VQModel(config.dd, config.embed_dim, config.n_embed)


def first_stage_weights(tensors: Weights) -> Weights:
    """What the autoencoder needs; losses and discriminators of its training are left out."""
    return {n: t for n, t in tensors.items() if n.startswith(_NAMES)}


def guessed_first_stage(weights: Weights) -> dict[str, Any]:
    """The arguments that shapes determine: width of the code, codes in the book, multipliers and blocks.

    The resolution is not among them: attention is where the file has it.
    """
    shapes = {n: t.shape for n, t in weights.items()}
    found: dict[str, Any] = {"embed_dim": shapes["post_quant_conv.weight"][1]}
    if "quantize.embedding.weight" in shapes:
        found["n_embed"] = shapes["quantize.embedding.weight"][0]
    return found


def first_stage_cases(
    network: nn.Module, config: FirstStage, arrays: Mapping[str, Tensor], scale: float = 1.0
) -> Iterator[Case]:
    """Stored outputs of the autoencoder, `vq_...` or `kl_...`: of the image `img` and its code, and of a code
    `z3` or `z4`.
    """
    img = arrays.get("img")
    if img is None or img.shape[1] != config.dd.in_channels:
        return
    rules = _vq_rules if isinstance(network, VQModel) else _kl_rules
    for output, compute in rules(network, arrays, img, scale).items():
        reference = arrays.get(output)
        if reference is not None:
            yield Case(output, reference, compute)


Rules = dict[str, Callable[[], Tensor]]


def _vq_rules(net: Any, arrays: Mapping[str, Tensor], img: Tensor, scale: float) -> Rules:
    def code() -> Tensor:
        z: Tensor = net.encode(img)
        return z

    rules: Rules = {
        "vq_indices": lambda: net.quantize.indices(code()).flatten(),
        **dict.fromkeys(("vq_encode_noquant_f64", "vq_encode_f64"), code),
        **dict.fromkeys(("vq_quant_f32", "vq_quant_f64"), lambda: net.quantize(code())),
        **dict.fromkeys(("vq_decode_quantised_f64", "vq_decode_f64"), lambda: net.decode(code())),
        **dict.fromkeys(
            ("vq_decode_noquant_f64", "vq_decode_nq_f64"),
            lambda: net.decode(code(), quantised=True),
        ),
    }
    if "z3" in arrays:
        rules["vq_decode_first_stage_f32"] = lambda: net.decode(arrays["z3"] / scale)
    return rules


def _kl_rules(net: Any, arrays: Mapping[str, Tensor], img: Tensor, scale: float) -> Rules:
    rules: Rules = {
        "kl_mean_f64": lambda: net.moments(img)[0],
        "kl_logvar_f64": lambda: net.moments(img)[1],
        "kl_std_f64": lambda: (net.moments(img)[1] / 2).exp(),
        "kl_first_stage_encoding_f32": lambda: scale * net.encode(img),
    }
    z = arrays.get("z4")
    reference = arrays.get("kl_decode_f64")
    if z is not None and reference is not None:
        rules["kl_decode_first_stage_f32"] = lambda: net.decode(z / scale)
        rules["kl_decode_f64"] = lambda: _nearest(
            reference, [net.decode(net.encode(img)), net.decode(z)]
        )
    return rules


def _nearest(reference: Tensor, found: list[Tensor]) -> Tensor:
    """Which of several inputs was decoded is not stored: the answer that is nearest."""
    return min(found, key=lambda f: float(torch.dist(f, reference)))
