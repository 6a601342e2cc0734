"""The measurements that a model was made for, task and strength, and what to say of one that differs.

Held by distilled and by conditional models, whose networks know the strengths that they saw and no others.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from restore.errors import ConfigError

Strength = Mapping[str, float | str]
"""How strong a task is, as `Operator.strength` says it."""

_ALIKE = 0.1
"""Share by which strengths may differ before it is worth a word; nothing finer was measured."""
_FAINT = 0.005
"""A difference of noise, in unit intensities, that is not worth one: little more than one grey level of 8 bits."""


@dataclasses.dataclass(frozen=True)
class OperatorFamily:
    """The measurements that a model was made for.

    task: of the operators (`Operator.task`), "" for any. words: as it was told, such as "inpaint:0.3@0.01". strength:
    of an operator of the family. noise: its standard deviation in unit intensities.
    """

    task: str
    words: str
    strength: Strength
    noise: float

    @classmethod
    def from_card(cls, entry: Mapping[str, Any]) -> OperatorFamily:
        """Of a card's entry "family". Raises KeyError, TypeError, ValueError, ConfigError for an impossible one."""
        strength = {
            str(k): v if isinstance(v, str) else float(v)
            for k, v in dict(entry["strength"]).items()
        }
        noise = float(entry["noise"])
        if not 0 <= noise < math.inf:
            raise ConfigError(f"a family of operators with noise {noise}")
        return cls(str(entry["task"]), str(entry["words"]), strength, noise)

    def doubts(self, strength: Strength, noise: float | None) -> tuple[str, ...]:
        """In what a measurement of the same task differs, in words; nothing where it does not.

        noise: in unit intensities, None where nobody knows.
        """
        found = [
            f"{name} {_told(own)} and not {_told(strength[name])}"
            if name in strength
            else f"{name} {_told(own)}, of which this operator does not speak"
            for name, own in self.strength.items()
            if not _alike(own, strength.get(name))
        ]
        if noise is None:
            found.append(f"noise of {self.noise:g}, and here it is unknown")
        elif abs(noise - self.noise) > max(_FAINT, _ALIKE * self.noise):
            found.append(f"noise of {self.noise:g} and not {noise:.3g}")
        return tuple(found)

    def notes(
        self, name: str, made: str, strength: Strength, noise: float | None
    ) -> tuple[str, ...]:
        """What a user must know of a measurement that differs; name: of the model, made: "distilled" or "trained"."""
        found = self.doubts(strength, noise)
        if not found:
            return ()
        return (
            f"the prior '{name}' was {made} for {self.words}: {'; '.join(found)}. It was not made for this; "
            "compare with dds, which serves any strength",
        )


def families_of(card: Mapping[str, Any]) -> tuple[OperatorFamily, ...]:
    """Those of a conditional model, none on cards from before they were written. Raises as `from_card`."""
    return tuple(OperatorFamily.from_card(entry) for entry in card.get("families", ()))


def _alike(own: float | str, other: float | str | None) -> bool:
    if isinstance(own, str) or isinstance(other, str) or other is None:
        return own == other
    return abs(own - other) <= _ALIKE * abs(own)


def _told(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"
