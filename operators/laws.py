"""The laws of operators: what the contract promises, each as an attempt on random images.

Called by `restore.operators.verify`. A law draws from its own generator, changes nothing, and writes what it finds into
its `Trial`. Adding a law is adding a function and a row of LAWS.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from restore.errors import ConfigError, RestoreError, ShapeError
from restore.linalg.singular import ProximalPoint
from restore.operators.base import LinearOperator, dense
from restore.operators.contract import ABILITIES, KINDS, TASKS, Operator
from restore.operators.trial import ROUNDING, Trial, shape_of
from restore.scaling import Scaling

SMALL = 2**18  # entries of a matrix that a law makes: 2 MB in double precision
_DIFFERENCE = 1e-6  # step and, about, the relative error of central differences in double precision
_ITERATED = 1e-2
"""Rounding in double precision, grown by conjugate gradients far down an ill-posed system: 5e-4 seen, by MKL's kernels
for any processor. A scalar that the items of a batch shared would be wrong by a thousand times."""
_DIGITS = 1e-6  # of single precision, some tens of operations
_Map = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Law:
    """promise: in words. attempt: tries it. linear: whether only linear operators promise it (None: all do)."""

    promise: str
    attempt: Callable[[Trial], None]
    linear: bool | None = None

    def concerns(self, operator: Operator) -> bool:
        """Whether the operator is one of those that promise it."""
        return self.linear is None or self.linear == isinstance(operator, LinearOperator)


def _maps(op: Operator) -> dict[str, tuple[_Map, bool]]:
    """Every map of an operator, and whether it takes measurements."""
    maps: dict[str, tuple[_Map, bool]] = {"A(x)": (op, False)}
    if isinstance(op, LinearOperator):
        maps |= {"adjoint": (op.adjoint, True), "normal": (op.normal, False)}
    return maps | {"pinv": (op.pinv, True)}


def _input(trial: Trial, op: Operator, measured: bool, *batch: int) -> Tensor:
    """An image, or a measurement that the operator could have made."""
    x = trial.image(op, *batch)
    return op(x) if measured else x


def shapes(trial: Trial) -> None:
    """Also that shapes are sizes, and words those of the contract."""
    op = trial.operator
    for what, shape in (("in_shape", op.in_shape), ("out_shape", op.out_shape)):
        sizes = isinstance(shape, tuple) and all(isinstance(n, int) and n > 0 for n in shape)
        trial.expect(sizes and len(shape) > 0, f"{what} is {shape!r}, expected a tuple of sizes")
    if trial.failures:
        return
    trial.expect(op.kind in KINDS, f"kind is {op.kind!r}, expected one of {', '.join(KINDS)}")
    trial.expect(op.task in TASKS, f"task is {op.task!r}, expected one of {', '.join(TASKS)}")
    strange = sorted(op.abilities - set(ABILITIES))
    trial.expect(
        not strange, f"abilities holds {strange}, expected words of {', '.join(ABILITIES)}"
    )
    for batch in ((), (2,), (2, 3), (0,)):
        x = trial.image(op, *batch)
        y = op(x)
        wanted = (*batch, *op.out_shape)
        if not trial.expect(
            tuple(y.shape) == wanted,
            f"A(x) gives {shape_of(y)} for {shape_of(x)}, expected {wanted}",
        ):
            return
        for name, (apply, measured) in _maps(op).items():
            got = apply(y if measured else x)
            wanted = (*batch, *(op.out_shape if name == "A(x)" else op.in_shape))
            trial.expect(
                tuple(got.shape) == wanted, f"{name} gives {shape_of(got)}, expected {wanted}"
            )
        got = op.vjp(x, y)
        trial.expect(got.shape == x.shape, f"vjp gives {shape_of(got)}, expected {shape_of(x)}")


def refusals(trial: Trial) -> None:
    """Wrong shapes, numbers and places are refused in a sentence."""
    op = trial.operator
    x = trial.image(op)
    bad: tuple[tuple[str, object, type[Exception]], ...] = (
        ("an image of another shape", x.new_zeros((*op.in_shape[:-1], op.in_shape[-1] + 1)), ShapeError),
        ("an image on the device 'meta'", x.to("meta"), ConfigError),
        ("a list", x.tolist(), ConfigError),
    )  # fmt: skip
    for what, value, kind in bad:
        try:
            op(value)  # type: ignore[arg-type]
        except kind:
            continue
        except Exception as error:  # which one is the finding
            trial.expect(False, f"{what} raises {type(error).__name__}, expected {kind.__name__}")
        else:
            trial.expect(False, f"{what} is accepted, expected {kind.__name__}")


def pure(trial: Trial) -> None:
    """Inputs stay as they are, results are nobody else's memory, and the same every time."""
    op = trial.operator
    for name, (apply, measured) in _maps(op).items():
        x = _input(trial, op, measured, 2)
        kept = x.clone()
        first = apply(x).clone()
        if not trial.expect(bool(torch.equal(x, kept)), f"{name} changes its input"):
            x = kept.clone()
        again = apply(x)
        trial.expect(
            bool(torch.equal(first, again)), f"{name} gives another result the second time"
        )
        again.mul_(0)
        trial.expect(bool(torch.equal(x, kept)), f"{name} returns memory of its input")
        later = apply(kept.clone())
        trial.expect(
            bool(torch.equal(first, later)), f"{name} returns memory that the operator keeps"
        )
        if name != "pinv":
            strided = kept.transpose(0, -1).contiguous().transpose(0, -1)
            trial.same(apply(strided), first, f"{name} depends on the order in memory")


