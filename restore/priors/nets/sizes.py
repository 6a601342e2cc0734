"""What sizes of networks can be: a wrong setting must neither ask for all the memory there is nor end in a raw error.

Called by the configurations of this folder as they are made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from restore.errors import ConfigError

LARGEST, MOST = 65_536, 64
"""Far beyond any network of this kind: values, and entries of a row or blocks in a row."""


def check_sizes(config: Any, *names: str, least: int = 1, largest: int = LARGEST) -> None:
    """Raise ConfigError unless these fields are whole numbers in least..largest, or rows of 1..MOST such numbers."""
    for name in names:
        value = getattr(config, name)
        row = value if isinstance(value, tuple) else (value,)
        whole = all(type(n) is int and least <= n <= largest for n in row)
        if not (whole and 1 <= len(row) <= MOST):
            kind = f"a row of 1 to {MOST} whole numbers" if isinstance(value, tuple) else "a whole number"  # fmt: skip
            raise ConfigError(f"{name} is {value}, expected {kind} in {least}..{largest}")


def check_groups(what: str, widths: Iterable[int], groups: int) -> None:
    """Raise ConfigError for widths that the groups of a normalisation do not divide, and for none or too large ones."""
    for width in widths:
        if not 1 <= width <= LARGEST or width % groups:
            raise ConfigError(
                f"{what} makes {width} channels, expected a multiple of the {groups} groups of the normalisation, "
                f"at most {LARGEST}"
            )
