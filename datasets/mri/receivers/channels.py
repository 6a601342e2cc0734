"""The noise of the receive channels: which are dead, which are louder than others, which share their noise.

May be called by the set-up of k-space; touches nothing but its arguments. Well-behaved channels are left as they are.
Prewhitening (Pruessmann et al., MRM 46:638, 2001) makes virtual channels of equal, independent noise; least squares
of these weighs each sample as its noise deserves.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft
from torch import Tensor

from restore.datasets.median_deviation import std_by_median
from restore.datasets.mri.pattern.sampling import Mask, slice_mask
from restore.datasets.stack import LazyStack
from restore.errors import InputError
from restore.operators.mri.coil_maps import Region
from restore.operators.mri.fourier import ifft2c

AIR = 0.06
"""Share of the lines across the readout, the quietest, taken to show air; the next ones must agree with them."""

CORNERS = 0.02
"""Share of the measured samples, those farthest from the middle of k-space, that tell noise without full readouts."""

OUTSKIRTS, INSIDE, ALIKE = 0.2, 0.5, 1.15
"""The same share where samples from the second quantile on are hardly louder than these, by the third: all of them
then are noise alone. Levels of a few hundred samples scatter by 5 %; signal falls off by more."""

WHITE = 1.35
"""The level of the next lines over that of the quietest from which the object and not noise is seen there."""

CREDIBLE = 0.3
"""Of the scan's noise level: what air shows of less is rounding and ringing."""

UNEQUAL = 1.5
"""Loudest over quietest channel from which weighing them pays."""

UNEQUAL_CORNERS = 3.0
"""The same by corners, where signal may add to the noise."""

LINKED = 0.2
"""Correlation between channels that is worth removing; four standard errors are added."""

SIGNAL = (2.0, 8.0)
"""Middle of k-space over noise: a channel below the first is dead where half of all lie above the second."""

SLICES = 5
"""Looked at, evenly spread."""

