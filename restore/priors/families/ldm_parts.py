"""Some tensors of a latent-diffusion model without the rest: kept by name, so that they can be compared with others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from restore.priors.families.base import TOLERANCE, Case, Weights, arguments

_OF_HALF = 1e-3
"""Largest relative difference of a number that was rounded to half precision is 2^-11 = 4.9e-4."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """Names and shapes of the tensors, and whether any is of half precision."""

    tensors: dict[str, Any]
    half: bool = False


class Bag(nn.Module):
    """Buffers under names with dots."""

    def __init__(self, shapes: Mapping[str, Any]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            *path, last = name.split(".")
            place: nn.Module = self
            for step in path:
                if step not in place._modules:
                    place.add_module(step, nn.Module())
                place = place.get_submodule(step)
            place.register_buffer(last, torch.empty(tuple(shape)))


def guessed_parts(weights: Weights) -> dict[str, Any]:
    """The settings of what is there."""
    half = any(t.dtype in ("float16", "bfloat16") for t in weights.values())
    return {"tensors": {n: list(t.shape) for n, t in weights.items()}, "half": half}


def parts_config(record: Mapping[str, Any]) -> Parts:
    """From what `guessed_parts` found."""
    return arguments(Parts, record, frozenset(("stored_scale_factor", "averaged")))


def parts_cases(network: nn.Module, config: Parts, arrays: Mapping[str, Tensor]) -> Iterator[Case]:
    """`few_NAME`, or NAME itself."""
    for name, tensor in network.state_dict().items():
        for output in (f"few_{name}", name):
            if output in arrays:
                tolerance = _OF_HALF if config.half else TOLERANCE
                yield Case(output, arrays[output], lambda t=tensor: t, tolerance)  # type: ignore[misc]
