"""Several particles of every item as one larger problem, and another sampler's estimate of them at one noise level.

Called by samplers that walk particles: (K, *batch, *in_shape), the particles in front. What an item draws comes from
its own generator, whatever company it has.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.toolbox.chain import Chain
from restore.samplers.toolbox.levels import NoiseLevel


def repeated(problem: Problem, particles: int) -> Problem:
    """The problem of so many particles of each item: y is seen several times, not copied."""
    ids = tuple(f"{name}/particle {k}" for k in range(particles) for name in problem.ids)
    y = problem.y.expand(particles, *problem.y.shape)
    return dataclasses.replace(problem, y=y, ids=ids)


class ParticleDraws(Draws):
    """Noise of particles (K, *batch, ...), those of an item from the item's generator.

    first: what the first call gives instead: the state with which another sampler shall begin.
    """

    def __init__(self, draws: Draws, first: Tensor | None = None) -> None:
        super().__init__(draws.seed, ())
        self._draws, self._first = draws, first

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        """As of `Draws`; x: (K, *batch, *item)."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        lead = x.ndim - item_ndim - 1
        return self._draws.normal_like(x.movedim(0, lead), item_ndim + 1).movedim(lead, 0)


class Recorded(ImagePrior):
    """A prior that shows the image in one orientation and keeps its last answer in `answer`."""

    def __init__(self, prior: ImagePrior, turn: int) -> None:
        super().__init__(
            prior.prior, prior.item_shape, prior.complex_, prior.precision, planes=prior.planes
        )
        self.asked, self.turn = prior, turn
        self.answer = torch.empty(0)

    def __call__(self, x: Tensor, sigma: float | Tensor, *, turn: int = 0) -> Tensor:
        """As of `ImagePrior`; turn: not heeded."""
        found = self.asked(x, sigma, turn=self.turn)
        self.answer = found.detach()
        return found


def estimates(
    inner: Chain | None, problem: Problem, prior: ImagePrior, x: Tensor, level: NoiseLevel, turn: int, draws: Draws
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """D(x, s), and what another sampler makes of it with the data, for one evaluation. x: (K, *batch, *in_shape).

    inner: a sampler that begins with noise alone and yields its estimate, run for the one level s from the state x;
    None: D(x, s) twice. Errors are those of inner.
    """
    if inner is None:
        found = prior(x, level.told, turn=turn)
        return found, found
    s = level.sigma
    once = dataclasses.replace(
        inner, n_steps=1, schedule="karras", sigma_start=s, sigma_end=s, start="noise", turns=False
    )
    seen = Recorded(prior, turn)
    *_, step = once.steps(problem, seen, ParticleDraws(draws, x / s))
    return seen.answer, step.x0
