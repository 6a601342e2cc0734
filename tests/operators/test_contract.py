"""The laws of every linear operator, checked on every one that exists: a new file is found by
itself.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import io
import pickle
import pkgutil

import pytest
import torch
from torch import Tensor

import restore.operators
from restore.errors import ShapeError
from restore.operators.algebra import Stack
from restore.operators.base import Adjoint, Compose, LinearOperator, Scale, Sum
from restore.operators.diagonal import Diagonal


def _discover() -> list[type[LinearOperator]]:
    found = []
    for info in pkgutil.walk_packages(restore.operators.__path__, "restore.operators."):
        module = importlib.import_module(info.name)
        found += [
            cls
            for cls in vars(module).values()
            if inspect.isclass(cls)
            and issubclass(cls, LinearOperator)
            and cls.__module__ == info.name
            and not inspect.isabstract(cls)
        ]
    return found


CLASSES = _discover()
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}


def _made_by_arithmetic(cls: type[LinearOperator], g: torch.Generator) -> LinearOperator:
    stack, weight = Stack.example(g), Diagonal(torch.randn(3, 4, generator=g), (3, 4))
    made = {Adjoint: lambda: stack.H, Scale: lambda: -2.5 * weight, Compose: lambda: stack @ weight,
            Sum: lambda: stack - 2 * Stack.example(g)}  # fmt: skip
    return made[cls]()


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__)
def op(request: pytest.FixtureRequest) -> LinearOperator:
    g = torch.Generator().manual_seed(3)
    cls = request.param
    return cls.example(g) if hasattr(cls, "example") else _made_by_arithmetic(cls, g)


def draw(
    op: LinearOperator, shape: tuple[int, ...], seed: int = 0, *, positive: bool = False
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    dtype = op.dtype.to_complex() if op.is_complex else op.dtype
    x = torch.randn(shape, generator=generator, dtype=dtype)
    return x.abs().to(dtype) if positive else x


def inner(a: Tensor, b: Tensor) -> complex:
    return complex((a.conj() * b).sum())


def relative(a: Tensor, b: Tensor) -> float:
    scale = torch.linalg.vector_norm(b)
    return float(torch.linalg.vector_norm(a - b) / (scale if scale else 1))


def dense(op: LinearOperator) -> Tensor:
    """The matrix of a small operator, one column per unit image."""
    n = torch.Size(op.in_shape).numel()
    units = torch.eye(n, dtype=draw(op, (1,)).dtype).reshape(n, *op.in_shape)
    return op(units).reshape(n, -1).T


def test_some_operators_are_found() -> None:
    names = {cls.__name__ for cls in CLASSES}
    assert {
        "Adjoint",
        "Blur",
        "BlockDiagonal",
        "Compose",
        "Downsample",
        "MultiCoilMRI",
        "Sum",
    } <= names


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("positive", [False, True])
def test_dot(op: LinearOperator, dtype: torch.dtype, positive: bool) -> None:
    op = op.to(dtype)
    x = draw(op, op.in_shape, 1, positive=positive)
    y = draw(op, op.out_shape, 2, positive=positive)
    ax = op(x)
    scale = float(torch.linalg.vector_norm(ax) * torch.linalg.vector_norm(y))
    assert abs(inner(ax, y) - inner(x, op.adjoint(y))) <= TOLERANCE[dtype] * scale


def test_linear(op: LinearOperator) -> None:
    op = op.to(torch.float64)
    x, z = draw(op, op.in_shape, 1), draw(op, op.in_shape, 2)
    factor = 2.5 - 1j if op.is_complex else 2.5
    assert relative(op(factor * x + z), factor * op(x) + op(z)) <= 1e-11


def test_normal_is_adjoint_of_apply(op: LinearOperator) -> None:
    op = op.to(torch.float64)
    x = draw(op, op.in_shape)
    assert relative(op.normal(x), op.adjoint(op(x))) <= 1e-11


@pytest.mark.parametrize("name", ["__call__", "adjoint", "normal", "pinv"])
def test_batch_is_loop(op: LinearOperator, name: str) -> None:
    op = op.to(torch.float64)
    shape = op.in_shape if name in ("__call__", "normal") else op.out_shape
    batch = draw(op, (2, 3, *shape))
    # Items of very different size: a scalar shared by the batch would show.
    batch = batch * (10.0 ** torch.arange(-3, 3, dtype=torch.float64)).reshape(
        2, 3, *[1] * len(shape)
    )
    method = getattr(op, name)
    together = method(batch)
    for i in range(2):
        for j in range(3):
            assert relative(together[i, j], method(batch[i, j])) <= 1e-10


@pytest.mark.parametrize("name", ["__call__", "adjoint", "normal", "pinv"])
def test_empty_batch(op: LinearOperator, name: str) -> None:
    before, after = op.in_shape, op.out_shape
    if name in ("adjoint", "pinv"):
        before, after = after, before
    if name == "normal":
        after = before
    assert getattr(op, name)(draw(op, (0, *before))).shape == (0, *after)


def test_precision_follows(op: LinearOperator) -> None:
    for dtype in (torch.float64, torch.float32):
        moved = op.to(dtype)
        assert moved.dtype == dtype
        x, y = draw(moved, op.in_shape), draw(moved, op.out_shape)
        for result in (moved(x), moved.adjoint(y), moved.normal(x), moved.pinv(y)):
            assert result.real.dtype == dtype
            assert result.is_complex() == op.is_complex


def test_copies_are_equal(op: LinearOperator) -> None:
    x = draw(op, op.in_shape)
    y = op(x)
    op.norm()  # caches must survive, too
    buffer = io.BytesIO()
    pickle.dump(op, buffer)
    revived = pickle.loads(buffer.getvalue())  # noqa: S301
    for twin in (revived, copy.deepcopy(op), op.to("cpu")):
        assert torch.equal(twin(x), y)


@pytest.mark.parametrize("name", ["__call__", "adjoint", "normal", "pinv"])
def test_wrong_shapes_are_named(op: LinearOperator, name: str) -> None:
    shape = op.in_shape if name in ("__call__", "normal") else op.out_shape
    rank = shape[1:]
    size = (*shape[:-1], shape[-1] + 1)
    for wrong in (rank, size):
        with pytest.raises(ShapeError, match=type(op).__name__) as caught:
            getattr(op, name)(draw(op, wrong))
        assert str(tuple(wrong)) in str(caught.value)


@pytest.mark.parametrize("name", ["__call__", "adjoint", "normal"])
def test_gradient_is_adjoint(op: LinearOperator, name: str) -> None:
    op = op.to(torch.float64)
    forward = getattr(op, name)
    backward = getattr(op, {"__call__": "adjoint", "adjoint": "__call__", "normal": "normal"}[name])
    shape = op.out_shape if name == "adjoint" else op.in_shape
    x = draw(op, shape).requires_grad_()
    v = draw(op, forward(x).shape, 5)
    (gradient,) = torch.autograd.grad(forward(x), x, v)
    assert relative(gradient, backward(v)) <= 1e-11


def test_any_memory_order(op: LinearOperator) -> None:
    x, y = draw(op, (2, *op.in_shape)), draw(op, (2, *op.out_shape))
    for method, value in ((op, x), (op.adjoint, y), (op.normal, x), (op.pinv, y)):
        strided = value.transpose(0, -1).contiguous().transpose(0, -1)
        assert not strided.is_contiguous()
        assert relative(method(strided), method(value)) <= 1e-6


def test_inputs_stay(op: LinearOperator) -> None:
    x, y = draw(op, op.in_shape), draw(op, op.out_shape)
    kept_x, kept_y = x.clone(), y.clone()
    for method, value in ((op, x), (op.adjoint, y), (op.normal, x), (op.pinv, y)):
        method(value).mul_(0)  # nor may a result share memory with its input
    assert torch.equal(x, kept_x)
    assert torch.equal(y, kept_y)


def test_norm(op: LinearOperator) -> None:
    op = op.to(torch.float64)
    largest = float(torch.linalg.svdvals(dense(op))[0])
    assert op.norm() == pytest.approx(largest, rel=1e-3)
    assert op.norm() <= largest * (1 + 1e-9)
    assert op.H.norm() == pytest.approx(op.norm(), rel=1e-3)


def test_adjoint_of_adjoint(op: LinearOperator) -> None:
    assert op.H.H is op or (isinstance(op, Adjoint) and op.H is op.operator)
    y = draw(op, op.out_shape)
    assert torch.equal(op.H(y), op.adjoint(y))


def test_pinv_is_finite_and_scales(op: LinearOperator) -> None:
    y = op(draw(op, op.in_shape))
    image = op.pinv(y)
    assert torch.isfinite(image).all()
    assert not op.pinv(torch.zeros_like(y)).any()
    for factor in (2.0**-20, 2.0**20):  # powers of two round nothing
        assert relative(op.pinv(factor * y), factor * image) <= 1e-5
        assert relative(op(factor * image), factor * op(image)) <= 1e-5


def test_pinv_explains_the_measurement(op: LinearOperator) -> None:
    op = op.to(torch.float64)
    y = op(draw(op, op.in_shape))
    residual = float(torch.linalg.vector_norm(op(op.pinv(y)) - y) / torch.linalg.vector_norm(y))
    assert residual < 0.5


def test_composition(op: LinearOperator) -> None:
    op = op.to(torch.float64)
    product = op.H @ op
    x = draw(op, op.in_shape)
    assert relative(product(x), op.normal(x)) <= 1e-11
    assert product.slice_ndim == op.slice_ndim


@pytest.mark.gpu
def test_devices_agree(op: LinearOperator) -> None:
    op = op.to(torch.float64)
    x, y = draw(op, op.in_shape), draw(op, op.out_shape)
    there = op.to("cuda")
    for name, value in (("__call__", x), ("adjoint", y), ("normal", x), ("pinv", y)):
        result = getattr(there, name)(value.cuda())
        assert result.is_cuda
        assert relative(result.cpu(), getattr(op, name)(value)) <= 1e-9
    assert there.norm() == pytest.approx(op.norm(), rel=1e-6)
