"""Read LoDoPaB-CT's HDF5 files: simulated low-dose parallel-beam data of chest CT slices.

May be called by `scan.open_scan` and the benchmarks; touches the observation file that it is given and the ground
truth beside it. Leuschner, Schmidt, Otero Baguer, Maass: "LoDoPaB-CT, a benchmark dataset for low-dose computed
tomography reconstruction", Scientific Data 8, 2021.

    observation_PART_NNN.hdf5    `data` (up to 128, 1000, 513) float32: line integrals / MU_MAX, negative ones included
    ground_truth_PART_NNN.hdf5   `data` (up to 128, 362, 362) float32: attenuation / MU_MAX

No original file was at hand: the reader follows the publication and the script that made the set, and is tested on
line integrals in closed form that are written down in the conventions below.

* The image fills a square of 0.26 m. Element [i, j] lies at x_i, Y_j, both growing: the first axis is the column of
  the DICOM image, the second its row (Y points down). Here an image is its transpose, row and column as in DICOM.
* View k of n looks at (k + 1/2) pi / n, a point (x, Y) falls on s = x cos + Y sin, and the bins divide the diagonal of
  the square. Our y points up, y = -Y: the same numbers are seen at the negative angle. Nothing is interpolated.
* MU_MAX is the attenuation at 3071 HU where water has 20/m and air 0.02/m. The Hounsfield units here put air at 0/m,
  as everywhere in this package: they are those of the publication to within 4 HU.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.ct.detector.lost_rays import bridged
from restore.datasets.ct.scan import CTScan
from restore.datasets.formats import Format
from restore.datasets.hdf5_guard import find_dataset, names, open_hdf5, root_names
from restore.datasets.hdf5_stack import read_slice
from restore.datasets.stack import LazyStack, checked_slice
from restore.errors import InputError
from restore.operators.ct.geometry import ParallelBeam, equispaced, mu_to_hu

MU_MAX_PER_M = 81.35858
MU_WATER_PER_MM = 0.02
SIDE_MM = 260.0
PHOTONS = 4096.0
PUBLISHED_SHAPE = (1000, 513)
KEY = "data"

_OBSERVATION = re.compile(r"observation_.+\.(hdf5|h5)")


def is_observation(path: Path) -> bool:
    """Whether a file is named as LoDoPaB-CT's measurements are."""
    return _OBSERVATION.fullmatch(path.name) is not None


def read_lodopab(path: str | Path, repair: str = "") -> CTScan:
    """Open an observation file; slices are read when asked for.

    The reference is the ground truth file beside it, in HU, or None where there is none (the challenge's part). Values
    are not clipped. The size of the image is the ground truth's, else what the number of bins goes with (513: 362).
    repair as in `scan.open_scan`. Raises NotFoundError, InputError.
    """
    path = Path(path)
    notes = [
        "LoDoPaB-CT: slices of several patients, each by itself; their place in the patient is unknown"
    ]
    with open_hdf5(path) as file:
        slices, views, bins = _shape(file, path, find_dataset(file, KEY), "slices, views, bins")
    if (views, bins) != PUBLISHED_SHAPE:
        notes.append(f"{views} views of {bins} bins, not the 1000 of 513 that were published")
    reference = _ground_truth(path, slices)
    side = math.floor((bins - 1) / 2**0.5) if reference is None else reference.shape[-1]
    if side < 1:
        raise InputError(path, f"{bins} detector bins see no image", "expected 513")
    pixel = SIDE_MM / side

    def load(index: int) -> NDArray[Any]:
        values = read_slice(path, KEY, index, np.float32)
        scaled = values * np.float32(MU_MAX_PER_M)
        return checked_slice(scaled, path, index, repair, notes, bridged)

    return CTScan(
        path=path,
        sinogram=LazyStack((slices, views, bins), load),
        geometry=ParallelBeam(
            equispaced(views, -180.0, -90.0 / views),
            n_det=bins,
            det_spacing_mm=SIDE_MM * 2**0.5 / bins,
            shape=(side, side),
            pixel_mm=pixel,
        ),
        mu_water=MU_WATER_PER_MM,
        slice_indices=tuple(range(slices)),
        photons=PHOTONS,
        noise_std=PHOTONS**-0.5,
        affine=np.diag([-pixel, -pixel, 1.0, 1.0]),
        reference=reference,
        source={"kind": "lodopab", "modality": "CT", "units": "HU"},
        notes=notes,
    )


def ground_truth_path(observation: Path) -> Path:
    """The file that goes with an observation file."""
    return observation.with_name(observation.name.replace("observation_", "ground_truth_", 1))


def _ground_truth(observation: Path, slices: int) -> LazyStack | None:
    """The images of an observation file in HU.

    The last file of a part may hold more of them than were measured, empty ones at its end: these are left out.
    """
    path = ground_truth_path(observation)
    if path == observation or not path.exists():
        return None
    with open_hdf5(path) as file:
        dataset = find_dataset(file, KEY, sparse=True)
        held, rows, columns = _shape(file, path, dataset, "slices, side, side")
    if rows != columns or held < slices:
        raise InputError(
            path,
            f"'{KEY}' has shape {(held, rows, columns)}, expected at least {slices} square images, as many as "
            f"{observation.name} measures",
        )

    def load(index: int) -> NDArray[Any]:
        with open_hdf5(path) as file:
            dataset = find_dataset(file, KEY, sparse=True)
            if dataset is None:
                raise InputError(path, f"'{KEY}' is gone", "do not change a file while it is read")
            values = np.asarray(dataset[index], np.float64).T
        if not np.isfinite(values).all():
            raise InputError(path, f"'{KEY}' holds NaN or infinite values in slice {index}")
        hu = mu_to_hu(values * (MU_MAX_PER_M / 1000), MU_WATER_PER_MM)
        return np.ascontiguousarray(hu, np.float32)

    return LazyStack((slices, rows, columns), load)


def _shape(
    file: h5py.File, path: Path, dataset: h5py.Dataset | None, axes: str
) -> tuple[int, int, int]:
    if dataset is None:
        raise InputError(path, f"no data set '{KEY}'; the file holds {names(file)}")
    if dataset.ndim != 3 or 0 in dataset.shape or dataset.dtype.kind != "f":
        raise InputError(
            path,
            f"'{KEY}' has shape {dataset.shape} and type {dataset.dtype}",
            f"expected floating-point numbers ({axes})",
        )
    first, second, third = map(int, dataset.shape)
    return first, second, third


FORMAT = Format(
    name="LoDoPaB-CT",
    holds="scan",
    files="observation_*.hdf5",
    ways="parallel-beam sinogram in, told by its name too",
    rank=60,  # its one data set has a name that other files may have
    claims=lambda content: KEY in root_names(content) and is_observation(content.path),
    open=read_lodopab,
    options=("repair",),
    called="a LoDoPaB-CT observation",
)
