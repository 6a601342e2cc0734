"""Chains whose steps are taken by multistep solvers: the settings, and the history that one run keeps.

Subclassed by samplers that hand an estimate from level to level. The weights stand in `toolbox.multistep`; here they
meet tensors, x = x0 + sigma n in unit intensities.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from restore.config import setting
from restore.errors import ConfigError
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.toolbox.chain import Chain, Start, blank
from restore.samplers.toolbox.gaussian_start import gaussian_mean
from restore.samplers.toolbox.levels import NoiseLevel, descent
from restore.samplers.toolbox.multistep import (
    B,
    adams_weights,
    corrector_weights,
    data_weights,
    deis_weights,
    interpolated,
)

SolverName = Literal["ddim", "dpm", "unipc", "deis", "plms"]
Corrector = Literal["auto", "none", "b1", "b2"]

_HIGHEST = {"ddim": 1, "dpm": 3, "unipc": 3, "deis": 3, "plms": 4}
_INTERPOLATED = 3  # estimates that dynamic compensation interpolates between, as published
_LARGEST_RATIO = 2.0


@dataclasses.dataclass(frozen=True)
class Solver:
    """A solver of the probability flow, dx/dsigma = (x - D)/sigma, by its name and its options.

    name: "dpm" (DPM-Solver++, data), "unipc" (the same with a corrector), "deis" or "plms" (noise), "ddim" (order 1).
    order: of the predictor; the first steps have the order that their history allows. corrector: B(h) of UniPC, "none"
    leaves the predictor alone. momentum: share of the new slope, 1 for none. ratios: of dynamic compensation, of the
    steps in turn, the last one for all that follow.
    """

    name: SolverName = "dpm"
    order: int = 2
    corrector: Corrector = "auto"
    momentum: float = 1.0
    ratios: tuple[float, ...] = (1.0,)

    @property
    def plain(self) -> bool:
        """DDIM itself."""
        return self.name == "ddim" and self.momentum == 1 and not self.compensates

    @property
    def ode_only(self) -> bool:
        """Whether it has no meaning where noise is added."""
        return self.name not in ("ddim", "dpm") or self.momentum != 1

    @property
    def b(self) -> B:
        """B(h) of the predictor's second order, and of the corrector."""
        return "b1" if self.corrector == "b1" else "b2"

    @property
    def corrects(self) -> bool:
        """Whether a state is mended once it was denoised."""
        return self.name == "unipc" and self.corrector != "none"

    @property
    def in_noise(self) -> bool:
        """Whether it extrapolates the noise, not the image."""
        return self.name in ("deis", "plms")

    @property
    def compensates(self) -> bool:
        """Whether the last estimate is interpolated."""
        return set(self.ratios) != {1.0}

    @property
    def highest(self) -> int:
        """The order that it has once its history is full."""
        return min(self.order, _HIGHEST[self.name])


