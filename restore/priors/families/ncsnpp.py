"""NCSN++ and DDPM++ of score_sde and its descendants (Score-MRI, DiffusionMBIR): checkpoints with an unnamed EMA list.

Source of the names: Song and others, "Score-based generative modeling through stochastic differential equations", ICLR
2021, and the code that was published with it. Settings are taken with the sections of the official configuration
(`model`, `data`, `training`) or without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from restore.errors import ConfigError, InputError
from restore.priors.base import Denoiser
from restore.priors.checkpoints.content import Checkpoint, StoredTensor
from restore.priors.families.base import (
    Case,
    Family,
    Record,
    Weights,
    arguments,
    beside,
    needed,
    outputs,
)
from restore.priors.families.meaning import Meaning
from restore.priors.families.unwrapping import state_dict_in
from restore.priors.nets.ncsnpp import NCSNpp, NCSNppConfig
from restore.priors.wrappers import FromEps, FromScore

_SECTIONS = ("model", "data", "training")
_FROZEN = "all_modules.0.W"
"""The Fourier features: never trained, so in no list of trained parameters."""
_CONTINUOUS = 999.0
"""The time 1 of a continuous chain is told as this."""


class NCSNppFamily(Family):
    """score_sde."""

    name = "ncsnpp"
    what = "NCSN++ and DDPM++ of score_sde (also of Score-MRI, DiffusionMBIR)"
    ignored = frozenset(
        "dropout ema_rate normalization attention_type init_scale fourier_scale conv_size seed device".split()
    )
    silent = ("nonlinearity", "fir_kernel")
    inferred = "channels, nf, kind of embedding, number of scales"
    asked = "the other settings of its config, as JSON; range only if 'centered' is missing; complex mode"

    def claims(self, found: Checkpoint) -> bool:
        """A list of modules whose second or third is the embedding's linear map."""
        names = state_dict_in(found, "raw") or {}
        return any(n.startswith("all_modules.") for n in names)

    def weights(self, found: Checkpoint, which: str) -> Weights:
        """The `model` entry, or that with its trained parameters replaced by the EMA list, in order."""
        if which not in ("", "ema", "raw"):
            raise ConfigError(f"weights are 'ema' or 'raw', not '{which}'")
        raw = state_dict_in(found, "raw")
        if raw is None or not any(n.startswith("all_modules.") for n in raw):
            raise InputError(
                found.path, "holds no NCSN++ (all_modules...)", "name a checkpoint of score_sde"
            )
        shadow = found.entry("ema", "shadow_params")
        if which == "raw" or (shadow is None and not which):
            return raw
        return raw | _named(found, raw, shadow)

    def guess(self, weights: Weights) -> dict[str, Any]:
        """Channels, width, embedding and the number of scales."""
        fourier = _FROZEN in weights and len(weights[_FROZEN].shape) == 1
        first = next(t for t in weights.values() if len(t.shape) == 4)
        found: dict[str, Any] = {
            "num_channels": first.shape[1], "nf": first.shape[0],
            "embedding_type": "fourier" if fourier else "positional",
        }  # fmt: skip
        if "sigmas" in weights:
            found["num_scales"] = weights["sigmas"].shape[0]
        return found

    def plain(self, record: Record) -> Record:
        """Without sections; other sections and entries of the official configuration do not matter."""
        values = {k: v for k, v in record.items() if not isinstance(v, Mapping)}
        for section in _SECTIONS:
            inner = record.get(section, {})
            if not isinstance(inner, Mapping):
                raise ConfigError(f"section '{section}' is {inner!r}, expected settings by name")
            # Only the section of the network is held to its names: the others say how it was trained.
            values |= {k: v for k, v in inner.items() if section == "model" or k in _NAMES}
        if values.pop("name", "ncsnpp") != "ncsnpp":
            raise ConfigError("model.name is not 'ncsnpp': another network of score_sde")
        return values

    def config(self, record: Record) -> NCSNppConfig:
        """With sections or without. Raises ConfigError."""
        values = dict(self.plain(record))
        for word in ("progressive", "progressive_input", "progressive_combine", "nonlinearity"):
            if isinstance(values.get(word), str):
                values[word] = values[word].lower()
        return arguments(NCSNppConfig, values, self.ignored)

    def network(self, config: NCSNppConfig) -> nn.Module:
        """The network."""
        return NCSNpp(config)

    def stated(self, record: Record, found: Checkpoint) -> Meaning:
        """The range follows from `centered`."""
        centered = self.plain(record).get("centered")
        ranges = {True: (-1.0, 1.0), False: (0.0, 1.0)}
        return Meaning(range=ranges[centered] if isinstance(centered, bool) else None)

    def kind(self, config: NCSNppConfig) -> str:
        """A denoiser."""
        return "denoiser"

    def unstated(self, config: NCSNppConfig, meaning: Meaning) -> list[str]:
        """Range, noise where the settings do not have it, and what becomes of complex images of one or two channels."""
        missing = needed(meaning, "range")
        if config.num_channels in (1, 2):
            missing += needed(meaning, "complex_mode")
        stated = config.sigma_min is not None and config.sigma_max is not None
        return missing + (
            needed(meaning, "sigma_range") if config.sde == "vesde" and not stated else []
        )

    def model(
        self, network: nn.Module, config: NCSNppConfig, meaning: Meaning, name: str
    ) -> Denoiser:
        """A score of variance-exploding noise, or the noise in a variance-preserving chain."""
        images: Any = {
            "channels": config.num_channels, "trained": meaning.range, "multiple": config.multiple, "name": name,
            "complex_mode": meaning.complex_mode or "separate",
        }  # fmt: skip
        if config.sde == "vesde":
            low, high = meaning.sigma_range or (config.sigma_min or 0.0, config.sigma_max or 0.0)
            return FromScore(Exploding(network, config), sigma_min=low, sigma_max=high, **images)
        a = _preserving(config)
        return FromEps(
            Preserving(network, config), a, levels="interpolated" if config.continuous else "nearest",
            **images,
        )  # fmt: skip

    def replay(
        self, network: nn.Module, config: NCSNppConfig, arrays: Mapping[str, Tensor], source: str
    ) -> Iterator[Case]:
        """PREFIX_raw, PREFIX_ema of PREFIX_x and PREFIX_sigma with this number of channels; or out of x and sigma."""
        which = source.rpartition(":")[2]
        for output, reference in outputs(arrays).items():
            named = re.fullmatch(r"(?:(.+)_)?(raw|ema)_f(?:64|32)", output)
            if named is not None and named[2] != which:
                continue
            prefix = f"{named[1]}_" if named is not None and named[1] else ""
            x = arrays.get(f"{prefix}x", beside(arrays, output, "x"))
            label = arrays.get(f"{prefix}sigma", beside(arrays, output, "sigma", "t"))
            if x is None or label is None or x.shape != reference.shape:
                continue
            if x.shape[1] == config.num_channels:
                t = label.reshape(-1).expand(len(x))
                yield Case(output, reference, lambda x=x, t=t: network(x, t))  # type: ignore[misc]


