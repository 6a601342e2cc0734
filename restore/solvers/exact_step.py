"""The proximal point of a Gaussian data term without iterations, where the operator knows its singular basis.

May be called by samplers and by whoever takes the same data step many times: what depends on the
measurement alone is computed once. Touches nothing.
"""

from __future__ import annotations

from torch import Tensor

from restore.linalg.singular import ProximalPoint
from restore.solvers.proximal import DataTerm

__all__ = ["ProximalPoint", "closed_form"]


def closed_form(term: DataTerm) -> ProximalPoint | None:
    """The exact proximal point of `term`, or None where it takes an iteration (`data_step`).

    There is one for white noise (one precision, a number) and operators that know their singular value decomposition by
    what they are; see `LinearOperator.proximal_point`.
    """
    y, precision = term.y, term.precision
    if isinstance(precision, Tensor) or precision == 0 or y.numel() == 0:
        return None
    return term.operator.proximal_point(y, 1.0 if precision is None else precision)
