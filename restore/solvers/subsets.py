"""A data term cut into parts of interleaved views, of which an iteration takes one after the other.

May be called by solvers and samplers. Pure functions. Ordered subsets: Hudson and Larkin, "Accelerated image
reconstruction using ordered subsets of projection data", IEEE TMI 1994. Every part stands for the whole, so that a pass
over n parts moves an image about as far as n passes over all of the data, and ends near the minimum instead of in it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.solvers.proximal import DataTerm


def interleaved(term: DataTerm, count: int) -> list[DataTerm]:
    """Part k of `count` has the views k, k + count, k + 2 count, ...; one part is the term itself.

    Raises ConfigError for an operator without the ability "subsets", and for more parts than views.
    """
    if count == 1:
        return [term]
    op = term.operator
    if "subsets" not in op.abilities:
        raise ConfigError(f"{op} has no views to take in turns: set subsets=1")
    ndim, views = len(op.out_shape), op.out_shape[0]
    if count > views:
        raise ConfigError(f"{count} subsets of {views} views: set subsets to {views} at most")
    return [_part(term, slice(k, None, count), ndim) for k in range(count)]


def curvature(term: DataTerm) -> Tensor:
    """The diagonal A^T Lambda A 1, which is nowhere below A^T Lambda A for weights that are not negative.

    (*batch, *image). Erdogan, Fessler, "Ordered subsets algorithms for transmission tomography", Phys. Med. Biol. 1999.
    """
    return term.normal(torch.ones_like(term.rhs))


def _part(term: DataTerm, which: slice, ndim: int) -> DataTerm:
    precision = term.precision
    if isinstance(precision, Tensor) and precision.ndim >= ndim and precision.shape[-ndim] > 1:
        precision = _views(precision, which, ndim)
    return DataTerm(term.operator.subset(which), _views(term.y, which, ndim), precision)


def _views(y: Tensor, which: slice, ndim: int) -> Tensor:
    return y.movedim(-ndim, 0)[which].movedim(0, -ndim)
