"""Schedules of bridges in words, as a card keeps them: which a and c a network was trained at, and how to ask for them.

"resshift:T:KAPPA:POWER:MIN_NOISE:ETAS_END", "rddm:ALPHA:BETA:SUM_SCALE:T" with ALPHA and BETA as the sampler has them
and, after a ^, their powers ("decreased^1"), "irsde:THETA:T:S_INF:EPS:CONVENTION".
"""

from __future__ import annotations

import dataclasses
from typing import Any

from restore.bridges.base import Level
from restore.bridges.irsde import IRSDESchedule
from restore.bridges.rddm import RDDMSchedule
from restore.bridges.resshift import ResShiftSchedule
from restore.errors import ConfigError

WORDS = ("resshift", "rddm", "irsde")
FORMS = {
    "resshift": "resshift:T:KAPPA:POWER:MIN_NOISE:ETAS_END",
    "rddm": "rddm:ALPHA:BETA:SUM_SCALE:T",
    "irsde": "irsde:THETA:T:S_INF:EPS:CONVENTION",
}
Schedule = ResShiftSchedule | RDDMSchedule | IRSDESchedule


@dataclasses.dataclass(frozen=True)
class Known:
    """The schedule of a network. words: as it was stated. settings: those of the sampler that ask for it."""

    words: str
    settings: str
    schedule: Schedule

    def level(self, t: float) -> Level | None:
        """The factors at a time of the network; None where there is no such time."""
        last = self.schedule.length - (0 if isinstance(self.schedule, IRSDESchedule) else 1)
        if not 0 <= t <= last:
            return None
        if isinstance(self.schedule, IRSDESchedule):
            return self.schedule.level(t)
        return self.schedule.level(int(t)) if float(t).is_integer() else None


def is_bridge_schedule(words: str) -> bool:
    """Whether a schedule in words is one of a bridge."""
    return words.partition(":")[0] in WORDS


def bridge_levels(words: str) -> Known:
    """A schedule in words. Raises ConfigError."""
    kind, *parts = words.split(":")
    try:
        values = _VALUES[kind](parts)
        schedule: Schedule = _CLASSES[kind](**values)
    except KeyError as error:
        raise ConfigError(f"schedule '{words}': expected {' or '.join(FORMS.values())}") from error
    except (TypeError, ValueError, IndexError) as error:
        raise ConfigError(f"schedule '{words}': expected {FORMS[kind]} ({error})") from error
    said = {_SAMPLER.get(k, k): v for k, v in values.items() if v is not None}
    return Known(words, ", ".join(f"{k}={v}" for k, v in said.items()), schedule)


_CLASSES: dict[str, Any] = {"resshift": ResShiftSchedule, "rddm": RDDMSchedule, "irsde": IRSDESchedule}  # fmt: skip
_SAMPLER = {"length": "trained_steps"}


def _resshift(parts: list[str]) -> dict[str, Any]:
    steps, kappa, power, min_noise, end = parts
    return {
        "length": int(steps), "kappa": float(kappa), "power": float(power), "min_noise": float(min_noise),
        "etas_end": float(end),
    }  # fmt: skip


def _rddm(parts: list[str]) -> dict[str, Any]:
    alpha, beta, scale, steps = parts
    values: dict[str, Any] = {"length": int(steps), "sum_scale": float(scale)}
    for name, text in (("alpha", alpha), ("beta", beta)):
        word, _, power = text.partition("^")
        values |= {name: word, f"{name}_power": float(power) if power else None}
    return values


def _irsde(parts: list[str]) -> dict[str, Any]:
    theta, steps, s_inf, eps, convention = parts
    return {
        "length": int(steps), "theta": theta, "s_inf": float(s_inf), "eps": float(eps), "convention": convention,
    }  # fmt: skip


_VALUES = {"resshift": _resshift, "rddm": _rddm, "irsde": _irsde}