class Exploding(nn.Module):
    """The score for a noise level: told as sigma itself, or as the place of the nearest of the discrete levels."""

    def __init__(self, network: nn.Module, config: NCSNppConfig) -> None:
        super().__init__()
        self.network, self.levels = network, None
        if config.embedding_type == "positional":
            self.levels = config.sigmas().log()

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x: (N, C, H, W), sigma: (N,)."""
        if self.levels is None:
            return self.network(x, sigma)
        away = (sigma.double().log()[:, None] - self.levels.to(sigma.device)[None]).abs()
        return self.network(x, away.argmin(dim=1))


class Preserving(nn.Module):
    """The noise at a place of the table that `_preserving` makes."""

    def __init__(self, network: nn.Module, config: NCSNppConfig) -> None:
        super().__init__()
        self.network, self.first = network, 1.0 if config.continuous else 0.0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (N, C, H, W), t: (N,)."""
        return self.network(x, t + self.first)


def _preserving(config: NCSNppConfig) -> Tensor:
    """Products of (1 - beta): of the discrete chain, or of the continuous one at times 1/999, 2/999, ... 1."""
    if config.continuous:
        t = torch.arange(1, int(_CONTINUOUS) + 1, dtype=torch.float64) / _CONTINUOUS
        slope = config.beta_max - config.beta_min
        return torch.exp(-0.5 * t**2 * slope - t * config.beta_min)
    n = config.num_scales
    betas = torch.linspace(config.beta_min / n, config.beta_max / n, n, dtype=torch.float64)
    return torch.cumprod(1 - betas, 0)


def _named(found: Checkpoint, raw: Weights, shadow: Any) -> Weights:
    """The names of an EMA list: those of the trained parameters in order, without buffers and frozen features."""
    if not isinstance(shadow, list) or not all(isinstance(t, StoredTensor) for t in shadow):
        raise InputError(
            found.path, "has no list 'shadow_params' under 'ema'", "say --weights raw to take the model itself"
        )  # fmt: skip
    trained = [n for n in raw if n != "sigmas" and not (n == _FROZEN and len(raw[n].shape) == 1)]
    if len(shadow) == len(trained) + 1:  # codes that keep frozen parameters in the list too
        trained = [n for n in raw if n != "sigmas"]
    wrong = [n for n, t in zip(trained, shadow, strict=False) if raw[n].shape != t.shape]
    if len(shadow) != len(trained) or wrong:
        what = f"{wrong[0]} has another shape" if wrong else f"{len(trained)} are expected"
        raise InputError(
            found.path, f"the EMA list of {len(shadow)} tensors does not fit the model: {what}",
            "say --weights raw to take the model itself",
        )  # fmt: skip
    return dict(zip(trained, shadow, strict=True))


_NAMES = tuple(NCSNppConfig.__dataclass_fields__)

FAMILY = NCSNppFamily()
