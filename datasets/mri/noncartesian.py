"""K-space along a trajectory as a scan: radial, spiral, Cartesian lines over time, or any other, of slices or of a
volume.

Made by the readers and the simulator; what is done with it stands in `encoded`.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.encoded import EncodedScan
from restore.datasets.mri.pattern.grid_lines import columns_of_points
from restore.errors import ConfigError
from restore.operators.mri.trajectories import Trajectory

if TYPE_CHECKING:
    from torch import Tensor

    from restore.datasets.mri.middle import Middle
    from restore.operators.base import LinearOperator
    from restore.operators.mri.joint_maps import JointEstimate
    from restore.problem import Problem


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class NonCartesianScan(EncodedScan):
    """kspace: complex64 (items, coils, readouts, samples). points: float64 (readouts, samples, 2 or 3), in cycles
    per field of view of `matrix`, row axis first; the same for all slices."""

    points: NDArray[np.float64]

    @cached_property
    def trajectory(self) -> Trajectory:
        """The points as the operators take them, one object for all slices: what is made of it is kept."""
        return Trajectory(self.points)

    @property
    def sampling(self) -> str:
        """The kind of trajectory and how many readouts it has."""
        readouts, samples = self.points.shape[:2]
        pattern = str(self.settings.get("trajectory", "trajectory as measured"))
        return f"{pattern}, {readouts} readouts of {samples} samples"

    def operator(self, maps: Tensor) -> LinearOperator:
        """`NonCartesianMRI`."""
        from restore.operators.mri.noncartesian import NonCartesianMRI

        return NonCartesianMRI(maps, self.trajectory)

    @property
    def time_axis(self) -> int | None:
        """The readouts of slices, in the order of the file; those of a volume are not cut."""
        return None if self.whole else 2

    def between(self, problem: Problem, run: slice) -> Problem:
        """Some readouts of a slice. Raises ConfigError for a field map, whose times are those of whole readouts."""
        from restore.operators.mri.noncartesian import NonCartesianMRI

        operator = problem.operator
        if not isinstance(operator, NonCartesianMRI):
            raise ConfigError(
                f"{self.path}: a field map is for images without frames; leave it out"
            )
        columns = self._columns(run, problem)
        if columns is not None:
            return _in_place(problem, operator.maps[0], run, columns)
        some = NonCartesianMRI(operator.maps[0], self._part(run.start, run.stop))
        return dataclasses.replace(problem, y=problem.y[:, :, run], operator=some)

    def _columns(self, run: slice, problem: Problem) -> NDArray[np.intp] | None:
        """Those of the grid that a run of readouts measures, where every run of its length is of columns, none twice:
        an FFT serves them. Else None."""
        from restore.noise import Gaussian

        every = self._grid_columns
        if every is None or (isinstance(problem.noise, Gaussian) and np.ndim(problem.noise.std)):
            return None  # a level of each readout has no place on the grid
        runs = np.sort(every.reshape(-1, run.stop - run.start), axis=1)
        return every[run] if bool((np.diff(runs, axis=1) > 0).all()) else None

    @cached_property
    def _grid_columns(self) -> NDArray[np.intp] | None:
        """Of Cartesian lines: the column of each readout."""
        return columns_of_points(self.points, self.matrix)

    def _part(self, start: int, stop: int) -> Trajectory:
        """Of some readouts, one object for all slices."""
        if (start, stop) not in self._parts:
            self._parts[start, stop] = Trajectory(self.points[start:stop])
        return self._parts[start, stop]

    @cached_property
    def _parts(self) -> dict[tuple[int, int], Trajectory]:
        return {}

    def middle(self, item: int) -> Middle:
        """Of the Cartesian grid (`gridded_centre`); a volume is split along z. Raises ConfigError."""
        import torch

        from restore.datasets.mri.middle import middle_of_slice, middle_of_volume
        from restore.operators.mri.regridding import gridded_centre

        kspace = torch.from_numpy(self.kspace[item])
        lines, box = gridded_centre(kspace, self.trajectory, self.matrix)
        there: tuple[Any, ...] = (..., *box)
        block = lines[there]
        if self.whole:
            return middle_of_volume(block, (box[0], box[1], box[2]), self.matrix)
        return middle_of_slice(block, (box[0], box[1]), (self.matrix[0], self.matrix[1]))

    def check_joint(self) -> None:
        """Raise ConfigError for volumes, one coil, and samples so even that aliases explain them."""
        from restore.operators.mri.joint_maps import check_trajectory

        if self.whole:
            raise ConfigError(
                f"{self.path}: --maps joint is for Cartesian k-space and for slices along a trajectory; use "
                "--maps espirit"
            )
        if self.shape[1] < 2:
            raise ConfigError("joint estimate: one coil tells nothing of its map; leave --maps out")
        check_trajectory(self.trajectory, self.matrix)

    def joint_estimate(self, kspace: Tensor) -> JointEstimate:
        """Of the samples about the centre."""
        from restore.operators.mri.joint_maps import joint_estimate_along

        return joint_estimate_along(kspace, self.trajectory, self.matrix)

    def radius(self) -> NDArray[np.float64]:
        """Root sum of squares of the coordinates over half the matrix."""
        return np.asarray(np.sqrt(np.square(self.points / (np.array(self.matrix) / 2)).sum(-1)))


def _in_place(problem: Problem, maps: Tensor, run: slice, columns: NDArray[np.intp]) -> Problem:
    """A run of readouts of a slice in its columns of the grid. maps: (coils, H, W)."""
    import torch

    from restore.operators.mri.multicoil import MultiCoilMRI

    there = torch.from_numpy(columns).to(maps.device)
    mask = torch.zeros(maps.shape[-1], dtype=torch.bool, device=maps.device)
    mask[there] = True
    y = problem.y.new_zeros((1, *maps.shape))
    y[..., there] = problem.y[:, :, run].mT
    return dataclasses.replace(problem, y=y, operator=MultiCoilMRI(maps, mask))
