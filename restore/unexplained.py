"""Whether a result explains its measurement: the one rule for `restore.solve`, for scans and for volumes.

A misfit alone is no fault: where noise is weak, what any operator leaves out lies above it. So the rule has two numbers
for each item, and two for each row of it (a line of k-space, a view): how far what is left over lies above the noise,
and what share it is of what was measured. Rows are looked at one by one, for a few of them that do not belong to the
image drown among the others. Called by `restore.unknown_noise` and `restore.pipelines.alarm`; touches nothing.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property

import torch
from torch import Tensor

from restore.measured_rows import rows_of
from restore.noise import EdgeError, Gaussian, Noise
from restore.operators.contract import Operator
from restore.problem import Problem

TOO_BAD = 1.5
"""Misfit, in units of the noise, above which an item is not explained. Sound scans reach 1.4 (docs/noise.md)."""

ROW_TOO_BAD = 1.2
"""Misfit above which a row is not, in units of the noise or of the middle row of the item, whichever is louder."""

WORTH_SAYING = 0.01
"""Of what an item measured: less than that left over is no fault to look for, however weak the noise is."""

OF_A_ROW = 0.05
"""The same of what a row measured, beyond that. Maps made of the data leave 0.03 in the middle of sound k-space."""

NAMED = 6
"""Rows that are told by their number."""

FEW = 1 / 3
"""Of the rows: more than that are not single ones that something happened to. Two lines that were exchanged in the
middle of k-space spoil the answer, and with it up to 0.3 of the others."""

GATHERED = 0.25
"""Of what is left over beyond the noise in an item that is explained as a whole: single rows hold more. A sampler that
follows the data a little too loosely (flowchef) leaves it in all of them."""

CHANCE = 6.0
"""Deviations of the mean square of white noise, by which a row of few samples has to lie above it."""

EDGE_BINS = 0.05
"""Of a detector's bin: how far off an operator of pixels puts a projection's edge, as in the tuned `dds` for CT."""


@dataclasses.dataclass(frozen=True)
class OddRows:
    """Rows of an item that are not explained.

    words: what rows are called. which: their numbers from 0, the worst first. of: how many were measured. misfit: of
    the worst, in units of the noise. share: of what they measured, what is left over beyond the noise. of_all: of what
    is left over beyond the noise in all rows, the part that lies in them.
    """

    words: str
    which: tuple[int, ...]
    of: int
    misfit: float
    share: float
    of_all: float

    def __str__(self) -> str:
        """A clause that tells which they are."""
        named = ", ".join(map(str, self.which[:NAMED])) + (
            ", ..." if len(self.which) > NAMED else ""
        )
        return (
            f"{len(self.which)} of {self.of} {self.words} are not explained, up to {self.misfit:.3g} times the noise "
            f"(the worst, counted from 0: {named}): {100 * self.share:.2g} % of what they measured is left over beyond "
            f"the noise, and {100 * self.of_all:.0f} % of all that is left over beyond it lies there"
        )

    @property
    def few(self) -> bool:
        """Whether they are single rows, and not all of the measurement."""
        return len(self.which) <= FEW * self.of

    @property
    def causes(self) -> str:
        """What is usually wrong with single rows."""
        if self.words == "views":
            return "views at other angles than is said, a motion between them, or faulty readings in them"
        return (
            "lines that were exchanged, moved or shifted in phase (ghosts), or caught interference"
        )


@dataclasses.dataclass(frozen=True)
class Unexplained:
    """What an answer leaves over of the item that it explains worst.

    item: its name. misfit: in units of the noise, about 1 where all is well. share: what is left over, of what was
    measured. rows: those that are not explained, None where there are none, or where it is all of the item. edges: of
    line integrals, the misfit where the operator may put edges `EDGE_BINS` off, else None.
    """

    item: str
    misfit: float
    share: float
    rows: OddRows | None
    edges: float | None

    def __str__(self) -> str:
        """A clause that tells how much is left over, and in which rows."""
        size = f"its misfit is {self.misfit:.3g} times the noise ({100 * self.share:.2g} % of the measurement)"
        if self.rows is None:
            return size
        return f"{size}; {self.rows}" if self.misfit > TOO_BAD else f"{self.rows}, though {size}"

    @property
    def by_edges(self) -> bool:
        """Whether rays beside steep edges account for all of it."""
        return self.rows is None and self.edges is not None and self.edges <= TOO_BAD


def worst_unexplained(problem: Problem, x0: Tensor) -> Unexplained | None:
    """What x0 (*batch, *in_shape), in unit intensities, does not explain; None where it explains all items.

    None too where the noise is exact or unknown.
    """
    precision = problem.precision
    if precision is None:
        return None
    left = LeftOver.of(problem, x0, precision)
    misfits, shares = left.misfits(), left.shares()
    loud = (misfits > TOO_BAD) & (shares > WORTH_SAYING)
    odd = left.odd_rows(loud)
    if not bool((loud | odd.any(1)).any()):
        return None
    worst = int((misfits * (loud | odd.any(1))).argmax())
    ids = problem.ids if len(problem.ids) == len(misfits) else [str(i) for i in range(len(misfits))]
    rows = left.rows_of(worst, odd[worst])
    if rows is not None and bool(loud[worst]) and not rows.few:
        rows = None
    misfit, share = float(misfits[worst]), float(shares[worst])
    return Unexplained(ids[worst], misfit, share, rows, _beside_edges(problem, x0, worst))


@dataclasses.dataclass(frozen=True, eq=False)
class LeftOver:
    """What is left over, summed over the samples of each row; of items without rows, of all samples. All double.

    squares, energy: of the residual and of the measurement, (items, rows), weighted by the noise. counts: real numbers
    measured. plain: shares of the items, unweighted, (items,). words: of the rows, "" where there are none.
    """

    squares: Tensor
    energy: Tensor
    counts: Tensor
    plain: Tensor
    words: str

    @classmethod
    def of(cls, problem: Problem, x0: Tensor, precision: Tensor | float) -> LeftOver:
        """Of x0 in unit intensities; precision: of the problem, which has one."""
        y, r = problem.unit_y, problem.residual(x0).abs().square()
        size = y.abs().square()
        rows, lead = rows_of(problem), y.ndim - problem.operator.measured_ndim
        kept = [] if rows is None else [y.ndim + rows.axis]
        over = [d for d in range(lead, y.ndim) if d not in kept]

        def summed(values: Tensor) -> Tensor:
            total = values.sum(over, dtype=torch.float64) if over else values.double()
            return total.reshape(math.prod(y.shape[:lead]), -1).cpu()

        seen = size > 0
        return cls(
            summed(precision * r * seen), summed(precision * size),
            (2 if y.is_complex() else 1) * summed(seen),
            (summed(r * seen).sum(1) / summed(size).sum(1).clamp(min=1e-30)).sqrt(),
            "" if rows is None else rows.words,
        )  # fmt: skip

    def misfits(self) -> Tensor:
        """Of the items."""
        return (self.squares.sum(1) / self.counts.sum(1).clamp(min=1)).sqrt()

    def shares(self) -> Tensor:
        """Of the items."""
        return self.plain

    @cached_property
    def floor(self) -> Tensor:
        """Squares that are to be expected of each row, (items, rows): noise, or more where the middle row has more."""
        means = torch.where(self.counts > 0, self.squares / self.counts, torch.nan)
        middle = means.nanmedian(dim=1, keepdim=True).values.nan_to_num(1.0)
        return self.counts * middle.clamp(min=1)

    @property
    def beyond(self) -> Tensor:
        """The squares beyond the floor, (items, rows)."""
        return (self.squares - self.floor).clamp(min=0)

    def odd_rows(self, loud: Tensor) -> Tensor:
        """Which rows are not explained, (items, rows). loud: the items that are not explained as a whole."""
        if not self.words:
            return torch.zeros_like(self.squares, dtype=torch.bool)
        chance = 1 + CHANCE * (2 / self.counts.clamp(min=1)).sqrt()
        above = self.squares > self.floor * chance.clamp(min=ROW_TOO_BAD**2)
        odd = above & (self.beyond > OF_A_ROW**2 * self.energy)
        there = (self.beyond * odd).sum(1) >= GATHERED * self.beyond.sum(1)
        return odd & (loud | there)[:, None]

    def rows_of(self, item: int, odd: Tensor) -> OddRows | None:
        """Those of an item; odd: which."""
        if not bool(odd.any()):
            return None
        beyond, means = self.beyond[item], self.squares[item] / self.counts[item].clamp(min=1)
        order = (means * odd).argsort(descending=True)[: int(odd.sum())]
        return OddRows(
            self.words, tuple(order.tolist()), int((self.counts[item] > 0).sum()),
            float(means[order[0]].sqrt()), float((beyond[odd].sum() / self.energy[item][odd].sum()).sqrt()),
            float(beyond[odd].sum() / beyond.sum()),
        )  # fmt: skip


def is_rays(operator: Operator) -> bool:
    """Whether its measurement are line integrals."""
    return operator.kind == "ct" and not operator.task


def doubt_of_one_level(problem: Problem, misfit: float) -> str:
    """A sentence where line integrals lie above one level that was taken for all rays; "" else.

    However little is left over: a level of air for thick rays costs 6 dB at 0.4 % (docs/noise.md).
    """
    level = problem.noise.std if isinstance(problem.noise, Gaussian) else None
    if not isinstance(level, float) or not is_rays(problem.operator) or misfit <= TOO_BAD:
        return ""
    return (
        f"one level of noise ({level:.3g}) was taken for all rays, and the misfit is {misfit:.3g} times that: rays are "
        "noisier the less comes through; photons weight them so, stated, or told by air where no noise is given"
    )


def _beside_edges(problem: Problem, x0: Tensor, item: int) -> float | None:
    """The misfit of an item of line integrals where the operator may put edges a little off; None of others."""
    noise = problem.noise
    if noise is None or not is_rays(problem.operator) or isinstance(noise, EdgeError):
        return None
    there: Noise = EdgeError(noise, EDGE_BINS)
    softer = dataclasses.replace(problem, noise=there)
    precision = softer.precision
    return None if precision is None else float(LeftOver.of(softer, x0, precision).misfits()[item])