class History:
    """What one run of a solver remembers: the last estimates with their levels, the last state, the velocity."""

    def __init__(self, solver: Solver) -> None:
        self.solver = solver
        kept = max(solver.highest, _INTERPOLATED if solver.compensates else 1)
        self.estimates: deque[Tensor] = deque(maxlen=kept)
        self.sigmas: deque[float] = deque(maxlen=kept)
        self.before: tuple[Tensor, int] | None = None
        self.velocity: Tensor | None = None
        self.steps = 0

    def next(self, x: Tensor, x0: Tensor, n: Tensor, level: NoiseLevel, k: float) -> Tensor:
        """The state at the next level > 0, from x at this one, its estimate, and fresh noise n of the share k."""
        x = self.corrected(x, x0, level.sigma)
        x = self.step(x, x0, level.sigma, level.next, (1 - k**2) ** 0.5)
        return torch.add(x, n, alpha=level.next * k) if k else x

    def corrected(self, x: Tensor, x0: Tensor, sigma: float) -> Tensor:
        """The state at sigma mended by the estimate x0 that was found there; x itself without corrector."""
        if self.before is None:
            return x
        last, order = self.before
        sigmas = list(self.sigmas)[:order]
        weights = corrector_weights(order, sigmas, sigma, self.solver.b)
        return _combined(last * (sigma / sigmas[0]), [x0, *self.estimates], weights)

    def step(self, x: Tensor, x0: Tensor, sigma: float, after: float, kept: float = 1.0) -> Tensor:
        """The state at `after` > 0 from that at sigma and its estimate, without the fresh noise of the step.

        kept: the share of the implied noise that stays, sqrt(1 - k^2); 1 for the flow.
        """
        if after == sigma and kept == 1:  # grids that have reached their end stand still
            return x
        solver = self.solver
        self._remember((x - x0) / sigma if solver.in_noise else x0, sigma)
        order = min(solver.highest, len(self.sigmas))
        sigmas = list(self.sigmas)[:order]
        self.before = (x, order) if solver.corrects else None
        self.steps += 1
        if solver.name == "plms":
            weights = tuple((after - sigma) * w for w in adams_weights(order, solver.momentum))
            return _combined(x, self.estimates, weights)
        if solver.name == "deis":
            then = _combined(x, self.estimates, deis_weights(order, sigmas, after))
        else:
            share = kept * after / sigma
            decay = -math.log(share) if share else math.inf
            weights = data_weights(order, sigmas, after, decay, solver.b)
            then = _combined(x * share, self.estimates, weights)
        return then if solver.momentum == 1 else self._carried(x, then, after - sigma)

    def _remember(self, found: Tensor, sigma: float) -> None:
        """Keep an estimate: filtered by the momentum of GHVB, or interpolated by dynamic compensation."""
        solver = self.solver
        if solver.name == "plms":
            found = self._filtered(found)
        self.estimates.appendleft(found)
        self.sigmas.appendleft(sigma)
        ratio = solver.ratios[min(self.steps, len(solver.ratios) - 1)]
        if ratio != 1 and len(self.sigmas) > 1:
            weights = interpolated(list(self.sigmas)[:_INTERPOLATED], ratio)
            self.estimates[0] = _combined(0 * found, self.estimates, weights)

    def _carried(self, x: Tensor, then: Tensor, length: float) -> Tensor:
        """Heavy ball: the slope of a step is mixed with those before it."""
        return torch.add(x, self._filtered((then - x) / length), alpha=length)

    def _filtered(self, slope: Tensor) -> Tensor:
        """v = (1 - momentum) v + momentum slope, from the first slope on."""
        share = self.solver.momentum
        if share != 1 and self.velocity is not None:
            slope = torch.lerp(self.velocity, slope, share)
        self.velocity = None if share == 1 else slope
        return slope


def flow(
    denoise: Callable[[Tensor, float], Tensor], x: Tensor, sigmas: Sequence[float], solver: Solver
) -> Tensor:
    """The state at the last level of sigmas, descending and above 0, of dx/dsigma = (x - D(x, sigma))/sigma from x at
    the first one."""
    run = History(solver)
    for sigma, after in itertools.pairwise(sigmas):
        x0 = denoise(x, sigma)
        x = run.step(run.corrected(x, x0, sigma), x0, sigma, after)
    return x


