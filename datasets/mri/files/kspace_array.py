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
from restore.datasets.hdf5_stack import as_complex, is_pair, is_two_channel
from restore.datasets.mri.checks.axes import check_axes
from restore.datasets.mri.checks.kspace_order import order_of
from restore.datasets.mri.files.stored_mask import fitted_mask
from restore.datasets.mri.pattern.sampling import (
    measured_samples,
    note_empty,
    sampling_pattern,
    slice_mask,
    without_lost,
)
from restore.datasets.mri.receivers.noise_estimation import middle_noise_std
from restore.datasets.mri.scan import MRIScan, unit_maps
from restore.datasets.stack import LazyStack, checked_slice
from restore.errors import InputError


def read_kspace_array(path: str | Path, repair: str = "", kspace_order: str = "") -> MRIScan:
    """K-space of shape (H, W), (coils, H, W) or (slices, coils, H, W), complex or (..., 2) real, centred.

    repair and kspace_order as in `fastmri.read_fastmri`. Spacing and orientation are unknown, so the scan has no
    affine. Raises NotFoundError, InputError, ConfigError.
    """
    path = Path(path)
    array, parts = _open(path)
    three = array.ndim - parts == 3
    array = array.reshape((1,) * (4 + parts - array.ndim) + array.shape)
    shape = tuple(map(int, array.shape[:4]))
    notes = [
        "a bare array has no geometry: pixels of 1 mm are assumed in the output, NIfTI has "
        "sform and qform code 0"
    ]
    if three:
        notes.append(f"an array of three axes {shape[1:]}: read as one slice of {shape[1]} coils")
    if parts:
        notes.append("real and imaginary parts along the last axis: joined")
    raw = LazyStack(shape, lambda i: as_complex(np.array(array[i])))
    source = {"kind": "npy", "modality": "MR", "units": "arbitrary"}
    return scan_of_stack(raw, path, notes, repair, kspace_order, source=source)


def scan_of_stack(
    raw: LazyStack, path: Path, notes: list[str], repair: str, kspace_order: str, *,
    stored_mask: NDArray[Any] | None = None, maps: LazyStack | None = None, level: float | None = None, **told: Any,
) -> MRIScan:  # fmt: skip
    """K-space (slices, coils, H, W) of any source, held against its axes, its order and its mask.

    stored_mask: as `fitted_mask` takes it, None for what is not zero. level: of the noise, None to estimate it. told:
    fields of the scan. Raises InputError, ConfigError.
    """
    shape = raw.shape
    check_axes(raw, path, notes, kspace_order)
    order = order_of(raw, kspace_order, path, notes)
    ordered = LazyStack(shape, lambda i: order.kspace(raw[i]))
    measured = measured_samples(ordered, lost=bool(repair))
    if not measured.any():
        raise InputError(path, "every k-space sample is zero", "there is nothing to reconstruct")
    if stored_mask is None:
        mask = sampling_pattern(measured)
        notes.append("mask taken from the samples that are not zero")
    else:
        if any(order.corner):
            stored_mask = order.mask(stored_mask, (shape[2], shape[3]))
        mask = fitted_mask(stored_mask, measured, path, notes)
    note_empty(measured, notes)
    if repair:
        mask = without_lost(mask, ordered, notes)

    def load(index: int) -> NDArray[np.complex64]:
        values = checked_slice(ordered[index], path, index, repair, notes)
        return np.where(slice_mask(mask, index), values, np.complex64(0))

    lazy = LazyStack(shape, load)
    noise = middle_noise_std(lazy, mask) if level is None else level
    if noise is not None and level is None:
        notes.append(f"noise_std {noise:.3g} estimated from the corners of k-space")
    return MRIScan(
        path=path,
        kspace=lazy,
        mask=mask,
        slice_indices=tuple(range(len(lazy))),
        recon_shape=(shape[2], shape[3]),
        noise_std=noise,
        noise_estimated=level is None,
        maps=unit_maps(lazy.shape) if maps is None and shape[1] == 1 else maps,
        notes=notes,
        **told,
    )


def mapped_complex(path: Path, what: str = "k-space") -> tuple[NDArray[Any], int]:
    """Memory-map complex numbers after the header has been checked against the file's size.

    Also how many axes there are behind theirs: one where real and imaginary parts lie there. what: they are, in a
    message. Raises InputError.
    """
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
    parts = int(is_two_channel(array.shape, array.dtype))
    if array.dtype.kind != "c" and not parts and not is_pair(array.dtype):
        raise InputError(
            path,
            f"{what} must be complex, found {array.dtype}",
            "magnitudes hold no image: store the complex samples, or real and imaginary parts along a last axis of two",
        )
    return array, parts


def _open(path: Path) -> tuple[NDArray[Any], int]:
    """The array and how many axes it has behind those of k-space. Raises InputError."""
    array, parts = mapped_complex(path)
    if not 2 <= array.ndim - parts <= 4 or 0 in array.shape:
        several = "; choose one repetition, echo or average" * (array.ndim - parts > 4)
        raise InputError(
            path,
            f"k-space has shape {array.shape}",
            f"expected (H, W), (coils, H, W) or (slices, coils, H, W){several}",
        )
    return array, parts


FORMAT = Format(
    name="NumPy array",
    holds="scan",
    files=".npy",
    ways="k-space in: (slices, coils, H, W), complex, never pickled",
    claims=lambda content: content.kind == NUMPY,
    open=read_kspace_array,
    options=("repair", "kspace_order"),
)
