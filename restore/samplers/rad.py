"""RAD: inpainting with a noise level for every pixel: known pixels wait at their own noise while the others come down.

Kim, Suh, Lee, "RAD: region-aware diffusion models for image inpainting", CVPR 2025.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restore.config import setting, shared
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox import levels
from restore.samplers.toolbox.chain import ETA, NOISE_RULE, Chain, NoiseRule, blank
from restore.samplers.toolbox.levels import NoiseLevel


@dataclasses.dataclass(frozen=True)
class RAD(Chain):
    """Region-aware diffusion.

    A known pixel with noise of c is the state of its chain at the level c as it is. At a level s of the missing pixels
    the state is therefore x = x0 + min(s, c) n, c infinite where nothing is known, and the prior, told min(s, c) pixel
    by pixel, answers with E[x0 | x]: no data step is left to make. From s to the next level s' a pixel whose level
    falls goes to x' = xh + s' (sqrt(1 - k^2) (x - xh)/s + k n), the others stay. With k = eta
    sqrt(1 - s'^2/s^2), eta 1 (ancestral, preset "posterior"), an exact prior and many steps, results are draws from the
    posterior.

    Differs from the paper:
    - known pixels keep the noise that they were measured with, one level a pixel where it differs, and come down with
      the others once s is below it; in the paper they have none.
    - levels are those of our other chains, without the variance that the published network has learnt. The preset
      "published" has its 100 times of the DDPM schedule, beginning at the last of them, not nine later.
    - the first step is at a level where of the missing pixels nothing is seen, and the chain goes on at a low one
      (sigma_first, sigma_start): two photographs, ten steps, strokes missing, 22.3 dB in place of 15.9 dB where the
      chain begins at a level of 1 about black. At a first level of 10 large holes stay dark: the mean of their pixels,
      which begin about black, counts.
    - k = eta by default (noise_rule "ddnm"): results lie near the posterior's mean, which has the smaller error, and
      their spread over samples is too small. The chain then ends at the noise of the known pixels, below which fresh
      noise would replace what was measured.
    - the network sees the image in another of its eight orientations at every step (turns).
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ("region",)
    tasks: ClassVar[tuple[str, ...]] = ("inpaint",)
    needs: ClassVar[frozenset[str]] = frozenset({"linear", "selects"})
    reference: ClassVar[str] = "Kim, Suh, Lee: RAD: region-aware diffusion models, CVPR 2025"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        # Draws with the right spread: ancestral, from noise of which nothing of the image is seen
        "posterior": {
            "n_steps": 100,
            "sigma_start": 10.0,
            "noise_rule": "ddim",
            "end_at_noise": False,
        },
        "published": {
            "n_steps": 100,
            "schedule": "vp",
            "noise_rule": "ddim",
            "end_at_noise": False,
            "turns": False,
        },
    }

    n_steps: int = shared(Chain, "n_steps", 10)
    schedule: Literal["karras", "ve", "vp"] = shared(Chain, "schedule")
    sigma_start: float = shared(Chain, "sigma_start")
    sigma_first: float = setting(
        1000.0, "above sigma_start (not for vp): level of a first step, whose answer the others begin at", at_least=0
    )  # fmt: skip
    start: Literal["noise"] = setting("noise", "missing pixels begin as noise of the first level")
    eta: float = setting(1.0, ETA, between=(0, 1))
    noise_rule: NoiseRule = setting("ddnm", NOISE_RULE)
    end_at_noise: bool = setting(
        True, "the last level is no lower than the noise of the known pixels (not for vp)"
    )

    def levels(self, noise: float = 0.0) -> list[NoiseLevel]:
        """The steps of a run. noise: the most that a known pixel has; no chain begins below it."""
        last = max(self.sigma_end, noise) if self.end_at_noise else self.sigma_end
        start, first = max(self.sigma_start, noise, last), max(self.sigma_first, noise)
        if first <= start or self.schedule == "vp":
            return levels.descent(levels.grid(self.schedule, self.n_steps, start, last))
        below = (
            levels.grid(self.schedule, self.n_steps - 1, start, last) if self.n_steps > 1 else []
        )
        return levels.descent([first, *below])

    def noise_range(self, problem: Problem) -> tuple[float, float] | None:
        """The lowest level of a known pixel, or the last one, and the first."""
        own = _own_noise(problem)
        chain = self.levels(_most(own))
        return min(float(own.min()), chain[-1].sigma), chain[0].sigma

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds xh, a pixel known exactly as it is. Raises ConfigError where levels differ
        between the channels of a colour prior, DivergenceError."""
        k, own = problem.item_ndim, _own_noise(problem)
        chain = self.levels(_most(own))
        s = own.clamp(max=chain[0].sigma)
        x = torch.where(own.isinf(), s * draws.normal_like(blank(problem), k), problem.unit_y)
        for level in chain:
            xh = torch.where(s == 0, x, prior(x, s, turn=self.turn(level)))
            if level.next:
                after = own.clamp(max=level.next)
                n = draws.normal_like(xh, k)
                x = torch.where(after < s, self._lowered(x, xh, n, s, after), x)
                s = after
            yield self.step(level, xh, prior.evaluations)

    def _lowered(self, x: Tensor, xh: Tensor, n: Tensor, s: Tensor, after: Tensor) -> Tensor:
        """The state at the levels `after` from that at s, wherever s is not zero."""
        ratio = after / torch.where(s > 0, s, 1)
        k = (
            self.eta * (1 - ratio**2).sqrt()
            if self.noise_rule == "ddim"
            else torch.full_like(s, self.eta)
        )
        return xh + (1 - k**2).sqrt() * ratio * (x - xh) + k * after * n


def _own_noise(problem: Problem) -> Tensor:
    """Deviation of the noise of every pixel, in unit intensities, of the image's shape: zero where it is exact or not
    said, infinite where nothing is known."""
    like, precision = problem.unit_y.real, problem.precision
    # What an operator that selects pixels makes of ones is its mask.
    mask = problem.linear(torch.ones(problem.linear.in_shape, dtype=like.dtype, device=like.device))
    std = 0.0 if precision is None else torch.as_tensor(precision).to(like).rsqrt()
    return torch.where(mask.real != 0, std, torch.inf).expand(like.shape)


def _most(own: Tensor) -> float:
    """The most noise that a known pixel has."""
    return float(torch.where(own.isinf(), 0, own).max())
