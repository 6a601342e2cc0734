"""Cartesian sampling patterns in k-space, one function a kind, found by name in `MASKS`.

May be called by the simulators and the command line; touches nothing but its arguments. The draws
come from a `numpy.random.Generator` of the caller, so one seed gives one mask. The patterns are
this package's own: they are not those that other packages draw from the same seed.

Index W // 2 (and H // 2) is the centre of k-space. Kinds along the last axis, mask shape (W,):

- `random`: exactly round(W / R) columns, the rest of them drawn without replacement;
- `gaussian1d`: the same count, drawn with a density that falls off with the distance from the
  centre;
- `equispaced`: every R-th column from a random offset and the centre on top, so fewer columns are
  left out than asked;
- `equispaced-fraction`: columns spaced so that about W / R remain with the centre included.

Kinds over the plane, mask shape (H, W), for two phase-encoding directions:

- `random2d`: exactly round(H W / R) points, uniform; `poisson2d`: the same count, no two points
  closer than a distance that grows with the radius.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.pattern.sampling import Mask
from restore.errors import ConfigError

MaskMaker = Callable[[tuple[int, int], float, float, np.random.Generator], Mask]

GAUSSIAN_WIDTH = 1 / 6
"""Standard deviation of the `gaussian1d` density as a fraction of the width."""


def make_mask(
    kind: str, shape: tuple[int, int], acceleration: float, center_fraction: float, seed: int
) -> Mask:
    """A sampling mask of the named kind; True where k-space is measured.

    shape: (H, W) of one k-space slice; acceleration R >= 1; center_fraction in [0, 1]: round(W f)
    columns (for a plane round(H f) x round(W f) points) around the centre are always measured.
    Returns bool (W,) or (H, W). Raises ConfigError for an unknown kind, values out of range, or a
    centre that alone exceeds the budget.
    """
    if kind not in MASKS:
        raise ConfigError(f"unknown mask {kind!r}; known: {', '.join(MASKS)}")
    if not (np.isfinite(acceleration) and acceleration >= 1):
        raise ConfigError(f"acceleration must be at least 1, got {acceleration}")
    if not 0 <= center_fraction <= 1:
        raise ConfigError(f"center fraction must lie in [0, 1], got {center_fraction}")
    mask = MASKS[kind](shape, acceleration, center_fraction, np.random.default_rng(seed))
    if not mask.any():
        raise ConfigError(
            f"no k-space line is left at acceleration {acceleration} of {shape[1]} columns"
        )
    return mask


def centre(length: int, count: int) -> slice:
    """The `count` indices around the centre length // 2 of a centred spectrum."""
    start = (length - count + 1) // 2
    return slice(start, start + count)


def random(
    shape: tuple[int, int], acceleration: float, center_fraction: float, rng: np.random.Generator
) -> Mask:
    """Columns drawn uniformly without replacement, exactly round(W / R) with the centre."""
    width = shape[1]
    mask = np.zeros(width, bool)
    mask[centre(width, round(width * center_fraction))] = True
    return _fill(mask, round(width / acceleration), np.ones(width), rng)


