"""In which numbers a training computes inside its network: what was asked for, on this device, as a state remembers it.

Called by the families of models, the loop and the command line. Weights, averages, losses and the optimiser's memory
are float32 whatever is chosen; bfloat16 needs no scaling of losses, float16 would and is not offered.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch

from restore.config import did_you_mean
from restore.errors import ConfigError
from restore.precision import resolve

Precision = Literal["float32", "bfloat16"]
"""Of convolutions and products of the network and of Muon's orthogonalisation."""


def chosen(word: str, device: str) -> Precision:
    """What "auto", "float32" or "bfloat16" is on a device; auto: bfloat16 where that is quick. Raises ConfigError.

    A state is continued in the precision that it was begun in only (`identity`), so that "auto" on another machine
    says so instead of going on with other numbers.
    """
    words = ("auto", *get_args(Precision))
    if word not in words:
        raise ConfigError(
            f"unknown precision '{word}' of a training{did_you_mean(word, words)}; use {', '.join(words)}"
        )
    if word == "auto":
        return "bfloat16" if resolve(word, device) == torch.bfloat16 else "float32"
    return cast(Precision, word)


def dtype_of(precision: Precision) -> torch.dtype:
    """The number type of a word."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
