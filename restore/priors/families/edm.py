"""Networks of EDM and of codes that took them over (InverseBench and others): state dicts with the preconditioner.

Source of the names: Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative models",
NeurIPS 2022, and the code that was published with it. Its `.pkl` snapshots hold pickled objects with the source text of
their classes: that is walked, never run, and the settings are read from what the objects were made with.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from restore.errors import ConfigError, InputError
from restore.priors.base import Denoiser
from restore.priors.checkpoints.content import Checkpoint
from restore.priors.families import edm_snapshot
from restore.priors.families.base import (
    TOLERANCE,
    Case,
    Family,
    Record,
    Weights,
    arguments,
    beside,
    needed,
    outputs,
)
from restore.priors.families.edm_guess import guessed
from restore.priors.families.meaning import Meaning
from restore.priors.families.unwrapping import state_dict_in
from restore.priors.nets.edm_layers import UNetBlock
from restore.priors.nets.edm_precond import IDDPM, PRECONDS, VP, PrecondConfig, Preconditioned
from restore.priors.nets.edm_unets import EDMNetConfig
from restore.priors.wrappers import FromDenoiser

_SHORT = {"edm": "EDMPrecond", "vp": "VPPrecond", "ve": "VEPrecond", "iddpm": "iDDPMPrecond"}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "SongUNet": {
        "model_channels": 128, "channel_mult": [1, 2, 2, 2], "num_blocks": 4, "attn_resolutions": [16],
    },
    "DhariwalUNet": {
        "model_channels": 192, "channel_mult": [1, 2, 3, 4], "num_blocks": 3, "attn_resolutions": [32, 16, 8],
    },
}  # fmt: skip
"""Of the official classes."""
_PHASE_FOURIER, _PHASE_POSITIONAL = 5e-2, 1e-3
"""In float32 a noise label of up to 999 is multiplied by frequencies of up to some 300: the phase of a Fourier feature
keeps 2 of 7 digits, and outputs of published code differ from its float64 run by 1e-3 to 5e-3; of a positional one by
2e-5."""


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """Constructor arguments of one `UNetBlock`."""

    in_channels: int
    out_channels: int
    emb_channels: int
    attention: bool = False
    num_heads: int | None = None
    channels_per_head: int = 64
    skip_scale: float = 1
    eps: float = 1e-5
    adaptive_scale: bool = True
    resample_filter: tuple[float, ...] = (1, 1)
    resample_proj: bool = False
    up: bool = False
    down: bool = False

    @property
    def heads(self) -> int:
        """Attention heads, 0 for none."""
        if not self.attention:
            return 0
        return (
            self.out_channels // self.channels_per_head
            if self.num_heads is None
            else self.num_heads
        )


class EDMFamily(Family):
    """EDM."""

    name = "edm"
    what = "networks of EDM: SongUNet (DDPM++, NCSN++), DhariwalUNet (ADM); also of InverseBench"
    ignored = frozenset("cls dropout label_dropout use_fp16 class_name".split())
    silent = ("sigma_data",)
    inferred = "everything of the network but skip scales; iDDPM by its table of levels"
    asked = "preconditioning and its constants; range, complex mode, class"

    def claims(self, found: Checkpoint) -> bool:
        """map_layer0, or one of its blocks, or a snapshot."""
        if edm_snapshot.network_in(found, "") is not None:
            return True
        names = state_dict_in(found, "") or {}
        return any(n.endswith("map_layer0.weight") for n in names) or "affine.weight" in names

    def weights(self, found: Checkpoint, which: str) -> Weights:
        """The state dict of the preconditioner (`model.` and, for iDDPM, `u`), or of one block."""
        snapshot = edm_snapshot.network_in(found, which)
        tensors = snapshot.tensors if snapshot is not None else state_dict_in(found, which)
        if not tensors:
            raise InputError(found.path, "holds no network of EDM (map_layer0...)")
        if "affine.weight" in tensors:
            return tensors
        return {
            n if n == "u" or n.startswith("model.") else f"model.{n}": t for n, t in tensors.items()
        }

    def guess(self, weights: Weights) -> dict[str, Any]:
        """All arguments of the network; precond for iDDPM alone."""
        return guessed(weights)

    def plain(self, record: Record) -> Record:
        """Also of `training_options.json`, where `network_kwargs` name the class and its arguments."""
        inner = record.get("network_kwargs")
        values = dict(inner if isinstance(inner, Mapping) else record)
        kind = str(values.get("class_name", "")).rpartition(".")[2]
        return {"precond": kind, **values} if kind in PRECONDS else values

    def config(self, record: Record) -> PrecondConfig | BlockConfig:
        """Of the preconditioner with its network, or of one block (`cls` UNetBlock)."""
        values = {k: v for k, v in record.items() if k not in self.ignored}
        if record.get("cls") == "UNetBlock":
            return arguments(BlockConfig, values)
        names = {f.name for f in dataclasses.fields(PrecondConfig)} - {"net"}
        outer = {k: values.pop(k) for k in names & values.keys()}
        outer["precond"] = _SHORT.get(str(outer.get("precond", "")), outer.get("precond", ""))
        if not outer["precond"] and outer.get("evaluated_under") == [IDDPM]:
            outer["precond"] = IDDPM
        usual = _DEFAULTS.get(str(values.get("model_type")), {})
        net = arguments(EDMNetConfig, {**usual, **values}, self.ignored)
        plain = arguments(_Outer, outer)
        return PrecondConfig(net, **dataclasses.asdict(plain))

    def network(self, config: PrecondConfig | BlockConfig) -> nn.Module:
        """The preconditioned network or the block."""
        if isinstance(config, PrecondConfig):
            return Preconditioned(config)
        c = config
        return UNetBlock(
            c.in_channels, c.out_channels, c.emb_channels, heads=c.heads, up=c.up, down=c.down,
            skip_scale=c.skip_scale, eps=c.eps, taps=len(c.resample_filter), resample_proj=c.resample_proj,
            adaptive_scale=c.adaptive_scale,
        )  # fmt: skip

    def settings_in(self, found: Checkpoint) -> Record:
        """What the objects of a snapshot were made with."""
        snapshot = edm_snapshot.network_in(found, "")
        return {} if snapshot is None else snapshot.settings

    def kind(self, config: PrecondConfig | BlockConfig) -> str:
        """A denoiser, or a part."""
        return "denoiser" if isinstance(config, PrecondConfig) else "part"

    def unstated(self, config: PrecondConfig, meaning: Meaning) -> list[str]:
        """The preconditioning, the range, what becomes of complex images, the class."""
        missing = [] if config.precond else ["precond"]
        missing += needed(meaning, "range")
        if config.net.img_channels in (1, 2):
            missing += needed(meaning, "complex_mode")
        return missing + (needed(meaning, "label") if config.net.label_dim else [])

    def model(
        self, network: nn.Module, config: PrecondConfig, meaning: Meaning, name: str
    ) -> Denoiser:
        """The denoiser that it is."""
        low, high = meaning.sigma_range or config.noise_range()
        images: Any = {
            "channels": config.net.img_channels, "trained": meaning.range, "multiple": config.net.multiple,
            "complex_mode": meaning.complex_mode or "separate", "name": name,
        }  # fmt: skip
        inner: nn.Module = network
        if config.net.label_dim:
            inner = OfClass(
                network, config.net.label_dim, -1 if meaning.label is None else meaning.label
            )
        return FromDenoiser(inner, sigma_min=low, sigma_max=high, sigma_as="vector", **images)

    def replay(
        self, network: nn.Module, config: PrecondConfig | BlockConfig, arrays: Mapping[str, Tensor], source: str
    ) -> Iterator[Case]:  # fmt: skip
        """D_NAME_PRECOND[_nolabel|_aug]_sK and F_NAME_PRECOND_raw of this file; block_out; out of x and sigma."""
        if isinstance(config, BlockConfig):
            yield from _block_cases(network, arrays)
            return
        for output, reference in outputs(arrays).items():
            found = _Stored.of(output, source.rpartition(":")[0], config)
            case = None if found is None else found.case(network, config, arrays, output, reference)
            if case is not None:
                yield case


@dataclasses.dataclass(frozen=True)
class _Outer:
    """The fields of `PrecondConfig` but the network: what they may be."""

    precond: str = ""
    sigma_data: float = 0.5
    sigma_min: float | None = None
    sigma_max: float | None = None
    beta_d: float = 19.9
    beta_min: float = 0.1
    M: int = 1000
    epsilon_t: float = 1e-5
    C_1: float = 0.001
    C_2: float = 0.008
    evaluated_under: tuple[str, ...] = ()


class OfClass(nn.Module):
    """A class-conditional denoiser that is asked for one class, or for none of them (-1: zeros, as in training)."""

    def __init__(self, network: nn.Module, classes: int, label: int) -> None:
        super().__init__()
        if not -1 <= label < classes:
            raise ConfigError(
                f"label {label}: there are the classes 0 to {classes - 1}, and -1 for none of them"
            )
        self.network, self.classes, self.label = network, classes, label

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x: (N, C, H, W), sigma: (N,)."""
        labels = x.new_zeros(len(x), self.classes)
        if self.label >= 0:
            labels[:, self.label] = 1
        return self.network(x, sigma, labels)


