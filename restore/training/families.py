"""Which noise levels a conditional model is trained on and how its errors are weighed: one family a bridge.

Called by the training job. "any" serves all bridges; the others are the published trainings of their method.
"""

from __future__ import annotations

from restore.config import did_you_mean
from restore.errors import ConfigError
from restore.training.conditional import AnyBridge, Family

FAMILIES: dict[str, type] = {"any": AnyBridge}


def family(name: str) -> Family:
    """The family of a bridge. Raises ConfigError for unknown names."""
    if name not in FAMILIES:
        raise ConfigError(f"no training for the bridge '{name}'{did_you_mean(name, FAMILIES)}")
    return FAMILIES[name]()
