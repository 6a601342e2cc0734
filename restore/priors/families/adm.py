"""U-Nets of guided-diffusion and its descendants (improved-diffusion, DPS, DDS, DDRM): flat state dicts.

Source of the names: Dhariwal and Nichol, "Diffusion models beat GANs on image synthesis", NeurIPS 2021, and the code
that was published with it. Settings are taken in both forms: the command line's (`num_channels`, `image_size`) and the
constructor's (`model_channels`, factors).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.base import Denoiser
from restore.priors.checkpoints.content import Checkpoint
from restore.priors.families.base import (
    Case,
    Family,
    Record,
    Weights,
    arguments,
    beside,
    check_label,
    needed,
    outputs,
)
from restore.priors.families.meaning import Meaning, alphas_cumprod
from restore.priors.families.unwrapping import state_dict_in
from restore.priors.nets.adm_unet import ADMConfig, ADMUNet
from restore.priors.wrappers import wrapper_of

CLASSES = 1000
"""The official code knows ImageNet's number of classes only."""
_MULTS: dict[int, tuple[float, ...]] = {
    512: (0.5, 1, 1, 2, 2, 4, 4), 256: (1, 1, 2, 2, 4, 4), 128: (1, 1, 2, 3, 4), 64: (1, 2, 3, 4),
}  # fmt: skip
"""channel_mult where it is left out, by image_size."""
_OTHERS = ("relative_position_bias_table", "attn2.to_k.weight")
"""Of ResShift's Swin layers and of latent diffusion's transformers."""


