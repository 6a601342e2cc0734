"""Any file of weights as plain tensors: what it holds in a form that needs no care, of no network that is known here.

For files whose network is written by hand (`restore.priors.wrappers` take any), and for looking into them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from restore.errors import ConfigError, InputError
from restore.priors.checkpoints.content import Checkpoint, StoredTensor, leaves
from restore.priors.families.base import TOLERANCE, Case, Family, Record, Weights
from restore.priors.families.meaning import Meaning
from restore.priors.families.unwrapping import state_dict_in

_HALF = 1e-3
"""A number in half precision is right to 2^-11, in bfloat16 to 2^-8 of itself; stored outputs are in float32."""
_BFLOAT = 8e-3


@dataclasses.dataclass(frozen=True)
class TensorsConfig:
    """Names to shapes."""

    shapes: Mapping[str, tuple[int, ...]]


class Named(nn.Module):
    """Tensors under dotted names."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            *path, last = name.split(".")
            module: nn.Module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            module.register_buffer(last, torch.empty(shape))


class Tensors(Family):
    """Plain tensors."""

    name = "tensors"
    what = "any file of weights, as plain tensors without a network"
    inferred = "names, shapes and numbers"
    asked = "the network: write it and wrap it (restore.priors.wrappers)"

    def claims(self, found: Checkpoint) -> bool:
        """Whatever has a tensor."""
        return any(isinstance(v, StoredTensor) for _, v in leaves(found.tree))

    def weights(self, found: Checkpoint, which: str) -> Weights:
        """The state dict of the file; where it has none, every tensor under the names that lead to it."""
        tensors = state_dict_in(found, which)
        if tensors is None:
            every = leaves(found.tree)
            tensors = {".".join(p): v for p, v in every if isinstance(v, StoredTensor)}
        if not tensors:
            raise InputError(found.path, "holds no tensors")
        return tensors

    def guess(self, weights: Weights) -> dict[str, Any]:
        """The shapes."""
        return {"shapes": {n: list(t.shape) for n, t in weights.items()}}

    def config(self, record: Record) -> TensorsConfig:
        """Names and shapes. Raises ConfigError for names that are within each other."""
        try:
            shapes = {str(k): tuple(int(n) for n in v) for k, v in record["shapes"].items()}
            with torch.device("meta"):
                Named(shapes)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"names and shapes of tensors cannot be read ({error})") from error
        return TensorsConfig(shapes)

    def network(self, config: TensorsConfig) -> nn.Module:
        """The tensors."""
        return Named(config.shapes)

    def kind(self, config: TensorsConfig) -> str:
        """No prior."""
        return "part"

    def unstated(self, config: TensorsConfig, meaning: Meaning) -> list[str]:
        """Nothing can be said that would make it one."""
        return []

    def model(self, network: nn.Module, config: TensorsConfig, meaning: Meaning, name: str) -> Any:
        """The tensors themselves."""
        return network

    def replay(
        self, network: nn.Module, config: TensorsConfig, arrays: Mapping[str, Tensor], source: str
    ) -> Iterator[Case]:
        """Of every tensor the array whose name is its own, or ends in it after the shortest prefix."""
        for name, value in network.state_dict().items():
            fitting = [
                k for k, a in arrays.items()
                if (k == name or k.endswith(f"_{name}")) and a.shape == value.shape
            ]  # fmt: skip
            if fitting:
                output = min(fitting, key=len)
                yield Case(output, arrays[output], lambda v=value: v, _precision(value))  # type: ignore[misc]


def _precision(value: Tensor) -> float:
    """What numbers that were stored as these may differ by: seen in the numbers, as all come in one precision."""
    coarser = ((torch.bfloat16, _BFLOAT), (torch.float16, _HALF))
    return next(
        (t for dtype, t in coarser if bool((value == value.to(dtype).to(value.dtype)).all())),
        TOLERANCE,
    )


FAMILY = Tensors()
