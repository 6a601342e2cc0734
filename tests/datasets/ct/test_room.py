"""Room for what lies outside of an image, from the chords of a disc in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from restore.datasets.ct.room import room_for
from restore.operators.ct.geometry import ParallelBeam, equispaced

VIEWS, BINS, SIDE = 36, 128, 50
BEYOND = 3  # bins: the limit is a mean over three, and one is added


def chords(geometry: ParallelBeam, radius: float, x: float) -> NDArray[np.float32]:
    """Line integrals of a disc of 0.02 a millimetre at (x, 0)."""
    bins = np.arange(geometry.n_det) - (geometry.n_det - 1) / 2
    u = bins * geometry.det_spacing_mm + geometry.det_offset_mm
    distance = u[None] - x * np.cos(geometry.angles)[:, None]
    return (0.04 * np.sqrt(np.clip(radius**2 - distance**2, 0, None))).astype(np.float32)


@pytest.mark.parametrize(
    ("radius", "x", "offset"), [(20, 0, 0), (40, 0, 0), (40, 9, 0), (40, 0, 4)]
)
def test_the_image_grows_to_what_the_views_show(radius, x, offset):
    geometry = ParallelBeam(
        equispaced(VIEWS, 360.0), BINS, 1.0, (SIDE, SIDE), det_offset_mm=float(offset)
    )
    room = room_for(geometry, [chords(geometry, radius, x)])
    needed = 2 * (radius + x)
    for side in room.geometry.shape:
        assert max(SIDE, needed) <= side <= max(SIDE, needed + 2 * BEYOND)
        assert (side - SIDE) % 2 == 0
    assert room.geometry.n_det == BINS
    assert room.geometry.pixel_mm == geometry.pixel_mm