class ADM(Family):
    """Guided diffusion."""

    name = "adm"
    what = "guided-diffusion and improved-diffusion U-Nets (also of DPS, DDS, DDRM)"
    ignored = frozenset(
        "cls image_size dropout use_checkpoint use_fp16 dims learn_sigma class_cond noise_schedule diffusion_steps "
        "timestep_respacing use_kl predict_xstart rescale_timesteps rescale_learned_sigmas sigma_small "
        "model_path".split()
    )
    silent = ("use_new_attention_order",)
    inferred = "channels, widths, blocks, where attention sits, scale-shift, resampling, classes, learned variance"
    asked = "heads, attention order; range, schedule, prediction, complex mode, class"

    def claims(self, found: Checkpoint) -> bool:
        """input_blocks and time_embed, and none of the layers that its descendants have put between them."""
        names = set(state_dict_in(found, "") or ())
        others = any(n.endswith(_OTHERS) for n in names)
        return {"input_blocks.0.0.weight", "time_embed.0.weight"} <= names and not others

    def weights(self, found: Checkpoint, which: str) -> Weights:
        """The flat dictionary; `ema` and `raw` where a trainer keeps both in one file."""
        tensors = state_dict_in(found, which)
        if tensors is None or "time_embed.0.weight" not in tensors:
            raise ConfigError(
                f"{found.path}: holds no U-Net of guided-diffusion (input_blocks, time_embed)"
            )
        return tensors

    def guess(self, weights: Weights) -> dict[str, Any]:
        """All but heads and attention order."""
        last = _count(weights, "output_blocks")
        ups = [k for k in range(last) if _second(weights, k)]
        gaps = [
            k
            for k in range(1, _count(weights, "input_blocks"))
            if not any(n.startswith(f"input_blocks.{k}.") for n in weights)
        ]
        blocks = ups[0] if ups else (gaps[0] - 1 if gaps else last - 1)
        levels = last // (blocks + 1)
        width = weights["time_embed.0.weight"].shape[1]
        ends = [(levels - 1 - level) * (blocks + 1) for level in range(levels)]
        wide = [weights[f"output_blocks.{k}.0.out_layers.3.weight"].shape[0] for k in ends]
        scale = "output_blocks.0.0.emb_layers.1.weight"
        found = {
            "in_channels": weights["input_blocks.0.0.weight"].shape[1],
            "model_channels": width, "out_channels": weights["out.2.weight"].shape[0],
            "num_res_blocks": blocks, "channel_mult": [w / width for w in wide],
            "attention_resolutions": [
                2**level for level, k in enumerate(ends) if f"output_blocks.{k}.1.qkv.weight" in weights
            ],
            "resblock_updown": any(_second(weights, k) == "in_layers" for k in ups),
            "conv_resample": not gaps,
            "use_scale_shift_norm": weights[scale].shape[0] == 2 * wide[-1],
        }  # fmt: skip
        if "label_emb.weight" in weights:
            found["num_classes"] = weights["label_emb.weight"].shape[0]
        return found

    def config(self, record: Record) -> ADMConfig:
        """In either form. Raises ConfigError; heads must be said, as no file of weights tells them."""
        values = _constructor_form(dict(record))
        if not {"num_heads", "num_head_channels"} & set(values):
            raise ConfigError(
                "the number of attention heads is not in the file: say num_head_channels=64 (the usual one) or "
                "num_heads=N by --set or --config, and use_new_attention_order=true where the training said so"
            )
        return arguments(ADMConfig, values, self.ignored)

    def network(self, config: ADMConfig) -> nn.Module:
        """The U-Net."""
        return ADMUNet(config)

    def stated(self, record: Record, found: Checkpoint) -> Meaning:
        """Schedule, prediction and times, where the settings of the diffusion stand beside those of the network."""
        steps = record.get("diffusion_steps", 1000)
        if type(steps) is not int or steps < 2:
            raise ConfigError(
                f"argument 'diffusion_steps' is {steps!r}, expected a number of 2 or more"
            )
        schedule = str(record.get("noise_schedule", ""))
        if schedule == "linear":  # the ends hold for 1000 steps
            schedule = f"linear:{1e-4 * 1000 / steps:g}:{0.02 * 1000 / steps:g}:{steps}"
        elif schedule:
            schedule = f"{schedule}:{steps}"
        words = {True: "x0", False: "eps"}
        return Meaning(
            schedule=schedule, prediction=words.get(record.get("predict_xstart"), ""),  # type: ignore[arg-type]
            rescale_time=record.get("rescale_timesteps") is True,
        )  # fmt: skip

    def kind(self, config: ADMConfig) -> str:
        """A denoiser."""
        return "denoiser"

    def unstated(self, config: ADMConfig, meaning: Meaning) -> list[str]:
        """Range, schedule, prediction; what becomes of complex images where there are one or two channels."""
        missing = needed(meaning, "range", "schedule", "prediction")
        if config.in_channels in (1, 2):
            missing += needed(meaning, "complex_mode")
        if config.num_classes is not None:
            missing += needed(meaning, "label")
        return missing

    def model(self, network: nn.Module, config: ADMConfig, meaning: Meaning, name: str) -> Denoiser:
        """A network of noise, clean image or velocity with its schedule."""
        a = alphas_cumprod(meaning.schedule)
        check_label(meaning.label, config.num_classes)
        scale = 1000 / len(a) if meaning.rescale_time else 1.0
        assert meaning.range is not None  # noqa: S101  (for the type checker: see `unstated`)
        return wrapper_of(meaning.prediction, name)(
            Timed(network, scale, meaning.label), a, channels=config.in_channels, trained=meaning.range,
            complex_mode=meaning.complex_mode or "separate", multiple=config.multiple, name=name,
        )  # fmt: skip

    def replay(
        self, network: nn.Module, config: ADMConfig, arrays: Mapping[str, Tensor], source: str
    ) -> Iterator[Case]:
        """Outputs whose names and shapes fit this reading (`legacy`, `new`, `hc8`, `heads1`, `cond`, `additive`)."""
        for output, reference in outputs(arrays).items():
            inputs = _inputs(arrays, output)
            if inputs is None or not _fits(config, output, inputs[0], reference):
                continue
            x, t = inputs
            y = beside(arrays, output, "y") if config.num_classes is not None else None
            yield Case(output, reference, lambda x=x, t=t, y=y: network(x, t, y))  # type: ignore[misc]


