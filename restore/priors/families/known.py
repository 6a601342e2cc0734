"""The families that there are, by the word of `--kind`; each is imported when it is asked for."""

from __future__ import annotations

import importlib

from restore.config import did_you_mean
from restore.errors import ConfigError
from restore.priors.families.base import Family

FAMILIES = (
    "adm", "ncsnpp", "edm", "diffusers", "ldm", "resshift", "rddm", "irsde", "drunet", "ffdnet", "tensors",
)  # fmt: skip
PLAIN = "tensors"
"""Claims any file: offered where no other does."""


def family_of(kind: str) -> Family:
    """The family of a word. Raises ConfigError with the nearest word."""
    if kind not in FAMILIES:
        near = did_you_mean(kind, FAMILIES)
        raise ConfigError(f"no kind '{kind}'{near}; there are {', '.join(FAMILIES)}")
    module = importlib.import_module(f"restore.priors.families.{kind}")
    family: Family = module.FAMILY
    return family
