"""What the arrays of a file are by their names, and the order of their axes.

May be called by the readers of named arrays and of coil maps; touches nothing but the file that its arrays lie in.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.files.array_files import NamedArrays
from restore.datasets.mri.files.stored_maps import held_maps
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError

ROLES = {
    "kspace": ("kspace", "k_space", "ksp", "kdata"),
    "maps": ("sensitivity_maps", "maps", "coil_maps", "sens_maps", "smaps", "sens", "csm"),
    "mask": ("mask", "pattern", "sampling_mask"),
    "trajectory": ("trajectory", "traj", "ktraj"),
    "density": ("density", "dcf"),
    "noise_scan": ("noise_scan", "noise"),
    "noise_cov": ("noise_cov", "noise_covariance"),
    "noise_std": ("noise_std",),
    "voxel": ("voxel_mm", "voxel", "voxel_size"),
    "matrix": ("matrix",),
}
"""What an array is, by its name in small letters."""

GRID, LINES = ("slices", "coils", "rows", "columns"), ("slices", "coils", "readouts", "samples")
"""The axes of k-space on a grid and along a trajectory, in the order of this package."""

MATLAB: dict[tuple[str, ...], tuple[str, ...]] = {
    GRID: ("rows", "columns", "coils", "slices"),
    LINES: ("samples", "readouts", "coils", "slices"),
}
"""The usual order there; the last ones may be missing, here and elsewhere the first."""


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """The arrays of a file by their roles. told: the axes of k-space as the caller gave them, or none."""

    held: NamedArrays
    path: Path
    roles: dict[str, str]
    told: tuple[str, ...]
    notes: list[str]

    @classmethod
    def of(cls, held: NamedArrays, path: Path, axes: str, notes: list[str]) -> Arrays:
        """Raises InputError for two arrays of one role, ConfigError for axes that are none."""
        roles: dict[str, str] = {}
        unused = list(held.others)
        for name in held.names:
            role = next((r for r, known in ROLES.items() if name.lower() in known), None)
            if role is None:
                unused.append(name)
            elif role in roles:
                raise InputError(
                    path, f"both '{roles[role]}' and '{name}' are {role}", "keep one of them"
                )
            else:
                roles[role] = name
        if unused:
            notes.append(f"not used of {path.name}: {', '.join(unused[:20])}")
        told = tuple(a.strip().lower() for a in axes.split(",") if a.strip())
        wanted = LINES if "trajectory" in roles else GRID
        if told and (len(set(told)) < len(told) or not set(wanted[2:]) <= set(told) <= set(wanted)):
            raise ConfigError(
                f"axes {axes!r}: expected {', '.join(wanted)}, each once, slices and coils if any"
            )
        return cls(held, path, roles, told, notes)

    def has(self, role: str) -> bool:
        """Whether the file holds it."""
        return role in self.roles

    @property
    def along(self) -> bool:
        """Whether k-space lies along a trajectory."""
        return self.has("trajectory")

    @property
    def order(self) -> tuple[str, ...]:
        """The axes of this package."""
        return LINES if self.along else GRID

    def load(self, role: str) -> NDArray[Any]:
        """The array of a role, as its program orders it."""
        return self.held.load(self.roles[role])

    def axes(self, count: int) -> tuple[str, ...]:
        """Those of an array with `count` axes: as told, else the usual ones of the file's program."""
        if self.told:
            return self.told
        if self.held.matlab:
            return MATLAB[self.order][:count]
        return self.order[4 - count :]

    def kspace(self) -> NDArray[np.complex64]:
        """(slices, coils, H, W), or (slices, coils, readouts, samples). Raises InputError."""
        if not self.has("kspace"):
            known = ", ".join(ROLES["kspace"])
            there = ", ".join((*self.held.names, *self.held.others)[:30])
            raise InputError(
                self.path,
                f"holds no k-space but {there or 'nothing'}",
                f"it is looked for as {known}",
            )
        values, name = self.load("kspace"), self.roles["kspace"]
        if values.dtype.kind != "c":
            raise InputError(
                self.path, f"'{name}' must be complex, found {values.dtype}",
                "magnitudes hold no image: store the complex samples",
            )  # fmt: skip
        axes = self.axes(values.ndim)
        if len(axes) != values.ndim or not 2 <= values.ndim <= 4 or 0 in values.shape:
            raise InputError(
                self.path, f"'{name}' has shape {values.shape}",
                f"expected the axes {', '.join(self.axes(4))}; choose one repetition, echo or average, or say --axes",
            )  # fmt: skip
        if not self.told:
            self.notes.append(
                f"'{name}' {values.shape} read as ({', '.join(axes)}); --axes says otherwise"
            )
        with np.errstate(over="ignore"):
            return arranged(values, axes, self.order).astype(np.complex64)

    def maps(self, shape: tuple[int, ...]) -> LazyStack | None:
        """Of `shape` (slices, coils, *matrix); None where the file has none. Raises InputError."""
        if not self.has("maps"):
            return None
        values = self.load("maps")
        if len(shape) == 5:
            raise InputError(
                self.path, "holds coil maps of a volume", "give them as .npy or .h5: --maps FILE"
            )
        grid = tuple({"readouts": "rows", "samples": "columns"}.get(a, a) for a in self.axes(4))
        if self.along and self.held.matlab and not self.told:
            grid = MATLAB[GRID]
        axes = tuple(a for a in grid if a != "slices") if values.ndim == 3 else grid
        if values.ndim not in (3, 4) or values.dtype.kind != "c" or len(axes) != values.ndim:
            raise InputError(
                self.path, f"'{self.roles['maps']}' is {values.dtype} of shape {values.shape}",
                f"expected complex maps ({', '.join(grid)})",
            )  # fmt: skip
        values = arranged(values, axes, GRID).astype(np.complex64)
        return held_maps(values, self.path, f"'{self.roles['maps']}'", shape, self.notes)

    def mask(self) -> NDArray[Any]:
        """As `stored_mask.fitted_mask` takes it: rows before columns, slices in front."""
        values = self.load("mask")
        axes = [a for a in self.axes(4) if a != "coils"]
        if values.ndim == 2:
            axes.remove("slices")
        return (
            values
            if len(axes) != values.ndim
            else np.transpose(values, np.argsort([GRID.index(a) for a in axes]))
        )

    def points(self) -> NDArray[np.float64]:
        """(readouts, samples, 2 or 3), rows first. Raises InputError."""
        values, name = self.load("trajectory"), self.roles["trajectory"]
        places = [axis for axis, n in enumerate(values.shape) if n in (2, 3)]
        if values.dtype.kind not in "fiu" or values.ndim != 3 or len(places) != 1:
            raise InputError(
                self.path, f"'{name}' is {values.dtype} of shape {values.shape}",
                "expected real coordinates with one axis of 2 or 3, and those of readouts and samples",
            )  # fmt: skip
        lines = [a for a in self.axes(4) if a in LINES[2:]]
        turned = np.moveaxis(values, places[0], -1)
        if lines[0] == "samples":
            turned = turned.swapaxes(0, 1)
        points = turned.astype(np.float64)
        return points[..., [2, 0, 1]] if self.held.matlab and points.shape[-1] == 3 else points

    def matrix(self, count: int) -> tuple[int, ...] | None:
        """Pixels along `count` axes, as the file says, else as its maps have them. Raises InputError."""
        if self.has("matrix"):
            sizes = np.atleast_1d(self.load("matrix").squeeze())
            if sizes.shape != (count,) or (sizes != np.round(sizes)).any() or sizes.min() < 1:
                raise InputError(
                    self.path, f"'matrix' is {sizes}", f"expected {count} numbers of pixels"
                )
            return tuple(map(int, in_order(sizes, self.held.matlab)))
        maps = self.maps_shape() if count == 2 else None
        return None if maps is None else maps

    def maps_shape(self) -> tuple[int, int] | None:
        """(rows, columns) of the maps, or None."""
        if not self.has("maps"):
            return None
        shape = self.load("maps").shape
        if self.held.matlab:
            return int(shape[0]), int(shape[1])
        return int(shape[-2]), int(shape[-1])

    def voxel_mm(self) -> tuple[float, float, float] | None:
        """(slice, row, column) distances, or None. Raises InputError."""
        if not self.has("voxel"):
            return None
        sizes = np.atleast_1d(self.load("voxel").squeeze()).astype(float)
        if sizes.shape != (3,) or not (np.isfinite(sizes).all() and sizes.min() > 0):
            order = "rows, columns, slices" if self.held.matlab else "slices, rows, columns"
            raise InputError(
                self.path,
                f"'{self.roles['voxel']}' is {sizes}",
                f"expected three sizes in mm ({order})",
            )
        slices, rows, columns = map(float, in_order(sizes, self.held.matlab))
        return slices, rows, columns

    def number(self, role: str) -> float | None:
        """A number >= 0, or None. Raises InputError."""
        if not self.has(role):
            return None
        found = self.load(role).squeeze()
        if found.ndim or found.dtype.kind not in "fiu" or not (np.isfinite(found) and found >= 0):
            raise InputError(self.path, f"'{self.roles[role]}' is {found}, expected a number >= 0")
        return float(found)


def arranged(values: NDArray[Any], axes: tuple[str, ...], wanted: tuple[str, ...]) -> NDArray[Any]:
    """With its axes in the wanted order, those that it lacks having one entry."""
    there = [axes.index(name) for name in wanted if name in axes]
    missing = tuple(k for k, name in enumerate(wanted) if name not in axes)
    return np.expand_dims(values.transpose(there), missing)


def in_order(sizes: NDArray[Any], matlab: bool) -> NDArray[Any]:
    """Numbers of three axes, slices first; MATLAB has them last."""
    return sizes[[2, 0, 1]] if matlab and len(sizes) == 3 else sizes
