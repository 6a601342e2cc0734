"""Slices as people write them: `20:44:6`, `10:20`, `5`, `-1`, with the meaning Python gives them.

May be called by the command line, benchmarks and scripts; touches nothing but its arguments.
"""

from __future__ import annotations

import re

from restore.errors import ConfigError

_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,9}\s*")


def parse_slices(text: str) -> slice:
    """The slice that `A:B:C`, `A:B` or `N` stands for; parts may be missing or negative.

    N alone is one slice, -1 the last one. Raises ConfigError for anything else and for a step of 0.
    """
    parts = text.split(":")
    if len(parts) > 3 or not text.strip():
        raise _unreadable(text)
    numbers = [_number(part, text) for part in parts]
    if len(numbers) == 1:
        first = numbers[0] or 0
        return slice(first, None if first == -1 else first + 1)
    if len(numbers) == 3 and numbers[2] == 0:
        raise ConfigError(f"slices '{text}': the step must not be 0")
    return slice(*numbers)


def slices_within(chosen: slice, depth: int, what: str = "the volume") -> range:
    """The indices that a slice picks from `depth` slices. Raises ConfigError if it picks none."""
    found = range(*chosen.indices(depth))
    if not found:
        written = ":".join("" if n is None else str(n) for n in (chosen.start, chosen.stop))
        step = "" if chosen.step is None else f":{chosen.step}"
        raise ConfigError(
            f"slices {written}{step} pick nothing: {what} has slices 0 to {depth - 1}; write "
            "first:end:step, the end not included"
        )
    return found


def _number(part: str, text: str) -> int | None:
    if not part.strip():
        return None
    if not _NUMBER.fullmatch(part):
        raise _unreadable(text)
    return int(part)


def _unreadable(text: str) -> ConfigError:
    return ConfigError(
        f"slices '{text}' cannot be understood; write first:end:step such as 20:44:6, first:end, "
        "or one number"
    )
