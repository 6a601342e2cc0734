"""Where the zero frequency of k-space and the middle of its image lie, and how to bring them where they belong.

May be called by the readers of k-space; touches nothing but its arguments. The model wants both in the middle, at
index n // 2. Arrays made by a bare FFT have the one, the other or both at index 0 (shift theorem).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError

ORDERS = {
    "centred": "as it should be, not looked at",
    "fft": "of a bare FFT of the image: zero frequency and image at the corner",
    "fft-shifted": "fftshift of a bare FFT: the zero frequency in the middle, the image at the corner",
    "corner": "the zero frequency at the corner, the image in the middle",
    "auto": "told by the data",
}

WINDOW = 5
"""Side of the box in which the energy of the peak is summed."""

PEAK_SHARE = 0.2
"""Of all energy in the box of the peak, from which k-space has a peak at all."""

STANDS_OUT = 20.0
"""How much more energy than the middle the box of a peak elsewhere must hold."""

NEAR = 8
"""The peak may lie off the middle by this part of the side, or two samples."""

OFF = 3
"""Samples from the middle from which a peak that may lie there is spoken of."""

LONE = 0.95
"""Of the energy in the box, in one sample: k-space of an object falls off around its peak."""

SURE = 0.3
"""How well neighbouring samples must agree before the place of the image is read from them: 0 noise, 1 a point."""

EDGE = 0.8 * np.pi
"""Phase between neighbours from which the image lies at the edge: a point in the middle has 0, at the edge pi."""


@dataclasses.dataclass(frozen=True)
class Order:
    """Along (rows, columns): whether the zero frequency, and whether the image, lie at index 0."""

    corner: tuple[bool, bool] = (False, False)
    rolled: tuple[bool, bool] = (False, False)

    @property
    def usual(self) -> bool:
        """Whether nothing is to be done."""
        return not any(self.corner + self.rolled)

    def kspace(self, values: NDArray[Any]) -> NDArray[Any]:
        """Samples (..., H, W) with frequency zero and the image in the middle; the precision is kept."""
        axes = [axis for axis in (-2, -1) if self.corner[axis]]
        values = np.asarray(fft.fftshift(values, axes=axes)) if axes else values
        for axis in (-2, -1):
            if self.rolled[axis]:
                n = values.shape[axis]
                turns = (np.arange(n) - n // 2) * (n // 2) % n / n
                ramp = np.exp(2j * np.pi * turns) if n % 2 else np.cos(2 * np.pi * turns).round()
                values = values * (ramp[:, None] if axis == -2 else ramp).astype(values.dtype)
        return values

    def mask(self, values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
        """A mask of any shape over k-space of `size` (H, W): axes of these lengths are shifted."""
        turned = {n for n, corner in zip(size, self.corner, strict=True) if corner and n > 1}
        axes = [axis for axis, n in enumerate(values.shape) if n in turned]
        return np.asarray(fft.fftshift(values, axes=axes)) if axes else values


def order_of(kspace: LazyStack, asked: str, path: Path, notes: list[str]) -> Order:
    """The order of a scan. asked: a word of ORDERS, or "" to refuse what is not centred.

    kspace: (slices, coils, H, W), of which the brightest of three slices is looked at. Raises ConfigError (unknown
    word), InputError (peak elsewhere; "": not centred).
    """
    if asked and asked not in ORDERS:
        raise ConfigError(f"unknown k-space order {asked!r}; known: {', '.join(ORDERS)}")
    values = _brightest(kspace)
    if values.any() and not values.imag.any():
        raise InputError(
            path,
            "k-space has no imaginary part: these are magnitudes, or real parts alone",
            "an image cannot be made of them; store the complex samples",
        )
    if asked not in ("", "auto"):
        both = (True, True)
        return Order(
            both if asked in ("fft", "corner") else (False, False),
            both if asked in ("fft", "fft-shifted") else (False, False),
        )
    if not values.any():
        return Order()
    corner = _corner(values, path, notes)
    rolled = _rolled(Order(corner).kspace(values))
    order = Order(corner, rolled)
    if order.usual:
        return order
    found = _said(order)
    if not asked:
        raise InputError(
            path,
            f"{found}: it would come out rolled, with a wrong noise level",
            "say so: --kspace-order auto (kspace_order='auto') mends it as the data tell, 'centred' leaves it: "
            "so for an object that reaches beyond the field of view",
        )
    notes.append(f"{found}: brought to the middle")
    return order


def _said(order: Order) -> str:
    where = {
        (True, True): "at the corner",
        (True, False): "at the first row",
        (False, True): "at the first column",
    }
    parts = []
    if any(order.corner):
        parts.append(f"the zero frequency of k-space lies {where[order.corner]}")
    if any(order.rolled):
        parts.append("the image lies around the edge of the field of view, half of it away")
    return " and ".join(parts)


def _brightest(kspace: LazyStack) -> NDArray[Any]:
    chosen = [kspace[i] for i in sorted({0, len(kspace) // 2, len(kspace) - 1})]
    clean = [np.where(np.isfinite(values), values, 0) for values in chosen]
    return max(clean, key=lambda v: float(np.square(np.abs(v), dtype=float).sum()))


def _corner(values: NDArray[Any], path: Path, notes: list[str]) -> tuple[bool, bool]:
    """Whether the peak lies at index 0 along each axis. Raises InputError where it lies at neither end nor middle.

    A little off the middle it is only noted.
    """
    energy = np.square(np.abs(values), dtype=float).sum(axis=0)
    boxed = ndimage.uniform_filter(energy, WINDOW, mode="wrap") * WINDOW**2
    peak = np.unravel_index(int(boxed.argmax()), boxed.shape)
    middle = tuple(n // 2 for n in boxed.shape)
    if energy.max() > LONE * boxed[peak] and boxed[peak] > energy[middle]:
        return False, False  # a spike, which the set-up speaks of
    gathered = boxed[peak] >= PEAK_SHARE * energy.sum()
    if not gathered or boxed[peak] < STANDS_OUT * boxed[middle]:
        if gathered and any(abs(int(p) - m) >= OFF for p, m in zip(peak, middle, strict=True)):
            notes.append(
                f"the energy of k-space peaks at row {peak[0]}, column {peak[1]}, a little off the middle {middle}: an "
                "echo beside the middle, or samples were cut off at one side (fill them up with zeros)"
            )
        return False, False
    corner = []
    for at, n in zip(peak, boxed.shape, strict=True):
        near, to_zero = max(2, n // NEAR), min(int(at), n - int(at))
        if abs(int(at) - n // 2) > near and to_zero > near:
            raise InputError(
                path,
                f"the energy of k-space peaks at row {peak[0]}, column {peak[1]} of {energy.shape}, not at the middle "
                f"{middle}",
                "fill it up with zeros so that the zero frequency lies at [H // 2, W // 2]; --kspace-order centred "
                "takes it as it is",
            )
        corner.append(to_zero <= near and abs(int(at) - n // 2) > near)
    return corner[0], corner[1]


def _rolled(values: NDArray[Any]) -> tuple[bool, bool]:
    """Whether the middle of the image's energy lies at the edge, along each axis.

    The products of neighbouring samples sum to the first circular moment of the image's energy (autocorrelation
    theorem). Where nothing is measured side by side the axis is taken to be as the other one.
    """
    found: list[bool | None] = []
    for axis in (-2, -1):
        n = values.shape[axis]
        first, second = (np.take(values, range(i, n - 1 + i), axis) for i in (0, 1))
        size = float((np.abs(first) * np.abs(second)).sum(dtype=float))
        moment = complex((first * second.conj()).sum(dtype=complex))
        sure = size > 0 and abs(moment) > SURE * size
        found.append(bool(abs(np.angle(moment)) > EDGE) if sure else None)
    rows, columns = found
    rows, columns = (columns if rows is None else rows), (rows if columns is None else columns)
    return bool(rows), bool(columns)
