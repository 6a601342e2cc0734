"""sigpy's Linops as ours and ours as Linops, against our own operators and sigpy's own algorithms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.errors import ConfigError
from restore.front_door import solve
from restore.noise import Gaussian
from restore.operators import check
from restore.operators.interop import from_sigpy, to_sigpy
from restore.operators.mri.multicoil import MultiCoilMRI

PRODUCTS = 1e-5  # float32: sums of at most 100 products of size 1, 6e-8 of each
STEPS = 1e-3  # the steps of a sampler carry the rounding of float32 along

sp = pytest.importorskip("sigpy")
linop = pytest.importorskip("sigpy.mri.linop")

SINGLE = 1e-4  # up to four FFTs of 300 numbers in single precision, 6e-8 each operation; 3e-6 seen


def sense(scan: MultiCoilMRI):
    return linop.Sense(scan.maps.numpy(), weights=scan.mask.numpy().astype(np.float32))


def test_sense_is_our_multi_coil_mri(scan, same_map):
    wrapped = from_sigpy(sense(scan))
    same_map(wrapped, scan, SINGLE)
    assert wrapped.kind == "mri"
    assert wrapped.mismatch < SINGLE


LINOPS = {
    "fft": (lambda: sp.linop.FFT((8, 9)), True),
    "differences": (lambda: sp.linop.FiniteDifference((8, 9)), False),
    "wavelet": (lambda: sp.linop.Wavelet((16, 16)), False),
    "identity": (lambda: sp.linop.Identity((3, 4)), False),
    "complex weight": (lambda: sp.linop.Multiply((3, 4), np.full((3, 4), 2j)), True),
    "sum": (lambda: sp.linop.Sum((3, 4), (0,)), False),
    "composed": (lambda: sp.linop.FFT((8, 8)) * sp.linop.Resize((8, 8), (6, 5)), True),
}


@pytest.mark.parametrize("name", LINOPS)
def test_number_and_shapes_are_those_of_the_linop(name):
    make, is_complex = LINOPS[name]
    theirs = make()
    op = from_sigpy(theirs)
    assert op.is_complex == is_complex
    assert (op.in_shape, op.out_shape) == (tuple(theirs.ishape), tuple(theirs.oshape))
    assert op.kind == ("mri" if is_complex else "image")
    x = torch.rand(op.in_shape, dtype=torch.complex64 if is_complex else torch.float32)
    assert np.allclose(op(x).numpy(), theirs(x.numpy()), atol=PRODUCTS)
    assert from_sigpy(theirs, is_complex=True, kind="image").kind == "image"
    check(op)


def test_a_wrong_adjoint_is_refused():
    class Half(sp.linop.Linop):
        def __init__(self):
            super().__init__((4, 4), (4, 4))

        def _apply(self, x):
            return 2 * x

        def _adjoint_linop(self):
            return sp.linop.Identity((4, 4))

    with pytest.raises(ConfigError, match=r"off by [3-7]. %"):
        from_sigpy(Half())
    with pytest.raises(ConfigError, match="got a ndarray, expected a sigpy"):
        from_sigpy(np.zeros(3))


def test_ours_as_a_linop(scan):
    ours, theirs = to_sigpy(scan), sense(scan)
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((20, 15)) + 1j * rng.standard_normal((20, 15))).astype(np.complex64)
    y = theirs(x)
    for a, b in ((ours(x), y), (ours.H(y), theirs.H(y)), (ours.N(x), theirs.N(x))):
        assert a.dtype == np.complex64
        assert np.linalg.norm(a - b) < SINGLE * np.linalg.norm(b)
    assert (ours.ishape, ours.oshape) == (theirs.ishape, theirs.oshape)
    assert ours.H.H(x).shape == y.shape
    assert np.allclose(ours.N.H(x), ours.N(x))
    back = from_sigpy(ours)
    assert torch.equal(back(torch.from_numpy(x)), scan(torch.from_numpy(x)))


def test_sigpys_own_solver_runs_on_ours(scan):
    """Ten steps of CG of sigpy's application: the same on either operator but for rounding, 1e-5 seen."""
    x = torch.randn(20, 15, generator=torch.Generator().manual_seed(1), dtype=torch.complex64)
    y = scan(x).numpy()
    images = [
        sp.app.LinearLeastSquares(A, y, lamda=0.01, max_iter=10, show_pbar=False).run()
        for A in (to_sigpy(scan), sense(scan))
    ]
    assert np.linalg.norm(images[0] - images[1]) < STEPS * np.linalg.norm(images[1])


@pytest.mark.parametrize("sampler", ["cgsense", "tv", "wavelet", "dds", "diffpir", "dps"])
def test_samplers_give_the_same_image(scan, sampler):
    """Ten steps carry the rounding of the operators (1e-7) along, 6e-7 seen; and the intensity scale is taken from a
    classical image, whose damping goes with the operator's norm, 1.5e-6.
    """
    side = torch.linspace(-1, 1, 20)[:, None] ** 2 + torch.linspace(-1, 1, 15)[None] ** 2
    truth = (side < 0.6).to(torch.complex64)
    noise = Gaussian(0.01)
    y = noise.sample(scan(truth), torch.Generator().manual_seed(2))
    theirs, ours = (
        solve(y, A, noise=noise, sampler=sampler, n_steps=10).image
        for A in (from_sigpy(sense(scan), kind="mri"), scan)
    )
    assert torch.linalg.vector_norm(theirs - ours) < STEPS * torch.linalg.vector_norm(ours)