@dataclasses.dataclass(frozen=True)
class _Stored:
    """What the name of an output says: the whole denoiser or the network alone, how conditioned, which noise."""

    precond: str
    inner: bool = False
    how: str = ""
    level: int | None = None

    @classmethod
    def of(cls, output: str, source: str, config: PrecondConfig) -> _Stored | None:
        """None for outputs of other files or of another preconditioning than the settings say."""
        name = re.fullmatch(
            r"([DF])_(.+)_(EDM|VP|VE|iDDPM)Precond(?:_(nolabel|aug|raw))?(?:_s(\d+))?_f(?:64|32)",
            output,
        )
        if name is None:
            return cls(config.precond) if output.startswith("out") and config.precond else None
        precond = f"{name[3]}Precond"
        if source not in (name[2], f"{name[2]}_{precond}"):
            return None
        if config.precond not in ("", precond) or (precond == IDDPM) != (config.precond == IDDPM):
            return None
        level = None if name[5] is None else int(name[5])
        return cls(precond, name[1] == "F", name[4] or "", level)

    def case(
        self, network: nn.Module, config: PrecondConfig, arrays: Mapping[str, Tensor], output: str,
        reference: Tensor,
    ) -> Case | None:  # fmt: skip
        """How it is computed; None where an input is missing."""
        x = beside(arrays, output, "x")
        sigma = beside(arrays, output, "c_noise_raw" if self.inner else "sigma", "t")
        if x is None or sigma is None or x.shape != reference.shape:
            return None
        if self.level is not None and sigma.ndim:
            sigma = sigma[self.level]
        told = sigma.reshape(-1).expand(len(x))
        labels = beside(arrays, output, "labels", "y") if config.net.label_dim else None
        labels = None if self.how == "nolabel" else labels
        augment = beside(arrays, output, "augment") if self.how == "aug" else None
        tolerance = TOLERANCE
        if self.precond == VP and x.dtype == torch.float32:
            fourier = config.net.embedding_type == "fourier"
            tolerance = _PHASE_FOURIER if fourier else _PHASE_POSITIONAL
        if self.inner:
            net = network.get_submodule("model")
            return Case(output, reference, lambda: net(x, told, labels, augment), tolerance)
        return Case(
            output, reference, lambda: network(x, told, labels, augment, self.precond), tolerance
        )


def _block_cases(network: nn.Module, arrays: Mapping[str, Tensor]) -> Iterator[Case]:
    x, emb = arrays.get("block_x"), arrays.get("block_emb")
    for output, reference in outputs(arrays).items():
        if output.startswith("block_out") and x is not None and emb is not None:
            yield Case(output, reference, lambda: network(x, emb))


FAMILY = EDMFamily()
