"""Rays of a cylindrical detector, measured from a focal spot beside its centre, resampled onto a flat virtual panel.

Called by `ct_pd`; numbers in and out. The panel of a view touches the cylinder in its middle; a ray keeps its source
and meets the panel elsewhere, so that values are interpolated linearly along the columns, then along the rows. What
that loses is told by going there and back.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from restore.datasets.ct.files.ct_pd_header import View

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class FlatPanel:
    """Bins of the virtual panel, the same in all views: places in mm along the columns and along z of its middle."""

    across: Floats
    up: Floats
    pitch: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return len(self.up), len(self.across)


def panel_for(views: list[View], sense: tuple[int, int]) -> FlatPanel:
    """A panel with the detector's pitch that lies within what every view measured."""
    ends = np.array([_columns_on_panel(v, sense)[0][[0, -1]] for v in views])
    ends.sort(axis=1)
    first, last = ends[:, 0].max(), ends[:, 1].min()
    (dz, du), view = views[0].pitch, views[0]
    count = int(np.floor((last - first) / du + 1e-6)) + 1
    across = (first + last) / 2 + (np.arange(count) - (count - 1) / 2) * du
    up = np.sort(_rows_mm(view, sense))
    return FlatPanel(across, up, (dz, du))


def flattened(
    values: NDArray[np.floating], view: View, sense: tuple[int, int], panel: FlatPanel
) -> Floats:
    """A measured view (rows, columns) on the panel: (rows, columns) of `panel.shape`."""
    along, stretch = _columns_on_panel(view, sense)
    order = np.argsort(along)
    columns = np.array([np.interp(panel.across, along[order], row[order]) for row in values])
    stretched = np.interp(panel.across, along[order], stretch[order])
    return _rows_onto(columns, _rows_mm(view, sense), panel.up, stretched, view.spot[1])


def returned(flat: Floats, view: View, sense: tuple[int, int], panel: FlatPanel) -> Floats:
    """The way back: from the panel to the rays that were measured; NaN beyond the panel."""
    along, stretch = _columns_on_panel(view, sense)
    columns = np.array([np.interp(along, panel.across, row, np.nan, np.nan) for row in flat])
    rows = _rows_mm(view, sense)
    found = np.empty((len(rows), len(along)))
    for j, factor in enumerate(stretch):
        place = view.spot[1] + (rows - view.spot[1]) * factor
        found[:, j] = np.interp(place, panel.up, columns[:, j], np.nan, np.nan)
    return found


def vectors_of(view: View, panel: FlatPanel) -> tuple[float, ...]:
    """Source, middle, column and row step (12 numbers, mm) of the panel in a view.

    The focal centre at angle phi stands at radius (-sin phi, cos phi).
    """
    towards, right = _frame(view.angle)
    phi, radius = view.angle + view.spot[0], view.radius + view.spot[2]
    source = np.array([-radius * np.sin(phi), radius * np.cos(phi), view.place + view.spot[1]])
    middle = np.zeros(3)
    across = (panel.across[0] + panel.across[-1]) / 2
    middle[:2] = (view.radius - view.distance) * towards + across * right
    middle[2] = view.place + (panel.up[0] + panel.up[-1]) / 2
    u = (*(panel.pitch[1] * right), 0.0)
    return (*source.tolist(), *middle.tolist(), *map(float, u), 0.0, 0.0, panel.pitch[0])


def _frame(phi: float) -> tuple[Floats, Floats]:
    """From the axis to the focal centre, and to the right as seen from there."""
    return np.array([-np.sin(phi), np.cos(phi)]), np.array([-np.cos(phi), -np.sin(phi)])


def _columns_on_panel(view: View, sense: tuple[int, int]) -> tuple[Floats, Floats]:
    """Where the ray of every column meets the panel, in mm, and its length to there over that to the detector."""
    column = np.arange(view.shape[1]) - (view.centre[1] - 1)
    fan = sense[1] * column * view.pitch[1] / view.distance
    towards, right = _frame(view.angle)
    centre = view.radius * towards
    element = centre + view.distance * (
        np.sin(fan)[:, None] * right - np.cos(fan)[:, None] * towards
    )
    phi, radius = view.angle + view.spot[0], view.radius + view.spot[2]
    source = radius * np.array([-np.sin(phi), np.cos(phi)])
    ray = element - source
    depth = -(ray @ towards)
    reach = (source @ towards - (view.radius - view.distance)) / depth
    return (source + reach[:, None] * ray) @ right, reach


def _rows_mm(view: View, sense: tuple[int, int]) -> Floats:
    """Height of every row over the focal centre."""
    row = np.arange(view.shape[0]) - (view.centre[0] - 1)
    return np.asarray(sense[0] * row * view.pitch[0], np.float64)


def _rows_onto(columns: Floats, rows: Floats, up: Floats, stretch: Floats, spot: float) -> Floats:
    """Along z: a row at height h of the detector is met at spot + (h - spot) stretch of the panel."""
    order = np.argsort(rows)
    found = np.empty((len(up), columns.shape[1]))
    for j, factor in enumerate(stretch):
        found[:, j] = np.interp(spot + (up - spot) / factor, rows[order], columns[order, j])
    return found
