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
from restore.samplers.base import Sampler


@dataclasses.dataclass(frozen=True)
class Method:
    """What draws the samples: weights' sha256 ("" without a prior) with their name, the sampler, all its settings."""

    prior: str
    weights: str
    sampler: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, sampler: Sampler, prior: str = "", weights: str = "") -> Method:
        """Of a configured sampler."""
        return cls(prior, weights, name_of(type(sampler)), dataclasses.asdict(sampler))

    @property
    def fingerprint(self) -> str:
        """Of the sampler and its settings."""
        text = json.dumps([self.sampler, self.settings], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()
