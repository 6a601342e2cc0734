"""Which planes of a volume a prior of pictures sees: its slices, those that hold z, or all three by turns.

For samplers of volumes whose measurement mixes slices. What a prior that sees slices alone leaves along z shows as
stripes in the other planes, and what was lost along z no slice can tell. Touches nothing.
"""

from __future__ import annotations

from typing import Literal

from restore.errors import ConfigError
from restore.problem import Problem

Planes = Literal["slices", "through", "all"]

PLANES = (
    "planes of a volume that the network sees: its slices; through: those that hold z, sagittal and coronal by turns; "
    "all three by turns"
)
_ACROSS = {"slices": (-3,), "through": (-1, -2), "all": (-1, -2, -3)}
"""The axis, from the last, across which the planes of a step follow each other."""


def plane_and_turn(planes: Planes, i: int) -> tuple[int, int]:
    """Of step i: the axis across which the planes lie, and how often all planes have had their turn before."""
    across = _ACROSS[planes]
    return across[i % len(across)], i // len(across)


def check_planes(planes: Planes, problem: Problem) -> None:
    """Refuse other planes than slices where images (..., slices, rows, columns) have no slices (ConfigError)."""
    if planes != "slices" and problem.slice_axis != -3:
        raise ConfigError(
            f"planes='{planes}' cuts a volume (slices, rows, columns) in other directions, and images of "
            f"{problem.image_shape} have no slices in front of rows and columns; set planes=slices"
        )
