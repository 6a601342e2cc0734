"""Read plain k-space arrays (.npy); the mask is what is not zero.

May be called by `scan.open_scan`; reads the one file it is given, never unpickles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import DOWNLOAD_AGAIN, NUMPY, look_at
from restore.datasets.formats import Format
from restore.datasets.mri.kspace_order import order_of
from restore.datasets.mri.noise_estimation import middle_noise_std
from restore.datasets.mri.sampling import (
    measured_samples,
    note_empty,
    sampling_pattern,
    slice_mask,
    without_lost,
)
from restore.datasets.mri.scan import MRIScan, unit_maps
from restore.datasets.stack import LazyStack, checked_slice
from restore.errors import InputError


def read_kspace_array(path: str | Path, repair: str = "", kspace_order: str = "") -> MRIScan:
    """K-space of shape (H, W), (coils, H, W) or (slices, coils, H, W), complex, centred.

    repair and kspace_order as in `fastmri.read_fastmri`. Spacing and orientation are unknown, so the scan has no
    affine. Raises NotFoundError, InputError, ConfigError.
    """
    path = Path(path)
    array = _open(path)
    array = array.reshape((1,) * (4 - array.ndim) + array.shape)
    shape = tuple(map(int, array.shape))
    notes = [
        "a bare array has no geometry: pixels of 1 mm are assumed in the output, NIfTI has "
        "sform and qform code 0"
    ]
    raw = LazyStack(shape, lambda i: np.array(array[i], np.complex64))
    order = order_of(raw, kspace_order, path, notes)
    ordered = LazyStack(shape, lambda i: order.kspace(raw[i]))
    measured = measured_samples(ordered, lost=bool(repair))
    if not measured.any():
        raise InputError(path, "every k-space sample is zero", "there is nothing to reconstruct")
    mask = sampling_pattern(measured)
    notes.append("mask taken from the samples that are not zero")
    note_empty(measured, notes)
    if repair:
        mask = without_lost(mask, ordered, notes)

    def load(index: int) -> NDArray[np.complex64]:
        values = checked_slice(ordered[index], path, index, repair, notes)
        return np.where(slice_mask(mask, index), values, np.complex64(0))

    lazy = LazyStack(shape, load)
    noise = middle_noise_std(lazy, mask)
    if noise is not None:
        notes.append(f"noise_std {noise:.3g} estimated from the corners of k-space")
    return MRIScan(
        path=path,
        kspace=lazy,
        mask=mask,
        slice_indices=tuple(range(len(lazy))),
        recon_shape=(shape[2], shape[3]),
        noise_std=noise,
        noise_estimated=True,
        maps=unit_maps(lazy.shape) if shape[1] == 1 else None,
        source={"kind": "npy", "modality": "MR", "units": "arbitrary"},
        notes=notes,
    )


def _open(path: Path) -> NDArray[Any]:
    """Memory-map the array after its header has been checked against the file's size."""
    kind = look_at(path).kind
    if kind != NUMPY:
        raise InputError(path, f"is not a .npy file but {kind}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (
        Exception
    ) as error:  # the header is a Python literal: its tokeniser and parser raise what they like
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            path,
            f"damaged .npy file, or one of Python objects: {reason}",
            DOWNLOAD_AGAIN,
        ) from error
    if array.dtype.kind != "c":
        raise InputError(
            path, f"k-space must be complex, found {array.dtype}", "join real and imaginary parts"
        )
    if not 2 <= array.ndim <= 4 or 0 in array.shape:
        raise InputError(
            path,
            f"k-space has shape {array.shape}",
            "expected (H, W), (coils, H, W) or (slices, coils, H, W)",
        )
    return array


FORMAT = Format(
    name="NumPy array",
    holds="scan",
    files=".npy",
    ways="k-space in: (slices, coils, H, W), complex, never pickled",
    claims=lambda content: content.kind == NUMPY,
    open=read_kspace_array,
    options=("repair", "kspace_order"),
)
