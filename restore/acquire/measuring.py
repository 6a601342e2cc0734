"""A known scan measured line by line: a complete simulated one gives, at each turn, the line that was asked for.

Used by `restore simulate --policy`. Asks `choosing` for lines; writes nothing. The noise of a line is that of the
complete scan, so that policies differ in which lines they take and in nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.acquire.candidates import Candidates
from restore.acquire.choosing import Particles, next_measurements
from restore.acquire.disagreement import ADAPTIVE
from restore.acquire.fixed import FIXED
from restore.config import check_settings, setting
from restore.datasets.ct.scan import CTScan
from restore.datasets.mri.scan import MRIScan
from restore.datasets.scan import SetupOptions
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.priors.choosing import Given
from restore.problem import Problem

LineScan = MRIScan | CTScan
"""What lines are chosen of."""

_ORDER_STREAM = 3
"""The random stream of a seed for orders; phase and noise are 1 and 2 (`datasets/simulate/mri`)."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many lines by which policy.

    policy: "ads", "variance", or one of `fixed.FIXED` for the kind of scan. start: None: 4 columns, 2 views. Raises
    ConfigError for values out of range.
    """

    policy: str
    budget: int = setting(16, "lines in all", at_least=1)
    start: int | None = setting(
        None, "of them before the first choice: around the centre, or evenly spaced", at_least=1
    )
    look: int = setting(3, "slices that the particles are of, spread over all", at_least=1)
    particles: Particles = dataclasses.field(default_factory=Particles)

    def __post_init__(self) -> None:
        check_settings(self)

    def checked(self, scan: LineScan) -> Plan:
        """With the start filled in. Raises ConfigError for what this complete scan cannot be measured by."""
        known, lines = {**ADAPTIVE, **FIXED[scan.kind]}, lines_of(scan)
        if self.policy not in known:
            why = " (views have no centre)" if self.policy == "centre-out" else ""
            raise ConfigError(
                f"policy is {self.policy!r}{why}, expected for {scan.kind} one of: {', '.join(known)}"
            )
        if self.budget > lines:
            raise ConfigError(f"budget is {self.budget}, but there are {lines} lines")
        start = self.start or (2 if scan.kind == "ct" else 4)
        if self.start and self.start > self.budget:
            raise ConfigError(f"start is {self.start}, more than the budget of {self.budget}")
        return dataclasses.replace(self, start=min(start, self.budget))


def lines_of(scan: LineScan) -> int:
    """Columns of k-space, or views."""
    return scan.shape[3] if isinstance(scan, MRIScan) else scan.shape[1]


def measured_lines(scan: LineScan, lines: Sequence[int]) -> LineScan:
    """What of a complete scan is measured with these lines, in whatever order; views keep that of the scan."""
    return _columns(scan, lines) if isinstance(scan, MRIScan) else _views(scan, sorted(lines))


def _columns(scan: MRIScan, lines: Sequence[int]) -> MRIScan:
    mask = np.zeros(scan.shape[3], bool)
    mask[list(lines)] = True
    stack = scan.kspace
    some = LazyStack(stack.shape, lambda i: np.where(mask, stack[i], 0).astype(np.complex64))
    return dataclasses.replace(scan, kspace=some, mask=mask)


def _views(scan: CTScan, lines: Sequence[int]) -> CTScan:
    stack, angles = scan.sinogram, tuple(scan.geometry.angles[k] for k in lines)
    geometry = dataclasses.replace(scan.geometry, angles=angles)
    fewer = LazyStack((len(stack), *geometry.sinogram_shape), lambda i: stack[i][list(lines)])
    return dataclasses.replace(scan, sinogram=fewer, geometry=geometry)


def order_of_lines(
    scan: LineScan,
    plan: Plan,
    prior: Given = "auto",
    on_line: Callable[[int, int], None] = lambda taken, budget: None,
) -> tuple[int, ...]:
    """The lines that a policy measures of a complete scan, in their order; one order for all slices.

    plan: `Plan.checked`. on_line: told how many were taken, of how many. Raises ConfigError and what
    `next_measurements` raises.
    """
    plan, lines = plan.checked(scan), lines_of(scan)
    rule = FIXED[scan.kind].get(plan.policy)
    first = [] if plan.policy == "equispaced" else _first(scan, plan.start or 0)
    if rule is not None:
        rng = np.random.default_rng([plan.particles.seed, _ORDER_STREAM])
        return (*first, *rule(lines, first, plan.budget, rng))
    looked = _looked_at(scan, plan.look)
    order = list(first)
    on_line(len(order), plan.budget)
    while len(order) < plan.budget:
        problem, candidates = _so_far(looked, order)
        particles = dataclasses.replace(plan.particles, seed=plan.particles.seed + len(order))
        order += next_measurements(
            problem, prior, candidates=candidates, policy=plan.policy, particles=particles
        )
        on_line(len(order), plan.budget)
    return tuple(order)


def _first(scan: LineScan, count: int) -> list[int]:
    """Columns around the zero frequency, that first; views evenly spaced."""
    lines, none = lines_of(scan), np.random.default_rng(0)
    rule = FIXED["mri"]["centre-out"] if scan.kind == "mri" else FIXED["ct"]["equispaced"]
    return rule(lines, [], count, none)


def _looked_at(scan: LineScan, count: int) -> LineScan:
    """The complete scan of `count` slices spread over all, computed once and held."""
    at = np.unique(((np.arange(count) + 0.5) * scan.n_slices / count).astype(int))

    def part(stack: LazyStack) -> LazyStack:
        held: NDArray[Any] = np.stack([stack[int(i)] for i in at])
        return LazyStack(held.shape, lambda i: held[i])

    indices = tuple(scan.slice_indices[int(i)] for i in at)
    if isinstance(scan, MRIScan):
        maps = None if scan.maps is None else part(scan.maps)
        return dataclasses.replace(
            scan,
            kspace=part(scan.kspace),
            maps=maps,
            slice_indices=indices,
            reference=None,
            notes=[],
        )
    return dataclasses.replace(
        scan, sinogram=part(scan.sinogram), slice_indices=indices, reference=None, notes=[]
    )


def _so_far(scan: LineScan, taken: Sequence[int]) -> tuple[Problem, Candidates | None]:
    """The problem of the lines taken, and what could be measured besides."""
    part = measured_lines(scan, taken)
    problem = part.setup(SetupOptions()).problem(range(scan.n_slices), torch.device("cpu"))
    if isinstance(scan, MRIScan):
        return problem, None
    operator = problem.operator
    if not isinstance(operator, ParallelBeamCT):
        raise ConfigError(f"{operator}: views are chosen of parallel rays")
    return problem, Candidates.of_views(operator, scan.geometry.angles, taken)
