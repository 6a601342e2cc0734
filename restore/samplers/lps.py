"""L+S: low rank plus sparse in temporal frequencies, the classical reconstruction of frames measured over time.

Otazo, Candes, Sodickson, "Low-rank plus sparse matrix decomposition for accelerated dynamic MRI with separation of
background and dynamic components", Magnetic Resonance in Medicine 73:1125, 2015.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import torch

from restore.config import setting
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox.levels import place
from restore.samplers.toolbox.series import (
    OfFrames,
    as_images,
    as_series,
    shrunk_frequencies,
    shrunk_rank,
)

_STEP = 0.5  # of 1/||A||^2: (L, S) -> A(L + S) has twice the square of A's norm


@dataclasses.dataclass(frozen=True)
class LowRankPlusSparse(OfFrames):
    """min over L, S of 1/2 ||A(L + S) - y||^2 + a ||L||_* + b ||F S||_1, F the Fourier transform over time.

    Frames of one measurement (`Problem.frames`) are the rows of L and S; the image is L + S. Proximal gradient steps,
    L by its singular values, S by its temporal frequencies, with Nesterov's momentum. a is `rank_weight` times the
    largest singular value of the series of A^H y, b `sparse_weight` times the largest temporal frequency of it: neither
    has a unit.

    Differs from the paper:
    - momentum (FISTA; Beck and Teboulle, SIAM J. Imaging Sci. 2009), so that 200 steps do; steps of 1/(2 ||A||^2).
    - any linear operator, CT included; the data weighted by their noise.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    reference: ClassVar[str] = "Otazo, Candes, Sodickson: low-rank plus sparse, MRM 73:1125, 2015"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned ct": {"rank_weight": 1e-3, "sparse_weight": 3e-3},
    }
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"sparse_weight": (3e-4, 1e-3, 3e-3, 1e-2)}

    n_steps: int = setting(200, "proximal gradient steps", at_least=1)
    rank_weight: float = setting(3e-4, "a over the largest singular value of A^H y", at_least=0)
    sparse_weight: float = setting(
        0.01, "b over the largest temporal frequency of A^H y", at_least=0
    )

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step per proximal gradient step. Raises DivergenceError."""
        term = problem.data
        rhs = as_series(term.rhs, problem)
        step = _STEP / float(term.lipschitz.max())
        a = self.rank_weight * step * torch.linalg.matrix_norm(rhs, 2)
        spectrum = torch.fft.fft(rhs, dim=1, norm="ortho")
        b = self.sparse_weight * step * spectrum.abs().flatten(1).amax(1)
        low, sparse, t = torch.zeros_like(rhs), torch.zeros_like(rhs), 1.0
        ahead_low, ahead_sparse = low, sparse
        for i in range(self.n_steps):
            x = as_images(ahead_low + ahead_sparse, problem)
            down = step * as_series(term.gradient(x), problem)
            new_low = shrunk_rank(ahead_low - down, a)
            new_sparse = shrunk_frequencies(ahead_sparse - down, b)
            after = (1 + (1 + 4 * t * t) ** 0.5) / 2
            share = (t - 1) / after
            ahead_low = new_low + share * (new_low - low)
            ahead_sparse = new_sparse + share * (new_sparse - sparse)
            low, sparse, t = new_low, new_sparse, after
            found = self.finite(as_images(low + sparse, problem), place(i, self.n_steps, 0.0))
            yield Step(i, self.n_steps, 0.0, found, 0)
