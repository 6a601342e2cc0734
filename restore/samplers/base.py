"""The sampler contract: a frozen dataclass of settings with one method, `steps`.

An algorithm never prints, never draws from a global generator, never clips and holds no state between runs; progress,
snapshots, time limits and cancelling live in whoever consumes the steps.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

from restore.config import from_settings
from restore.operators.base import LinearOperator
from restore.priors.adapter import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws


@dataclasses.dataclass(frozen=True)
class Sampler(ABC):
    """Abstract sampler. `prior_kind` says what it needs: "denoiser" or "none"; `serves` which operators;
    `reference` names the paper.

    `presets`: named settings, the published ones and our tuned ones per operator class; "tuned" falls back to the
    entry "*".
    """

    prior_kind: ClassVar[str] = "denoiser"
    serves: ClassVar[str] = "any linear operator"
    reference: ClassVar[str] = ""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    @abstractmethod
    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """Yield the steps; the last one's x0 is the result (unit intensities)."""

    @classmethod
    def configured(
        cls, preset: str, operator: type[LinearOperator], settings: dict[str, Any]
    ) -> Self:
        """The sampler of a preset ("tuned": chosen by the kind of operator), with some settings replaced.

        Raises ConfigError for unknown presets, unknown settings and values out of range.
        """
        return from_settings(cls, cls._preset(preset, operator.__name__) | settings)

    @classmethod
    def _preset(cls, preset: str, operator_name: str) -> dict[str, Any]:
        if preset == "tuned":
            tuned = cls.presets.get(f"tuned {operator_name}", {})
            return cls.presets.get("tuned", {}) | tuned
        from restore.config import did_you_mean
        from restore.errors import ConfigError

        if preset not in cls.presets:
            raise ConfigError(
                f"{cls.__name__}: no preset '{preset}'{did_you_mean(preset, cls.presets)}"
            )
        return dict(cls.presets[preset])
