"""The one operator that stands for a linear map of any other library, and the test that its adjoint is one.

Called by the files of this folder, one for each library, which say how tensors become that library's arrays.
Imports only the operator contract, torch and the package's errors.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol, Self, final

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.base import KINDS, LinearOperator, least_squares
from restore.operators.ct.line_integrals import attenuation_scale
from restore.operators.interop.arrays import BatchTimes, NumpyProducts
from restore.operators.mri.multicoil import SENSE_DAMPING, SENSE_STEPS
from restore.scaling import Scaling

MATCHED = 1e-3
"""Relative mismatch of an adjoint above which an operator is refused: conjugate gradients stall at about that level."""

_PROBES = 4
_CPU = torch.device("cpu")


class Products(Protocol):
    """How a library computes A x and A^H y for a number of items at a time."""

    def forward(self, x: Tensor) -> Tensor:
        """A x: (n, *in_shape) -> (n, *out_shape), on the device and in the kind of number of x."""

    def backward(self, y: Tensor) -> Tensor:
        """A^H y: (n, *out_shape) -> (n, *in_shape), on the device and in the kind of number of y."""

    def to(self, target: torch.device | torch.dtype) -> Self:
        """For another device or precision, where the library has a choice."""


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Foreign(LinearOperator):
    """A linear map of another library as an operator of ours; made by `restore.operators.interop.from_...`.

    products: the library's two products. name: its library and what it calls the map. image_shape, data_shape: without
    batch dimensions; batches go through item by item where the library knows none. dtype: lower bound of the precision
    of results, float32 unless changed by `.to`; a tensor of higher precision keeps its own. Where the library computes
    in one precision only, numbers are brought to that and back. device: where norms and starting points begin; a tensor
    of any device is taken to where the library computes, and the answer back to where the tensor was.

    kind: "mri", "ct" (lengths in mm, images in 1/mm) or "image", what samplers choose their presets by. mismatch: how
    far the library's adjoint is from the conjugate transpose, see `mismatch_of`.
    """

    products: Products
    name: str
    image_shape: tuple[int, ...]
    data_shape: tuple[int, ...]
    is_complex: bool = False
    kind: str = "image"
    dtype: torch.dtype = torch.float32
    device: torch.device = _CPU
    mismatch: float = 0.0

    @classmethod
    def example(cls, generator: torch.Generator) -> Foreign:
        """A tiny instance for tests: a complex matrix in numpy."""
        matrix = torch.randn(6, 12, generator=generator, dtype=torch.complex128).numpy()
        maps = BatchTimes(matrix, (2, 3)), BatchTimes(matrix.conj().T, (3, 4))
        products = NumpyProducts(*maps, (3, 4), (2, 3), is_complex=True, batched=True)
        return cls(products, "numpy matrix", (3, 4), (2, 3), is_complex=True)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return self.image_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of a measurement."""
        return self.data_shape

    @property
    def note(self) -> str:
        """What to know about the adjoint, "" where it is matched."""
        if self.mismatch <= MATCHED:
            return ""
        return (
            f"its adjoint is off by {100 * self.mismatch:.2g} %: gradients are approximate, and conjugate gradients "
            "stall at about that relative error"
        )

    def to(self, target: torch.device | str | torch.dtype) -> Self:
        """A copy for another device or another real precision."""
        target = self._target(target)
        products = self.products.to(target)
        if isinstance(target, torch.dtype):
            return dataclasses.replace(self, dtype=target, products=products)
        return dataclasses.replace(self, device=target, products=products)

    def unit_scale(self, y: Tensor) -> Scaling:
        """As our own operators of the kind: for "ct" that of attenuation in 1/mm, whatever y is."""
        return attenuation_scale() if self.kind == "ct" else super().unit_scale(y)

    def _pinv(self, y: Tensor) -> Tensor:
        """For "mri" a few damped CG-SENSE steps, as `MultiCoilMRI` has them; else the general one."""
        if self.kind != "mri":
            return super()._pinv(y)
        damping = SENSE_DAMPING * self.norm() ** 2
        return least_squares(self, y, iterations=SENSE_STEPS, damping=damping)

    def _apply(self, x: Tensor) -> Tensor:
        return self._product(self.products.forward, x, self.in_shape, self.out_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._product(self.products.backward, y, self.out_shape, self.in_shape)

    def _product(
        self, product: object, x: Tensor, before: tuple[int, ...], after: tuple[int, ...]
    ) -> Tensor:
        """One product of any batch; a real map sees the real and the imaginary part apart."""
        if x.is_complex() and not self.is_complex:
            parts = self._product(product, torch.stack([x.real, x.imag]), before, after)
            return torch.complex(parts[0], parts[1])
        batch = x.shape[: x.ndim - len(before)]
        flat = x.detach().reshape(math.prod(batch), *before)
        if not len(flat):  # libraries differ in what they make of nothing
            return x.new_empty((*batch, *after))
        return product(flat).reshape(*batch, *after)  # type: ignore[operator]

    def __repr__(self) -> str:
        sizes = ["x".join(map(str, s)) for s in (self.in_shape, self.out_shape)]
        note = f", {self.note}" if self.note else ""
        return f"Foreign({self.name}, {sizes[0]} -> {sizes[1]}{note})"


def wrapped(operator: Foreign, *, allow_unmatched: bool) -> Foreign:
    """The operator with its mismatch measured.

    Raises ConfigError where the adjoint is off by more than MATCHED and that is not allowed, where the library's
    products do not give the shapes that were said, and for an unknown kind.
    """
    if operator.kind not in KINDS:
        raise ConfigError(f"kind is {operator.kind!r}, expected one of {', '.join(KINDS)}")
    found = dataclasses.replace(operator, mismatch=mismatch_of(operator))
    if found.note and not allow_unmatched:
        raise ConfigError(
            f"{found}; samplers need the conjugate transpose: repair it, or accept it with allow_unmatched=True"
        )
    return found


def mismatch_of(operator: LinearOperator) -> float:
    """||B - A^H||_F / ||A||_F of what an operator gives as A and B, estimated from a few products of each.

    With independent standard normal x and y, <A x, y> - <x, B y> has mean square ||B - A^H||_F^2 and A x has
    ||A||_F^2. One more pair of positive numbers shows a systematic error that random signs would hide. In the
    operator's precision, whose rounding it shows where the adjoint is exact (some 1e-7 in single precision).
    """
    generator = torch.Generator().manual_seed(0)
    number = operator.dtype.to_complex() if operator.is_complex else operator.dtype
    errors, sizes, systematic = [], [], 0.0
    for probe in range(_PROBES + 1):
        x, y = (
            torch.randn(shape, generator=generator, dtype=number)
            for shape in (operator.in_shape, operator.out_shape)
        )
        if probe == _PROBES:
            x, y = x.abs().to(number), y.abs().to(number)
        x, y = x.to(operator.device), y.to(operator.device)
        ax, by = _double(operator._apply(x)), _double(operator._adjoint(y))
        error = abs(complex(torch.sum(ax.conj() * _double(y)) - torch.sum(_double(x).conj() * by)))
        if probe < _PROBES:
            errors.append(error**2)
            sizes.append(float(ax.abs().square().sum()))
        else:
            scale = float(torch.linalg.vector_norm(ax) * torch.linalg.vector_norm(y))
            systematic = error / scale if scale else 0.0
    total = sum(sizes)
    return max(math.sqrt(sum(errors) / total), systematic) if total else float(sum(errors) > 0)


def _double(x: Tensor) -> Tensor:
    return x.to(torch.complex128 if x.is_complex() else torch.float64)
