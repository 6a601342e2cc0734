"""Operators made of several others: stacks of measurements of one image, and block diagonals of images side by side.

Called by anybody who combines operators; imports only the contract. Products, sums, multiples and adjoints, which
arithmetic makes, lie in `restore.operators.base`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import final

import torch
from torch import Tensor

from restore.errors import ShapeError
from restore.linalg.singular import SVD, ProximalPoint
from restore.operators.base import Several
from restore.operators.diagonal import Diagonal
from restore.scaling import Scaling


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Stack(Several):
    """Several measurements of one image: x -> (A_1 x, A_2 x, ...).

    Measurements of equal shape are stacked along a new dimension, behind those of the slices that no operator mixes
    (`slice_ndim`; in front where there are none); unequal ones are flattened, slice by slice, and joined into a vector.
    Raises ConfigError for an empty list and ShapeError where the operators take different images.
    """

    def _check_shapes(self) -> None:
        if len({op.in_shape for op in self.operators}) > 1:
            shapes = ", ".join(str(op.in_shape) for op in self.operators)
            raise ShapeError(f"Stack: operators take images of shapes {shapes}, expected one shape")

    @classmethod
    def example(cls, generator: torch.Generator) -> Stack:
        """A tiny instance for tests."""
        weights = torch.randn(2, 3, 4, generator=generator)
        return cls(tuple(Diagonal(w, (3, 4)) for w in weights))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """The common shape of the images."""
        return self.operators[0].in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(*slices, n, *shape) for equal measurements, (*slices, total) otherwise."""
        k, shapes = self.slice_ndim, [op.out_shape for op in self.operators]
        if self._even:
            return (*shapes[0][:k], len(shapes), *shapes[0][k:])
        return (*shapes[0][:k], sum(math.prod(shape[k:]) for shape in shapes))

    @property
    def slice_ndim(self) -> int:
        """Leading dimensions that no operator mixes and all keep."""
        lead = [
            op.slice_ndim if op.in_shape[: op.slice_ndim] == op.out_shape[: op.slice_ndim] else 0
            for op in self.operators
        ]
        return min(lead)

    def unit_scale(self, y: Tensor) -> Scaling:
        """That of the first operator of the stack's kind, from its own measurement."""
        if self.is_complex:
            return super().unit_scale(y)
        pairs = zip(self.operators, self._parted(self._measured(y)), strict=True)
        return next(op.unit_scale(part) for op, part in pairs if op.kind == self.kind)

    def project(self, y: Tensor) -> Tensor:
        """Each measurement as its operator does."""
        pairs = zip(self.operators, self._parted(self._measured(y)), strict=True)
        return self._joined([op.project(part) for op, part in pairs], y.ndim - len(self.out_shape))

    @property
    def _even(self) -> bool:
        return len({op.out_shape for op in self.operators}) == 1

    def _apply(self, x: Tensor) -> Tensor:
        parts = [op._apply(x) for op in self.operators]
        return self._joined(parts, x.ndim - len(self.in_shape))

    def _joined(self, parts: list[Tensor], batch_ndim: int) -> Tensor:
        """One measurement of those of all operators."""
        place = batch_ndim + self.slice_ndim
        if self._even:
            return torch.stack(parts, dim=place)
        return torch.cat([p.flatten(place) for p in parts], -1)

    def _adjoint(self, y: Tensor) -> Tensor:
        pairs = zip(self.operators, self._parted(y), strict=True)
        return _total(op._adjoint(part) for op, part in pairs)

    def _normal(self, x: Tensor) -> Tensor:
        return _total(op._normal(x) for op in self.operators)

    def _parted(self, y: Tensor) -> list[Tensor]:
        """The measurement of each operator."""
        k = self.slice_ndim
        place = y.ndim - len(self.out_shape) + k
        if self._even:
            return list(y.unbind(place))
        sizes = [math.prod(op.out_shape[k:]) for op in self.operators]
        return [
            part.unflatten(-1, op.out_shape[k:])
            for op, part in zip(self.operators, y.split(sizes, dim=-1), strict=True)
        ]


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BlockDiagonal(Several):
    """Several images with an operator each: (x_1, x_2, ...) -> (A_1 x_1, A_2 x_2, ...), along a new leading dimension.

    For slices or views that were measured differently; the blocks are slices of it (`slice_ndim`). Raises ConfigError
    for an empty list and ShapeError where shapes differ.
    """

    def _check_shapes(self) -> None:
        shapes = sorted({(op.in_shape, op.out_shape) for op in self.operators})
        if len(shapes) > 1:
            found = ", ".join(f"{a} -> {b}" for a, b in shapes)
            raise ShapeError(f"BlockDiagonal: operators go {found}, expected the same shapes")

    @classmethod
    def example(cls, generator: torch.Generator) -> BlockDiagonal:
        """A tiny instance for tests."""
        return cls(tuple(Stack.example(generator) for _ in range(3)))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(n, *shape of an image)."""
        return (len(self.operators), *self.operators[0].in_shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(n, *shape of a measurement)."""
        return (len(self.operators), *self.operators[0].out_shape)

    @property
    def slice_ndim(self) -> int:
        """The blocks, and what no block mixes."""
        return 1 + min(op.slice_ndim for op in self.operators)

    @property
    def abilities(self) -> frozenset[str]:
        """What all blocks can do, but to be cut into views, which lead each block's measurement alone."""
        common = functools.reduce(frozenset.__and__, (op.abilities for op in self.operators))
        return common - {"subsets"} | super().abilities

    def unit_scale(self, y: Tensor) -> Scaling:
        """That of the first block of the kind, from its own measurement; from all images where they are complex."""
        if self.is_complex:
            return super().unit_scale(y)
        number = next(i for i, op in enumerate(self.operators) if op.kind == self.kind)
        part = self._measured(y).select(-len(self.out_shape), number)
        return self.operators[number].unit_scale(part)

    def picture(self, y: Tensor) -> Tensor:
        """The blocks' pictures."""
        return self._each([op.picture for op in self.operators], self._measured(y), self.out_shape)

    def project(self, y: Tensor) -> Tensor:
        """The blocks' measurements, each as its operator does."""
        return self._each([op.project for op in self.operators], self._measured(y), self.out_shape)

    def interpolate(self, y: Tensor) -> Tensor:
        """The blocks' measurements, enlarged. Raises ConfigError."""
        maps = [op.interpolate for op in self.operators]
        return self._each(maps, self._measured(y), self.out_shape)

    def backproject(self, y: Tensor, filter: str = "ramp") -> Tensor:
        """The blocks' measurements, backprojected. Raises ConfigError."""
        maps = [functools.partial(op.backproject, filter=filter) for op in self.operators]
        return self._each(maps, self._measured(y), self.out_shape)

    def proximal_point(self, y: Tensor, precision: float) -> ProximalPoint | None:
        """Those of the blocks, where all have one."""
        pairs = zip(self.operators, y.unbind(y.ndim - len(self.out_shape)), strict=True)
        found = [op.proximal_point(part, precision) for op, part in pairs]
        points = [point for point in found if point is not None]
        if len(points) < len(found):
            return None

        def point(x0: Tensor, weight: float) -> Tensor:
            place = x0.ndim - len(self.in_shape)
            parts = zip(points, x0.unbind(place), strict=True)
            return torch.stack([p(x, weight) for p, x in parts], place)

        return point

    @property
    def _has_svd(self) -> bool:
        uniform = all(op.is_complex == self.is_complex for op in self.operators)
        return uniform and all(op._has_svd for op in self.operators)

    def _svd(self, like: Tensor) -> SVD | None:
        parts = [found for op in self.operators if (found := op._svd(like)) is not None]
        if len(parts) < len(self.operators):
            return None
        kind = like.dtype.to_real().to_complex() if self.is_complex else like.dtype.to_real()
        one = torch.zeros(self.in_shape[1:], dtype=kind, device=like.device)
        sizes = [part.vh(one).shape for part in parts]
        values = torch.stack([p.values.expand(s) for p, s in zip(parts, sizes, strict=True)])

        def each(name: str, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
            return lambda x: self._each([getattr(p, name) for p in parts], x, shape)

        return SVD(
            values,
            each("vh", self.in_shape),
            each("v", tuple(values.shape)),
            each("uh", self.out_shape),
            each("u", tuple(values.shape)),
        )

    def _each(
        self, maps: Sequence[Callable[[Tensor], Tensor]], x: Tensor, shape: tuple[int, ...]
    ) -> Tensor:
        """Every map on its block. x: (*batch, *shape)."""
        place = x.ndim - len(shape)
        parts = x.unbind(place)
        return torch.stack([m(p) for m, p in zip(maps, parts, strict=True)], place)

    def _apply(self, x: Tensor) -> Tensor:
        return self._each([op._apply for op in self.operators], x, self.in_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._each([op._adjoint for op in self.operators], y, self.out_shape)

    def _normal(self, x: Tensor) -> Tensor:
        return self._each([op._normal for op in self.operators], x, self.in_shape)

    def _pinv(self, y: Tensor) -> Tensor:
        return self._each([op._pinv for op in self.operators], y, self.out_shape)


def _total(parts: Iterable[Tensor]) -> Tensor:
    first, *others = parts
    for part in others:
        first = first + part
    return first
