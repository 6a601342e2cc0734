"""What operators say about themselves, and that combinations pass it on; arithmetic and its refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators import (
    BeerLambert,
    BlockDiagonal,
    Blur,
    Clipping,
    Compose,
    Diagonal,
    Downsample,
    Identity,
    Inpainting,
    MultiCoilMRI,
    ParallelBeam,
    ParallelBeamCT,
    Scale,
    Stack,
    Sum,
    VaryingBlur,
)
from restore.operators.base import LinearOperator
from restore.scaling import Scaling

SINGLE = 1e-5  # float32: the scale is a quantile of a back-projection, which one product rounds
ESTIMATE = 1e-3  # the weighted operator's scale rests on estimates by iteration
DOUBLE = 1e-12  # float64: sums of at most some hundred products, 1e-16 of each

SHAPE = (2, 8, 8)


def scan() -> ParallelBeamCT:
    return ParallelBeamCT(ParallelBeam.covering(shape=(16, 16), views=12))


def mri(g: torch.Generator) -> MultiCoilMRI:
    return MultiCoilMRI.example(g)


def test_kinds_tasks_and_abilities(generator):
    g = generator
    small = Downsample(SHAPE, 2)
    table = {
        Identity(SHAPE): ("image", "denoise", {"linear", "svd", "identity"}),
        Inpainting.random(SHAPE, 0.5, g): ("image", "inpaint", {"linear", "svd", "selects"}),
        Blur(torch.rand(3, 3, generator=g), SHAPE): (
            "image",
            "deblur",
            {"linear", "svd", "periodic"},
        ),
        small: ("image", "superres", {"linear", "svd", "interpolates"}),
        Clipping(SHAPE): ("image", "declip", set()),
        BeerLambert(scan(), 1e4): ("ct", "counts", set()),
        scan(): ("ct", "", {"linear", "svd", "backprojects", "subsets"}),
        mri(g): ("mri", "", {"linear", "svd"}),
    }
    for operator, (kind, task, abilities) in table.items():
        assert (operator.kind, operator.task, set(operator.abilities)) == (kind, task, abilities)


def test_what_is_made_of_periodic_operators_alone_is_periodic(generator):
    kernel = torch.rand(3, 3, generator=generator)
    ring, mirrored = Blur(kernel, SHAPE), Blur(kernel, SHAPE, "reflect")
    periodic = (
        ring, VaryingBlur(kernel.expand(2, 1, 3, 3), SHAPE), 2 * ring, -ring, ring.H, ring @ ring, ring + ring,
        ring @ Identity(SHAPE), Stack((ring, ring)), BlockDiagonal((ring, ring)),
    )  # fmt: skip
    others = (
        mirrored, Blur(kernel, SHAPE, "valid"), VaryingBlur(kernel.expand(2, 1, 3, 3), SHAPE, "reflect"),
        0 * ring, mirrored.H, ring @ mirrored, mirrored @ ring, ring + Identity(SHAPE), Stack((ring, mirrored)),
        BlockDiagonal((ring, mirrored)), Inpainting.random(SHAPE, 0.5, generator) @ ring,
    )  # fmt: skip
    assert [op for op in periodic if "periodic" not in op.abilities] == []
    assert [op for op in others if "periodic" in op.abilities] == []


def test_no_decomposition_where_the_matrix_is_large(generator):
    coils = torch.randn(4, 64, 64, generator=generator, dtype=torch.complex64)
    for operator in (
        MultiCoilMRI(coils, torch.ones(64)),
        Blur(torch.rand(3, 3, generator=generator), (3, 64, 64), "reflect"),
    ):
        assert "svd" not in operator.abilities
        assert operator.svd(torch.empty(0)) is None
        assert "svd" not in (2 * operator).abilities


def combinations(A: LinearOperator) -> dict[str, LinearOperator]:
    one, other = Identity(A.in_shape), Identity(A.out_shape)
    return {
        "right": A @ one, "left": other @ A, "composed": Compose(A, one), "both": other @ (A @ one),
        "twice": 2 * A, "half": A / 2, "minus": -A, "adjoint twice": A.H.H,
    }  # fmt: skip


def test_combinations_of_a_ct_scan_are_one(generator):
    A = scan()
    x = 0.02 * torch.rand(16, 16, generator=generator)
    wanted = A.unit_scale(A(x))
    assert wanted.scale == pytest.approx(0.04875)  # 2.5 times the attenuation of water
    for name, combined in combinations(A).items():
        y = combined(x)
        assert combined.kind == "ct", name
        assert combined.task == "", name
        assert combined.abilities == A.abilities, name
        assert combined.unit_scale(y) == wanted, name
        torch.testing.assert_close(combined.picture(y), A.pinv(A(x)), msg=name)
        torch.testing.assert_close(combined.backproject(y, "hann"), A.backproject(A(x), "hann"))
        torch.testing.assert_close(combined.subset(slice(1, None, 2))(x), y[1::2], msg=name)
    stack, sides = Stack((A, A)), BlockDiagonal((A, A))
    assert "subsets" not in stack.abilities | sides.abilities
    for combined, y in ((stack, stack(x)), (sides, sides(torch.stack([x, x]))), (A + A, A(x))):
        assert combined.kind == "ct"
        assert combined.unit_scale(y) == wanted
    blurred = A @ Blur(torch.full((3, 3), 1 / 9), (16, 16))
    assert (blurred.kind, blurred.unit_scale(blurred(x))) == ("ct", wanted)
    weighted = Diagonal(torch.full(A.out_shape, 3.0), A.out_shape) @ A
    assert (weighted.kind, weighted.unit_scale(weighted(x))) == ("ct", wanted)
    assert A.H.kind == "ct"


def test_an_image_in_other_units_has_its_scale_in_them():
    """CT of an image in units of 1000: the scale is a thousandth."""
    A = scan()
    inner = A @ (1000 * Identity((16, 16)))
    found = inner.unit_scale(torch.zeros(A.out_shape))
    assert found.scale == pytest.approx(A.unit_scale(torch.zeros(A.out_shape)).scale / 1000)


def test_scale_of_mri_follows_the_image_not_the_units_of_the_measurement(generator):
    A = mri(generator)
    x = torch.randn(A.in_shape, generator=generator, dtype=torch.complex64)
    wanted = A.unit_scale(A(x)).scale
    assert (1e4 * A).unit_scale(1e4 * A(x)).scale == pytest.approx(wanted, rel=SINGLE)
    assert A.unit_scale(3 * A(x)).scale == pytest.approx(3 * wanted, rel=SINGLE)
    weighted = Diagonal(torch.full(A.out_shape, 5.0), A.out_shape, slices=1) @ A
    assert weighted.unit_scale(weighted(x)).scale == pytest.approx(wanted, rel=ESTIMATE)
    assert (weighted.kind, weighted.slice_ndim) == ("mri", 1)


def test_pictures_of_photographs(generator):
    g = generator
    x = torch.rand(SHAPE, generator=g)
    small, mask = Downsample(SHAPE, 2), Inpainting.random(SHAPE, 0.5, g)
    assert torch.equal(mask.picture(mask(x)), mask(x))
    assert torch.equal(small.picture(small(x)), small.interpolate(small(x)))
    torch.testing.assert_close((4 * small).picture(4 * small(x)), small.interpolate(small(x)))
    lines = Downsample(SHAPE, 2) @ Blur(torch.full((3, 3), 1 / 9), SHAPE)
    assert torch.equal(lines.picture(lines(x)), small.interpolate(lines(x)))
    several = BlockDiagonal((small, small))
    y = several(torch.stack([x, x]))
    assert torch.equal(several.picture(y)[1], small.interpolate(small(x)))
    assert torch.equal(several.interpolate(y), several.picture(y))
    assert Scaling() == lines.unit_scale(lines(x))


def test_tasks_of_combinations(generator):
    mask = Inpainting.random(SHAPE, 0.5, generator)
    blur = Blur(torch.rand(3, 3, generator=generator), SHAPE)
    assert (mask @ Identity(SHAPE)).task == "inpaint"
    assert (3 * blur).task == "deblur"
    assert (mask @ blur).task == ""
    assert Stack((blur, blur)).task == "deblur"
    assert (blur - blur).task == "deblur"
    assert Stack((blur, mask)).task == ""


def test_what_a_scaled_operator_is_no_more(generator):
    mask = Inpainting.random(SHAPE, 0.5, generator)
    assert "selects" not in (2 * mask).abilities
    assert "identity" not in (2 * Identity(SHAPE)).abilities
    with pytest.raises(ConfigError, match="has not the ability 'interpolates'"):
        mask.interpolate(torch.zeros(SHAPE))
    with pytest.raises(ConfigError, match="has not the ability 'backprojects'"):
        (2 * mask).backproject(torch.zeros(SHAPE))


def test_slices_of_stacks_and_block_diagonals(generator):
    A = mri(generator)
    stack = Stack((A, A))
    assert (stack.slice_ndim, stack.out_shape) == (1, (2, 2, 3, 6, 5))
    x = torch.randn(A.in_shape, generator=generator, dtype=torch.complex64)
    assert torch.equal(stack(x)[:, 1], A(x))  # slices lead, then the measurements
    blocks = BlockDiagonal((A, -A))
    assert (blocks.slice_ndim, blocks.in_shape) == (2, (2, 2, 6, 5))
    both = torch.stack([x, x])
    assert torch.equal(blocks(both), torch.stack([A(x), -A(x)]))
    with pytest.raises(ShapeError, match="BlockDiagonal: operators go"):
        BlockDiagonal((Identity((2,)), Identity((3,))))
    with pytest.raises(ConfigError, match="at least one"):
        BlockDiagonal(())
    with pytest.raises(ConfigError, match="expected linear operators, got a Clipping"):
        Stack((Clipping((2,)),))  # type: ignore[arg-type]


def test_arithmetic_against_dense_matrices(generator):
    n = 6
    a, b = (torch.randn(n, n, generator=generator, dtype=torch.float64) for _ in range(2))

    def of(matrix: Tensor) -> LinearOperator:
        """Rows of weights, so that a matrix is a sum of diagonals and shifts made of blurs."""
        shift = torch.zeros(1, n, dtype=torch.float64)
        shift[0, 0] = 1
        rolled: LinearOperator = Identity((1, n), like=shift[:0])
        turn = Blur(torch.roll(shift, n // 2 + 1, -1), (1, n))
        terms = []
        for k in range(n):
            diagonal = torch.stack([matrix[i, (i - k) % n] for i in range(n)])
            terms.append(Diagonal(diagonal[None], (1, n)) @ rolled)
            rolled = turn @ rolled
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def dense(op: LinearOperator) -> Tensor:
        eye = torch.eye(n, dtype=torch.float64)
        return op(eye[:, None]).squeeze(1).mT

    A, B = of(a), of(b)
    torch.testing.assert_close(dense(A), a)
    for got, wanted in (
        (A @ B, a @ b), (A + B, a + b), (A - B, a - b), (-A, -a), (2.5 * A, 2.5 * a), (A * 2.5, 2.5 * a),
        (A / 4, a / 4), (A.H, a.T), ((A @ B).H, (a @ b).T), ((2 * A - B.H).H @ A, (2 * a - b.T).T @ a),
        (np.float64(3) * A, 3 * a), (torch.tensor(3.0) * A, 3 * a), (A * np.int64(2), 2 * a),
    ):  # fmt: skip
        torch.testing.assert_close(dense(got), wanted, rtol=DOUBLE, atol=DOUBLE)
    assert isinstance(A + B, Sum)
    assert len((A + B).operators) == 2 * n  # sums are flat


def test_identities_that_change_nothing_are_left_out():
    A = Blur(torch.ones(3, 3), SHAPE)
    one = Identity(SHAPE)
    assert A @ one is A
    assert one @ A is A
    assert one @ one is one
    assert one.H is one
    turned = A @ Identity(SHAPE, complex_=True)
    assert turned.is_complex
    assert isinstance(turned, Compose)
    finer = A @ Identity(SHAPE, like=torch.empty(0, dtype=torch.float64))
    assert finer.dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda A: A @ torch.ones(SHAPE), "apply an operator to a tensor by calling it"),
        (lambda A: A @ 3, "a number multiplies an operator by"),
        (lambda A: A @ Clipping(SHAPE), "only linear operators are combined"),
        (lambda A: A + 1, "expected a linear operator on the right"),
        (lambda A: A - "x", "expected a linear operator on the right"),
        (lambda A: A * A, "the product of operators is written with @"),
        (lambda A: torch.ones(3) * A, "expected one number; for a weight of each sample"),
        (lambda A: np.ones(3) * A, "expected one number; for a weight of each sample"),
        (lambda A: A * True, "expected one number"),
        (lambda A: A * float("nan"), "expected a finite number"),
        (lambda A: A / 0, "cannot be divided by zero"),
        (lambda A: A(torch.ones(SHAPE).to("meta")), "on the device 'meta'"),
        (lambda A: A([1.0]), "input is a list, expected a torch.Tensor"),
        (lambda A: A.to("meta"), "nothing to compute with"),
        (lambda A: A.to(torch.float16), "no precision torch.float16"),
        (lambda A: Blur(torch.ones(3, 3).half(), SHAPE), "what an operator keeps may not"),
        (lambda A: Inpainting(torch.ones(8, 8, device="meta"), SHAPE), "on the device 'meta'"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(make, words):
    with pytest.raises(ConfigError) as caught:
        make(Blur(torch.ones(3, 3), SHAPE))
    assert words in str(caught.value)


def test_shapes_that_do_not_fit_are_named():
    A = Downsample(SHAPE, 2)
    with pytest.raises(ShapeError, match="expected operators of the same shapes"):
        A + Identity(SHAPE)
    with pytest.raises(ShapeError, match="Downsample"):
        A @ A


def test_multiplying_by_zero_sees_nothing(generator):
    A = 0 * Blur(torch.rand(3, 3, generator=generator), SHAPE)
    y = A(torch.rand(SHAPE, generator=generator))
    assert isinstance(A, Scale)
    assert not y.any()
    assert not A.pinv(y).any()
    assert A.norm() == 0
    svd = A.svd(y)
    assert svd is not None
    assert not svd.values.any()