def batches(trial: Trial) -> None:
    """A batch gives what its items give alone, however different their sizes."""
    op = _double(trial)
    for name, (apply, measured) in _maps(op).items():
        x = _input(trial, op, measured, 3)
        if isinstance(op, LinearOperator):  # a scalar shared by the batch would show
            x = x * x.real.new_tensor([1e-3, 1.0, 1e3]).reshape(3, *[1] * (x.ndim - 1))
        together, least = apply(x), _ITERATED if name == "pinv" else 0
        for got, item in zip(together, x, strict=True):
            what = f"{name} of a batch differs from its items alone"
            trial.same(got, apply(item), what, loss=10, least=least)


def slices(trial: Trial) -> None:
    """`slice_ndim` leading dimensions do not mix."""
    op = _double(trial)
    k = op.slice_ndim
    trial.expect(0 <= k < len(op.in_shape), f"slice_ndim is {k} for images {op.in_shape}")
    if not k or trial.failures:
        return
    lead = op.in_shape[:k]
    trial.expect(lead == op.out_shape[:k], f"{lead} slices become {op.out_shape[:k]} in out_shape")
    x = trial.image(op)
    moved = x.clone()
    moved[(0,) * k] = trial.image(op, number=1)[(0,) * k]
    before, after = op(x).flatten(0, k - 1), op(moved).flatten(0, k - 1)
    trial.same(
        after[1:], before[1:], "a change of the first slice changes the measurement of others"
    )


def adjoint(trial: Trial) -> None:
    """<A x, y> = <x, A^H y>, in both precisions, for signed and for positive numbers."""
    for real in ROUNDING:
        op = cast(LinearOperator, trial.of(real))
        for positive in (False, True):
            x = trial.image(op, 2, number=1, positive=positive)
            y = trial.measurement(op, 2, number=2)
            ax, back = op(x), op.adjoint(y)
            left, right = _inner(ax, y), _inner(x, back)
            scale = float(torch.linalg.vector_norm(ax) * torch.linalg.vector_norm(y))
            trial.same(left, right, f"<A x, y> and <x, A^H y> differ in {real}", scale=scale)


def linear(trial: Trial) -> None:
    """A(a x + z) = a A(x) + A(z), complex a where images are; A^H A is `normal`."""
    op = _double(trial)
    x, z = trial.image(op, number=1), trial.image(op, number=2)
    a = 2.5 - 1j if op.is_complex else 2.5
    trial.same(op(a * x + z), a * op(x) + op(z), "A(a x + z) is not a A(x) + A(z)")
    trial.same(op.normal(x), op.adjoint(op(x)), "normal(x) is not A^H (A x)")