@dataclasses.dataclass(frozen=True)
class SolvedChain(Chain):
    """Abstract: a chain x' = x0 + s' (sqrt(1 - k^2) e + k n), e = (x - x0)/s, which a solver can take instead of DDIM.

    With data steps the estimates are those after the data step: the solver follows the flow of the posterior as the
    sampler sees it. With fresh noise "dpm" alone has a meaning: its equation then forgets the state as fast as the step
    does (DPM-Solver++ SDE at eta 1 and noise_rule "ddim"; at "ddnm" the estimates are extrapolated).
    """

    fresh: ClassVar[str] = "eta"
    """The setting that says how much noise is new."""

    start: Start = setting(
        "degraded", "noise of the first level is added to the degraded image, to it with lost pixels filled from their "
        "neighbourhood (filled), to nothing (noise), or to the "
        "posterior mean under the Gaussian that the prior's images are like (gaussian)",
    )  # fmt: skip
    skip: float = setting(
        0.0, "share of the levels that start=gaussian leaves out", between=(0, 0.9)
    )
    solver: SolverName = setting(
        "ddim", "steps: ddim; multistep: dpm (DPM-Solver++), unipc (with a corrector), deis, plms"
    )
    order: int = setting(2, "its highest order (deis, dpm, unipc: 3)", between=(1, 4))
    corrector: Corrector = setting("auto", "B(h) of unipc (auto: b2), or no corrector")
    momentum: float = setting(
        1.0, "share of the new slope, heavy ball (plms: GHVB); 1: none", above=0, at_most=1
    )
    compensation: str = setting(
        "1", "ratios of dynamic compensation (DC-Solver), a step each, joined by commas; the last one stays; 1: none"
    )  # fmt: skip

    def _check_together(self) -> None:
        super()._check_together()
        chosen, name = self.chosen_solver(), type(self).__name__
        if self.skip and self.start != "gaussian":
            raise ConfigError(
                f"{name}: skip={self.skip:g} leaves out levels; set start=gaussian, or skip=0"
            )
        if self.order > _HIGHEST[chosen.name] and chosen.name != "ddim":
            raise ConfigError(
                f"{name}: solver '{chosen.name}' has orders up to {_HIGHEST[chosen.name]}, got {self.order}"
            )
        if chosen.name != "unipc" and self.corrector != "auto":
            raise ConfigError(
                f"{name}: corrector '{self.corrector}' belongs to solver=unipc, got solver={chosen.name}"
            )
        if chosen.corrects and chosen.momentum != 1:
            raise ConfigError(f"{name}: momentum and a corrector exclude each other; set corrector=none")  # fmt: skip
        if chosen.ode_only and getattr(self, self.fresh) > 0:
            raise ConfigError(
                f"{name}: solver={chosen.name} with momentum={chosen.momentum:g} solves an equation without noise; "
                f"set {self.fresh}=0, or solver=dpm or ddim without momentum"
            )

    @property
    def begins_with_images(self) -> bool:
        """With start gaussian."""
        return self.start == "gaussian"

    def levels(self) -> list[NoiseLevel]:
        """The steps of a run, without those that are skipped. Raises ConfigError for a grid that cannot be."""
        whole = super().levels()
        sigmas = [level.sigma for level in whole[int(self.skip * len(whole)) :]]
        return descent(sigmas)

    def begun(self, problem: Problem, draws: Draws, level: NoiseLevel, prior: ImagePrior) -> Tensor:
        """The state at the first level: `first`, or the Gaussian's posterior mean plus noise."""
        if self.start != "gaussian":
            return self.first(problem, draws, level)
        n = draws.normal_like(blank(problem), problem.item_ndim)
        return gaussian_mean(problem, prior, level.sigma).add_(n, alpha=level.sigma)

    def chosen_solver(self) -> Solver:
        """The solver that the settings name. Raises ConfigError for ratios that are none."""
        ratios = _ratios(f"{type(self).__name__}: compensation", self.compensation)
        return Solver(self.solver, self.order, self.corrector, self.momentum, ratios)

    def history(self) -> History | None:
        """What a run of the solver remembers; None for DDIM, whose step needs nothing."""
        chosen = self.chosen_solver()
        return None if chosen.plain else History(chosen)


def _ratios(where: str, text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{where} takes numbers such as 1 or 1,0.9,0.95, got '{text}'") from error
    if not all(0 < ratio <= _LARGEST_RATIO for ratio in found):
        raise ConfigError(f"{where}: ratios lie above 0 and up to {_LARGEST_RATIO:g}, got '{text}'")
    return found


def _combined(x: Tensor, estimates: Iterable[Tensor], weights: Sequence[float]) -> Tensor:
    """x + sum_k weights[k] estimates[k], a new tensor."""
    out = x.clone()
    for estimate, weight in zip(estimates, weights, strict=False):  # the history may be longer
        out.add_(estimate, alpha=weight)
    return out
