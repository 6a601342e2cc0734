"""The reader that napari asks: our formats of volumes, a result's deviation and interval as further layers.

Called by napari; reads the files it is given.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from restore.datasets.open import format_of, read
from restore.errors import RestoreError
from restore.napari_plugin.layers import LayerData, layer_of
from restore.pipelines.pieces import MAPS
from restore.pipelines.results import interval_path, map_path, std_path

Paths = str | list[str]


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """The function that reads these files, None where one of them holds no volume that is read here."""
    try:
        forms = [format_of(Path(one)) for one in _several(path)]
    except RestoreError:
        return None
    return (
        read_layers if forms and all(f is not None and f.holds == "volume" for f in forms) else None
    )


def read_layers(path: Paths) -> list[LayerData]:
    """Every volume as an image layer in its place.

    What a reader assumed or left out becomes a warning, which napari shows. Raises InputError.
    """
    layers = []
    for one in map(Path, _several(path)):
        volume = read(one)
        for note in volume.notes:
            warnings.warn(f"{one.name}: {note}", stacklevel=2)
        layers.append(layer_of(volume, one.name))
        maps = (map_path(one, name) for name in MAPS)
        for beside in (std_path(one), interval_path(one), *maps):
            if beside.is_file():
                layers.append(layer_of(read(beside), beside.name, colormap="magma", visible=False))
    return layers


def _several(path: Paths) -> list[str]:
    return [path] if isinstance(path, str) else list(path)
