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
from restore.datasets.mri.noise_estimation import kspace_noise_std
from restore.datasets.mri.sampling import require_inside, sampling_pattern
from restore.datasets.mri.scan import MRIScan, unit_maps
from restore.datasets.stack import LazyStack, checked_slice
from restore.errors import InputError


def read_kspace_array(path: str | Path, repair: str = "") -> MRIScan:
    """K-space of shape (H, W), (coils, H, W) or (slices, coils, H, W), complex, centred.

    Spacing and orientation are unknown, so the scan has no affine. Raises NotFoundError,
    InputError.
    """
    path = Path(path)
    kspace = _open(path)
    stack = kspace.reshape((1,) * (4 - kspace.ndim) + kspace.shape)
    notes = ["a bare array has no geometry: pixels of 1 mm are assumed in the output"]
    single = stack.shape[1] == 1

    def load(index: int) -> NDArray[np.complex64]:
        values = np.array(stack[index], np.complex64)
        return checked_slice(values, path, index, repair, notes)

    mask = sampling_pattern(LazyStack(tuple(stack.shape), load))
    if not mask.any():
        raise InputError(path, "every k-space sample is zero", "there is nothing to reconstruct")

    def load_inside(index: int) -> NDArray[np.complex64]:
        values = load(index)
        require_inside(values, mask, path, index)
        return values

    lazy = LazyStack(tuple(stack.shape), load_inside)
    noise = kspace_noise_std(lazy[len(lazy) // 2], mask)
    notes.append("mask taken from the samples that are not zero")
    if noise is not None:
        notes.append(f"noise_std {noise:.3g} estimated from the corners of k-space")
    return MRIScan(
        path=path,
        kspace=lazy,
        mask=mask,
        slice_indices=tuple(range(len(lazy))),
        recon_shape=(stack.shape[2], stack.shape[3]),
        noise_std=noise,
        maps=unit_maps(lazy.shape) if single else None,
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
    except (ValueError, OSError, EOFError, SyntaxError, TypeError, OverflowError) as error:
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
    options=("repair",),
)
