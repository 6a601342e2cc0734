"""Largest eigenpairs of very many small matrices that are there as numbers, from guesses.

May be called by operators and everything above. For one large map that is only known by its products see `lanczos`.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDS, _ROUND = 6, 10  # rounds, and steps in each
_SETTLED = 1e-5  # relative residual at which an eigenvector is done


def top_eigenpairs(matrices: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    """Largest eigenpairs of Hermitian matrices (n, c, c) from guesses (n, c), by the power method.

    Returns vectors (n, c) of length one, of any phase, and eigenvalues (n,). Matrices are positive semidefinite. Good
    guesses (for coil maps: low-resolution coil images) are done after one round; only the others, where eigenvalues lie
    close together, go on, and the few that six rounds do not settle are decomposed in full.
    """
    # A little of a fixed vector, so that no guess is zero or orthogonal to the answer by symmetry.
    vectors = _unit_length(_unit_length(guess) + 0.01 * guess.shape[1] ** -0.5)
    # With a trace of one the largest eigenvalue is at least 1 / c: a round needs no normalisation.
    trace = matrices.diagonal(dim1=1, dim2=2).real.sum(dim=1)
    matrices = matrices / torch.where(trace > 0, trace, 1)[:, None, None]
    values = torch.zeros_like(trace)
    open_ = torch.arange(len(vectors), device=vectors.device)
    for _ in range(_ROUNDS):
        a, v = matrices[open_], vectors[open_].unsqueeze(-1)
        for _ in range(_ROUND):
            v = a @ v
        v = _unit_length(v.squeeze(-1))
        w = (a @ v.unsqueeze(-1)).squeeze(-1)
        value = (v.conj() * w).real.sum(dim=1)
        residual = (w - value[:, None] * v).abs().square().sum(dim=1).sqrt()
        vectors[open_], values[open_] = v, value
        open_ = open_[residual > _SETTLED * value]
        if len(open_) == 0:
            return vectors, values * trace
    spectra, bases = torch.linalg.eigh(matrices[open_])
    vectors[open_], values[open_] = bases[..., -1], spectra[..., -1]
    return vectors, values * trace


def _unit_length(v: Tensor) -> Tensor:
    """Vectors (n, c) of length one; zero becomes the first unit vector."""
    first = torch.zeros_like(v)
    first[:, 0] = 1
    # Written out: torch's vector_norm is many times slower along so short an axis.
    length = v.abs().square().sum(dim=1, keepdim=True).sqrt()
    return torch.where(length > 0, v / length, first)
