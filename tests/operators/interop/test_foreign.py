"""What holds for an operator of any library: the test of its adjoint, purity, precision, devices and refusals."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from restore.errors import ConfigError, ShapeError
from restore.front_door import solve
from restore.operators.interop import from_scipy
from restore.operators.interop.arrays import tensor_of
from restore.operators.interop.foreign import MATCHED, Foreign, mismatch_of

DOUBLE = 1e-14  # float64: sums of 35 products, 1e-16 of each; 3e-16 seen
NEARLY = 0.04  # an adjoint that is a few per cent off is measured as just that

SHAPES = (4, 6), (5, 7)


def matrix(seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    real = rng.standard_normal((35, 24))
    return (real + 1j * rng.standard_normal((35, 24)) if dtype is complex else real).astype(dtype)


def functions(apply, adjoint, dtype=np.float64):
    return scipy.sparse.linalg.LinearOperator((35, 24), matvec=apply, rmatvec=adjoint, dtype=dtype)


@pytest.mark.parametrize("off", [0.0, 1e-5, 3e-3, 0.07, 1.0])
def test_the_mismatch_is_that_of_the_matrices(off):
    """||B - A^H||_F / ||A||_F within a factor of three: five products estimate it."""
    a, wrong = matrix(), matrix(1)
    back = a.T + off * np.linalg.norm(a) / np.linalg.norm(wrong) * wrong.T
    op = from_scipy(functions(a.__matmul__, back.__matmul__), *SHAPES, allow_unmatched=True).to(
        torch.float64
    )
    found = mismatch_of(op)
    if off == 0:
        assert found < DOUBLE  # sums of 35 products in double precision, 1e-16 seen
    else:
        assert off / 3 < found < 3 * off
    assert bool(op.note) == (off > MATCHED)


def test_an_adjoint_that_is_none_is_refused_with_its_error():
    a = matrix()
    scaled = functions(a.__matmul__, lambda y: 1.02 * (a.T @ y))
    with pytest.raises(ConfigError, match=r"adjoint is off by \d(\.\d)? %.*allow_unmatched=True"):
        from_scipy(scaled, *SHAPES)
    op = from_scipy(scaled, *SHAPES, allow_unmatched=True)
    assert 0.01 < op.mismatch < NEARLY
    assert op.note in repr(op)
    y = op(torch.ones(SHAPES[0]))
    assert "adjoint is off by" in solve(y, op, sampler="tv", n_steps=2).provenance["operator"]


def test_without_an_adjoint_there_is_no_operator():
    bare = scipy.sparse.linalg.LinearOperator((35, 24), matvec=matrix().__matmul__)
    with pytest.raises(ConfigError, match="no adjoint; give it rmatvec"):
        from_scipy(bare, *SHAPES)


def test_a_map_that_changes_its_input_or_answers_with_it_does_no_harm():
    buffer = np.empty(24)

    def doubled_in_place(x):
        x *= 2
        return x

    def reused(x):
        np.multiply(x.ravel(), 2, out=buffer)
        return buffer

    for apply in (doubled_in_place, reused, lambda x: x):
        op = from_scipy(
            scipy.sparse.linalg.LinearOperator((24, 24), matvec=apply, rmatvec=apply, dtype=float),
            (4, 6),
            (4, 6),
        )
        x = torch.rand(2, 4, 6)
        kept = x.clone()
        first = op(x[0])
        before = first.clone()
        op(x[1])
        assert torch.equal(x, kept)
        assert torch.equal(first, before)
        first.zero_()
        assert torch.equal(x, kept)


def test_real_maps_see_real_arrays_only():
    """A library that drops imaginary parts is shown both parts, one after the other."""
    a = matrix(dtype=np.float32)
    op = from_scipy(
        functions(lambda x: a @ x.astype(np.float32), lambda y: a.T @ y.astype(np.float32)), *SHAPES
    )
    z = torch.complex(torch.rand(4, 6), torch.rand(4, 6))
    assert torch.allclose(op(z).imag, op(z.imag))
    assert torch.allclose(op(z).real, op(z.real))


def test_precision_is_that_of_the_tensor_or_higher():
    op = from_scipy(matrix(), *SHAPES)
    assert op(torch.rand(4, 6)).dtype == torch.float32
    assert op(torch.rand(4, 6).double()).dtype == torch.float64
    assert op.to(torch.float64)(torch.rand(4, 6)).dtype == torch.float64
    assert op.adjoint(torch.rand(5, 7)).dtype == torch.float32


def test_arrays_become_tensors_without_a_copy_where_they_can():
    array = np.zeros((3, 4))
    tensor_of(array)[0, 0] = 1
    assert array[0, 0] == 1
    for other in (array[::-1], np.broadcast_to(1.0, (2, 2)), np.arange(3)):
        tensor = tensor_of(other)
        assert np.array_equal(tensor.numpy(), other)
        assert tensor.is_floating_point()


def test_wrong_sizes_shapes_and_kinds_are_named():
    with pytest.raises(ShapeError, match=r"\(35, 24\).*out_shape \(5, 8\).*\(40, 24\)"):
        from_scipy(matrix(), (4, 6), (5, 8))
    with pytest.raises(ConfigError, match="kind is 'xray', expected one of mri, ct, image"):
        from_scipy(matrix(), *SHAPES, kind="xray")
    liar = dataclasses.replace(Foreign.example(torch.Generator().manual_seed(0)), data_shape=(2, 4))
    with pytest.raises((ConfigError, RuntimeError)):
        liar(torch.zeros(3, 4, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("name", "package"),
    [("from_sigpy", "sigpy"), ("from_pylops", "pylops"), ("from_astra", "astra"), ("from_deepinv", "deepinv"),
     ("to_sigpy", "sigpy.linop"), ("to_pylops", "pylops"), ("to_deepinv", "deepinv.physics")],
)  # fmt: skip
def test_a_library_that_is_missing_is_named_with_what_to_install(name, package, monkeypatch):
    import restore.operators.interop as interop

    if name.startswith("to_"):  # the class was made when another test needed it
        sys.modules[getattr(interop, name).__module__]._restored.cache_clear()
    for part in [m for m in sys.modules if m.split(".")[0] == package.split(".")[0]]:
        monkeypatch.delitem(sys.modules, part)
    monkeypatch.setitem(sys.modules, package.split(".")[0], None)
    arguments = [Foreign.example(torch.Generator().manual_seed(0))]
    arguments += [(1, 2, 3)] if name == "from_deepinv" else []
    extra = package.split(".")[0]
    with pytest.raises(ConfigError, match=rf"{name} needs the package {extra}.*restore\[{extra}\]"):
        getattr(interop, name)(*arguments)


def test_an_unknown_name_is_no_function():
    import restore.operators.interop as interop

    assert "from_sigpy" in dir(interop)
    with pytest.raises(AttributeError, match="no attribute 'from_matlab'"):
        _ = interop.from_matlab
