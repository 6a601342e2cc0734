"""Where a chain may begin: the posterior mean under the Gaussian that a prior's images are like, with the real data.

Called by `toolbox.solved`. In place of the first levels of a chain, at which the denoiser is near that of the Gaussian
(Wang, Vastola, TMLR 2024), which costs no network call.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.linalg.conjugate_gradients import cg
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.samplers.toolbox.consistency import weighted_term
from restore.samplers.toolbox.error_covariance import Root

ITERATIONS = 60
"""Of CG, at most."""
RESIDUAL = 1e-4
"""Of CG, a share of the right-hand side: far below what the noise of the first level hides."""


def gaussian_mean(
    problem: Problem, prior: ImagePrior, sigma: float, *, iters: int = ITERATIONS, tol: float = RESIDUAL
) -> Tensor:  # fmt: skip
    """argmin_v f(v) + (v - m)^H C^-1 (v - m) / 2, f the data term, m and C of the prior's images: an image.

    With v = m + B u, B = C^1/2: (I + B f'' B) u = -B f'(m), by CG. sigma: the level of the chain, which stands for the
    noise where that is unknown. The prior knows its images (`choosing` has seen to it).
    """
    mean, covariance = prior.image_law()
    term = weighted_term(problem, sigma)
    m = torch.zeros_like(problem.degraded) + mean.to(problem.degraded)
    root = Root(covariance, m)

    def system(u: Tensor) -> Tensor:
        return u + root(term.normal(root(u)))

    u = cg(system, -root(term.gradient(m)), iters=iters, tol=tol, item_ndim=problem.item_ndim).x
    return m + root(u)
