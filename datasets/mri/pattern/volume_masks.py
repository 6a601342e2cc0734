"""Sampling patterns over the plane of both phase encodings, for volumes.

May be called by the simulators and the command line; touches nothing but its arguments. The patterns of a plane with
random points are those of `masks`.
"""

from __future__ import annotations

import re

import numpy as np

from restore.datasets.mri.pattern.masks import centre, make_mask
from restore.datasets.mri.pattern.sampling import Mask
from restore.errors import ConfigError

KINDS = ("poisson2d", "random2d", "caipi:AxB")


def volume_mask(
    kind: str, shape: tuple[int, int], acceleration: float, center_fraction: float, seed: int
) -> Mask:
    """Which (partitions, columns) are measured, bool (D, W).

    kind: "poisson2d" or "random2d" with `acceleration`, or "caipi:AxB": every A-th column and B-th partition, shifted
    as by `caipi`, of which A B is the acceleration. center_fraction: of both axes, always measured. Raises ConfigError.
    """
    told = re.fullmatch(r"caipi:(\d{1,3})x(\d{1,3})", kind)
    if told:
        columns, partitions = map(int, told.groups())
        return caipi(shape, columns, partitions, center_fraction)
    if kind not in KINDS[:2]:
        raise ConfigError(
            f"mask {kind!r} is none of a volume; known: {', '.join(KINDS)}, such as caipi:2x2 (of slices: leave "
            "--encoding out)"
        )
    return make_mask(kind, shape, acceleration, center_fraction, seed)


def caipi(shape: tuple[int, int], columns: int, partitions: int, center_fraction: float) -> Mask:
    """Every `columns`-th column, and of these every `partitions`-th partition, which moves on by half of that from one
    column to the next: aliases lie apart in both directions (2D-CAIPIRINHA, Breuer et al., MRM 55:549, 2006).

    shape: (D, W). The middle of k-space is measured. Raises ConfigError for factors beyond the shape.
    """
    if not (1 <= columns <= shape[1] and 1 <= partitions <= shape[0]):
        raise ConfigError(
            f"caipi:{columns}x{partitions} of {shape[1]} columns and {shape[0]} partitions: expected factors of at "
            "least 1 within these"
        )
    if not 0 <= center_fraction <= 1:
        raise ConfigError(f"center fraction must lie in [0, 1], got {center_fraction}")
    z = np.arange(shape[0])[:, None] - shape[0] // 2
    y = np.arange(shape[1]) - shape[1] // 2
    step = y // columns * (partitions // 2)
    mask = (y % columns == 0) & ((z - step) % partitions == 0)
    middle = tuple(centre(n, round(n * center_fraction)) for n in shape)
    mask[middle] = True
    return np.asarray(mask)
