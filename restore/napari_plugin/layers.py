"""Volumes as napari's layers and back: the order of axes, and the place in the patient.

Used by `reader` and `widget`; touches nothing but its arguments. napari's world has the axes of its data, here (z, y,
x) in mm of RAS; a volume's affine takes (x, y, z).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError

LayerData = tuple[NDArray[Any], dict[str, Any], str]
"""What napari makes a layer of: values, settings by name, and its kind."""

KEY = "restore"
"""Of our entry in a layer's metadata."""

TURNED = np.eye(4)[[2, 1, 0, 3]]
"""Exchanges x and z."""


def layer_of(volume: Volume, name: str, **settings: Any) -> LayerData:
    """A volume as an image layer with its place; complex values as magnitudes. settings: of the layer."""
    data = np.abs(volume.data) if np.iscomplexobj(volume.data) else volume.data
    told = {"modality": volume.modality, "units": volume.units}
    return (
        np.asarray(data, np.float32),
        {"name": name, "affine": TURNED @ volume.affine @ TURNED, "metadata": {KEY: told}, **settings},
        "image",
    )  # fmt: skip


def volume_of(
    data: Any, to_world: Callable[[Sequence[float]], Any], metadata: Mapping[str, Any], name: str
) -> Volume:
    """A layer as a volume.

    data: (z, y, x) of real numbers. to_world: takes an index to the world. Raises ConfigError for other layers.
    """
    values = np.asarray(data)
    if values.ndim != 3 or values.dtype.kind not in "fiub":
        raise ConfigError(
            f"{name}: {values.ndim} dimensions of {values.dtype}; a volume of real numbers with 3 is restored"
        )
    origin = np.asarray(to_world((0.0, 0.0, 0.0)), float)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack(
        [np.asarray(to_world(row)) - origin for row in np.eye(3).tolist()], axis=1
    )
    matrix[:3, 3] = origin
    told = metadata.get(KEY, {})
    return Volume(
        values.astype(np.float32), TURNED @ matrix @ TURNED, told.get("modality", ""), told.get("units", ""),
    )  # fmt: skip
