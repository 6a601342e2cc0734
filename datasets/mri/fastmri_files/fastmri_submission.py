"""Reconstructions in the form that the fastMRI leaderboard takes: one HDF5 file a volume.

May be called by the benchmark and by scripts; touches the one file it is given. The figures of the
leaderboard are in `restore.metrics`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.hdf5_stack import new_hdf5, write_stack
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, OutputError, ShapeError

_KNEE_MARK = "_v2"


def write_submission(path: str | Path, image: NDArray[Any]) -> None:
    """Write the magnitude (slices, H, W) of one volume as `reconstruction`, float32, atomically.

    image: real, finite, not negative, in the units of the k-space, cut to the size of the header's
    reconSpace (`center_crop`). Raises ShapeError, OutputError.
    """
    if image.ndim != 3 or 0 in image.shape:
        raise ShapeError(f"write_submission: got {image.shape}, expected (slices, H, W)")
    if np.iscomplexobj(image):
        raise OutputError(f"{path}: the reconstruction is complex; give its magnitude")
    with np.errstate(over="ignore"):
        values = np.asarray(image, np.float32)
    bad = ~np.isfinite(values) | (values < 0)
    if bad.any():
        raise OutputError(
            f"{path}: {int(bad.sum())} pixels are negative, infinite or NaN (first in slice "
            f"{int(np.argwhere(bad)[0][0])}); a submission holds finite magnitudes"
        )
    stack = LazyStack(values.shape, values.__getitem__)
    with new_hdf5(Path(path), [(stack, np.float32)]) as file:
        write_stack(file, "reconstruction", stack, np.float32)


def submission_name(name: str, knee_v2: bool = False) -> str:
    """The file name for the volume `name`, given with or without .h5, of the test set.

    knee_v2: the second release of the knee test set, whose names end in `_v2`; a name that does
    already is kept. Raises ConfigError for a path in place of a name.
    """
    stem = name.removesuffix(".h5")
    if not stem or stem in (".", "..") or Path(stem).name != stem or "\\" in stem:
        raise ConfigError(f"expected the bare name of a volume such as file1000001, got {name!r}")
    if knee_v2 and not stem.endswith(_KNEE_MARK):
        stem += _KNEE_MARK
    return f"{stem}.h5"
