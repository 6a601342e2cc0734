"""scipy's matrices and LinearOperators and pylops' operators as ours, and ours as theirs."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.front_door import solve
from restore.operators import check
from restore.operators.base import LinearOperator
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.image.blur import Blur
from restore.operators.image.kernels import gaussian
from restore.operators.interop import from_pylops, from_scipy, to_pylops, to_scipy

DOUBLE = 1e-12  # float64: sums of at most some hundred products, 1e-16 of each
SINGLE = 1e-5  # float32: sums of some hundred products of size 1, 6e-8 of each
SOLVED = 1e-4  # an iterative solver's own tolerance, in float32
STEPS = 1e-2  # the steps of a sampler carry the rounding of float32 along

SHAPES = (5, 4), (3, 2, 4)


def dense(op: LinearOperator) -> Tensor:
    """The matrix of an operator, in double precision."""
    op, n = op.to(torch.float64), int(np.prod(op.in_shape))
    dtype = torch.complex128 if op.is_complex else torch.float64
    return op(torch.eye(n, dtype=dtype).reshape(n, *op.in_shape)).reshape(n, -1).T


def sparse(is_complex: bool) -> scipy.sparse.coo_array:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((24, 20)) * (rng.random((24, 20)) < 0.3) + 5 * np.eye(24, 20)
    return scipy.sparse.coo_array(values * (1 + 2j) if is_complex else values)


FORMS = {
    "dense": lambda m: m.toarray(),
    "coo": lambda m: m,
    "csr matrix": lambda m: scipy.sparse.csr_matrix(m),
    "linear operator": scipy.sparse.linalg.aslinearoperator,
    "functions": lambda m: scipy.sparse.linalg.LinearOperator(
        m.shape, matvec=m.dot, rmatvec=m.conj().T.dot, dtype=m.dtype
    ),
}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_matrix(form, is_complex):
    m = sparse(is_complex)
    op = from_scipy(FORMS[form](m), *SHAPES)
    assert op.is_complex == is_complex
    check(op)
    assert np.allclose(dense(op).numpy(), m.toarray(), atol=DOUBLE)
    assert np.allclose(dense(op.H).numpy(), m.toarray().conj().T, atol=DOUBLE)


@pytest.mark.parametrize("name", ["ct", "mri"])
def test_there_and_back(name, scan, same_map):
    ct = ParallelBeamCT(ParallelBeam.covering(shape=(9, 12), views=7, pixel_mm=0.5))
    op = {"ct": ct, "mri": scan}[name]
    flat = to_scipy(op)
    assert flat.shape == (np.prod(op.out_shape), np.prod(op.in_shape))
    assert flat.dtype == (np.complex64 if op.is_complex else np.float32)
    same_map(from_scipy(flat, op.in_shape, op.out_shape), op, 1e-6)
    columns = np.random.default_rng(0).standard_normal((flat.shape[1], 3)).astype(np.float32)
    for k in range(3):
        assert np.allclose((flat @ columns)[:, k], flat @ columns[:, k], atol=SINGLE)


def test_scipys_solver_runs_on_ours():
    blur = Blur(gaussian(0.5).double(), (12, 12), boundary="reflect")
    truth = torch.rand(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = scipy.sparse.linalg.lsqr(to_scipy(blur), blur(truth).numpy().ravel(), iter_lim=400)
    # This blur keeps a third and more of every frequency; lsqr stops at 1e-6 of the data.
    assert np.abs(found[0] - truth.numpy().ravel()).max() < SOLVED


pylops = pytest.importorskip("pylops")

OPERATORS = {
    "gradient": (lambda: pylops.Gradient((8, 9), edge=True), (8, 9), (2, 8, 9), False),
    "fft": (
        lambda: pylops.signalprocessing.FFT2D((8, 9), norm="ortho", dtype="complex128"),
        (8, 9),
        (8, 9),
        True,
    ),
    "restriction": (lambda: pylops.Restriction((6, 7), [0, 2, 5], axis=0), (6, 7), (3, 7), False),
    "product": (
        lambda: (
            pylops.Restriction((6, 7), [1, 3], axis=0) @ pylops.FirstDerivative((6, 7), edge=True)
        ),
        (6, 7),
        (2, 7),
        False,
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_pylops_keeps_its_dims(name):
    make, before, after, is_complex = OPERATORS[name]
    theirs = make()
    op = from_pylops(theirs)
    assert (op.in_shape, op.out_shape, op.is_complex) == (before, after, is_complex)
    assert np.allclose(dense(op).numpy(), theirs.todense(), atol=DOUBLE)
    assert "pylops" in repr(op)
    check(op)


def test_what_is_no_linear_map_of_complex_numbers_is_refused():
    real_fft = pylops.signalprocessing.FFT2D((8, 8), real=True)
    with pytest.raises(ConfigError, match="linear over real numbers only"):
        from_pylops(real_fft)
    with pytest.raises(ConfigError, match="got a ndarray, expected a pylops"):
        from_pylops(np.zeros((2, 2)))


def test_what_is_no_scipy_operator_is_refused():
    for given, shape in (("abc", (2,)), ([[1, 2], [3, 4]], (2,)), (np.eye(2), (-2,))):
        with pytest.raises(ShapeError, match="expected a matrix or a LinearOperator"):
            from_scipy(given, shape, shape)


def test_ours_as_a_pylops_operator(scan):
    from pylops.utils import dottest

    theirs = to_pylops(scan)
    assert (theirs.dims, theirs.dimsd) == (scan.in_shape, scan.out_shape)
    assert dottest(theirs, *theirs.shape, complexflag=3, rtol=SOLVED)
    x = np.random.default_rng(0).standard_normal(scan.in_shape).astype(np.complex64)
    assert np.allclose(theirs @ x, scan(torch.from_numpy(x)).numpy(), atol=SINGLE)
    doubled = 2 * theirs  # their algebra takes it in
    assert np.allclose(doubled @ x, 2 * (theirs @ x))


def test_a_blur_of_pylops_is_our_blur_and_is_restored_the_same():
    """A symmetric kernel around the middle of an image whose border is dark: both conventions of borders agree."""
    kernel = gaussian(1.0)
    n = kernel.shape[-1]
    shape = (40, 40)
    theirs = pylops.signalprocessing.Convolve2D(
        shape, kernel.double().numpy(), offset=(n // 2, n // 2)
    )
    ours = Blur(kernel, shape, boundary="circular")
    truth = torch.zeros(shape)
    truth[12:28, 14:24] = 1.0
    y = ours(truth)
    wrapped = from_pylops(theirs)
    assert torch.allclose(wrapped(truth), y, atol=SINGLE)
    images = [solve(y, A, noise=0.01, sampler="tv", n_steps=20).image for A in (wrapped, ours)]
    # The borders differ, and nothing is there: TV of either keeps it so to 1e-3 of the brightest pixel.
    assert torch.allclose(*images, atol=STEPS)
