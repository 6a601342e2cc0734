"""The laws of every operator, tried on every one that exists and on combinations: a new file is found by itself.

Most of them are those of `restore.operators.check`, which users run on operators of their own.
"""

from __future__ import annotations

import importlib
import inspect
import io
import pickle
import pkgutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import restore.operators
from restore.operators.algebra import BlockDiagonal, Stack
from restore.operators.base import KINDS, Adjoint, Compose, LinearOperator, Operator
from restore.operators.ct.beer_lambert import BeerLambert
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.diagonal import Diagonal, Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.operators.laws import LAWS
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.operators.mri.noncartesian import NonCartesianMRI
from restore.operators.mri.trajectories import Trajectory, cones
from restore.operators.verify import check

NORM = 1e-5  # the norm of float32 and of float64, each estimated in its precision by the same iterations
ESTIMATE = 1e-3  # power iterations on either side stop when they change by less
SINGLE = 1e-5  # float32: the same sums in another order or scale, 6e-8 of each term; 2.7e-7 seen
GROWN = 1e-2  # 20 steps of conjugate gradients multiply a rounding by the condition of the operator; 5e-4 seen
INVERTED = 0.5  # a pseudo-inverse explains more than half of the data, or it is none
DOUBLE = 1e-11  # float64: the same products in another order

Make = Callable[[torch.Generator], Operator]


def classes() -> list[type[Operator]]:
    """Every concrete operator class of the package: a new file is found by itself."""
    found = []
    for info in pkgutil.walk_packages(restore.operators.__path__, "restore.operators."):
        module = importlib.import_module(info.name)
        found += [
            cls
            for cls in vars(module).values()
            if inspect.isclass(cls)
            and issubclass(cls, Operator)
            and cls.__module__ == info.name
            and not inspect.isabstract(cls)
        ]
    return found


def weight(g: torch.Generator) -> Diagonal:
    return Diagonal(torch.randn(3, 4, generator=g), (3, 4))


def one_coil(g: torch.Generator) -> MultiCoilMRI:
    phase = torch.polar(torch.ones(2, 1, 6, 5), torch.rand(2, 1, 6, 5, generator=g))
    return MultiCoilMRI(phase, torch.rand(5, generator=g) < 0.6)


def two_scans(g: torch.Generator) -> Stack:
    """Two measurements of two slices: slices stay apart."""
    mri = MultiCoilMRI.example(g)
    return Stack((mri, MultiCoilMRI(mri.maps.flip(-1), ~mri.mask)))


def uneven(g: torch.Generator) -> Stack:
    valid = Blur(torch.rand(3, 3, generator=g), (2, 6, 8), "valid")
    return Stack((Downsample((2, 6, 8), 2), valid))


def uneven_slices(g: torch.Generator) -> Stack:
    """One coil, then two; slices stay apart."""
    one = one_coil(g)
    return Stack((one, MultiCoilMRI(torch.cat([one.maps, 2 * one.maps], 1), torch.ones(5))))


def blurred_scan(g: torch.Generator) -> LinearOperator:
    ct = ParallelBeamCT.example(g)
    return ct @ Blur(gaussian(0.5), ct.in_shape)


def volume(g: torch.Generator) -> MultiCoilMRI:
    """Two volumes, undersampled along both phase-encode axes."""
    maps = torch.randn(2, 3, 3, 4, 5, generator=g, dtype=torch.complex64)
    return MultiCoilMRI(maps, torch.rand(3, 1, 5, generator=g) < 0.6, 3)


def cones_of_a_volume(g: torch.Generator) -> NonCartesianMRI:
    maps = torch.randn(2, 4, 4, 5, generator=g, dtype=torch.complex64)
    return NonCartesianMRI(maps, Trajectory(cones(12, 8, (4, 4, 5))))


COMBINATIONS: dict[str, Make] = {
    "volume": volume,
    "cones": cones_of_a_volume,
    "Adjoint": lambda g: Stack.example(g).H,
    "Scale": lambda g: -2.5 * weight(g),
    "complex Scale": lambda g: Stack.example(g) * 2j,
    "Compose": lambda g: Stack.example(g) @ weight(g),
    "Compose with Identity": lambda g: Compose(Downsample((2, 6, 6), 2), Identity((2, 6, 6))),
    "Sum": lambda g: Stack.example(g) - 2 * Stack.example(g),
    "nested Adjoint": lambda g: (2 * (weight(g) @ weight(g).H)).H,
    "uneven Stack": uneven,
    "Stack of slices": two_scans,
    "uneven Stack of slices": uneven_slices,
    "BlockDiagonal of slices": lambda g: BlockDiagonal((one_coil(g), one_coil(g))),
    "blurred CT": blurred_scan,
    "one coil": one_coil,
    "circular Blur": lambda g: Blur(torch.rand(3, 4, generator=g), (2, 6, 7)),
    "separable Blur": lambda g: Blur(gaussian(0.8), (2, 9, 7), "reflect"),
    "inpainted Blur": lambda g: Inpainting.random((2, 6, 7), 0.5, g) @ Blur(gaussian(0.6), (2, 6, 7)),
    "counts of a scan": lambda g: BeerLambert(ParallelBeamCT.example(g), 1e4),
}  # fmt: skip