class Timed(nn.Module):
    """A network whose times are scaled, and that is asked for one class where it knows classes."""

    def __init__(self, network: nn.Module, scale: float, label: int | None) -> None:
        super().__init__()
        self.network, self.scale, self.label = network, scale, label

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (N, C, H, W), t: (N,)."""
        if self.label is None:
            return self.network(x, t * self.scale)
        return self.network(x, t * self.scale, t.new_full(t.shape, self.label).long())


def _constructor_form(values: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments from those of the official command line; what is in that form already stays."""
    size = values.get("image_size")
    if "num_channels" in values:
        values["model_channels"] = values.pop("num_channels")
        values.setdefault("in_channels", 3)
    if isinstance(mult := values.get("channel_mult"), str):
        if not mult and size not in _MULTS:
            raise ConfigError(f"channel_mult is empty, and image_size {size} has no usual one")
        values["channel_mult"] = list(_numbers("channel_mult", mult)) if mult else _MULTS[size]  # type: ignore[index]
    where = values.get("attention_resolutions")
    if isinstance(where, str | int):
        where = str(where)
        if not isinstance(size, int) or size < 1:
            raise ConfigError(
                f"attention_resolutions '{where}' are in pixels, and image_size is {size!r}; give both, or a list of "
                "factors of down-sampling"
            )
        sides = _numbers("attention_resolutions", where)
        values["attention_resolutions"] = [size // int(r) for r in sides if r >= 1]
    if isinstance(values.get("learn_sigma"), bool) and "in_channels" in values:
        channels = values["in_channels"]
        values["out_channels"] = 2 * channels if values["learn_sigma"] else channels
    if values.get("class_cond") is True:
        values.setdefault("num_classes", CLASSES)
    return values


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ConfigError(f"argument '{name}' is '{text}', expected numbers and commas") from error


def _count(weights: Weights, name: str) -> int:
    found = [int(m[1]) for n in weights if (m := re.match(rf"{name}\.(\d+)\.", n))]
    return max(found, default=-1) + 1


def _second(weights: Weights, k: int) -> str:
    """What makes a block of the decoder end in up-sampling: "conv", "in_layers" or nothing."""
    for n in weights:
        if m := re.match(rf"output_blocks\.{k}\.[12]\.(conv|in_layers)\b", n):
            return m[1]
    return ""


def _inputs(arrays: Mapping[str, Tensor], output: str) -> tuple[Tensor, Tensor] | None:
    """Image and times of a stored output: `_t1` is row 1 of the times, `_rect` another image, `_tfrac` other times."""
    m = re.search(r"_(?:t(\d+)|(rect)|(tfrac))_f(?:64|32)$", output)
    row, rect, frac = m.groups() if m else (None, None, None)
    x = arrays.get("x_rect") if rect else beside(arrays, output, "x")
    t = arrays.get("t_rect" if rect else "t_frac") if rect or frac else beside(arrays, output, "t")
    if x is None or t is None:
        return None
    if t.ndim == 2:
        k = int(row or 0)
        if k >= len(t):
            return None
        t = t[k]
    return x, t.reshape(-1).expand(len(x))


def _fits(config: ADMConfig, output: str, x: Tensor, reference: Tensor) -> bool:
    shape = (x.shape[0], config.out_channels, *x.shape[2:])
    if x.ndim != 4 or x.shape[1] != config.in_channels or tuple(reference.shape) != shape:
        return False
    if output.startswith("out"):
        return True
    words = output.split("_")
    order = "new" in words
    if (
        order != config.use_new_attention_order
        or ("additive" in words) == config.use_scale_shift_norm
    ):
        return False
    if ("cond" in words) != (config.num_classes is not None):
        return False
    said = re.search(r"_(hc|heads)(\d+)_", output)
    if said is None:
        return True
    if said[1] == "hc":
        return config.num_head_channels == int(said[2])
    return config.num_head_channels == -1 and config.num_heads == int(said[2])


FAMILY = ADM()