def norm(trial: Trial) -> None:
    """`norm` is the largest singular value, approached from below."""
    op = _double(trial)
    x = trial.image(op, 8)
    stretch = torch.linalg.vector_norm(op(x).flatten(1), dim=1)
    stretch = stretch / torch.linalg.vector_norm(x.flatten(1), dim=1)
    found = op.norm()
    trial.expect(found >= float(stretch.max()) * (1 - 1e-3), f"norm is {found:.4g}, and there are images "
                 f"that become {float(stretch.max()):.4g} times as long")  # fmt: skip
    if _entries(op) <= SMALL:
        largest = float(torch.linalg.svdvals(dense(op))[0])
        trial.expect(
            abs(found - largest) <= 1e-3 * largest, f"norm is {found:.4g}, not {largest:.4g}"
        )


def precision(trial: Trial) -> None:
    """`.to(dtype)` moves to single and double precision; results follow."""
    results = []
    plain = trial.image(trial.of(torch.float32))
    for real in ROUNDING:
        op = trial.of(real)
        x = plain.to(real.to_complex() if op.is_complex else real)
        for name, (apply, measured) in _maps(op).items():
            got = apply(op(x) if measured else x)
            trial.expect(got.dtype.to_real() == real, f"{name} gives {got.dtype} in {real}")
        results.append(op(x).to(torch.complex128 if op(x).is_complex() else torch.float64))
    trial.same(
        results[0], results[1], "single and double precision differ", least=ROUNDING[torch.float32]
    )


def mixed(trial: Trial) -> None:
    """Images of another precision than the operator's: half is raised, double computed in double or refused."""
    op = trial.of(torch.float32)
    x = trial.image(op)
    half = op(x.real.to(torch.float16))
    trial.expect(half.dtype.to_real() == torch.float32, f"half precision gives {half.dtype}")
    try:
        high = op(x.to(torch.complex128 if x.is_complex() else torch.float64))
    except RestoreError:
        return
    except RuntimeError as error:
        trial.expect(False, "double images on an operator of single precision: multiply with tensor.to(x.dtype), or "
                     f"refuse them ({str(error).splitlines()[0]})")  # fmt: skip
        return
    trial.expect(high.dtype.to_real() == torch.float64, f"double images give {high.dtype}")
    trial.same(op(x).to(high.dtype), high, "double images differ", least=ROUNDING[torch.float32])


def devices(trial: Trial) -> None:
    """`.to(device)` moves everything; devices agree."""
    op = _double(trial)
    for place in ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]:
        there = op.to(place)
        for name, (apply, measured) in _maps(there).items():
            x = _input(trial, op, measured)
            got = apply(x.to(place))
            trial.expect(
                str(got.device) == place, f"{name} on {place} gives a result on {got.device}"
            )
            here, least = _maps(op)[name][0](x), _ITERATED if name == "pinv" else 0
            trial.same(got.to(op.device), here, f"{name} differs on {place}", loss=10, least=least)


def copies(trial: Trial) -> None:
    """Copies, with caches filled, do the same."""
    op = trial.operator
    x = trial.image(op)
    y = op(x)
    for twin in (copy.deepcopy(op), copy.copy(op), op.to(op.dtype)):
        trial.expect(bool(torch.equal(twin(x), y)), "a copy gives another result")


def gradients(trial: Trial) -> None:
    """Autograd gives `vjp`, also after the first use was in inference mode, and the second derivative."""
    op = copy.copy(_double(trial))
    with torch.inference_mode():
        op(trial.image(op))
        op.pinv(op(trial.image(op)))
    for name, (apply, measured) in _maps(op).items():
        if name == "pinv":  # a starting point, not to be differentiated
            continue
        x = _input(trial, op, measured).requires_grad_()
        out = apply(x)
        v = trial._draw(op, tuple(out.shape), out.is_complex(), 5, False)
        (got,) = torch.autograd.grad(out, x, v)
        trial.same(
            got, _pullback(op, name, x.detach(), v), f"the gradient of {name} is not its vjp"
        )
    if isinstance(op, LinearOperator):
        x = trial.image(op).requires_grad_()
        (first,) = torch.autograd.grad(op(x).abs().square().sum() / 2, x, create_graph=True)
        v = trial.image(op, number=5)
        (second,) = torch.autograd.grad(first, x, v)
        trial.same(second, op.normal(v), "the second derivative of |A x|^2 / 2 is not A^H A")


