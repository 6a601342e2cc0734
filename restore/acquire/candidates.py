"""What could be measured: the lines of a complete measurement, of which some are taken already.

Used by `choosing`. Knows two kinds of lines: columns of Cartesian k-space and views of parallel rays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.base import LinearOperator
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.problem import Problem


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """The operator of a complete measurement and the lines of it that were taken.

    axis: that of `whole.out_shape` which counts the lines, negative. taken: numbers of lines, from 0. Raises
    ConfigError for an axis or a line that is not there.
    """

    whole: LinearOperator
    axis: int
    taken: frozenset[int]

    def __post_init__(self) -> None:
        if not -len(self.whole.out_shape) <= self.axis < 0:
            raise ConfigError(
                f"{self.whole}: lines along the axis {self.axis} of measurements of shape {self.whole.out_shape}; "
                "count axes from the last, which is -1"
            )
        odd = [n for n in self.taken if not 0 <= n < self.lines]
        if odd:
            raise ConfigError(
                f"line {odd[0]} was measured, but there are the lines 0 to {self.lines - 1}"
            )

    @classmethod
    def of_columns(cls, operator: MultiCoilMRI) -> Candidates:
        """The columns of k-space, those of the mask taken. Raises ConfigError for a mask that is not of columns."""
        width = operator.in_shape[-1]
        mask = operator.mask.to(torch.bool).expand(operator.in_shape).reshape(-1, width)
        if bool((mask != mask[:1]).any()):
            raise ConfigError(
                f"{operator}: the mask is not one of columns for all slices; lines are chosen of one that is"
            )
        whole = dataclasses.replace(operator, mask=torch.ones_like(operator.mask[..., :1]))
        return cls(whole, -1, frozenset(torch.nonzero(mask[0]).flatten().tolist()))

    @classmethod
    def of_views(
        cls, operator: ParallelBeamCT, angles: Iterable[float], taken: Iterable[int]
    ) -> Candidates:
        """The views at `angles` (radians), those numbered in `taken` measured; the rest is that of the operator."""
        geometry = dataclasses.replace(operator.geometry, angles=tuple(angles))
        return cls(dataclasses.replace(operator, geometry=geometry), -2, frozenset(taken))

    @classmethod
    def of_problem(cls, problem: Problem) -> Candidates:
        """Those that the operator tells: columns of k-space. Raises ConfigError for other operators."""
        if isinstance(problem.operator, MultiCoilMRI):
            return cls.of_columns(problem.operator)
        raise ConfigError(
            f"{problem.operator}: does not say what else could be measured; give candidates=Candidates(...), for "
            "parallel rays Candidates.of_views(operator, angles, taken)"
        )

    @property
    def lines(self) -> int:
        """How many lines a complete measurement has."""
        return int(self.whole.out_shape[self.axis])

    @property
    def open(self) -> tuple[int, ...]:
        """Lines that were not taken, in their order."""
        return tuple(n for n in range(self.lines) if n not in self.taken)

    def predicted(self, particles: Tensor, items: int) -> Tensor:
        """What images would measure: (K, *batch, *in_shape) -> real (K, items, numbers of a line, lines), double."""
        y = self.whole(particles).movedim(self.axis, -1)
        y = torch.view_as_real(y).movedim(-1, -2) if y.is_complex() else y
        return y.reshape(len(particles), items, -1, self.lines).double()
