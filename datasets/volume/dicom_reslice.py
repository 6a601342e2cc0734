"""Headers of a DICOM series for the same object on another grid of slices and pixels.

Called by pipelines that make thinner slices; the writer then derives a series from them as from any other. Touches
nothing but its arguments.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from restore.datasets.volume.dicom_series import DicomSeries
from restore.datasets.volume.dicom_sort import LPS_TO_RAS, plane_of


def resliced(
    series: DicomSeries,
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    thickness_mm: float,
) -> DicomSeries:
    """One header for every slice of a new grid with the directions of the old one, from the nearest old slice's.

    affine: 4 x 4, index (x, y, z) to RAS mm. shape: (slices, rows, columns). thickness_mm: of the new slices.
    Positions, pixel spacing, thickness and distance are new; everything else is the source's, which the new image
    refers to; SliceLocation follows the position in the sense that it has in the series.
    """
    lps = LPS_TO_RAS @ affine
    columns, rows, distance = (float(v) for v in np.linalg.norm(lps[:3, :3], axis=0))
    planes = [plane_of(source, f"slice {k}") for k, source in enumerate(series.slices)]
    normal = lps[:3, 2] / distance
    heights = np.array([plane.position @ normal for plane in planes])
    sense, found = _sense(series, heights), []
    for k in range(shape[0]):
        position = lps[:3, 3] + k * lps[:3, 2]
        nearest = int(np.abs(heights - position @ normal).argmin())
        image = deepcopy(series.slices[nearest])
        image.ImagePositionPatient = [_ds(v) for v in position]
        image.PixelSpacing = [_ds(rows), _ds(columns)]
        image.Rows, image.Columns = shape[1:]
        image.SliceThickness = _ds(thickness_mm)
        image.SpacingBetweenSlices = _ds(distance)
        location = _location(image)
        if location is not None:
            image.SliceLocation = _ds(location + sense * (position @ normal - heights[nearest]))
        found.append(image)
    return DicomSeries(tuple(found))


def _location(image: Dataset) -> float | None:
    try:
        return float(image.get("SliceLocation"))
    except (TypeError, ValueError):
        return None  # none, or none that is a number


def _sense(series: DicomSeries, heights: NDArray[np.float64]) -> float:
    """Whether locations rise or fall with the height, as scanners differ in it; 1 where that does not show."""
    first, last = (_location(series.slices[k]) for k in (0, -1))
    if first is None or last is None or first == last:
        return 1.0
    return float(np.sign((last - first) * (heights[-1] - heights[0])))


def _ds(value: float) -> str:
    return format_number_as_ds(float(value))
