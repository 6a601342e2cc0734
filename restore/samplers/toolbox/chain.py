"""A chain of noise levels walked downward with a denoiser: the settings, first states and new noise of pixel samplers.

Subclassed by samplers of denoising priors. Everything in x = x0 + sigma n, in unit intensities.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from restore.config import setting
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.samplers.toolbox import levels
from restore.samplers.toolbox.hole_depth import DEEP, first_level
from restore.samplers.toolbox.imaginary import SparedImaginary
from restore.samplers.toolbox.levels import NoiseLevel, Schedule
from restore.samplers.toolbox.smooth_start import filled

Start = Literal["degraded", "filled", "noise", "observed", "gaussian", "zeros"]
NoiseRule = Literal["ddim", "ddnm"]

ETA = "share of fresh noise in a step"
NOISE_RULE = (
    "what eta is a share of: the next level (ddnm), or DDPM's beta-tilde (ddim; ancestral at eta 1)"
)


@dataclasses.dataclass(frozen=True)
class Chain(Sampler):
    """Abstract: a sampler that calls a denoiser at descending noise levels. Subclasses narrow the words they serve."""

    takes_start: ClassVar[bool] = True

    n_steps: int = setting(
        30, "noise levels, one network evaluation each (grid vp may add some)", at_least=1
    )
    schedule: Schedule = setting(
        "karras", "levels: karras or ve (geometric) from sigma_start to sigma_end; others are published grids"
    )  # fmt: skip
    sigma_start: float | Literal["auto"] = setting(
        0.3, "first noise level, in unit intensities; auto: by the depth of the holes that are filled", above=0
    )  # fmt: skip
    sigma_end: float = setting(0.005, "last noise level", above=0)
    start: Start = setting(
        "degraded",
        "noise of the first level is added to the degraded image, to it with lost pixels filled from their "
        "neighbourhood (filled), or to nothing (noise)",
    )
    turns: bool = setting(
        True, "the network sees the image in another of its eight orientations at every step"
    )

    def _check_together(self) -> None:
        self.levels()

    def levels(self) -> list[NoiseLevel]:
        """The steps of a run. Raises ConfigError for a grid that cannot be."""
        ends = self.n_steps, self.highest, self.sigma_end
        return levels.descent(levels.grid(self.schedule, *ends))

    @property
    def highest(self) -> float:
        """sigma_start; of `auto` the highest that it can be, as long as no problem is known."""
        return DEEP if self.sigma_start == "auto" else self.sigma_start

    def for_problem(self, problem: Problem) -> Self:
        """With the first level that its holes need where sigma_start is `auto`. Raises ConfigError."""
        if self.sigma_start != "auto":
            return self
        return dataclasses.replace(self, sigma_start=first_level(problem, self.start))

    def levels_for(self, problem: Problem) -> list[NoiseLevel]:
        """The steps of a run on this problem. Raises ConfigError."""
        return self.for_problem(problem).levels()

    def cost(self, problem: Problem | None = None) -> int:
        """n_steps"""
        return len(self.levels())

    def noise_range(self, problem: Problem) -> tuple[float, float] | None:
        """The lowest and the highest level of this problem."""
        heard = [level.told for level in self.levels_for(problem)]
        return min(heard), max(heard)

    def denoised(self, prior: ImagePrior | SparedImaginary, x: Tensor, level: NoiseLevel) -> Tensor:
        """D(x, sigma), the Tweedie estimate at a level."""
        return prior(x, level.told, turn=self.turn(level))

    def turn(self, level: NoiseLevel) -> int:
        """The number of the orientation that the network sees at a level."""
        return level.i if self.turns else 0

    def first(self, problem: Problem, draws: Draws, level: NoiseLevel) -> Tensor:
        """The state at the first level: `start` plus noise; N(0, I) in VP coordinates is n sqrt(1 + sigma^2) here."""
        n = draws.normal_like(blank(problem), problem.item_ndim)
        if self.start == "noise":
            return n * ((1 + level.sigma**2) ** 0.5 if self.schedule == "vp" else level.sigma)
        return centre_of(problem, self.start) + level.sigma * n


def centre_of(problem: Problem, start: str) -> Tensor:
    """The image of the measurement that a chain starts at, of the words for one, in unit intensities."""
    if start == "filled":
        return filled(problem)
    return problem.observed if start == "observed" else problem.degraded


def fresh_share(eta: float, rule: NoiseRule, level: NoiseLevel) -> float:
    """The share k of fresh noise in a step, for `renoised`.

    k = eta sqrt(1 - s'^2/s^2) by "ddim": eta 1 is the ancestral step of DDPM with its variance beta-tilde, the same
    step in variance-preserving coordinates as in these (Song, Meng, Ermon, "Denoising diffusion implicit models",
    ICLR 2021, equation 16). k = eta by "ddnm".
    """
    return eta * max(0.0, 1 - (level.next / level.sigma) ** 2) ** 0.5 if rule == "ddim" else eta


def renoised(x0: Tensor, e: Tensor | None, n: Tensor | None, s: float, k: float) -> Tensor:
    """x' = x0 + s' (sqrt(1 - k^2) e + k n): the state at the level s' from the estimates x0 and e of image and noise.

    n ~ N(0, I). e, n: like x0; None where its share is zero. x0 itself where nothing is added.
    """
    x = x0 if e is None or k == 1 else torch.add(x0, e, alpha=s * (1 - k**2) ** 0.5)
    if n is None or k == 0:
        return x
    return torch.add(x0, n, alpha=s * k) if x is x0 else x.add_(n, alpha=s * k)


def blank(problem: Problem) -> Tensor:
    """An empty image of the problem's shape, type and device, for draws; non-linear operators too."""
    real = problem.y.real.dtype if problem.y.is_complex() else problem.y.dtype
    kind = real.to_complex() if problem.operator.is_complex else real
    return torch.empty(problem.image_shape, dtype=kind, device=problem.y.device)