def gaussian1d(
    shape: tuple[int, int], acceleration: float, center_fraction: float, rng: np.random.Generator
) -> Mask:
    """Columns drawn without replacement from a Gaussian density of width `GAUSSIAN_WIDTH` W."""
    width = shape[1]
    mask = np.zeros(width, bool)
    mask[centre(width, round(width * center_fraction))] = True
    distance = (np.arange(width) - width // 2) / (GAUSSIAN_WIDTH * width)
    return _fill(mask, round(width / acceleration), np.exp(-0.5 * distance**2), rng)


def equispaced(
    shape: tuple[int, int], acceleration: float, center_fraction: float, rng: np.random.Generator
) -> Mask:
    """Every R-th column from a random offset, plus the centre."""
    width = shape[1]
    return _comb(width, acceleration, round(width * center_fraction), rng)


def equispaced_fraction(
    shape: tuple[int, int], acceleration: float, center_fraction: float, rng: np.random.Generator
) -> Mask:
    """Equispaced columns whose spacing makes the total with the centre about W / R."""
    width = shape[1]
    low = round(width * center_fraction)
    total = width / acceleration
    _check_budget(low, total)
    # Spacing s leaves (W - low) / s columns outside the centre; they must make up the rest.
    spacing = (width - low) / (total - low) if total > low else float(width)
    return _comb(width, spacing, low, rng)


def random2d(
    shape: tuple[int, int], acceleration: float, center_fraction: float, rng: np.random.Generator
) -> Mask:
    """Points drawn uniformly without replacement, exactly round(H W / R) with the centre block."""
    mask = _centre_block(shape, center_fraction)
    return _fill(mask, round(mask.size / acceleration), np.ones(shape), rng)


def poisson2d(
    shape: tuple[int, int], acceleration: float, center_fraction: float, rng: np.random.Generator
) -> Mask:
    """Variable-density Poisson disc: points keep a distance that grows linearly with the radius.

    The scale of the distances is found by bisection; the last surplus points are dropped at random.
    """
    block = _centre_block(shape, center_fraction)
    total = round(block.size / acceleration)
    _check_budget(int(block.sum()), total)
    order = rng.permutation(block.size)
    low, high, best = 0.0, 4 * float(np.sqrt(acceleration)), np.ones(shape, bool)
    for _ in range(10):
        scale = (low + high) / 2
        mask = _throw_darts(block, scale, order)
        if mask.sum() >= total:
            low, best = scale, mask
        else:
            high = scale
    surplus = np.flatnonzero(best & ~block)
    drop = rng.choice(surplus, int(best.sum()) - total, replace=False)
    best.flat[drop] = False
    return best


def _throw_darts(block: Mask, scale: float, order: NDArray[np.int64]) -> Mask:
    height, width = block.shape
    ys, xs = np.mgrid[:height, :width]
    radius = np.hypot((ys - height // 2) / (height / 2), (xs - width // 2) / (width / 2))
    distance = scale * (0.4 + radius)
    mask, free = block.copy(), ~block
    for index in order:
        y, x = divmod(int(index), width)
        if not free[y, x]:
            continue
        mask[y, x] = True
        d = distance[y, x]
        reach = int(d)
        rows, cols = (
            slice(max(y - reach, 0), y + reach + 1),
            slice(max(x - reach, 0), x + reach + 1),
        )
        near = (ys[rows, cols] - y) ** 2 + (xs[rows, cols] - x) ** 2 < d**2
        free[rows, cols] &= ~near
        free[y, x] = False
    return mask


def _centre_block(shape: tuple[int, int], center_fraction: float) -> Mask:
    mask = np.zeros(shape, bool)
    rows, cols = (centre(n, round(n * center_fraction)) for n in shape)
    mask[rows, cols] = True
    return mask


def _fill(mask: Mask, total: int, density: NDArray[np.float64], rng: np.random.Generator) -> Mask:
    """Add random points, weighted by `density`, until `total` are set."""
    _check_budget(int(mask.sum()), total)
    free = np.flatnonzero(~mask)
    weights = density.flat[free]
    missing = total - int(mask.sum())
    if missing:
        mask.flat[rng.choice(free, missing, replace=False, p=weights / weights.sum())] = True
    return mask


def _comb(width: int, spacing: float, low: int, rng: np.random.Generator) -> Mask:
    mask = np.zeros(width, bool)
    offset = rng.integers(0, max(1, round(spacing)))
    columns = np.round(np.arange(offset, width, spacing)).astype(int)
    mask[columns[columns < width]] = True
    mask[centre(width, low)] = True
    return mask


def _check_budget(low: int, total: float) -> None:
    if low > total:
        raise ConfigError(
            f"the fully sampled centre alone holds {low} samples, more than the {total:g} that "
            "the acceleration leaves: lower the center fraction or the acceleration"
        )


MASKS: dict[str, MaskMaker] = {
    "random": random,
    "equispaced": equispaced,
    "equispaced-fraction": equispaced_fraction,
    "gaussian1d": gaussian1d,
    "random2d": random2d,
    "poisson2d": poisson2d,
}
