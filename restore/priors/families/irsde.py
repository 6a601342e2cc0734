"""IR-SDE, Refusion and DA-CLIP: state dicts of ConditionalUNet and ConditionalNAFNet.

Luo and others, ICML 2023, CVPR workshops 2023 and ICLR 2024. Networks are shown x_t - y and y, state first, and are
told the whole time t of the chain.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from restore.bridges.base import HEADS, Level
from restore.errors import ConfigError
from restore.priors.checkpoints.content import Checkpoint
from restore.priors.conditional import ConditionalModel
from restore.priors.families.base import Case, Family, Record, Weights, arguments, needed, outputs
from restore.priors.families.bridge_network import BridgeNetwork, head_of, times_of
from restore.priors.families.meaning import Meaning
from restore.priors.families.unwrapping import state_dict_in
from restore.priors.nets.irsde_nafnet import ConditionalNAFNet, NAFNetConfig
from restore.priors.nets.irsde_unet import ConditionalUNet, UNetConfig
from restore.priors.nets.sizes import check_sizes

Config = UNetConfig | NAFNetConfig
_MOST_LEVELS = 10
_CONTEXTS = ("degradation", "image")


@dataclasses.dataclass(frozen=True)
class _IRSDEUNet:
    """Arguments of IR-SDE's ConditionalUNet."""

    in_nc: int
    out_nc: int
    nf: int
    depth: int = 4


@dataclasses.dataclass(frozen=True)
class _DACLIPUNet:
    """Arguments of DA-CLIP's ConditionalUNet."""

    in_nc: int
    out_nc: int
    nf: int
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    context_dim: int | None = 512
    use_degra_context: bool = True
    use_image_context: bool = False


