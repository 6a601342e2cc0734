"""From a noisy image to a clean one by the prior alone: the end of its ODE, or a draw of its reverse SDE.

Called by samplers that alternate between prior and data. Both walk noise levels downward with a denoiser, Karras and
others, "Elucidating the design space of diffusion-based generative models", NeurIPS 2022, section 2 and appendix B.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from torch import Tensor

from restore.samplers.toolbox.levels import karras
from restore.samplers.toolbox.solved import Solver, flow

Denoise = Callable[[Tensor, float], Tensor]
"""D(x, sigma)."""

FLOW_END = 0.005
"""The last level of an ODE of DAPS, 0.01 of images in -1..1, before it goes to zero."""
GRID = (40.0, 0.001)
"""First and last level of the grid of PnP-DM, 80 and 0.002 of images in -1..1."""


def flow_levels(sigma: float, count: int) -> list[float]:
    """The levels of an ODE from sigma downward."""
    return karras(count, sigma, min(sigma, FLOW_END))


def reverse_levels(sigma: float, count: int) -> list[float]:
    """sigma, then those levels of the grid of `count` that lie below it."""
    return [sigma, *(s for s in karras(count, *GRID) if s < sigma)]


def flow_end(denoise: Denoise, x: Tensor, sigmas: Sequence[float], solver: Solver) -> Tensor:
    """The end of dx/ds = (x - D(x, s))/s by one step of the solver a level, the last one to D(x, s)."""
    return denoise(flow(denoise, x, sigmas, solver), sigmas[-1])


def reverse_draw(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], draw: Callable[[], Tensor]
) -> Tensor:
    """A draw of the clean image by ancestral steps of the reverse SDE, the last one to D(x, s).

    draw: white noise like x. A step from s to s' is the law of x' given x and the clean image D: the mean
    r x + (1 - r) D with r = s'^2/s^2, the variance s'^2 (1 - r) (Ho, Jain, Abbeel, "Denoising diffusion probabilistic
    models", NeurIPS 2020, equation 7). Euler-Maruyama steps, as released, leave 1/(1 - 1.5 (1 - s'/s)) times the
    variance that the network is told.
    """
    for s, after in itertools.pairwise(sigmas):
        d, r = denoise(x, s), (after / s) ** 2
        x = d + r * (x - d) + after * (1 - r) ** 0.5 * draw()
    return denoise(x, sigmas[-1])
