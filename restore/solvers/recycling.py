"""Starts of data steps from what earlier ones of the same measurement corrected: fewer steps of conjugate gradients.

May be called by samplers, which solve (I + w A^H L A) v = x0 + w A^H L y at every level with another w and x0. Keeps
the last corrections; touches nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.linalg.rows import as_rows
from restore.solvers.proximal import DataTerm

_RIDGE = (
    1e-6  # of a correction's own norm: two that are alike but for rounding (1e-7) share their part
)


class Corrections:
    """The last `most` corrections v - x0 of data steps on one term, each with A^H Lambda A of it.

    The start is x0 plus the sum of them that is nearest to the answer in the norm of I + w A^H Lambda A, so never
    farther than x0: Fischer, "Projection techniques for iterative solution of Ax = b with successive right-hand sides",
    CMAME 163:193, 1998, on the change instead of the answer: a correction has no part in what the data do not see,
    where the answer has to be x0. Items do not mix.
    """

    def __init__(self, term: DataTerm, most: int) -> None:
        self.term, self.most = term, most
        self._kept: list[tuple[Tensor, Tensor]] = []

    def start(self, x0: Tensor, weight: float) -> Tensor:
        """x0: (*batch, *in_shape). One product with A^H Lambda A is made a data step, in `keep`; none here."""
        if not self._kept:
            return x0
        directions = [d for d, _ in self._kept]
        gram = self._products(
            [[d + weight * nd for d, nd in self._kept] for _ in directions], directions
        )
        # <d, b - (I + w N) x0> with b = x0 + w r, as w (<d, r> - <N d, x0>): N is Hermitian.
        pulls = [self._dot(d, self.term.rhs) - self._dot(nd, x0) for d, nd in self._kept]
        shares = _solved(gram, weight * torch.stack(pulls, -1)).to(x0.real.dtype)
        shape = (*shares.shape[:-1], *[1] * self.term.item_ndim)
        start = x0
        for share, direction in zip(shares.unbind(-1), directions, strict=True):
            start = start + share.reshape(shape) * direction
        return start

    def keep(self, x0: Tensor, answer: Tensor) -> None:
        """What a data step from x0 found."""
        change = answer - x0
        self._kept.append((change, self.term.normal(change)))
        del self._kept[: -self.most]

    def _products(self, rows: list[list[Tensor]], directions: list[Tensor]) -> Tensor:
        """Inner products (*batch, k, k)."""
        pairs = [
            torch.stack([self._dot(d, other) for other in row], -1)
            for d, row in zip(directions, rows, strict=True)
        ]
        return torch.stack(pairs, -2)

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Re <a, b> of every item, (*batch) float64."""
        a, b = torch.broadcast_tensors(a, b)
        lead = a.shape[: a.ndim - self.term.item_ndim]
        count = lead.numel()
        product = as_rows(a.contiguous(), count) * as_rows(b.contiguous(), count)
        return product.sum(1, dtype=torch.float64).reshape(lead)


def _solved(gram: Tensor, pulls: Tensor) -> Tensor:
    """c of gram c = pulls, (*batch, k); 0 for directions that are zero."""
    own = gram.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(own > 0, own, 1).rsqrt()
    even = gram * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    even = even + torch.diag_embed(torch.where(own > 0, _RIDGE, 1.0))
    return (
        torch.linalg.solve_ex(even, pulls * scale).result * scale
    )  # numbers that are none stay so