EXAMPLES: dict[str, Make] = {
    **{cls.__name__: cls.example for cls in classes() if hasattr(cls, "example")},
    **COMBINATIONS,
}
LINEAR = [n for n, make in EXAMPLES.items() if "linear" in make(torch.Generator()).abilities]


def example(name: str) -> Operator:
    return EXAMPLES[name](torch.Generator().manual_seed(3))


@pytest.fixture(params=LINEAR)
def op(request: pytest.FixtureRequest) -> LinearOperator:
    found = example(request.param)
    assert isinstance(found, LinearOperator)
    return found


def draw(op: LinearOperator, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    dtype = op.dtype.to_complex() if op.is_complex else op.dtype
    return torch.randn(shape, generator=generator, dtype=dtype)


def relative(a: Tensor, b: Tensor) -> float:
    scale = torch.linalg.vector_norm(b)
    return float(torch.linalg.vector_norm(a - b) / (scale if scale else 1))


def test_every_class_has_an_example() -> None:
    tried = {type(example(name)) for name in EXAMPLES}
    assert set(classes()) == tried
    names = {cls.__name__ for cls in tried}
    assert {"Blur", "BlockDiagonal", "Compose", "Downsample", "MultiCoilMRI", "Sum"} <= names


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_law(name: str, law: str) -> None:
    # Tighter than what users get by default: these operators are small.
    report = check(
        example(name), laws=[law], tolerance=None if law == "pure" else 1e-5, strict=False
    )
    assert report.ok, str(report)


@pytest.mark.parametrize("law", ["adjoint", "linear", "batches", "gradients", "transforms"])
def test_law_in_double_precision(op: LinearOperator, law: str) -> None:
    report = check(op.to(torch.float64), laws=[law], strict=False)
    assert report.ok, str(report)
    # "adjoint" tries single precision too; 20 steps of a pseudo-inverse in "batches" let rounding grow.
    assert report.laws[law] <= {"adjoint": SINGLE, "batches": GROWN}.get(law, DOUBLE)


@pytest.mark.gpu
@pytest.mark.parametrize("name", EXAMPLES)
def test_devices_agree(name: str) -> None:
    operator = example(name)
    report = check(operator, laws=["devices"])
    assert report.ok
    if isinstance(operator, LinearOperator):
        there = operator.to(torch.float64).to("cuda")
        assert there.norm() == pytest.approx(operator.to(torch.float64).norm(), rel=NORM)


def test_kinds_are_those_of_the_rooms() -> None:
    for name in EXAMPLES:
        operator = example(name)
        room = type(operator).__module__.split(".")[2]
        if room in KINDS and "Lambert" not in type(operator).__name__:
            assert operator.kind == room, name


def test_pickled_copies_are_equal_and_carry_no_caches(op: LinearOperator) -> None:
    x = draw(op, op.in_shape)
    y = op(x)
    op.norm()
    buffer = io.BytesIO()
    pickle.dump(op, buffer)
    revived = pickle.loads(buffer.getvalue())  # noqa: S301
    assert torch.equal(revived(x), y)
    assert "_norm" not in pickle.loads(buffer.getvalue()).__dict__  # noqa: S301


def test_adjoint_of_adjoint(op: LinearOperator) -> None:
    assert op.H.H is op or (isinstance(op, Adjoint) and op.H is op.operator)
    y = draw(op, op.out_shape)
    assert torch.equal(op.H(y), op.adjoint(y))
    assert op.H.norm() == pytest.approx(op.norm(), rel=ESTIMATE)


def test_pinv_scales_with_the_measurement(op: LinearOperator) -> None:
    y = op(draw(op, op.in_shape))
    image = op.pinv(y)
    for factor in (2.0**-20, 2.0**20):  # powers of two round nothing
        assert relative(op.pinv(factor * y), factor * image) <= SINGLE
        assert relative(op(factor * image), factor * op(image)) <= SINGLE


def test_pinv_explains_the_measurement(op: LinearOperator) -> None:
    op = op.to(torch.float64)
    y = op(draw(op, op.in_shape))
    assert relative(op(op.pinv(y)), y) < INVERTED


def test_composition_with_the_adjoint(op: LinearOperator) -> None:
    op = op.to(torch.float64)
    product = op.H @ op
    x = draw(op, op.in_shape)
    assert relative(product(x), op.normal(x)) <= DOUBLE
    assert product.slice_ndim == op.slice_ndim
    assert product.kind == op.kind
