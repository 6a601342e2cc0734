"""Problem, Step and Reconstruction: what a sampler is given, what it yields, what a user gets.

Lies between operators and samplers; every sampler takes the same Problem.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.noise import Gaussian, Noise
from restore.operators.base import LinearOperator, Operator
from restore.scaling import Scaling
from restore.solvers.proximal import DataTerm

_AT_ONCE = 2**22
"""Numbers of a residual whose squares are held at once."""


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A measurement y = A x + noise, seen in the prior's intensity units.

    y: (*batch, *operator.out_shape) in its own units. noise: `Exact()` where there is none; None where it is unknown:
    `restore.solve` estimates it, a sampler that is run by hand takes y for exact. ids: one name per item (batch and
    slice dimensions flattened), which seed the noise; default "0", "1", ...
    planes: of items that are volumes (D, H, W), the axes 0, 1, 2 across which the planes lie that a prior is shown by
    turns; empty where an item is an image, or a volume seen along its slices as its operator's kind has it.
    frames: the times at which the same was measured: all items of the first time, in order, then all of the second, and
    so on. 1: no time passes. Each frame may have a mask or views of its own (`operators.algebra.BlockDiagonal`).
    A non-linear operator is served by samplers that follow gradients (`gradient`, `residual`); its measurement cannot
    be rescaled. Raises ShapeError, ConfigError (non-finite measurement, scaled non-linear measurement, planes
    of images, frames that do not divide the items).
    """

    y: Tensor
    operator: Operator
    noise: Noise | None = None
    scaling: Scaling = Scaling()
    ids: tuple[str, ...] = ()
    planes: tuple[int, ...] = ()
    frames: int = 1

    def __post_init__(self) -> None:
        shape = self.operator.out_shape
        if self.y.ndim < len(shape) or tuple(self.y.shape[self.y.ndim - len(shape) :]) != shape:
            raise ShapeError(
                f"{self.operator}: measurement is {tuple(self.y.shape)}, expected (*batch, {shape})"
            )
        wants_complex = self.operator.kind == "mri" and self.operator.is_complex
        if wants_complex and not self.y.is_complex():
            raise ConfigError(
                f"k-space must be complex, found {self.y.dtype}: magnitudes hold no image; pass the complex samples"
            )
        _check_levels(self.noise, self.y)
        bad = int((~torch.isfinite(self.operator.project(self.y))).sum())
        if bad:
            raise ConfigError(
                f"the measurement holds {bad} non-finite values; repair or mask them first"
            )
        if "linear" not in self.operator.abilities and self.scaling.scale != 1:
            raise ConfigError(f"{self.operator}: a non-linear measurement cannot be rescaled")
        if self.planes and (self.item_ndim != 3 or not {*self.planes} <= {0, 1, 2}):
            raise ConfigError(
                f"planes across the axes {self.planes} of items of {self.item_ndim} dimensions; volumes have the axes "
                "0, 1 and 2"
            )
        if not self.ids:
            object.__setattr__(self, "ids", tuple(str(i) for i in range(self.items)))
        if not self.items:
            raise ShapeError(f"{self.operator}: the measurement {tuple(self.y.shape)} is empty")
        if self.frames < 1 or self.items % self.frames:
            raise ConfigError(
                f"{self.frames} frames of {self.items} items {self.item_shape}: every frame has as many items"
            )
        if len(self.ids) != self.items:
            raise ShapeError(
                f"{len(self.ids)} ids for {self.items} items of shape {self.item_shape}"
            )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(*batch, *in_shape)."""
        return (
            *self.y.shape[: self.y.ndim - len(self.operator.out_shape)],
            *self.operator.in_shape,
        )

    @property
    def item_ndim(self) -> int:
        """Trailing dimensions of one item."""
        return self.operator.item_ndim

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item: a slice (H, W), a photograph (C, H, W) or a volume (D, H, W)."""
        return self.image_shape[len(self.image_shape) - self.item_ndim :]

    @property
    def has_volumes(self) -> bool:
        """Whether an item is a volume (D, H, W) whose slices the measurement does not tell apart, not a photograph; so
        are the components (C, H, W) of a slice."""
        return bool(self.planes) or (self.operator.kind in ("mri", "ct") and self.item_ndim == 3)

    @property
    def slice_axis(self) -> int | None:
        """The dimension of images, from the last, along which slices follow each other: of a volume, else the one in
        front of an item; None for a single image."""
        joined = self.has_volumes and not self.operator.sums_components
        axis = self.item_ndim if joined else self.item_ndim + 1
        return -axis if axis <= len(self.image_shape) else None

    @property
    def items(self) -> int:
        """Number of items."""
        return int(torch.Size(self.image_shape[: len(self.image_shape) - self.item_ndim]).numel())

    @property
    def linear(self) -> LinearOperator:
        """The operator, for samplers that need a linear one. Raises ConfigError."""
        if isinstance(self.operator, LinearOperator):
            return self.operator
        raise ConfigError(
            f"{self.operator} is not linear; use a sampler that follows gradients: reddiff, dps, flowchef"
        )

    @cached_property
    def unit_y(self) -> Tensor:
        """The measurement in unit intensities, zero where nothing was measured (see `Operator.project`)."""
        return self.scaling.to_unit(self.operator.project(self.y))

    @cached_property
    def data(self) -> DataTerm:
        """The noise-weighted data term in unit intensities; unweighted where there is none."""
        return DataTerm(self.linear, self.unit_y, self.precision)

    @cached_property
    def unweighted(self) -> DataTerm:
        """The data term with precision one: for the published settings, whose weights are absolute."""
        return DataTerm(self.linear, self.unit_y, None)

    @cached_property
    def degraded(self) -> Tensor:
        """The classical image of the measurement (SENSE, FBP, ...) in unit intensities: a starting point."""
        return self.operator.pinv(self.unit_y)

    @cached_property
    def observed(self) -> Tensor:
        """The measurement as a picture of the image's size, which conditional models were trained on.

        As the operator shows it: see `Operator.picture`.
        """
        return self.operator.picture(self.unit_y)

    def without(self, structured: Tensor | None) -> Problem:
        """The problem of the measurement less a part of it that is no image's: structured noise (`Step.structured`),
        (*batch, *out_shape) in unit intensities. Itself for None."""
        if structured is None:
            return self
        left = self.operator.project(self.y) - self.scaling.to_physical(structured)
        return dataclasses.replace(self, y=left)

    def residual(self, x: Tensor) -> Tensor:
        """A(x) - y in unit intensities, unweighted. x: (*batch, *in_shape) -> (*batch, *out_shape)."""
        return self.operator(x) - self.unit_y

    def gradient(self, x: Tensor, *, weighted: bool = True) -> Tensor:
        """A'(x)^H Lambda (A(x) - y), the gradient of the data term, for linear and non-linear operators.

        weighted: Lambda is the precision where there is one, else (and where False) the identity.
        """
        if "linear" in self.operator.abilities:
            return (self.data if weighted else self.unweighted).gradient(x)
        r = self.residual(x)
        p = self.precision if weighted else None
        return self.operator.vjp(x, r if p is None else r * p)

    def misfit(self, x: Tensor) -> float:
        """||A x - y|| / (std sqrt(m)), about 1 for a perfect fit; relative to ||y|| without a precision."""
        r, p = self.residual(x), self.precision
        if p is None:
            return float(
                torch.linalg.vector_norm(r) / torch.linalg.vector_norm(self.unit_y).clamp(min=1e-30)
            )
        total, count = torch.zeros((), dtype=torch.float64), 0
        for part, y, weight in _parts(r, self.unit_y, p):
            weighted = (weight * part.abs().square())[y != 0]
            total, count = total + weighted.sum(dtype=torch.float64).cpu(), count + weighted.numel()
        channels = 2 if r.is_complex() else 1
        return float((total / (count * channels)).sqrt()) if count else 0.0

    @cached_property
    def precision(self) -> Tensor | float | None:
        """1/variance per real channel in unit intensities, a number or like y; None where there is no noise, or where
        it is unknown."""
        found = None if self.noise is None else self.noise.precision(self.y)
        return None if found is None else found * self.scaling.scale**2


