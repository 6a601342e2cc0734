"""What a file of line integrals says of its rays: photons, noise, water's attenuation; assumed where it is silent.

Used by `measurement` and `beam_measurement`; touches the one open file it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.ct.attenuation import assumed_water
from restore.datasets.ct.detector.noise_estimation import completed_by_air
from restore.datasets.hdf5_guard import attribute, find_group, open_hdf5
from restore.errors import InputError
from restore.operators.ct.geometry import MU_WATER_PER_MM

NAMES = ("photons", "noise_std", "mu_water")


class Stored(NamedTuple):
    """Attributes as they stand in the file. photons: counts of an air ray; noise_std: of one; mu_water: 1/mm."""

    photons: float | None
    noise_std: float | None
    mu_water: float | None

    def completed(
        self, views: Callable[[], NDArray[np.floating]], notes: list[str]
    ) -> tuple[float | None, float | None, float]:
        """Photons and noise of an air ray (`completed_by_air`), and water; `notes` says what was assumed.

        views: line integrals (views, detectors) of one slice, asked for where nothing else tells the noise.
        """
        mu_water = self.mu_water
        if mu_water is None:
            mu_water = MU_WATER_PER_MM
            notes.append(assumed_water(mu_water))
        photons, noise = completed_by_air(self.photons, self.noise_std, views, notes)
        return photons, noise, mu_water


def read_stored(file: h5py.File, path: Path) -> Stored:
    """The attributes of the open file. Raises InputError for one that is no positive number."""
    return Stored(*(_positive(file, path, name) for name in NAMES))


def geometry_kind(path: Path) -> str | None:
    """The word in the attribute `kind` of the group `geometry`, None where there is none."""
    with open_hdf5(path) as file:
        group = find_group(file, "geometry")
        kind = None if group is None else attribute(group, "kind")
    return kind if isinstance(kind, str) else None


def _positive(file: h5py.File, path: Path, name: str) -> float | None:
    value = attribute(file, name)
    if value is None:
        return None
    if not isinstance(value, int | float) or not np.isfinite(value) or value <= 0:
        raise InputError(path, f"attribute '{name}' is {value!r}, expected a positive number")
    return float(value)


def write_stored(
    file: h5py.File, geometry: dict[str, Any], fields: tuple[str, ...], scan: object
) -> None:
    """The kind and the numbers of a geometry, those of `fields` that it has, and what the scan knows of `NAMES`."""
    group = file.require_group("geometry")
    for name in ("kind", *fields):
        if name in geometry:
            group.attrs[name] = geometry[name]
    for name in NAMES:
        if (value := getattr(scan, name)) is not None:
            file.attrs[name] = float(value)
