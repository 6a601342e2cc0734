"""When the samples of a scan were taken: as its file tells it, or by the words or the file of `--readout-times`.

Called by `field_map`; touches the one file it is given. Seconds everywhere, from the centre of k-space
on: what spins precess until then is a phase of the image.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import spelled_out
from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.encoded import EncodedScan
from restore.datasets.mri.files.cfl import is_half, read_cfl
from restore.datasets.mri.files.stored_times import checked_times
from restore.datasets.mri.noncartesian import NonCartesianScan
from restore.datasets.mri.pattern.sampling import slice_mask
from restore.datasets.mri.receivers.virtual_coils import readout_axis
from restore.datasets.mri.scan import MRIScan
from restore.errors import ConfigError, InputError

WORDS = ("dwell", "lines")
EXPECTED = (
    "--readout-times dwell=S (between the samples of a readout), lines=S (between the lines of an echo train, EPI), or "
    "a file of seconds (.npy, .cfl), a number for each sample"
)
LONGEST_S = 1.0
"""Of a readout: what is longer is in other units."""


def times_of_samples(scan: MRIScan | EncodedScan, words: str) -> NDArray[np.float64]:
    """Seconds from the centre of k-space on, broadcastable to the samples of one coil of an item.

    words: "dwell=4e-6", "lines=5e-4", the name of a file, or "" for what the scan's own file tells. Raises ConfigError,
    InputError.
    """
    if words:
        named = spelled_out(words)
        times = _by_file(named, scan) if named.exists() else _by_words(scan, words)
    elif scan.times_s is not None:
        times = scan.times_s
    elif scan.dwell_s is not None:
        times = _by_dwell(scan, scan.dwell_s)
    else:
        raise ConfigError(
            f"{scan.path}: tells no times of its samples, which a field map needs; {EXPECTED}"
        )
    span = float(np.ptp(times))
    if not np.isfinite(span) or span > LONGEST_S:
        raise ConfigError(
            f"{scan.path}: its samples are said to take {span:.3g} s; times are in seconds"
        )
    return times - _at_centre(times, scan)


def _samples(scan: MRIScan | EncodedScan) -> tuple[int, ...]:
    """Shape of the samples of one coil of an item."""
    return scan.shape[2:]


def _by_words(scan: MRIScan | EncodedScan, words: str) -> NDArray[np.float64]:
    name, equals, text = words.partition("=")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if name.strip() not in WORDS or not equals or not math.isfinite(seconds) or seconds == 0:
        raise ConfigError(
            f"readout times {words!r}: no file, and no word that is known; expected {EXPECTED}"
        )
    if name.strip() == "lines":
        return _by_lines(scan, seconds)
    if seconds < 0:
        raise ConfigError(f"readout times {words!r}: expected a time above zero, in seconds")
    return _by_dwell(scan, seconds)


def _by_dwell(scan: MRIScan | EncodedScan, dwell_s: float) -> NDArray[np.float64]:
    """Samples one after the other along each readout. Raises ConfigError where there is no readout."""
    if isinstance(scan, NonCartesianScan):
        return dwell_s * np.arange(scan.shape[-1], dtype=np.float64)
    axis = _readout(scan)
    steps = dwell_s * np.arange(scan.shape[axis], dtype=np.float64)
    return steps.reshape(-1, *[1] * (-1 - axis))


def _readout(scan: MRIScan | EncodedScan) -> int:
    """The axis, from the last, along which the lines of a Cartesian scan were read. Raises ConfigError."""
    if isinstance(scan, CartesianVolumeScan):
        return scan.readout - 3
    axis = readout_axis(scan.mask) if isinstance(scan, MRIScan) else None
    if axis is None:
        raise ConfigError(
            f"{scan.path}: no axis of k-space was measured in full, so that it is not known along which samples "
            "follow each other; --readout-times FILE tells the time of each"
        )
    return axis


def _by_lines(scan: MRIScan | EncodedScan, seconds: float) -> NDArray[np.float64]:
    """An echo train: the lines that were measured one after the other, backwards where seconds are below zero.

    Raises ConfigError for volumes, trajectories and masks that differ between slices.
    """
    if not isinstance(scan, MRIScan) or scan.mask.ndim == 3 or readout_axis(scan.mask) is None:
        raise ConfigError(
            f"{scan.path}: lines={seconds:g} is for Cartesian slices that share whole lines, measured in one train; "
            "--readout-times FILE tells the time of each sample"
        )
    axis = _readout(scan)
    plane = np.broadcast_to(slice_mask(scan.mask, 0), _samples(scan))
    measured = plane.any(axis=-2 if axis == -2 else -1)
    order = np.maximum(np.cumsum(measured) - 1, 0) * seconds
    return order[None] if axis == -2 else order[:, None]


def _by_file(path: Path, scan: MRIScan | EncodedScan) -> NDArray[np.float64]:
    """Raises InputError."""
    if is_half(path):
        values = np.squeeze(read_cfl(path))
        if np.abs(values.imag).max() > 0:
            raise InputError(path, "holds complex numbers, expected seconds")
        return checked_times(values.real, _samples(scan), path, "the array")
    return checked_times(real_array(path, "times of samples"), _samples(scan), path, "the array")


def real_array(path: Path, what: str) -> NDArray[np.float64]:
    """The numbers of a .npy file. Raises InputError."""
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as cause:
        raise InputError(
            path, f"cannot be read as a .npy array ({cause})", f"save {what} by numpy.save"
        ) from cause
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        kind = getattr(found, "dtype", type(found).__name__)
        raise InputError(path, f"holds {kind}, expected real numbers: {what}")
    return found.astype(np.float64)


def _at_centre(times: NDArray[np.float64], scan: MRIScan | EncodedScan) -> float:
    """The mean time of the samples nearest to zero frequency."""
    if isinstance(scan, NonCartesianScan):
        radius = scan.radius()
        near = radius <= radius.min() + 1e-9  # rounding of points that are the same
        return float(np.broadcast_to(times, radius.shape)[near].mean())
    samples = _samples(scan)
    return float(np.broadcast_to(times, samples)[tuple(n // 2 for n in samples)])
