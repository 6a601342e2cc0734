"""Coil maps in a file of their own, beside a scan: BART's `.cfl`, arrays, or HDF5 as scan files hold them.

May be called by the jobs that reconstruct; touches the one file it is given. What the maps hold is looked at by
`given_maps`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import look_at, spelled_out
from restore.datasets.hdf5_guard import is_hdf5, names, open_hdf5
from restore.datasets.hdf5_stack import as_complex
from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.encoded import EncodedScan
from restore.datasets.mri.files.array_files import is_matlab, is_npz, open_arrays
from restore.datasets.mri.files.array_roles import ROLES, Arrays
from restore.datasets.mri.files.cfl import COILS, SLICES, is_half, read_cfl
from restore.datasets.mri.files.kspace_array import mapped_complex
from restore.datasets.mri.files.stored_maps import NAME, held_maps, read_maps
from restore.datasets.mri.scan import MRIScan
from restore.datasets.scan import Scan
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError

SETS = 4
"""BART's axis of sets of maps."""


def with_maps(scan: Scan, path: str | Path, sets: int = 1) -> Scan:
    """The scan with the coil maps of a file in the place of its own.

    NAME.cfl with NAME.hdr, axes as `bart ecalib` writes them: (rows, columns, partitions, coils, sets), slices along
    axis 13; `.npy` (slices, coils, H, W), (coils, H, W) or, along a trajectory of a volume, (coils, D, H, W); HDF5 with
    'sensitivity_maps' as in docs/scan-files.md; `.npz` and `.mat` by name. One map a coil serves all slices, with a
    note. sets: 2 for those of a field of view that cuts the object, of BART's files for Cartesian slices alone. Raises
    ConfigError for a scan that has no coils, NotFoundError, InputError for maps that do not fit it.
    """
    path = Path(path)
    if not isinstance(scan, MRIScan | EncodedScan):
        raise ConfigError(f"{path}: coil maps are for MRI, and {scan.path} is {scan.modality}")
    if sets > 1:
        return _with_sets(scan, path)
    if isinstance(scan, CartesianVolumeScan):
        return dataclasses.replace(scan, slice_maps=_of_slices(path, scan))
    matrix = scan.matrix if isinstance(scan, EncodedScan) else scan.shape[2:]
    shape = (*scan.shape[:2], *matrix)
    return dataclasses.replace(scan, maps=_stack(path, shape, scan.notes))


def _with_sets(scan: MRIScan | EncodedScan, path: Path) -> MRIScan:
    """Both sets of a file of BART's. Raises ConfigError, InputError."""
    if not isinstance(scan, MRIScan):
        raise ConfigError(
            f"{path}: two sets of coil maps are for Cartesian slices; leave --maps-sets out"
        )
    if not is_half(spelled_out(path)):
        raise ConfigError(
            f"{path}: two sets of coil maps are read from BART's files (.cfl), along axis {SETS}; or --maps espirit "
            "estimates them"
        )
    found = [
        held_maps(
            _of_bart(path, False, scan.notes, index), path, f"coil maps of {path.name}", scan.shape, scan.notes
        )
        for index in range(2)
    ]  # fmt: skip
    return dataclasses.replace(scan, maps=found[0], second_maps=found[1])


def _of_slices(path: Path, scan: CartesianVolumeScan) -> LazyStack:
    """Maps (slices, coils, H, W) of a volume: BART's have their axes as a volume, others as k-space is stored."""
    if not is_half(spelled_out(path)):
        return _stack(path, scan.partitions.shape, scan.notes)
    whole = _stack(path, (*scan.shape[:2], *scan.matrix), scan.notes)[0].swapaxes(0, 1)
    return LazyStack(whole.shape, lambda index: whole[index])


def _stack(path: Path, shape: tuple[int, ...], notes: list[str]) -> LazyStack:
    """Maps of `shape` (items, coils, *matrix)."""
    if is_half(spelled_out(path)):
        return held_maps(
            _of_bart(path, len(shape) == 5, notes), path, f"coil maps of {path.name}", shape, notes
        )
    content = look_at(path)
    if is_npz(content) or is_matlab(content):
        arrays = Arrays.of(open_arrays(content), path, "", notes)
        found = arrays.maps(shape)
        if found is None:
            raise InputError(
                path, "holds no coil maps", f"they are looked for as {', '.join(ROLES['maps'])}"
            )
        return found
    if is_hdf5(content):
        with open_hdf5(path) as file:
            found = read_maps(file, path, shape, notes)
            if found is None:
                raise InputError(path, f"no data set '{NAME}'; the file holds {names(file)}")
            return found
    array, _ = mapped_complex(path, "coil maps")
    return held_maps(as_complex(np.array(array)), path, f"coil maps of {path.name}", shape, notes)


def _of_bart(path: Path, whole: bool, notes: list[str], which: int | None = None) -> NDArray[Any]:
    """(slices, coils, H, W), of a volume (1, coils, D, H, W). which: of two sets, None for the only one that is used.

    Raises InputError.
    """
    values = read_cfl(path)
    sets, own = values.shape[SETS], (0, 1, 2, COILS, SETS, SLICES)
    odd = [axis for axis, n in enumerate(values.shape) if n > 1 and axis not in own]
    if odd or (values.shape[2] > 1 and not whole):
        axis = odd[0] if odd else 2
        raise InputError(
            path, f"has {values.shape[axis]} entries along BART's axis {axis}, expected maps of "
            f"{'a volume' if whole else 'slices'}",
            "axes are (rows, columns, partitions, coils, sets), slices along axis 13",
        )  # fmt: skip
    if which is not None and sets != 2:
        raise InputError(
            path, f"holds {sets} set(s) of coil maps, and two are asked for",
            "`bart ecalib -m 2` makes them; or --maps espirit",
        )  # fmt: skip
    if which is None and sets > 1:
        notes.append(
            f"{path.name} holds {sets} sets of coil maps: the first is used, which is right where the field of view "
            "holds the whole object (else: --maps-sets 2)"
        )
    chosen = np.moveaxis(values, (SLICES, COILS, 2, 0, 1, SETS), (0, 1, 2, 3, 4, 5))
    chosen = chosen.reshape(*chosen.shape[:6], -1)[:, :, :, :, :, which or 0, 0]
    return chosen if whole else chosen[:, :, 0]
