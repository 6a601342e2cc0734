"""Seismic traces at irregular places as a volume that is inpainted: put on a grid, padded, in a prior's range.

Called by scripts and tests; imports `Inpainting`. Reads no files.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.image.inpainting import Inpainting


@dataclasses.dataclass(frozen=True, eq=False)
class TraceGrid:
    """Traces on a grid of cells (lines, crosslines, samples); cells without a trace, and the padding, are missing.

    measured: the padded volume, amplitudes a as 1/2 + a / (2 peak), so that silence is 1/2 and the loudest sample 0 or
    1; zero where nothing was measured. folds: (lines, crosslines), how many traces fell into each cell, padded too;
    several are averaged. size: (lines, crosslines, samples) without the padding. peak: in the traces' units.

    >>> grid = TraceGrid.of(positions, traces, cell=25.0)
    >>> problem = Problem(grid.measured, grid.operator, Gaussian(grid.in_unit(0.1)), planes=(2,))
    >>> volume = grid.amplitudes(solve_problem(problem, sampler="dds").image)
    """

    measured: Tensor
    folds: Tensor
    size: tuple[int, int, int]
    peak: float

    @classmethod
    def of(
        cls,
        positions: Tensor,
        traces: Tensor,
        *,
        cell: float | tuple[float, float] = 1.0,
        multiple: int = 8,
    ) -> TraceGrid:
        """Each trace in the cell whose middle is nearest; the first cell's middle lies at the smallest coordinates.

        positions: (traces, 2) along lines and crosslines, any unit. traces: (traces, samples), real. cell: the sides of
        a cell in that unit. multiple: every side of the grid is padded, at its end, up to a multiple of it.
        Raises ShapeError, ConfigError (not finite, silent, no cell, more than a hundred cells a trace).
        """
        if traces.ndim != 2 or tuple(positions.shape) != (len(traces), 2) or not traces.numel():
            raise ShapeError(
                f"TraceGrid: positions {tuple(positions.shape)} and traces {tuple(traces.shape)}, expected (n, 2) and "
                "(n, samples)"
            )
        if traces.is_complex() or not bool(
            torch.isfinite(positions).all() and torch.isfinite(traces).all()
        ):
            raise ConfigError(
                "TraceGrid: positions and traces must be real and finite; leave out the traces that are not"
            )
        sides = torch.tensor(
            [cell, cell] if isinstance(cell, int | float) else cell, dtype=torch.float64
        )
        if not (bool((sides > 0).all() and torch.isfinite(sides).all()) and multiple >= 1):
            raise ConfigError(
                f"TraceGrid: cell {cell} and multiple {multiple}, expected positive numbers"
            )
        peak = float(traces.abs().max())
        if peak == 0:
            raise ConfigError("TraceGrid: every trace is zero throughout")
        at = ((positions.double() - positions.double().amin(0)) / sides).round().long()
        size = (int(at[:, 0].max()) + 1, int(at[:, 1].max()) + 1, traces.shape[1])
        if size[0] * size[1] > 100 * len(traces):
            raise ConfigError(
                f"TraceGrid: {len(traces)} traces on {size[0]} x {size[1]} cells; give the cells' sides in the unit of "
                "the positions, or leave out traces that lie apart"
            )
        padded = tuple(math.ceil(n / multiple) * multiple for n in size)
        place = at[:, 0] * padded[1] + at[:, 1]
        folds = traces.new_zeros(padded[0] * padded[1]).index_add(
            0, place, traces.new_ones(len(traces))
        )
        total = traces.new_zeros(len(folds), traces.shape[1]).index_add(0, place, traces)
        values = 0.5 + total / (2 * peak * folds.clamp(min=1)[:, None])
        measured = traces.new_zeros(padded)
        measured[..., : size[2]] = (values * (folds > 0)[:, None]).reshape(*padded[:2], -1)
        return cls(measured, folds.reshape(padded[:2]), size, peak)

    @property
    def operator(self) -> Inpainting:
        """What is known of the padded volume: the samples of the cells with a trace."""
        mask = (self.folds > 0)[..., None].expand(self.measured.shape).clone()
        mask[..., self.size[2] :] = False
        return Inpainting(mask, tuple(self.measured.shape))

    def in_unit(self, deviation: float) -> float:
        """A deviation of the traces' noise in the units of `measured`; of a single trace, averages have less."""
        return deviation / (2 * self.peak)

    def amplitudes(self, volume: Tensor) -> Tensor:
        """A restored volume in the traces' units, without the padding: (lines, crosslines, samples)."""
        lines, crosslines, samples = self.size
        return (volume[..., :lines, :crosslines, :samples] - 0.5) * (2 * self.peak)
