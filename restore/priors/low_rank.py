"""Low-rank additions to the layers of a denoiser: made, trained on a copy, merged into a copy.

A convolution's weight W, seen as a matrix (outputs, all else), becomes W + up down with up (outputs, rank), which
starts at zero, and down (rank, all else): Hu and others, "LoRA: Low-rank adaptation of large language models", ICLR
2022, equation 3; that of a linear layer likewise. Used by `restore.training.adaptation` and by pipelines for one scan,
which leaves linear layers alone (their files: `adapter_files`), and by `restore.priors.region`; a prior's own weights
never change.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from restore.errors import ConfigError, WeightsError
from restore.priors.base import Denoiser
from restore.priors.networks import networks_in

Factors = tuple[Tensor, Tensor]
D = TypeVar("D", bound=Denoiser)


@dataclasses.dataclass(frozen=True, eq=False)
class Adapter:
    """factors: up (outputs, rank) and down (rank, all else) of every adapted layer, by its name."""

    factors: Mapping[str, Factors]

    @property
    def rank(self) -> int:
        """Columns of `up`, the most of all layers."""
        return max(up.shape[1] for up, _ in self.factors.values())

    @property
    def parameters(self) -> int:
        """Numbers in all factors."""
        return sum(up.numel() + down.numel() for up, down in self.factors.values())


CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
LAYERS = (*CONVOLUTIONS, nn.Linear)
"""What can be adapted."""


def layers(
    model: Denoiser, kinds: tuple[type[nn.Module], ...] = CONVOLUTIONS
) -> dict[str, nn.Module]:
    """The layers of some kinds in the model's networks, by name. Raises ConfigError where there is none."""
    found: dict[str, nn.Module] = {
        f"{k}.{name}": module
        for k, network in enumerate(networks_in(model))
        for name, module in network.named_modules()
        if isinstance(module, kinds)
    }
    if not found:
        raise ConfigError(
            f"the prior '{model.name}' has no convolutions that could be adapted; leave out --adapt, or take another "
            "prior"
        )
    return found


def fresh_adapter(
    model: Denoiser, rank: int, seed: int, kinds: tuple[type[nn.Module], ...] = CONVOLUTIONS
) -> Adapter:
    """An adapter that changes nothing yet: up is zero, down N(0, 1 / rank) from `seed`. Raises ConfigError."""
    generator, factors = torch.Generator().manual_seed(seed), {}
    for name, (up, down) in factor_shapes(model, rank, kinds).items():
        drawn = torch.randn(down, generator=generator) * down[0] ** -0.5
        factors[name] = (torch.zeros(up), drawn)
    return Adapter(factors)


def factor_shapes(
    model: Denoiser, rank: int, kinds: tuple[type[nn.Module], ...] = CONVOLUTIONS
) -> dict[str, tuple[tuple[int, int], tuple[int, int]]]:
    """Of `up` and `down` of every layer; no layer has a higher rank than its matrix. Raises ConfigError."""
    shapes = {name: _matrix(_weight(m)).shape for name, m in layers(model, kinds).items()}
    return {n: ((a, min(rank, a, b)), (min(rank, a, b), b)) for n, (a, b) in shapes.items()}


def adapted(model: D, adapter: Adapter) -> D:
    """A copy of the model with W + up down in every adapted layer. Raises ConfigError, WeightsError."""
    twin = _copy(model)
    found = layers(twin, LAYERS)
    _check_fit(model, adapter, found)
    with torch.no_grad():
        for name, (up, down) in adapter.factors.items():
            weight = _weight(found[name])
            weight.add_((up @ down).reshape(weight.shape).to(weight))
    return twin


def trainable(model: D, adapter: Adapter) -> tuple[D, dict[str, _Sum]]:
    """A copy whose factors alone can be trained, and they by name; what they are now, `factors_of` says."""
    twin = _copy(model)
    found, sums = layers(twin, LAYERS), {}
    _check_fit(model, adapter, found)
    for network in networks_in(twin):
        network.requires_grad_(False)
    for name, (up, down) in adapter.factors.items():
        weight = _weight(found[name])
        sums[name] = _Sum(up.to(weight), down.to(weight))
        parametrize.register_parametrization(found[name], "weight", sums[name])
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


def by_name(adapter: Adapter) -> dict[str, Tensor]:
    """The factors as the tensors of a file: LAYER.up and LAYER.down."""
    return {
        f"{name}.{part}": factor.contiguous()
        for name, pair in adapter.factors.items()
        for part, factor in zip(("up", "down"), pair, strict=True)
    }


def from_names(tensors: Mapping[str, Tensor]) -> Adapter:
    """The adapter of such tensors, complete ones."""
    names = sorted({k.rpartition(".")[0] for k in tensors})
    return Adapter({n: (tensors[f"{n}.up"], tensors[f"{n}.down"]) for n in names})


def _check_fit(model: Denoiser, adapter: Adapter, found: Mapping[str, nn.Module]) -> None:
    wrong = []
    for name, (up, down) in adapter.factors.items():
        shape = _matrix(_weight(found[name])).shape if name in found else None
        if shape != (len(up), down.shape[-1]) or up.shape[-1] != len(down):
            wrong.append(name)
    if wrong:
        raise WeightsError(
            f"the adapter belongs to another network than that of the prior '{model.name}': {', '.join(wrong[:3])}; "
            "name the prior that it was fitted to, or fit it anew"
        )


def _copy(model: D) -> D:
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
