"""Which planes of a volume a two-dimensional prior is shown: all three where voxels are near cubes, else its slices.

Called by the tasks. Touches nothing but its arguments.
"""

from __future__ import annotations

from restore.datasets.volume.volume import Volume

STRETCHED = 1.6
"""Sides of a pixel up to this ratio: priors know things at any scale, but not stretched."""

LEAST_SIDE = 16
"""Pixels along a side of a plane below which a prior sees too little of it."""

_NAMES = ("the slices", "the planes of rows", "the planes of columns")


def planes_of(volume: Volume) -> tuple[tuple[int, ...], list[str]]:
    """The axes 0, 1, 2 of (z, y, x) across which the planes lie, the slices' first, and a note where some are left out.

    The slices are always among them.
    """
    spacing, size = volume.spacing_mm[::-1], volume.data.shape
    planes, left = [0], []
    for axis in (1, 2):
        sides = [i for i in range(3) if i != axis]
        ratio = max(spacing[i] for i in sides) / min(spacing[i] for i in sides)
        if min(size[i] for i in sides) < LEAST_SIDE:
            left.append(f"{_NAMES[axis]} are {' x '.join(str(size[i]) for i in sides)} voxels")
        elif ratio > STRETCHED:
            a, b = (f"{spacing[i]:.3g}" for i in sides)
            left.append(f"{_NAMES[axis]} have pixels of {a} x {b} mm")
        else:
            planes.append(axis)
    note = f"the prior is shown {' and '.join(_NAMES[a] for a in planes)} alone: {'; '.join(left)}"
    return tuple(planes), [note] if left else []
