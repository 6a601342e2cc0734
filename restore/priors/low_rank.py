"""Low-rank additions to the convolutions of a denoiser: made, trained on a copy, merged into a copy, kept in a file.

A convolution's weight W, seen as a matrix (outputs, all else), becomes W + up down with up (outputs, rank), which
starts at zero, and down (rank, all else): Hu and others, "LoRA: Low-rank adaptation of large language models", ICLR
2022, equation 3. Used by `restore.training.adaptation` and by pipelines; a prior's own weights never change.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.utils import parametrize

from restore.datasets.json_text import parse_json
from restore.errors import ConfigError, WeightsError
from restore.priors.base import Denoiser
from restore.priors.networks import networks_in
from restore.priors.store import write_tensors

SCHEMA = 1
Factors = tuple[Tensor, Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class Adapter:
    """factors: up (outputs, rank) and down (rank, all else) of every adapted convolution, by its name."""

    factors: Mapping[str, Factors]

    @property
    def rank(self) -> int:
        """Columns of `up`."""
        return next(iter(self.factors.values()))[0].shape[1]

    @property
    def parameters(self) -> int:
        """Numbers in all factors."""
        return sum(up.numel() + down.numel() for up, down in self.factors.values())


def convolutions(model: Denoiser) -> dict[str, nn.Module]:
    """The 2-D convolutions of the model's networks, by name. Raises ConfigError where there is none."""
    found: dict[str, nn.Module] = {
        f"{k}.{name}": module
        for k, network in enumerate(networks_in(model))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    }
    if not found:
        raise ConfigError(
            f"the prior '{model.name}' has no convolutions that could be adapted; leave out --adapt, or take another "
            "prior"
        )
    return found


def fresh_adapter(model: Denoiser, rank: int, seed: int) -> Adapter:
    """An adapter that changes nothing yet: up is zero, down N(0, 1 / rank) from `seed`. Raises ConfigError."""
    generator, factors = torch.Generator().manual_seed(seed), {}
    for name, module in convolutions(model).items():
        weight = _weight(module)
        r = min(rank, *_matrix(weight).shape)
        down = torch.randn(r, weight[0].numel(), generator=generator) * r**-0.5
        factors[name] = (torch.zeros(len(weight), r), down)
    return Adapter(factors)


def adapted(model: Denoiser, adapter: Adapter) -> Denoiser:
    """A copy of the model with W + up down in every adapted convolution. Raises ConfigError, WeightsError."""
    twin = _copy(model)
    layers = convolutions(twin)
    _check_fit(model, adapter, layers)
    with torch.no_grad():
        for name, (up, down) in adapter.factors.items():
            weight = _weight(layers[name])
            weight.add_((up @ down).reshape(weight.shape).to(weight))
    return twin


def trainable(model: Denoiser, adapter: Adapter) -> tuple[Denoiser, dict[str, _Sum]]:
    """A copy whose factors alone can be trained, and they by name; what they are now, `factors_of` says."""
    twin = _copy(model)
    layers, sums = convolutions(twin), {}
    _check_fit(model, adapter, layers)
    for network in networks_in(twin):
        network.requires_grad_(False)
    for name, (up, down) in adapter.factors.items():
        weight = _weight(layers[name])
        sums[name] = _Sum(up.to(weight), down.to(weight))
        parametrize.register_parametrization(layers[name], "weight", sums[name])
    return twin, sums


def factors_of(sums: Mapping[str, _Sum]) -> Adapter:
    """A snapshot of factors in training, on the CPU."""

    def kept(t: Tensor) -> Tensor:
        return t.detach().cpu().float().clone()

    return Adapter({name: (kept(s.up), kept(s.down)) for name, s in sums.items()})


class _Sum(nn.Module):
    """W -> W + up down, for `torch.nn.utils.parametrize`."""

    def __init__(self, up: Tensor, down: Tensor) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(up.clone()), nn.Parameter(down.clone())

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).reshape(weight.shape)


def save_adapter(path: Path, adapter: Adapter, record: dict[str, Any]) -> str:
    """Write the factors, and the record as the file's metadata; returns the sha256. Raises OutputError."""
    named = {
        f"{name}.{part}": factor.contiguous()
        for name, pair in adapter.factors.items()
        for part, factor in zip(("up", "down"), pair, strict=True)
    }
    return write_tensors(path, named, json.dumps({"schema": SCHEMA} | record))


def load_adapter(path: Path) -> tuple[Adapter, dict[str, Any]]:
    """Factors and record of a file of `save_adapter`. Raises WeightsError."""
    wrong = f"{path}: not an adapter of `restore recon --adapt fit`"
    try:
        with safe_open(path, framework="pt") as f:
            tensors = {k: f.get_tensor(k) for k in f.keys()}
            record = parse_json((f.metadata() or {})["record"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise WeightsError(f"{wrong} ({type(error).__name__}: {error})") from error
    names = {k.rpartition(".")[0] for k in tensors}
    if not (isinstance(record, dict) and record.get("schema") == SCHEMA and names):
        raise WeightsError(wrong)
    if set(tensors) != {f"{n}.{part}" for n in names for part in ("up", "down")}:
        raise WeightsError(f"{wrong}: factors without their partners")
    if not all(
        t.ndim == 2 and t.is_floating_point() and bool(t.isfinite().all()) for t in tensors.values()
    ):
        raise WeightsError(f"{wrong}: factors that are no matrices of finite numbers")
    return Adapter({n: (tensors[f"{n}.up"], tensors[f"{n}.down"]) for n in sorted(names)}), record


def _check_fit(model: Denoiser, adapter: Adapter, layers: Mapping[str, nn.Module]) -> None:
    wrong = []
    for name, (up, down) in adapter.factors.items():
        shape = _matrix(_weight(layers[name])).shape if name in layers else None
        if shape != (len(up), down.shape[-1]) or up.shape[-1] != len(down):
            wrong.append(name)
    if wrong:
        raise WeightsError(
            f"the adapter belongs to another network than that of the prior '{model.name}': {', '.join(wrong[:3])}; "
            "name the prior that it was fitted to, or fit it anew"
        )


def _copy(model: Denoiser) -> Denoiser:
    """A copy that shares no network. Raises ConfigError where there is none to be had."""
    twin = copy.deepcopy(model)
    if any(found is own for found in networks_in(twin) for own in networks_in(model)):
        raise ConfigError(
            f"the prior '{model.name}' is a function around a network, which cannot be copied from outside; give the "
            "network itself, or a weight file"
        )
    return twin


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)  # noqa: S101  (for the type checker)
    return weight


def _matrix(weight: Tensor) -> Tensor:
    return weight.reshape(len(weight), -1)
