"""The configurations that a client may ask for, by name: settings of `restore recon`, nothing that could be executed.

Used by `session`; OpenReconLabel.json in docker/ offers the same names. A client names one in the message before the
header, and Open Recon's user interface in a JSON text behind it, which then counts.
"""

from __future__ import annotations

import dataclasses

from restore.config import did_you_mean
from restore.datasets.json_text import parse_json
from restore.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Configuration:
    """sampler, samples: as of `restore recon`. meaning: for people who choose."""

    name: str
    sampler: str
    meaning: str
    samples: int = 1


_KNOWN = (
    Configuration("restore", "dds", "Diffusion prior with data consistency: one image a slice."),
    Configuration(
        "restore_uncertainty", "split",
        "Mean of four posterior samples; their standard deviation and a 90 % interval as further series.", 4,
    ),
    Configuration("restore_tv", "tv", "Total variation: no learned prior."),
    Configuration("restore_cgsense", "cgsense", "Least squares with coil maps (CG-SENSE): no prior."),
    Configuration("restore_zerofilled", "zerofilled", "Missing lines as zeros: what the others begin with."),
)  # fmt: skip
KNOWN = {configuration.name: configuration for configuration in _KNOWN}
DEFAULT = "restore"
OPEN = "openrecon"
"""The name that Open Recon sends first, whatever its user chose: the JSON behind it says more."""

MOST_SHOWN = 40
"""Characters of a foreign name in a message."""


def chosen(asked: str, further: str = "") -> tuple[Configuration, list[str]]:
    """The configuration of a name and what was not understood of it.

    asked: the text of the first message, a name or a JSON object. further: the JSON text behind the header, "" for
    none; its `parameters` may hold `config` and `customconfig`, of which the last that is filled counts. Raises
    ConfigError for a name that is not in the list, and for text that is no JSON.
    """
    asked = asked.strip()
    if asked.startswith("{"):
        asked, further = OPEN, further or asked
    name, notes = asked, list[str]()
    if further.strip():
        found, notes = _parameters(further)
        name = found or name
    name = DEFAULT if name == OPEN else name
    if name not in KNOWN:
        shown = name[:MOST_SHOWN] + ("..." if len(name) > MOST_SHOWN else "")
        raise ConfigError(
            f"unknown configuration '{shown}'{did_you_mean(name[:MOST_SHOWN], KNOWN)}; known: {', '.join(KNOWN)}"
        )
    return KNOWN[name], notes


def _parameters(text: str) -> tuple[str, list[str]]:
    """The name in a JSON text, "" for none, and notes on what else it holds. Raises ConfigError."""
    try:
        value = parse_json(text)
    except ValueError as cause:
        raise ConfigError(f"the text behind the header is no JSON ({cause})") from cause
    parameters = value.get("parameters", {}) if isinstance(value, dict) else None
    if not isinstance(parameters, dict):
        raise ConfigError('the JSON behind the header is none of {"parameters": {"config": NAME}}')
    names = [parameters.get(key) for key in ("customconfig", "config")]
    if any(name is not None and not isinstance(name, str) for name in names):
        raise ConfigError("the JSON behind the header gives a configuration that is no name")
    others = sorted(set(parameters) - {"config", "customconfig"})
    shown = ", ".join(other[:MOST_SHOWN] for other in others[:5])
    notes = [f"{len(others)} parameter(s) are not known here and have no effect: {shown}"]
    return next((name for name in names if name), ""), notes if others else []
