"""Parallel views half a turn apart: mirror images of each other about the axis of rotation.

Called by `consistency` and `centre`; numbers in, numbers out, touches no file.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from restore.operators.ct.geometry import ParallelBeam

Sinogram = NDArray[np.floating]

MOST_PAIRS = 32
"""More pairs take time and tell no more."""

_APART = 0.1  # of the views' median distance by which a pair may miss half a turn
_WHITER = 0.3  # of the largest cross power: weaker frequencies are mostly noise
_SMOOTH = 2.0  # bins, of the Gaussian window on the cross power
_FINE = 64  # places tried within a bin


def opposite_views(geometry: ParallelBeam) -> list[tuple[int, int]]:
    """Pairs half a turn apart, to a tenth of the views' median distance; at most MOST_PAIRS of them."""
    turn = np.mod(np.asarray(geometry.angles), 2 * math.pi)
    order = np.sort(turn)
    step = float(np.median(np.diff(order))) if len(order) > 1 else 0.0
    pairs = []
    for i, t in enumerate(turn):
        distance = np.abs(np.mod(turn - t, 2 * math.pi) - math.pi)
        j = int(np.argmin(distance))
        if i < j and distance[j] <= _APART * step:
            pairs.append((i, j))
    return pairs[:: max(1, len(pairs) // MOST_PAIRS)][:MOST_PAIRS]


def mirrored_offset(
    sinogram: Sinogram,
    geometry: ParallelBeam,
    pairs: list[tuple[int, int]],
    shift: Callable[[Sinogram, Sinogram], float],
) -> float:
    """The detector offset, in mm, at which the mirrored second views of all pairs lie on the first.

    sinogram: (views, n_det). shift: `mirror_shift` or `phase_shift`.
    """
    first, second = (sinogram[list(side)] for side in zip(*pairs, strict=True))
    return -shift(first, second) / 2 * geometry.det_spacing_mm


def mirror_shift(first: Sinogram, second: Sinogram) -> float:
    """Bins by which the mirrored second views must move to lie on the first: (pairs, n_det) each, to about a tenth.

    For views that are cut: the shift of the largest mean correlation coefficient over the bins that overlap, an eighth
    of the detector at least; between whole bins by a parabola.
    """
    n = first.shape[1]
    mirrored, shifts = second[:, ::-1], np.arange(-(n - n // 8), n - n // 8 + 1)
    likeness = np.empty(len(shifts))
    for k, m in enumerate(shifts):
        a, b = (first[:, m:], mirrored[:, : n - m]) if m >= 0 else (first[:, :m], mirrored[:, -m:])
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
        scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
        likeness[k] = np.mean((a * b).sum(1) / np.where(scale > 0, scale, np.inf))
    k = int(np.clip(np.argmax(likeness), 1, len(shifts) - 2))
    left, middle, right = likeness[k - 1 : k + 2]
    bend = left - 2 * middle + right
    return float(shifts[k] + (0.5 * (left - right) / bend if bend < 0 else 0.0))


def phase_shift(first: Sinogram, second: Sinogram) -> float:
    """As `mirror_shift` by phase correlation, to hundredths of a bin; for views that see the whole object.

    The cross power of the derivatives, summed over the pairs, is divided by its size (De Castro and Morandi,
    "Registration of translated and rotated images using finite Fourier transforms", IEEE PAMI 9, 1987) plus a share of
    the largest, so that frequencies without signal do not count, and damped by a Gaussian window. The best whole bin
    is looked at again in steps of 1/64.
    """
    n = first.shape[1]
    size = 2 * n
    k = np.fft.rfftfreq(size)
    power = np.fft.rfft(first, size) * np.fft.rfft(second[:, ::-1], size).conj()
    cross = power.sum(0) * (2 * math.pi * k) ** 2
    largest = float(np.abs(cross).max())
    if not largest > 0:
        return 0.0
    phase = (
        cross
        / (np.abs(cross) + _WHITER * largest)
        * np.exp(-0.5 * (2 * math.pi * k * _SMOOTH) ** 2)
    )
    whole = int(np.argmax(np.fft.irfft(phase, size)))
    near = (whole if whole < n else whole - size) + np.arange(-_FINE, _FINE + 1) / _FINE
    likeness = (np.exp(2j * math.pi * near[:, None] * k) @ phase).real
    return float(near[int(np.argmax(likeness))])
