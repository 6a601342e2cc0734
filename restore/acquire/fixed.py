"""Orders of lines that do not look at what is measured, to compare with. Numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from restore.datasets.mri.pattern.masks import GAUSSIAN_WIDTH

Order = Callable[[int, Sequence[int], int, np.random.Generator], list[int]]
"""(lines, those taken first, budget, generator) -> the others, so that there are `budget` together."""


def centre_out(
    lines: int, first: Sequence[int], budget: int, rng: np.random.Generator
) -> list[int]:
    """The nearest to the zero frequency lines // 2 next; of two the lower first."""
    left = [n for n in range(lines) if n not in first]
    return sorted(left, key=lambda n: (abs(n - lines // 2), n))[: budget - len(first)]


def gaussian1d(
    lines: int, first: Sequence[int], budget: int, rng: np.random.Generator
) -> list[int]:
    """Drawn with the density of the mask of that name: it falls off from the zero frequency."""
    left = np.setdiff1d(np.arange(lines), first)
    weights = np.exp(-0.5 * ((left - lines // 2) / (GAUSSIAN_WIDTH * lines)) ** 2)
    drawn = rng.choice(left, budget - len(first), replace=False, p=weights / weights.sum())
    return [int(n) for n in drawn]


def uniform(lines: int, first: Sequence[int], budget: int, rng: np.random.Generator) -> list[int]:
    """Drawn uniformly without replacement."""
    left = np.setdiff1d(np.arange(lines), first)
    return [int(n) for n in rng.permutation(left)[: budget - len(first)]]


def equispaced(
    lines: int, first: Sequence[int], budget: int, rng: np.random.Generator
) -> list[int]:
    """Evenly spaced from line 0 on, as far as whole numbers allow; takes no line first."""
    return [k * lines // budget for k in range(budget)]


FIXED: dict[str, dict[str, Order]] = {
    "mri": {"centre-out": centre_out, "gaussian1d": gaussian1d, "random": uniform},
    "ct": {"equispaced": equispaced, "random": uniform},
}
"""By the kind of scan: views have no centre, and evenly spaced columns fold."""
