"""TV: total-variation regularised least squares by ADMM, a classical baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from restore.config import setting
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.samplers.toolbox.consistency import slices_of
from restore.solvers.admm import admm_tv_steps


@dataclasses.dataclass(frozen=True)
class TV(Sampler):
    """min 1/2 ||A x - y||_Lambda^2 + weight * max|A^H Lambda y| TV(x), isotropic TV of an item.

    Of a slice or a photograph along its rows and columns; of an item that is a volume (cone beams, 3-D k-space) along
    its slices too, voxels counted as cubes. tv_axes "slice" leaves the slices of a volume apart, "all" joins those of a
    stack, which then must be given whole.

    Rudin, Osher, Fatemi, "Nonlinear total variation based noise removal algorithms", Physica D 1992. The weight has no
    unit. Raises ConfigError for "all" without slices, and for more subsets than there are views.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    reference: ClassVar[str] = "Rudin, Osher, Fatemi: nonlinear total variation, Physica D 1992"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned mri": {"weight": 1e-3},
        "tuned denoise": {"weight": 0.05},  # for noise of a tenth of the range; goes with it
        "tuned ct": {"weight": 2e-4, "nonnegative": True},
    }
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"weight": (1e-4, 3e-4, 1e-3, 3e-3)}

    n_steps: int = setting(60, "ADMM iterations", at_least=1)
    weight: float = setting(5e-4, "of TV, without unit", above=0)
    cg_iters: int = setting(5, "CG steps an iteration", at_least=1)
    subsets: int = setting(
        1,
        "above 1: a pass over so many parts of the views in turns, in the place of CG (CT)",
        at_least=1,
    )
    nonnegative: bool = setting(False, "images without negative values (CT attenuation)")
    tv_axes: Literal["item", "slice", "all"] = setting(
        "item",
        "differences along all axes of an item, within slices alone, or across slices always",
    )

    @property
    def couples_slices(self) -> bool:
        """Those of a stack, on demand."""
        return self.tv_axes == "all"

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step per ADMM iteration."""
        iterates = admm_tv_steps(
            problem.data,
            self.weight,
            axes=self._axes(problem),
            iters=self.n_steps,
            cg_iters=self.cg_iters,
            subsets=self.subsets,
            nonnegative=self.nonnegative,
        )
        for i, x in enumerate(iterates):
            yield Step(i, self.n_steps, 0.0, x, 0)

    def _axes(self, problem: Problem) -> tuple[int, ...]:
        """Along which differences are taken."""
        if self.tv_axes == "slice" or (self.tv_axes == "item" and not problem.has_volumes):
            return -2, -1
        return slices_of(problem), -2, -1