def transforms(trial: Trial) -> None:
    """grad, vjp, jvp and vmap of `torch.func`."""
    op = _double(trial)
    for name, (apply, measured) in _maps(op).items():
        if name == "pinv":
            continue
        x, t = _input(trial, op, measured, 2), _input(trial, op, measured, 2) * 0.5
        out, pull = torch.func.vjp(apply, x)[:2]
        v = trial._draw(op, tuple(out.shape), out.is_complex(), 5, False)
        trial.same(pull(v)[0], _pullback(op, name, x, v), f"torch.func.vjp of {name}")
        ahead = torch.func.jvp(apply, (x,), (t,))[1]
        # Forwards and backwards are one derivative.
        scale = float(torch.linalg.vector_norm(ahead) * torch.linalg.vector_norm(v))
        trial.same(
            _inner(ahead, v).real,
            _inner(t, pull(v)[0]).real,
            f"torch.func.jvp of {name}",
            scale=scale,
        )
        trial.same(torch.func.vmap(apply)(x), apply(x), f"torch.func.vmap of {name}")
        turned = torch.func.vmap(apply, in_dims=1)(x.movedim(0, 1))
        trial.same(turned, apply(x), f"torch.func.vmap of {name} along another dimension")
    x = trial.image(op)
    energy = torch.func.grad(lambda z: op(z).abs().square().sum() / 2)(x)
    trial.same(energy, op.vjp(x, op(x)), "torch.func.grad of |A(x)|^2 / 2")


def derivative(trial: Trial) -> None:
    """`vjp` of an operator that is not linear, against central differences."""
    op = _double(trial)
    for number in range(3):
        x, d = trial.image(op, number=number), trial.image(op, number=number + 10) - 0.5
        v = trial.measurement(op, number=number + 20)
        ahead = (op(x + _DIFFERENCE * d) - op(x - _DIFFERENCE * d)) / (2 * _DIFFERENCE)
        scale = float(torch.linalg.vector_norm(ahead) * torch.linalg.vector_norm(v))
        trial.same(
            _inner(op.vjp(x, v), d).real, _inner(v, ahead).real,
            "vjp differs from central differences", scale=scale, least=_DIFFERENCE,
        )  # fmt: skip


def decomposition(trial: Trial) -> None:
    """A = U S V^H with V unitary, in the digits of single precision (in which a kernel may have been made)."""
    op = _double(trial)
    if "svd" not in op.abilities or (_entries(op) > SMALL and not op._has_svd):
        return
    svd = op.svd(op(trial.image(op)))
    if svd is None:
        trial.expect(False, "abilities holds 'svd', and svd() is None")
        return
    x, z = trial.image(op, 2), trial.measurement(op, 2)
    trial.expect(bool((svd.values >= 0).all()), "singular values below zero")
    for got, wanted, what in (
        (svd.v(svd.vh(x)), x, "V V^H x is not x"),
        (svd.apply(x), op(x), "U S V^H x is not A x"),
        (svd.v(svd.uh(op(x)) * svd.values), op.normal(x), "V S U^H A x is not A^H A x"),
        (svd.v(svd.values * svd.uh(z)), op.adjoint(z), "V S U^H y is not A^H y"),
    ):
        trial.same(got, wanted, what, least=_DIGITS)


def data_step(trial: Trial) -> None:
    """The slope of 1/2 ||v - x0||^2 + weight precision/2 ||A v - y||^2 is zero at `proximal_point`."""
    op = _double(trial)
    y, x0, precision = op(trial.image(op, number=3)), trial.image(op, number=4), 2.0
    point = op.proximal_point(y, precision)
    for weight in (0.3, 1e4) if point is not None else ():
        v = cast(ProximalPoint, point)(x0, weight)
        pull = weight * precision * op.adjoint(op(v) - y)
        # Where the weight is large, the slope is a difference of large numbers.
        large = weight * precision * float(torch.linalg.vector_norm(op.adjoint(y)))
        scale = float(torch.linalg.vector_norm(x0)) + large
        trial.same(v - x0 + pull, 0 * x0, "the slope is not zero", scale=scale, least=_DIGITS)


