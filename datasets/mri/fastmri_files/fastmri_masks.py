"""The sampling masks of the fastMRI package 0.3.0, equal to it bit by bit.

May be called by the writers of stand-in files, benchmarks and tests; touches nothing but its
arguments. Published results depend on the columns that were kept, and the package draws them from
the name of the file, so the same draws are made here in the same order. They need numpy's legacy
generator, which numpy keeps frozen; each call makes its own. `masks.py` holds this package's own
kinds, which draw other columns.

Index W // 2 is the centre of k-space. num_low = round(W f) columns around it are always measured:

- `random`: each other column with the probability (W / R - num_low) / (W - num_low);
- `equispaced`: every R-th column from a random offset, the centre on top of them;
- `equispaced_fraction`: wider spacing, so that about W / R columns remain with the centre. The
  public brain data and its leaderboard use it, the knee ones `random`;
- `magic`: equispaced with offsets that interleave the two halves of k-space under conjugation
  (arXiv:1912.01101); `magic_fraction`: with wider spacing, as above.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.pattern.masks import centre
from restore.datasets.mri.pattern.sampling import Mask
from restore.errors import ConfigError

Draw = Callable[[int, int, int, np.random.RandomState], Mask]


def center_fraction_for(acceleration: float) -> float:
    """The fraction that continues the published 8 % at 4 and 4 % at 8: 0.32 / acceleration.

    Raises ConfigError for an acceleration below 1.
    """
    if not (np.isfinite(acceleration) and acceleration >= 1):
        raise ConfigError(f"acceleration must be at least 1, got {acceleration}")
    return 0.32 / acceleration


def fastmri_mask(
    kind: str,
    width: int,
    acceleration: float,
    center_fraction: float,
    file_name: str,
    padding: tuple[int, int] | None = None,
) -> tuple[Mask, int]:
    """The mask that fastMRI gives the file `file_name`, and its number of central columns.

    kind: a key of `KINDS`. width: columns W of k-space. acceleration: a whole number >= 1.
    file_name: the bare name with its .h5, the seed of the draw. padding (first, end): the measured
    columns, as `Header.columns`; those outside are zero padding and taken out, as fastMRI does for
    brain files. A negative first column counts as 0. Returns bool (W,) and the number of columns
    around the centre before the padding was taken out. Raises ConfigError for an unknown kind, a
    path instead of a name, or a centre that leaves nothing to draw.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown fastMRI mask {kind!r}; known: {', '.join(KINDS)}")
    if not (np.isfinite(acceleration) and acceleration >= 1 and acceleration == int(acceleration)):
        raise ConfigError(f"acceleration must be a whole number of at least 1, got {acceleration}")
    if not file_name or Path(file_name).name != file_name:
        raise ConfigError(f"the mask depends on the bare file name with .h5, got {file_name!r}")
    low = _low_frequencies(kind, width, int(acceleration), center_fraction)
    rng = np.random.RandomState(tuple(map(ord, file_name)))
    rng.randint(1)  # the package draws which of its (one) accelerations to take before the columns
    mask = KINDS[kind](width, int(acceleration), low, rng)
    mask[centre(width, low)] = True
    if padding is not None:
        mask[: max(padding[0], 0)] = False
        mask[max(padding[1], 0) :] = False
    if not mask.any():
        raise ConfigError(f"no column of {width} is left at acceleration {acceleration}")
    return mask, low


def masked_kspace(kspace: NDArray[Any], mask: Mask) -> NDArray[Any]:
    """K-space (..., W) or (..., H, W) set to zero outside the mask, every zero positive.

    A product with the mask would keep the signs of the samples in its zeros.
    """
    return np.asarray(np.where(mask, kspace, kspace.dtype.type(0)) + kspace.dtype.type(0))


def _low_frequencies(kind: str, width: int, acceleration: int, fraction: float) -> int:
    if not 0 <= fraction <= 1:
        raise ConfigError(f"center fraction must lie in [0, 1], got {fraction}")
    low = round(width * fraction)
    total = width / acceleration
    if kind == "magic_fraction":
        low = max(min(low, round(total)), 1)
        total = round(total)
    if low >= width or (kind.endswith("_fraction") and low >= total):
        raise ConfigError(
            f"the {low} central columns of {width} use up the {total:g} that acceleration "
            f"{acceleration} leaves: lower the center fraction or the acceleration"
        )
    return low


def _random(width: int, acceleration: int, low: int, rng: np.random.RandomState) -> Mask:
    chance = (width / acceleration - low) / (width - low)
    return np.asarray(rng.uniform(size=width) < chance)


def _equispaced(width: int, acceleration: int, low: int, rng: np.random.RandomState) -> Mask:
    mask = np.zeros(width, bool)
    mask[rng.randint(0, acceleration) :: acceleration] = True
    return mask


def _equispaced_fraction(
    width: int, acceleration: int, low: int, rng: np.random.RandomState
) -> Mask:
    spacing = acceleration * (low - width) / (low * acceleration - width)
    offset = rng.randint(0, round(spacing))
    mask = np.zeros(width, bool)
    mask[np.around(np.arange(offset, width - 1, spacing)).astype(int)] = True
    return mask


def _magic(width: int, spacing: int, low: int, rng: np.random.RandomState) -> Mask:
    offset = rng.randint(0, spacing)
    up, down = (offset + 1, offset + 2) if offset % 2 == 0 else (offset + 2, offset - 1)
    # Frequencies 0, 1, ... in front, then the negative ones, counted down from -1 at the very end.
    positive, negative = np.zeros((width + 1) // 2, bool), np.zeros(width // 2, bool)
    positive[up::spacing] = True
    negative[down::spacing] = True
    return np.asarray(np.fft.fftshift(np.concatenate([positive, negative[::-1]])))


def _magic_fraction(width: int, acceleration: int, low: int, rng: np.random.RandomState) -> Mask:
    return _magic(width, round(width / (round(width / acceleration) - low)), low, rng)


KINDS: dict[str, Draw] = {
    "random": _random,
    "equispaced": _equispaced,
    "equispaced_fraction": _equispaced_fraction,
    "magic": _magic,
    "magic_fraction": _magic_fraction,
}