class IRSDE(Family):
    """Networks of mean-reverting diffusion."""

    name = "irsde"
    what = "ConditionalUNet of IR-SDE and DA-CLIP, ConditionalNAFNet of Refusion"
    ignored = frozenset(("cls", "upscale", "sde"))
    inferred = "widths, levels, blocks, channels, contexts of DA-CLIP"
    asked = "range, prediction (noise, as published), schedule of the chain, DA-CLIP's contexts"

    def claims(self, found: Checkpoint) -> bool:
        """A 7 x 7 entrance without bias, or gated blocks that are told the time."""
        names = state_dict_in(found, "") or {}
        unet = "init_conv.weight" in names and "init_conv.bias" not in names
        return unet or {"intro.weight", "time_mlp.1.weight", "ending.weight"} <= set(names)

    def weights(self, found: Checkpoint, which: str) -> Weights:
        """The flat dictionary; the average is a file of its own. Raises ConfigError."""
        tensors = state_dict_in(found, which)
        if tensors is None or not {"init_conv.weight", "intro.weight"} & set(tensors):
            raise ConfigError(
                f"{found.path}: holds neither ConditionalUNet (init_conv, downs) nor ConditionalNAFNet (intro, "
                "encoders)"
            )
        return tensors

    def guess(self, weights: Weights) -> dict[str, Any]:
        """Everything."""
        shapes = {n: t.shape for n, t in weights.items()}
        if "intro.weight" in shapes:
            count = len(_numbers(r"encoders\.(\d+)\.", shapes))
            return {
                "img_channel": shapes["ending.weight"][0], "width": shapes["intro.weight"][0],
                "middle_blk_num": len(_numbers(r"middle_blks\.(\d+)\.", shapes)),
                "enc_blk_nums": [len(_numbers(rf"encoders\.{i}\.(\d+)\.", shapes)) for i in range(count)],
                "dec_blk_nums": [len(_numbers(rf"decoders\.{i}\.(\d+)\.", shapes)) for i in range(count)],
            }  # fmt: skip
        nf, given = shapes["init_conv.weight"][:2]
        levels = len(_numbers(r"downs\.(\d+)\.", shapes))
        mult = [shapes[f"downs.{i}.3.weight"][0] // nf for i in range(levels)]
        found: dict[str, Any] = {
            "in_nc": given // 2, "out_nc": shapes["final_conv.weight"][0], "nf": nf,
        }  # fmt: skip
        prompted = "text_mlp.0.weight" in shapes
        seen = "mid_attn.fn.fn.transformer_blocks.0.attn2.to_k.weight"
        if mult == [2 ** (i + 1) for i in range(levels)] and not prompted and seen not in shapes:
            return found | {"depth": levels}
        width = shapes["text_mlp.0.weight"][1] if prompted else shapes.get(seen, (0, None))[1]
        return found | {
            "ch_mult": mult, "context_dim": width, "use_degra_context": prompted,
            "use_image_context": seen in shapes,
        }  # fmt: skip

    def config(self, record: Record) -> Config:
        """In the form of any of the three. Raises ConfigError."""
        if "NAFNet" in str(record.get("cls", "")) or {"img_channel", "enc_blk_nums"} & set(record):
            return arguments(NAFNetConfig, record, self.ignored)
        if {"ch_mult", "context_dim", "use_degra_context", "use_image_context"} & set(record):
            given = arguments(_DACLIPUNet, record, self.ignored | {"depth"})
            told = bool(given.context_dim)
            return UNetConfig(
                given.in_nc, given.out_nc, given.nf, given.ch_mult, given.context_dim or 0,
                told and given.use_degra_context, told and given.use_image_context,
            )  # fmt: skip
        plain = arguments(_IRSDEUNet, record, self.ignored)
        check_sizes(plain, "depth", largest=_MOST_LEVELS)
        mult = tuple(2 ** (i + 1) for i in range(plain.depth))
        return UNetConfig(plain.in_nc, plain.out_nc, plain.nf, mult)

    def settings_of(self, document: Record, found: Checkpoint) -> Record:
        """`network_G` with what the chain is told (`sde`), of the options of a training or test."""
        network = document.get("network_G")
        if not isinstance(network, Mapping):
            return document
        setting, sde = network.get("setting", {}), document.get("sde", {})
        if not (isinstance(setting, Mapping) and isinstance(sde, Mapping)):
            raise ConfigError("network_G and sde have no settings by name")
        return {"cls": network.get("which_model_G", ""), "sde": dict(sde), **setting}

    def stated(self, record: Record, found: Checkpoint) -> Meaning:
        """Schedule and prediction of the chain: released networks predict noise, and DA-CLIP's sums begin with theta_0.

        Raises ConfigError.
        """
        sde = record.get("sde")
        if not isinstance(sde, Mapping) or not all(
            k in sde for k in ("max_sigma", "T", "schedule")
        ):
            return Meaning()
        largest, steps, eps = (sde.get(k, 0.005) for k in ("max_sigma", "T", "eps"))
        if not all(isinstance(n, int | float) for n in (largest, steps, eps)):
            raise ConfigError(f"sde is {dict(sde)}, expected numbers max_sigma, T and eps")
        s_inf = largest / 255 if largest >= 1 else largest
        convention = "daclip" if "ch_mult" in record or "context_dim" in record else "irsde"
        words = f"irsde:{sde['schedule']}:{steps}:{s_inf:.8g}:{eps:g}:{convention}"
        return Meaning(schedule=words, prediction="noise")

    def network(self, config: Config) -> nn.Module:
        """The network."""
        if isinstance(config, NAFNetConfig):
            return ConditionalNAFNet(config)
        return ConditionalUNet(config)

    def kind(self, config: Config) -> str:
        """A conditional model."""
        return "conditional"

    def unstated(self, config: Config, meaning: Meaning) -> list[str]:
        """Range, prediction, schedule, and the contexts that a network of DA-CLIP is told."""
        missing = needed(meaning, "range", "prediction", "schedule")
        told = contexts_of(meaning)
        if isinstance(config, UNetConfig):
            wanted = (config.use_degra_context, config.use_image_context)
            missing += [
                f"context.{name}" for name, asked in zip(_CONTEXTS, wanted, strict=True) if asked and name not in told
            ]  # fmt: skip
        return missing

    def model(
        self, network: nn.Module, config: Config, meaning: Meaning, name: str
    ) -> ConditionalModel:
        """The network of an IR-SDE or MR-Sampler chain."""
        return IRSDEModel(network, config, meaning, name)

    def replay(
        self, network: nn.Module, config: Config, arrays: Mapping[str, Tensor], source: str
    ) -> Iterator[Case]:
        """Outputs of `x`, `cond`, `time` (and of `x_odd`, `cond_odd`, `time_scalar`) by this class."""
        own = "nafnet" if isinstance(config, NAFNetConfig) else "unet"
        for output, reference in outputs(arrays).items():
            m = re.fullmatch(r"(unet|nafnet|out)(_odd)?(?:_f\d\d)?", output)
            if m is None or m[1] not in (own, "out"):
                continue
            odd = m[2] or ""
            time = arrays["time_scalar" if odd else "time"]
            given = [arrays[f"x{odd}"], arrays[f"cond{odd}"], time]
            given += [arrays[n] for n in ("text_context", "image_context") if n in arrays]
            yield Case(output, reference, lambda g=given: network(*g))  # type: ignore[misc]


class IRSDEModel(BridgeNetwork):
    """The network of an IR-SDE chain, with the contexts that it is told."""

    def __init__(self, network: nn.Module, config: Config, meaning: Meaning, name: str) -> None:
        nafnet = isinstance(config, NAFNetConfig)
        super().__init__(
            network, channels=config.img_channel if isinstance(config, NAFNetConfig) else config.out_nc,
            head=head_of(meaning.prediction, HEADS), bridge="mrs", meaning=meaning, name=name,
        )  # fmt: skip
        told = contexts_of(meaning)
        if isinstance(config, UNetConfig):
            for word in _CONTEXTS:
                check_context(word, told.get(word), config.context_dim)
        self.contexts = [] if nafnet else [told.get(n) for n in _CONTEXTS]

    def _answers(self, x: Tensor, level: Level, degraded: Tensor) -> tuple[Tensor, ...]:
        told = [None if c is None else c.to(x).reshape(1, -1).expand(len(x), -1) for c in self.contexts]  # fmt: skip
        return (self.network(x, degraded, times_of(x, level.t), *told),)


def contexts_of(meaning: Meaning) -> Mapping[str, Tensor]:
    """The tensors that networks are told beside images, by name."""
    return getattr(meaning, "context", None) or {}


def check_context(name: str, told: Tensor | None, width: int | None) -> None:
    """Raise ConfigError for a context that a network is not told, or whose last dimension is not the network's."""
    if told is None:
        return
    if not width or told.ndim not in (1, 2, 3) or told.shape[-1] != width:
        asked = f"expected (..., {width})" if width else "the network is told none"
        raise ConfigError(f"context '{name}' has the shape {tuple(told.shape)}, {asked}")


def _numbers(pattern: str, names: Mapping[str, Any]) -> set[int]:
    return {int(m[1]) for n in names if (m := re.match(pattern, n))}


FAMILY = IRSDE()