LEAST_SAMPLES = 32
FEWEST_LINES = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Whitening:
    """Virtual channels as sums of the real ones.

    matrix: complex64 (virtual, coils). levels: of the real channels' noise, by coil (0: left out, or not known).
    level: of the virtual channels' noise, None where it is that of the scan. pooled: the root mean square of the
    real channels' levels.
    """

    matrix: NDArray[np.complex64]
    levels: NDArray[np.float64]
    level: float | None = None
    pooled: float = 1.0

    def level_of(self, scan: float, told: bool) -> float:
        """The virtual channels' noise level. scan: that of the real ones; told: by somebody, and not estimated."""
        if self.level is None:
            return scan
        return scan * self.level / self.pooled if told else self.level

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """(..., coils, H, W) -> (..., virtual, H, W): samples as well as maps."""
        return np.einsum("vc,...chw->...vhw", self.matrix, values).astype(values.dtype, copy=False)

    def shading(self, kspace: NDArray[Any], region: Region) -> Tensor:
        """The norm of the virtual channels' maps where those of the real ones have norm one, (..., H, W).

        From the low-resolution images of both, (..., coils, H, W) as measured; one where there is noise alone. Maps
        by ESPIRiT have norm one, times this they keep the image in the units of the measurement.
        """
        weights = np.zeros(kspace.shape[-2:], np.float32)
        sides = []
        for part, n in zip(region, kspace.shape[-2:], strict=True):
            far = max(n // 2 - part.start, part.stop - 1 - n // 2) + 1
            sides.append(np.cos(np.pi / 2 * (np.arange(part.start, part.stop) - n // 2) / far) ** 2)
        weights[region] = np.outer(*sides)
        living = self.levels > 0
        spread = float(np.square(weights, dtype=float).sum() / weights.size)
        floor = 2 * spread * float(np.square(self.levels[living]).sum())
        before = _energy(kspace[..., living, :, :] * weights)
        after = _energy(self.apply(kspace) * weights)
        quiet = 2 * spread * float(np.square(self.levels[living]).mean()) * len(self.matrix)
        quiet = min(quiet, floor)
        return torch.sqrt(((after - quiet).clamp_min(0) + floor) / ((before - floor).clamp_min(0) + floor))  # fmt: skip

    def gain(self, kspace: NDArray[Any], region: Region) -> float:
        """`shading` of the whole image (coils, H, W): one number, the root of the energies' ratio."""
        centre = kspace[(..., *region)]
        energies = (np.square(np.abs(v), dtype=float).sum() for v in (self.apply(centre), centre))
        return float(np.sqrt(next(energies) / next(energies)))


@dataclasses.dataclass(frozen=True, eq=False)
class _Seen:
    """Of each channel: noise samples (coils, n), their level, whether they are noise (not signal), the root mean
    square of the middle of k-space, whether anything was received. air: the samples are of air, else of corners.
    trusted: they are noise alone, so that small differences and correlations between channels count."""

    samples: NDArray[Any]
    levels: NDArray[np.float64]
    white: NDArray[np.bool_]
    peaks: NDArray[np.float64]
    alive: NDArray[np.bool_]
    air: bool
    trusted: bool


def whitening_of(
    kspace: LazyStack,
    mask: Mask,
    noise_scan: NDArray[Any] | None,
    level: float | None,
    path: Path,
    notes: list[str],
) -> Whitening | None:
    """The virtual channels of a scan, or None where its channels are alive, equal and independent.

    kspace: (slices, coils, H, W); noise_scan: (coils, n), or None; level: the noise level, falsy
    where there is none, or none is to be counted with: then only dead channels leave.
    Says in `notes` what it found. Raises InputError where no channel is alive.
    """
    coils = kspace.shape[1]
    if coils == 1:
        return None
    seen = _look(kspace, mask)
    alive = seen.alive
    if not alive.any():
        raise InputError(path, "k-space is zero everywhere", "check the file, or its mask")
    if noise_scan is not None:
        levels = np.sqrt(np.square(np.abs(noise_scan)).mean(axis=1) / 2)
        seen = dataclasses.replace(
            seen, samples=noise_scan, levels=levels, white=levels > 0, air=True, trusted=True
        )
    known = seen.white & alive
    signal = np.where(known, seen.peaks / np.where(known, seen.levels, 1), np.inf)
    if np.median(signal[alive]) > SIGNAL[1]:
        alive = alive & (signal > SIGNAL[0])
    chosen = None
    if level and (
        noise_scan is not None
        or (known.any() and np.sqrt(np.square(seen.levels[known]).mean()) > CREDIBLE * level)
    ):
        chosen = _covariance(seen, alive)
    if not alive.all():
        names = ", ".join(map(str, np.flatnonzero(~alive)))
        _tell(notes, f"channel {names} of {coils} holds no signal: left out")
    if chosen is None:
        if alive.all():
            return None
        ones = np.where(alive, 1.0, 0.0)
        return Whitening(np.eye(coils, dtype=np.complex64)[alive], ones)
    covariance, said = chosen
    source = "air" if seen.air else "the corners of k-space"
    source = "the noise scan" if noise_scan is not None else source
    _tell(notes, f"{said} (by {source}): channels whitened")
    return _whitening(covariance, alive, seen.levels)


def whitening_by_scan(noise_scan: NDArray[Any], notes: list[str]) -> Whitening | None:
    """Of channels that a noise scan (coils, n) tells all about, or None where they are equal and independent.

    Channels whose noise scan is zero leave.
    """
    levels = np.sqrt(np.square(np.abs(noise_scan)).mean(axis=1) / 2)
    alive = levels > 0
    chosen = _covariance(_Seen(noise_scan, levels, alive, levels, alive, True, True), alive)
    if chosen is None:
        return None
    _tell(notes, f"{chosen[1]} (by the noise scan): channels whitened")
    return _whitening(chosen[0], alive, levels)


def _tell(notes: list[str], text: str) -> None:
    if text not in notes:
        notes.append(text)


def _whitening(
    covariance: NDArray[Any], alive: NDArray[np.bool_], levels: NDArray[np.float64]
) -> Whitening:
    """covariance: of the living channels, per real channel."""
    own = np.sqrt(np.real(np.diag(covariance)))
    # Of the correlation: levels may lie decades apart, and a channel stored twice has an eigenvalue of zero.
    values, vectors = np.linalg.eigh(covariance / np.outer(own, own))
    values = np.maximum(values, 1e-6 * values[-1])
    middle = float(np.median(own))
    root = (vectors / np.sqrt(values)) @ vectors.conj().T * (middle / own)
    matrix = np.zeros((len(root), alive.size), np.complex64)
    matrix[:, alive] = root
    by_coil = np.zeros(alive.size)
    by_coil[alive] = own
    pooled = float(np.sqrt(np.square(levels).mean()))
    return Whitening(matrix, by_coil, middle, pooled)


def _covariance(seen: _Seen, alive: NDArray[np.bool_]) -> tuple[NDArray[Any], str] | None:
    """Of the living channels, with what speaks for using it, or None.

    A channel in whose samples signal shows has at most the level of the others; its correlations are not looked at.
    """
    levels, known = seen.levels, seen.white & alive
    if not known.any():
        return None
    middle = float(np.median(levels[known]))
    own = np.where(known, levels, np.minimum(np.where(levels > 0, levels, middle), middle))[alive]
    ratio = float(levels[known].max() / levels[known].min())
    unit = seen.samples[alive] / (np.sqrt(2) * own[:, None])
    unit = unit[:, (np.abs(unit) < 4).all(axis=0)]  # without signal: noise hardly reaches 4
    count = unit.shape[1]
    linked = np.eye(own.size, dtype=complex)
    largest = 0.0
    if seen.trusted and known[alive].all() and count >= 4 * own.size:
        linked = unit @ unit.conj().T / count
        size = np.sqrt(np.real(np.diag(linked)))
        linked = linked / np.outer(size, size)
        largest = float(np.abs(linked - np.eye(own.size)).max())
    correlated = largest > LINKED + 4 / max(count, 1) ** 0.5
    unequal = ratio > (UNEQUAL if seen.trusted else UNEQUAL_CORNERS)
    if not unequal and not correlated:
        return None
    if not correlated:
        linked = np.eye(own.size, dtype=complex)
    parts = [f"noise of the channels differs by a factor of {ratio:.3g}"] * unequal
    parts += [f"channels share noise, correlation up to {largest:.2g}"] * correlated
    return linked * np.outer(own, own), " and ".join(parts)


def _look(stack: LazyStack, masks: Mask) -> _Seen:
    """What some slices show of the channels."""
    quiet, wider, peaks = [], [], []
    alive, air, trusted = np.zeros(stack.shape[1], bool), True, True
    for index in np.unique(np.linspace(0, len(stack) - 1, SLICES).astype(int)):
        kspace = stack[int(index)]
        mask = np.broadcast_to(slice_mask(masks, int(index)), kspace.shape[1:])
        measured = mask & (kspace != 0).any(axis=0)
        if not measured.any():
            continue
        alive |= (kspace != 0).any(axis=(1, 2))
        radius = _radius(kspace.shape[1:])
        inner = np.quantile(radius[measured], CORNERS)
        centre = np.square(np.abs(kspace[:, measured & (radius <= inner)]), dtype=float)
        peaks.append(centre.mean(axis=1) / 2)
        lines = _air(kspace, mask)
        if lines is None:
            samples, alone = _outer(kspace, measured, radius)
            air, trusted = False, trusted and alone
            lines = samples, samples[:, :0]
        quiet.append(lines[0])
        wider.append(lines[1])
    if not quiet:
        none = np.zeros(stack.shape[1])
        return _Seen(np.zeros((stack.shape[1], 0)), none, none > 0, none, alive, air, trusted)
    samples, after = np.concatenate(quiet, axis=1), np.concatenate(wider, axis=1)
    if samples.shape[1] < LEAST_SAMPLES:
        none = np.zeros(stack.shape[1])
        return _Seen(samples, none, none > 0, none, alive, False, False)
    levels = _levels(samples)
    white = (levels > 0) & ((_levels(after) <= WHITE * levels) if after.size else True)
    return _Seen(samples, levels, white, np.sqrt(np.mean(peaks, axis=0)), alive, air, trusted)


def _air(kspace: NDArray[Any], mask: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Noise of the quietest lines, and of the next ones, of a slice whose readouts are full; None where they are not.

    The transform along the readout alone shows at which of its places there is an object; white noise stays white.
    """
    if (mask != mask[:1]).any():
        if (mask != mask[:, :1]).any():
            return None
        kspace, mask = np.swapaxes(kspace, -2, -1), mask.T
    width = kspace.shape[-1]
    lines = np.flatnonzero(mask[0])
    outer = lines[np.abs(lines - width // 2) >= width // 4]
    if outer.size >= FEWEST_LINES:
        lines = outer
    chosen = fft.ifftshift(kspace[..., lines], axes=-2)
    hybrid = fft.fftshift(fft.ifft(chosen, axis=-2, norm="ortho"), axes=-2)
    energy = np.square(np.abs(hybrid), dtype=float).sum(axis=-1)
    energy = energy / np.maximum(energy.mean(axis=1, keepdims=True), np.finfo(float).tiny)
    order = np.argsort(energy.sum(axis=0))
    count = max(2, round(AIR * order.size))
    parts = (hybrid[:, order[:count]], hybrid[:, order[count : 2 * count]])
    return parts[0].reshape(len(kspace), -1), parts[1].reshape(len(kspace), -1)


def _outer(
    kspace: NDArray[Any], measured: NDArray[np.bool_], radius: NDArray[np.float64]
) -> tuple[NDArray[Any], bool]:
    """The outermost samples of a slice; of many where those further in are no louder, and whether that is so."""
    half, near, far = np.quantile(radius[measured], [INSIDE, 1 - OUTSKIRTS, 1 - CORNERS])
    corners, many = (kspace[:, measured & (radius >= r)] for r in (far, near))
    within = kspace[:, measured & (radius >= half) & (radius < near)]
    if corners.shape[1] < LEAST_SAMPLES:
        return corners, False
    alone = bool((_levels(within) <= ALIKE * _levels(many)).all())
    return (many, True) if alone else (corners, False)


def _radius(shape: tuple[int, ...]) -> NDArray[np.float64]:
    height, width = shape
    y = (np.arange(height) - height // 2) / (height / 2)
    x = (np.arange(width) - width // 2) / (width / 2)
    return np.asarray(np.hypot(*np.meshgrid(y, x, indexing="ij")))


def _levels(samples: NDArray[Any]) -> NDArray[np.float64]:
    parts = np.concatenate([samples.real, samples.imag], axis=1).astype(np.float64)
    return np.asarray(std_by_median(parts, axis=1))


def _energy(kspace: NDArray[Any]) -> Tensor:
    return ifft2c(torch.from_numpy(kspace)).abs().square().sum(-3)
