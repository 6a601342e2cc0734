"""Kernels of a blur from files: pictures, numpy arrays and tables of numbers.

May be called by the pipelines and the command line. Touches the one file it is given.
"""

from __future__ import annotations

import tokenize
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.picture.images import SUFFIXES, read_picture
from restore.errors import InputError, NotFoundError

TABLES = (".txt", ".csv", ".tsv")
KERNEL_SUFFIXES = (*SUFFIXES, ".npy", *TABLES)
LARGEST_BYTES = 64 * 2**20
"""A kernel of 1000 x 1000 values in double precision, eight times over."""


def read_kernel(path: str | Path) -> NDArray[np.float64]:
    """The values of a kernel file as they stand, (h, w): a grey picture, a 2-D .npy, or lines of numbers.

    Colours are averaged; nothing is normalised (`given_kernel` does). Raises NotFoundError, InputError.
    """
    file = Path(path)
    if not file.exists():
        raise NotFoundError(f"{file}: no such kernel file")
    suffix = file.suffix.lower()
    if suffix in SUFFIXES:
        return read_picture(file).data.mean(0, dtype=np.float64)
    if suffix not in KERNEL_SUFFIXES:
        raise InputError(
            file, f"is no kernel file, expected {', '.join(KERNEL_SUFFIXES)}", "convert it"
        )
    try:
        if file.stat().st_size > LARGEST_BYTES:
            raise InputError(file, f"is larger than {LARGEST_BYTES >> 20} MB", "crop the kernel")
        values = _array(file) if suffix == ".npy" else _table(file)
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
        raise InputError(
            file, f"is no readable kernel ({error})", "give a 2-D array of numbers"
        ) from error
    if values.ndim != 2 or values.dtype.kind not in "fiub" or not values.size:
        raise InputError(
            file, f"holds {values.dtype} of shape {values.shape}, expected a real array (h, w)",
            "save the kernel alone",
        )  # fmt: skip
    return values.astype(np.float64)


def _array(file: Path) -> NDArray[Any]:
    return np.asarray(np.load(file, allow_pickle=False, mmap_mode="r"))


def _table(file: Path) -> NDArray[np.float64]:
    text = file.read_text(encoding="utf-8").replace(",", " ").replace(";", " ")
    rows = [[float(v) for v in line.split()] for line in text.splitlines() if line.strip()]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise ValueError(f"its lines have {lengths[0]} to {lengths[-1]} numbers")
    return np.array(rows, dtype=np.float64)
