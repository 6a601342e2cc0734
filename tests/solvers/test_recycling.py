"""Starts of data steps from earlier corrections against dense linear algebra."""

from __future__ import annotations

import torch
from torch import Tensor

from restore.solvers.proximal import DataTerm, data_step
from restore.solvers.recycling import Corrections

SOLVED = 1e-9  # float64, CG to 1e-12 of systems of condition 1e3; 2e-12 seen
NEAREST = (
    1e-4  # of the projection's size before: the ridge of 1e-6 on each of two directions; 2e-6 seen
)

M, N = 9, 12  # fewer data than unknowns


def randn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.complex128)


def taught(term: DataTerm, images: Tensor, weight: float = 30.0) -> Corrections:
    """Corrections after a data step from each image, (steps, *batch, N)."""
    known = Corrections(term, 2)
    for x0 in images:
        known.keep(x0, data_step(term, x0, weight, iters=60, tol=1e-12).x)
    return known


def test_start_is_the_nearest_sum_of_corrections_and_leaves_what_data_do_not_see(generator, dense):
    a, y = randn(generator, M, N), randn(generator, 3, M)
    term, x0 = DataTerm(dense(a), y, 2.0), randn(generator, 3, N)
    known = taught(term, randn(generator, 3, 3, N))
    weight = 7.0
    start = known.start(x0, weight)
    for x, pull in ((x0, None), (start, NEAREST)):  # left over along each correction: none
        rest = x0 + weight * term.rhs - x - weight * term.normal(x)
        along = [(d.conj() * rest).real.sum(-1).abs().max() for d, _ in known._kept]
        if pull is None:
            before = max(along)
        else:
            assert max(along) < pull * before
    unseen = torch.linalg.svd(a).Vh[M:]
    assert float((unseen @ (start - x0).mT).abs().max()) < SOLVED


def test_answer_stays_and_comes_sooner_where_images_change_little(generator, dense):
    a, y, x0 = randn(generator, M, N), randn(generator, M), randn(generator, N)
    term = DataTerm(dense(a), y)
    near = x0 + 1e-3 * randn(generator, 3, N)
    known, weight = taught(term, near[:2]), 25.0
    plain = data_step(term, near[2], weight, iters=60, tol=1e-12)
    found = data_step(
        term, near[2], weight, iters=60, tol=1e-12, start=known.start(near[2], weight)
    )
    torch.testing.assert_close(found.x, plain.x, rtol=SOLVED, atol=SOLVED)
    few = [
        data_step(term, near[2], weight, iters=60, tol=1e-2, start=start).iterations
        for start in (None, known.start(near[2], weight))
    ]
    assert int(few[1]) < int(few[0])


def test_items_do_not_mix_and_nothing_comes_of_no_correction(generator, dense):
    a, y = randn(generator, M, N), randn(generator, 2, M)
    y[1] = 0  # from an image of zeros nothing is corrected
    term, images = DataTerm(dense(a), y), randn(generator, 3, 2, N)
    images[:2, 1] = 0
    start = taught(term, images[:2]).start(images[2], 5.0)
    alone = taught(DataTerm(dense(a), y[0]), images[:2, 0]).start(images[2, 0], 5.0)
    torch.testing.assert_close(start[0], alone, rtol=SOLVED, atol=SOLVED)
    assert torch.equal(start[1], images[2, 1])
    assert torch.equal(Corrections(term, 2).start(images[2], 5.0), images[2])
