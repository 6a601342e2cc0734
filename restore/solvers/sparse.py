"""Wavelet-sparse reconstruction: FISTA on a data term with randomly shifted wavelets.

May be called by pipelines and benchmarks (the compressed-sensing baseline). Draws only from the
generator that it is given.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from restore.solvers.proximal import DataTerm, image_scale, per_item
from restore.solvers.proximal_gradient import fista_steps
from restore.solvers.wavelet import Wavelet

_STEP_MARGIN = 1.02  # power iteration approaches the Lipschitz constant from below


def wavelet_l1_steps(
    term: DataTerm,
    weight: float,
    *,
    iters: int = 60,
    generator: torch.Generator | None = None,
    wavelet: str = "db4",
    levels: int = 4,
    scale: float | Tensor | None = None,
) -> Iterator[Tensor]:
    """Iterates of min_x f(x) + lambda ||details of W x||_1, f the data term.

    lambda = weight * scale; `scale` is by default max |A^H Lambda y| of each item, so that weight
    has no unit and scaling y scales the answer; scale = 1 makes weight the absolute lambda, a
    tensor gives one scale per item. W acts on the last two dimensions.
    generator: on the CPU; shifts the wavelet grid at random in every iteration, the same shift for
    the whole batch (cycle spinning, Coifman and Donoho 1995; Figueiredo and Nowak 2003). Without
    it the grid is fixed and the iterates converge to the minimiser.
    levels: at most, fewer for small images.

    Sizes that are no multiple of 2^levels are extended by free samples that A does not see and
    that only the regulariser fills, so W stays orthonormal and the proximal map exact.
    Yields (*batch, *in_shape) after every iteration, one normal operator each.
    Lustig et al. 2007. Raises ConfigError.
    """
    rank = max(term.item_ndim, 2)
    height, width = term.rhs.shape[-2:]
    transform = Wavelet.fitting(wavelet, (height, width), levels)
    rows, columns = transform.padded((height, width))
    margin = (0, columns - width, 0, rows - height)
    lipschitz = torch.where(term.lipschitz > 0, term.lipschitz, 1) * _STEP_MARGIN
    size = image_scale(term.rhs, rank) if scale is None else scale
    step = (1 / lipschitz).expand_as(term.rhs.real).amax(tuple(range(-rank, 0)), keepdim=True)
    tau = step * per_item(weight * size, term.rhs, rank)

    def slope(u: Tensor) -> Tensor:
        return F.pad(term.gradient(u[..., :height, :width]), margin)

    def prox(v: Tensor) -> Tensor:
        if generator is None:
            return transform.shrink(v, tau)
        down, right = torch.randint(1 << transform.levels, (2,), generator=generator).tolist()
        shifted = torch.roll(v, (down, right), (-2, -1))
        return torch.roll(transform.shrink(shifted, tau), (-down, -right), (-2, -1))

    start = F.pad(step * term.rhs, margin)
    for u in fista_steps(slope, prox, start, step, iters, item_ndim=rank):
        yield u[..., :height, :width]
