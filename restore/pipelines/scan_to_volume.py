"""Reconstruct a measured scan into a volume: chunks of slices through `restore.solve`, geometry put back.

The main job of the package, without files: reading stands in `restore.datasets`, writing and sidecars in
`restore.pipelines.run_recon`. A scan says what its problems, units and place are; nothing here asks what kind it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.config import setting
from restore.datasets.scan import Scan, SetupOptions
from restore.datasets.volume.volume import Volume
from restore.front_door import solve_problem
from restore.priors.adapter import PIXELS_PER_CALL
from restore.priors.choosing import Model
from restore.problem import Step
from restore.samplers.base import Sampler

OnStep = Callable[
    [int, int, Step], None
]  # slices finished before this chunk, slices in it, the step


@dataclasses.dataclass(frozen=True)
class ReconOptions(SetupOptions):
    """Everything that shapes the result: how the scan is set up, and what is drawn."""

    samples: int = setting(1, "draws from the posterior, averaged", at_least=1)
    seed: int = setting(0, "of the sampler's noise", between=(-(2**63), 2**63 - 1))
    trace: bool = setting(
        False, "record the data misfit after every step, one forward projection each"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class ReconResult:
    """The volume, its standard deviation over samples (or None), the samples (K, slices, H, W) themselves (or None),
    and a record for the sidecar; "chunks" in it has one entry for each chunk of slices and sample, "curve" is
    [evaluations, misfit] after each step, the mean over all slices and samples."""

    volume: Volume
    std: Volume | None
    record: dict[str, Any]
    samples: NDArray[Any] | None = None


def reconstruct(
    scan: Scan,
    sampler: Sampler,
    prior: Model | None,
    options: ReconOptions,
    *,
    device: torch.device,
    on_step: OnStep | None = None,
) -> ReconResult:
    """Every slice of a scan, in the units that the scan gives.

    Slices are independent and go in chunks that fit; a sampler that couples them (tv_weight > 0) gets them all at once.
    Raises ConfigError, InputError, DivergenceError, OutOfMemory.
    """
    setup = scan.setup(options)
    prior = None if prior is None else prior.to(device)  # once, not for every chunk
    notes: dict[str, None] = {}
    stacks: list[NDArray[Any]] = []
    logs: list[dict[str, Any]] = []
    curves: list[tuple[int, list[list[float]]]] = []
    for which in _chunks(scan, coupled=getattr(sampler, "tv_weight", 0) > 0):
        problem = setup.problem(which, device)
        result = solve_problem(
            problem, prior=prior, sampler=sampler, samples=options.samples, seed=options.seed,
            on_step=_told(on_step, which), trace=options.trace,
        )  # fmt: skip
        stack = result.image[None] if result.samples is None else result.samples
        stacks.append(scan.in_source_units(stack))
        logs += [{"slices": list(problem.ids), **end} for end in result.ends]
        notes |= dict.fromkeys(result.notes)
        if options.trace:
            curves.append((len(which), result.curve()))
    samples = np.concatenate(stacks, axis=1)
    record: dict[str, Any] = {
        "chunks": logs,
        "scaling": dataclasses.asdict(setup.scaling),
        "notes": [*scan.notes, *notes],
        "noise_known": setup.noise is not None,
        **setup.record,
    }
    if curves:
        record["curve"] = _mean_curve(curves)
    several = options.samples > 1
    std = scan.volume(samples.std(0, ddof=1)) if several else None
    return ReconResult(scan.volume(samples.mean(0)), std, record, samples if several else None)


def _chunks(scan: Scan, coupled: bool) -> list[range]:
    """Slices that go through the network together: as many as fill a call."""
    size = scan.n_slices if coupled else max(1, PIXELS_PER_CALL // 2 // scan.values_per_slice)
    return [range(i, min(i + size, scan.n_slices)) for i in range(0, scan.n_slices, size)]


def _mean_curve(curves: list[tuple[int, list[list[float]]]]) -> list[list[float]]:
    """The chunks' curves as one, weighted by their numbers of slices; all chunks take the same steps."""
    weights = [size for size, _ in curves]
    steps = zip(*(curve for _, curve in curves), strict=True)
    return [
        [step[0][0], float(np.average([point[1] for point in step], weights=weights))]
        for step in steps
    ]


def _told(on_step: OnStep | None, which: range) -> Callable[[Step], None] | None:
    return None if on_step is None else lambda step: on_step(which.start, len(which), step)