def _parts(
    r: Tensor, y: Tensor, weight: Tensor | float
) -> Iterator[tuple[Tensor, Tensor, Tensor | float]]:
    """A residual, its measurement and their weight in parts of a bounded size, along the first axis of several."""
    if r.numel() <= _AT_ONCE:
        yield r, y, weight
        return
    axis = next(d for d, n in enumerate(r.shape) if n > 1)
    step = max(1, _AT_ONCE * r.shape[axis] // r.numel())
    for start in range(0, r.shape[axis], step):
        part = axis, start, min(step, r.shape[axis] - start)
        there = weight.broadcast_to(r.shape).narrow(*part) if isinstance(weight, Tensor) else weight
        yield r.narrow(*part), y.narrow(*part), there


def _check_levels(noise: Noise | None, y: Tensor) -> None:
    """Refuse levels that do not stand in the measurement's shape (ShapeError)."""
    if not isinstance(noise, Gaussian) or not isinstance(noise.std, Tensor) or not noise.std.ndim:
        return
    shape = tuple(noise.std.shape)
    fits = len(shape) <= y.ndim and all(
        n in (1, m) for n, m in zip(reversed(shape), reversed(y.shape), strict=False)
    )
    if not fits:
        raise ShapeError(
            f"noise of shape {shape} does not broadcast to the measurement {tuple(y.shape)}; one level an item or a "
            f"channel stands in its place, such as {(*shape[:1], *[1] * (y.ndim - 1))} or {(*shape[:1], 1, 1)}"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One step of a sampler: number i of n, noise level, estimate of the clean image (unit intensities).

    structured: the part of the measurement that the sampler lays to structured noise, like y in unit intensities.
    """

    i: int
    n: int
    sigma: float
    x0: Tensor
    evaluations: int
    info: dict[str, Any] = dataclasses.field(default_factory=dict)
    structured: Tensor | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Reconstruction:
    """What `restore.solve` returns, in the units of the measurement.

    image: the single sample, or the mean over samples. std: pixel-wise standard deviation over samples (None for
    one). samples: (K, ...) or None. log: a record per step of every sample, one sample after the other ("sample" counts
    them from 0). trajectory_std: where it was asked for, the deviation of the last estimates of the runs, real, of the
    image's shape (`restore.trajectory`). provenance: sampler, settings, prior, seed, scaling, noise ("noise_is": exact,
    known, estimated or unknown). notes: what a user must know of this result. structured: of samplers that separate it,
    the structured noise in the measurement, of its shape and in its units, the mean over samples.
    """

    image: Tensor
    std: Tensor | None
    samples: Tensor | None
    log: list[dict[str, Any]]
    provenance: dict[str, Any]
    notes: tuple[str, ...] = ()
    trajectory_std: Tensor | None = None
    structured: Tensor | None = None

    @property
    def ends(self) -> list[dict[str, Any]]:
        """The last record of every sample, with its misfit and seconds."""
        return ends_of(self.log)

    def curve(self) -> list[list[float]]:
        """[evaluations, misfit] after each step, the mean over the samples that took it; for a run with `trace`."""
        steps: dict[int, list[dict[str, Any]]] = {}
        for record in self.log:
            steps.setdefault(record["step"], []).append(record)
        return [
            [float(rs[0]["evaluations"]), sum(float(r["misfit"]) for r in rs) / len(rs)]
            for rs in steps.values()
        ]


def ends_of(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last record of every sample in a log."""
    return list({record["sample"]: record for record in log}.values())
