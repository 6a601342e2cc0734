"""A sampler with all its settings and the weights that it runs with: what tables of measured things are kept by.

Used by the tables of factors (`pipelines.factors`) and of chosen starts (`starts`), and by whoever looks into them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from restore.registry import name_of
from restore.samplers.base import OperatorTraits, Sampler


@dataclasses.dataclass(frozen=True)
class Method:
    """What draws the samples: weights' sha256 ("" without a prior) with their name, the sampler, all its settings.

    mean_by: "sampler" and "settings" of the one that gives the mean of several samples (`Sampler.mean_by`); None where
    that is their own.
    """

    prior: str
    weights: str
    sampler: str
    settings: Mapping[str, Any]
    mean_by: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls, sampler: Sampler, operator: OperatorTraits, prior: str = "", weights: str = ""
    ) -> Method:
        """Of a configured sampler on such an operator."""
        other = sampler.mean_by(operator)
        mean_by = None if other is None else _told(other)
        return cls(prior, weights, **_told(sampler), mean_by=mean_by)

    @property
    def fingerprint(self) -> str:
        """Of sampler and settings, and of those that give the mean."""
        told = [self.sampler, self.settings, *([self.mean_by] if self.mean_by else [])]
        text = json.dumps(told, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def words(self) -> str:
        """The samplers by name."""
        return self.sampler + (
            f" with its mean by {self.mean_by['sampler']}" if self.mean_by else ""
        )


def _told(sampler: Sampler) -> dict[str, Any]:
    return {"sampler": name_of(type(sampler)), "settings": dataclasses.asdict(sampler)}