def inverse(trial: Trial) -> None:
    """`pinv` is finite; of nothing it is nothing, for linear operators, and it brings A(x) nearer to y."""
    op = _double(trial)
    y = op(trial.image(op))
    image = op.pinv(y)
    trial.expect(bool(torch.isfinite(image).all()), "pinv gives numbers that are not finite")
    if isinstance(op, LinearOperator):
        trial.expect(not bool(op.pinv(torch.zeros_like(y)).any()), "pinv of zeros is not zero")
        rest, all_ = (float(torch.linalg.vector_norm(t)) for t in (op(image) - y, y))
        trial.expect(
            rest <= all_, f"A(pinv(y)) is further from y than nothing: {rest:.3g} > {all_:.3g}"
        )


def looks(trial: Trial) -> None:
    """`picture`, `unit_scale`, `project`, and what single abilities promise."""
    op = trial.operator
    x = trial.image(op, 2, positive=True)
    y = op(x)
    shown = op.picture(y)
    trial.expect(shown.shape == x.shape, f"picture gives {shape_of(shown)}, expected {shape_of(x)}")
    if bool((y != 0).any()):
        scale = op.unit_scale(y)
        trial.expect(isinstance(scale, Scaling), f"unit_scale gives a {type(scale).__name__}")
    projected = op.project(y)
    trial.same(projected, y, "project changes A x")
    other = op.project(trial.measurement(op, 2))
    trial.same(op.project(other), other, "project changes what it gave")
    if "interpolates" in op.abilities:
        got = op.interpolate(y)
        trial.expect(
            got.shape == x.shape, f"interpolate gives {shape_of(got)}, expected {shape_of(x)}"
        )
    if "backprojects" in op.abilities:
        got = op.backproject(y, "hann")
        trial.expect(
            got.shape == x.shape, f"backproject gives {shape_of(got)}, expected {shape_of(x)}"
        )
    if "identity" in op.abilities:
        trial.same(y, x, "abilities holds 'identity', and A x is not x")
    if "selects" in op.abilities:
        trial.same(
            y, torch.where(y != 0, x, 0), "abilities holds 'selects', and A x is neither x nor zero"
        )


LAWS = {
    "shapes": Law("shapes of batches, words of the contract", shapes),
    "refusals": Law("wrong shapes, types and devices are refused in a sentence", refusals),
    "pure": Law("inputs stay, the same result every time, in any memory order", pure),
    "batches": Law("a batch gives what its items give alone", batches),
    "slices": Law("slice_ndim leading dimensions do not mix", slices),
    "adjoint": Law("<A x, y> = <x, A^H y>", adjoint, linear=True),
    "linear": Law("A(a x + z) = a A(x) + A(z), normal is A^H A", linear, linear=True),
    "derivative": Law("vjp agrees with central differences", derivative, linear=False),
    "norm": Law("norm is the largest singular value", norm, linear=True),
    "precision": Law("float32 and float64", precision),
    "mixed": Law("half and double images on an operator of single precision", mixed),
    "devices": Law("every device of this machine", devices),
    "copies": Law("copies do the same", copies),
    "gradients": Law("autograd gives vjp, after inference mode too", gradients),
    "transforms": Law("grad, vjp, jvp and vmap of torch.func", transforms),
    "svd": Law("A = U S V^H where there is one", decomposition, linear=True),
    "data step": Law("the exact data step where there is one", data_step, linear=True),
    "pinv": Law("pinv is finite and brings A(x) nearer to y", inverse),
    "looks": Law("picture, unit_scale, project and abilities", looks),
}


def _double(trial: Trial) -> LinearOperator:
    """In double precision. Typed for the laws of linear operators; the others use what all have."""
    return cast(LinearOperator, trial.double())


def _pullback(op: Operator, name: str, x: Tensor, v: Tensor) -> Tensor:
    """The derivative of a map of `_maps`, backwards."""
    if isinstance(op, LinearOperator) and name != "A(x)":
        return op(v) if name == "adjoint" else op.normal(v)
    return op.vjp(x, v)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a.conj() * b).sum()


def _entries(op: Operator) -> int:
    return math.prod(op.in_shape) * math.prod(op.out_shape)
