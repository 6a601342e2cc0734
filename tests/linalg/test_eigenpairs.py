"""Largest eigenpairs of many small matrices against LAPACK's."""

from __future__ import annotations

import pytest
import torch

from restore.linalg.eigenpairs import top_eigenpairs


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_pairs_are_those_of_a_full_decomposition(dtype, generator):
    roots = torch.randn(50, 6, 6, generator=generator, dtype=dtype)
    matrices = roots @ roots.mH * 10.0 ** torch.linspace(-9, 9, 50).double()[:, None, None]
    values, bases = torch.linalg.eigh(matrices)
    guesses = bases[..., -1] + 0.3 * torch.randn(50, 6, generator=generator, dtype=dtype)
    vectors, found = top_eigenpairs(matrices, guesses)
    # It settles at residuals of 1e-5: the value is right to their square, the vector to them over the gap.
    torch.testing.assert_close(found, values[:, -1], rtol=1e-8, atol=0)
    overlap = (vectors.conj() * bases[..., -1]).sum(1).abs()
    assert float(overlap.min()) > 1 - 1e-6


def test_guesses_that_tell_nothing_and_equal_eigenvalues(generator):
    """A guess of zeros or across the answer, a multiple of the identity, a matrix of zeros."""
    matrices = torch.stack([torch.diag(torch.tensor([1.0, 4.0, 2.0])).double()] * 2
                           + [3 * torch.eye(3).double(), torch.zeros(3, 3).double()])  # fmt: skip
    guesses = torch.zeros(4, 3, dtype=torch.float64)
    guesses[1, 0] = 1
    vectors, found = top_eigenpairs(matrices, guesses)
    torch.testing.assert_close(found, torch.tensor([4.0, 4.0, 3.0, 0.0], dtype=torch.float64))
    assert float(vectors[:2, 1].abs().min()) > 1 - 1e-6
    assert bool(torch.isfinite(vectors).all())


def test_close_eigenvalues_are_told_apart(generator: torch.Generator) -> None:
    """Where power iteration alone would need thousands of steps: the eigenvector is exact."""
    basis = torch.linalg.qr(torch.randn(50, 4, 4, generator=generator, dtype=torch.complex128))[0]
    spectrum = torch.tensor([1.0, 0.998, 0.5, 0.0], dtype=torch.complex128)
    matrices = (basis * spectrum) @ basis.mH
    vectors, values = top_eigenpairs(matrices, basis.sum(-1))
    assert (vectors.conj() * basis[..., 0]).sum(-1).abs().min() > 1 - 1e-6
    torch.testing.assert_close(values, torch.ones(50, dtype=torch.float64))
