"""Write BART's pairs of files: images, and scans with their trajectory, pattern and coil maps in files beside.

May be called by `open.write` and the simulation verb; touches the files it is given. Axes as in `cfl`; rows of an
image lie along axis 0, columns along axis 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.files.cfl import COILS, SLICES, write_cfl
from restore.datasets.mri.noncartesian import NonCartesianScan
from restore.datasets.mri.scan import MRIScan
from restore.datasets.stack import LazyStack
from restore.datasets.volume.volume import Volume

Simulated = MRIScan | NonCartesianScan | CartesianVolumeScan

TO_BART = [1, 2, 0]
"""BART's x, y, z are the image's rows, columns and slices."""


def write_images(volume: Volume, path: str | Path, *, description: str = "") -> Path:
    """A volume as complex64 (rows, columns, slices), the axes of `bart fft` of a volume; no place goes along.

    path: NAME.cfl. description: for the header. Raises OutputError.
    """
    target = Path(path)
    depth, rows, columns = volume.data.shape
    write_cfl(target, {0: rows, 1: columns, 2: depth}, volume.data, description)
    return target


def scan_files(scan: Simulated, path: Path) -> tuple[Path, ...]:
    """The files that `write_scan` makes: k-space (`path`, NAME.cfl) with NAME_maps and NAME_pattern or NAME_traj."""
    beside = "traj" if isinstance(scan, NonCartesianScan) else "pattern"
    parts = ["", f"_{beside}", *(["_maps"] if scan.maps is not None else [])]
    named = [path.with_name(f"{path.stem}{part}.cfl") for part in parts]
    return tuple(file for name in named for file in (name, name.with_suffix(".hdr")))


def write_scan(scan: Simulated, path: str | Path) -> None:
    """k-space slice by slice as (rows, columns, 1, coils) or (1, samples, readouts, coils), slices along axis 13; of a
    Cartesian volume (rows, columns, partitions, coils).

    The pattern is (rows, columns) or (rows, columns, partitions), the trajectory (3, samples, readouts) in cycles per
    field of view, maps are as `bart ecalib` writes them. The files appear one after another, k-space last. Raises
    OutputError.
    """
    target = Path(path)
    maps = scan.maps
    if maps is not None:
        whole = len(maps.shape) == 5
        depth, rows, columns = maps.shape[2:] if whole else (1, *maps.shape[2:])
        sizes = {0: rows, 1: columns, 2: depth, COILS: maps.shape[1], SLICES: len(maps)}
        turned = _turned(maps, (2, 3, 1, 0) if whole else (1, 2, 0))
        write_cfl(_beside(target, "maps"), sizes, turned)
    slices, coils, *places = scan.kspace.shape
    order: tuple[int, ...]
    if isinstance(scan, NonCartesianScan):
        _write_points(scan, _beside(target, "traj"))
        sizes, order = {1: places[1], 2: places[0]}, (2, 1, 0)
    elif isinstance(scan, CartesianVolumeScan):
        sizes, order = dict(zip((2, 0, 1), places, strict=True)), (2, 3, 1, 0)
        write_cfl(_beside(target, "pattern"), sizes, scan.sampled)
    else:
        _write_pattern(scan, _beside(target, "pattern"))
        sizes, order = {0: places[0], 1: places[1]}, (1, 2, 0)
    write_cfl(target, sizes | {COILS: coils, SLICES: slices}, _turned(scan.kspace, order))


def _write_points(scan: NonCartesianScan, path: Path) -> None:
    readouts, samples, count = scan.points.shape
    points = np.zeros((readouts, samples, 3))
    points[..., : 2 if count == 2 else 3] = scan.points if count == 2 else scan.points[..., TO_BART]
    write_cfl(path, {0: 3, 1: samples, 2: readouts}, [points.transpose(2, 1, 0)])


def _write_pattern(scan: MRIScan, path: Path) -> None:
    rows, columns = scan.shape[2:]
    each = scan.mask if scan.mask.ndim == 3 else scan.mask[None]
    planes = np.broadcast_to(each, (len(each), rows, columns))
    write_cfl(path, {0: rows, 1: columns, SLICES: len(planes)}, planes)


def _turned(stack: LazyStack, order: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """The items of a stack, one at a time, with their axes in another order."""
    return (stack[index].transpose(order) for index in range(len(stack)))


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem}_{what}.cfl")
