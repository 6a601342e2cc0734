"""ResShift: state dicts of UNetModelSwin and of its VQ autoencoders (VQModelTorch).

Yue, Wang, Loy, NeurIPS 2023. The degraded image, in its own size, joins the state as further channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from restore.bridges.base import Level
from restore.bridges.resshift import HEADS
from restore.errors import ConfigError
from restore.priors.checkpoints.content import Checkpoint
from restore.priors.families.base import Case, Family, Record, Weights, arguments, needed, outputs
from restore.priors.families.bridge_network import BridgeNetwork, head_of, times_of
from restore.priors.families.first_stages import (
    FirstStage,
    first_stage,
    first_stage_cases,
    first_stage_config,
    first_stage_weights,
    guessed_first_stage,
)
from restore.priors.families.meaning import Meaning
from restore.priors.families.resshift_joined import (
    Joined,
    JoinedNetwork,
    ResShiftCodes,
    UNetAlone,
    own_scale,
)
from restore.priors.families.unwrapping import state_dict_in
from restore.priors.nets.first_stage import VQModel
from restore.priors.nets.swin_unet import SwinUNet

Config = UNetAlone | FirstStage | Joined
_PARTS = ("model", "diffusion", "autoencoder")
_PREDICT = {"xstart": "x0", "residual": "residual", "epsilon": "noise", "epsilon_scale": "scaled-noise"}  # fmt: skip


class ResShift(Family):
    """Residual shifting."""

    name = "resshift"
    what = "ResShift U-Nets with Swin layers, and their VQ autoencoders"
    ignored = frozenset(("cls", "dropout", "dims", "use_fp16", "diffusion"))
    inferred = (
        "channels, widths, levels, window, Swin width and depth, halvings of the degraded image"
    )
    asked = "number of heads, sizes, where Swin layers sit; range, prediction, schedule, tasks"

    def claims(self, found: Checkpoint) -> bool:
        """Tables of relative positions; or a VQ autoencoder without what training leaves beside it."""
        names = state_dict_in(found, "") or {}
        alone = "quantize.embedding.weight" in names and all(
            n in first_stage_weights(names) for n in names
        )
        return alone or any(n.endswith("relative_position_bias_table") for n in names)

    def weights(self, found: Checkpoint, which: str) -> Weights:
        """The flat dictionary, of the U-Net or of an autoencoder. Raises ConfigError."""
        tensors = state_dict_in(found, which) or {}
        if "quantize.embedding.weight" in tensors:
            return first_stage_weights(tensors)
        if not any(n.endswith("relative_position_bias_table") for n in tensors):
            raise ConfigError(
                f"{found.path}: holds no U-Net with Swin layers (input_blocks ... relative_position_bias_table) and no "
                "VQ autoencoder (encoder, decoder, quantize)"
            )
        return tensors

    def guess(self, weights: Weights) -> dict[str, Any]:
        """What shapes determine."""
        shapes = {n: t.shape for n, t in weights.items()}
        if "quantize.embedding.weight" in shapes:
            return guessed_first_stage(weights)
        swin = "middle_block.1.blocks.0"
        table = shapes[f"{swin}.attn.relative_position_bias_table"]
        width = shapes[f"{swin}.attn.proj.weight"][0]
        depth = len({m[1] for n in shapes if (m := re.match(r"middle_block\.1\.blocks\.(\d+)\.", n))})  # fmt: skip
        found: dict[str, Any] = {
            "model_channels": shapes["time_embed.0.weight"][1], "out_channels": shapes["out.2.weight"][0],
            "swin_embed_dim": width, "swin_depth": depth,
            "patch_norm": "middle_block.1.patch_embed.norm.weight" in shapes,
            "mlp_ratio": shapes[f"{swin}.mlp.fc1.weight"][0] / width,
        }  # fmt: skip
        first = "input_blocks.1.0.emb_layers.1.weight"
        if first in shapes:
            out = shapes["input_blocks.1.0.out_layers.3.weight"][0]
            found["use_scale_shift_norm"] = shapes[first][0] == 2 * out
        found["num_head_channels"] = width // table[1]
        return found

    def config(self, record: Record) -> Config:
        """Of the U-Net, or, where there is a `ddconfig`, of the autoencoder. Raises ConfigError."""
        if {"unet", "autoencoder"} <= set(record):
            unet = self.config(record["unet"])
            assert isinstance(unet, UNetAlone)  # noqa: S101  (for the type checker)
            return Joined(unet, first_stage_config(record["autoencoder"]))
        if {"ddconfig", "n_embed"} & set(record):
            return first_stage_config(record)
        values = dict(record)
        if isinstance(values.get("num_res_blocks"), int):
            count = len(values.get("channel_mult", (1, 2, 4, 8)))
            values["num_res_blocks"] = (values["num_res_blocks"],) * count
        return arguments(UNetAlone, values, self.ignored)

    def settings_of(self, document: Record, found: Checkpoint) -> Record:
        """The `params` of the model with what its `diffusion` says, or those of the autoencoder."""
        parts = {
            k: document[k].get("params") for k in _PARTS if isinstance(document.get(k), Mapping)
        }
        if not parts:
            return document
        whose = (
            "autoencoder"
            if "quantize.embedding.weight" in (state_dict_in(found, "") or {})
            else "model"
        )
        if not all(isinstance(parts.get(k, {}), Mapping) for k in _PARTS) or whose not in parts:
            raise ConfigError(f"has no params of {whose}")
        if whose == "autoencoder":
            return parts[whose]
        diffusion = parts.get("diffusion", {})
        flags = {k: diffusion[k] for k in ("latent_flag", "normalize_input") if k in diffusion}
        return {**parts[whose], **flags, "diffusion": dict(diffusion)}

    def stated(self, record: Record, found: Checkpoint) -> Meaning:
        """Schedule and prediction of the `diffusion` beside the model. Raises ConfigError."""
        diffusion = record.get("diffusion")
        if not isinstance(diffusion, Mapping):
            return Meaning()
        said = {k: diffusion.get(k) for k in ("steps", "kappa", "min_noise_level", "etas_end")}
        said["power"] = dict(diffusion.get("schedule_kwargs") or {}).get("power")
        order = ("steps", "kappa", "power", "min_noise_level", "etas_end")
        words = ":".join(f"{said[k]:g}" if isinstance(said[k], int | float) else "" for k in order)
        exponential = diffusion.get("schedule_name") == "exponential" and None not in said.values()
        return Meaning(
            schedule=f"resshift:{words}" if exponential else "",
            prediction=_PREDICT.get(str(diffusion.get("predict_type")), ""),
        )

    def network(self, config: Config) -> nn.Module:
        """The U-Net or the autoencoder."""
        if isinstance(config, Joined):
            return JoinedNetwork(config)
        return SwinUNet(config) if isinstance(config, UNetAlone) else first_stage(config)

    def kind(self, config: Config) -> str:
        """A conditional model, an autoencoder alone, or a network of codes without one: part of a model."""
        if isinstance(config, FirstStage):
            return "autoencoder"
        return "part" if isinstance(config, UNetAlone) and config.latent_flag else "conditional"

    def unstated(self, config: Config, meaning: Meaning) -> list[str]:
        """Range, prediction and schedule of a U-Net."""
        asked = () if isinstance(config, FirstStage) else ("range", "prediction", "schedule")
        missing = needed(meaning, *asked)
        if isinstance(config, UNetAlone) and config.latent_flag is None:
            missing.append("latent_flag")
        if not isinstance(config, FirstStage) and config.normalize_input is None:
            missing.append("normalize_input")
        return missing

    def model(self, network: nn.Module, config: Config, meaning: Meaning, name: str) -> Any:
        """The network of a ResShift chain in pixels, or, joined, in codes; an autoencoder as it is.

        Raises ConfigError.
        """
        if isinstance(config, FirstStage):
            return network
        if isinstance(config, Joined):
            return ResShiftCodes(network, config, meaning, name)
        return ResShiftModel(network, config, meaning, name)

    def replay(
        self, network: nn.Module, config: Config, arrays: Mapping[str, Tensor], source: str
    ) -> Iterator[Case]:
        """`swin_same` and `swin_featext_mask`, or outputs of the autoencoder."""
        if isinstance(network, JoinedNetwork):
            assert isinstance(config, Joined)  # noqa: S101  (for the type checker)
            yield from first_stage_cases(network.autoencoder, config.autoencoder, arrays)
            yield from self.replay(network.model, config.unet, arrays, source)
            return
        if isinstance(network, VQModel):
            assert isinstance(config, FirstStage)  # noqa: S101  (for the type checker)
            yield from first_stage_cases(network, config, arrays)
            return
        assert isinstance(config, UNetAlone)  # noqa: S101  (for the type checker)
        x, t = arrays.get("x"), arrays.get("t", arrays.get("time"))
        if x is None or t is None:
            return
        side = x.shape[2] * config.lq_size // config.image_size
        shown = _of_side(arrays, ("lq", "lq_large", "cond"), side)
        mask = _of_side(arrays, ("mask", "mask_large"), side) if config.cond_mask else None
        for output, reference in outputs(arrays).items():
            masked = "mask" in output
            if shown is not None and output.startswith(("swin", "out")) and (
                output.startswith("out") or (masked, "featext" in output) == (config.cond_mask, config.halvings > 0)
            ):  # fmt: skip
                yield Case(output, reference, lambda s=shown, m=mask: network(x, t, s, m))  # type: ignore[misc]


class ResShiftModel(BridgeNetwork):
    """The network of a ResShift chain whose state has the degraded image's size."""

    def __init__(self, network: nn.Module, config: UNetAlone, meaning: Meaning, name: str) -> None:
        if config.halvings or config.cond_mask:
            raise ConfigError(
                f"{name}: a network for states of {config.image_size} pixels beside images of {config.lq_size}"
                f"{' and a mask' if config.cond_mask else ''}: that is none of pixels (latent_flag)"
            )
        super().__init__(
            network, channels=config.out_channels, head=head_of(meaning.prediction, HEADS), bridge="resshift",
            meaning=meaning, name=name, multiple=config.multiple,
        )  # fmt: skip
        self.normalised = bool(config.normalize_input)

    def _answers(self, x: Tensor, level: Level, degraded: Tensor) -> tuple[Tensor, ...]:
        state = x * (own_scale(level, self.normalised, self.name, codes=False) / level.scale)
        return (self.network(state, times_of(x, level.t), degraded),)


def _of_side(arrays: Mapping[str, Tensor], names: tuple[str, ...], side: int) -> Tensor | None:
    found = (arrays.get(n) for n in names)
    return next((a for a in found if a is not None and a.shape[2] == side), None)


FAMILY = ResShift()
