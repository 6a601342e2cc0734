"""The sampler contract: a frozen dataclass of settings with one method, `steps`.

An algorithm never prints, never draws from a global generator, never clips and holds no state between runs; progress,
snapshots, time limits and cancelling live in whoever consumes the steps.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from restore.config import did_you_mean, from_settings
from restore.errors import ConfigError, DivergenceError
from restore.problem import Problem, Step
from restore.randomness import Draws


@dataclasses.dataclass(frozen=True)
class Sampler(ABC):
    """Abstract sampler.

    `prior_kinds`: which kinds of prior it can use, the usual one first ("denoiser", "conditional", "latent"), none
    for classical methods. `operators`: names of the operator classes it serves, empty for any linear one; `serves`
    says so in words. `cost`: network evaluations per image as a formula in the settings, with calls that are
    also differentiated marked by `gradients`. `reference` names the paper.

    `presets`: named settings, the published ones ("published") and our tuned ones ("tuned", and per operator class
    "tuned <class>"). `tunable`: the setting that depends most on the data, with values to try (`restore bench tune`).
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ("denoiser",)
    operators: ClassVar[tuple[str, ...]] = ()
    serves: ClassVar[str] = "any linear operator"
    cost: ClassVar[str] = "n_steps"
    gradients: ClassVar[bool] = False
    reference: ClassVar[str] = ""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {}

    @abstractmethod
    def steps(self, problem: Problem, prior: Any, draws: Draws) -> Iterator[Step]:
        """Yield the steps; the last one's x0 is the result (unit intensities).

        prior: an `ImagePrior`, `ConditionalPrior` or `LatentPrior`, as `prior_kinds` says, or None.
        """

    @classmethod
    def configured(cls, preset: str, operator: type, settings: dict[str, Any]) -> Self:
        """The sampler of a preset ("tuned": chosen by the kind of operator), with some settings replaced.

        Raises ConfigError for unknown presets, unknown settings and values out of range.
        """
        return from_settings(cls, cls._preset(preset, operator.__name__) | settings)

    @classmethod
    def _preset(cls, preset: str, operator_name: str) -> dict[str, Any]:
        if preset == "tuned":
            tuned = cls.presets.get(f"tuned {operator_name}", {})
            return cls.presets.get("tuned", {}) | tuned
        if preset not in cls.presets:
            raise ConfigError(
                f"{cls.__name__}: no preset '{preset}'{did_you_mean(preset, cls.presets)}"
            )
        return dict(cls.presets[preset])


def finite(sampler: Sampler, x: Tensor, i: int, n: int, sigma: float) -> Tensor:
    """x itself, checked in one pass over it. Raises DivergenceError naming the step."""
    if not bool(torch.isfinite(x.sum())):
        raise DivergenceError(
            f"{type(sampler).__name__}: a non-finite value at step {i + 1} of {n}, sigma {sigma:.4g}"
        )
    return x
