"""Reconstruct a measured scan into a volume: chunks of slices through `restore.solve`, geometry put back.

The main job of the package, without files: reading stands in `restore.datasets`, writing and sidecars in
`restore.pipelines.run_recon`. A scan says what its problems, units and place are; nothing here asks what kind it is.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.datasets.scan import Scan, Setup
from restore.datasets.volume.volume import Volume
from restore.front_door import solve_problem
from restore.noise import Exact
from restore.pipelines.alarm import misfit_notes, of_chunk
from restore.pipelines.factors import Circumstances
from restore.pipelines.memory_plan import planned_memory
from restore.pipelines.pieces import Assembly, Drawn, Kept, Piece
from restore.pipelines.recon_options import ReconOptions
from restore.priors.traits import Model
from restore.problem import Step
from restore.registry import name_of
from restore.samplers.base import Sampler
from restore.time_limit import Clock, TimeLimit, limit_notes, limit_record

OnStep = Callable[
    [int, int, Step], None
]  # slices finished before this chunk, slices in it, the step


OnPiece = Callable[[int, int], None]
"""Called after a piece: slices finished, of how many."""


@dataclasses.dataclass(frozen=True, eq=False)
class ReconResult:
    """The volume, its standard deviation over samples (or None), the samples themselves, slice by slice (or None),
    and a record for the sidecar; "chunks" in it has one entry for each chunk of slices and sample, "curve" is
    [evaluations, misfit] after each step, the mean over all slices and samples. maps: by name of `pieces.MAPS`, the
    trajectory map where it was asked for, the structured noise of samplers that separate it."""

    volume: Volume
    std: Volume | None
    record: dict[str, Any]
    drawn: Drawn | None = None
    maps: dict[str, Volume] = dataclasses.field(default_factory=dict)


def reconstruct(
    scan: Scan,
    sampler: Sampler,
    prior: Model | None,
    options: ReconOptions,
    *,
    device: torch.device,
    on_step: OnStep | None = None,
    on_piece: OnPiece | None = None,
    kept: Kept | None = None,
    clock: Clock = time.monotonic,
) -> ReconResult:
    """Every slice of a scan, in the units that the scan gives.

    Slices are independent and go in chunks that fit; a sampler that couples them gets them all at once. Under a time
    limit, which begins here on the clock, each chunk has its share of what is left when its turn comes.
    kept: gives the pieces that an earlier call with these very arguments finished, and gets those of this one.
    Raises ConfigError, InputError, DivergenceError, OutOfMemory.
    """
    limit = options.limit(clock)
    options = options.settled(scan, sampler)
    setup = scan.setup(options)
    prior = None if prior is None else prior.to(device)  # once, not for every chunk
    chunks = planned_memory(scan, sampler, options, device).chunks()
    made = Assembly((scan.n_slices, *scan.image_shape), options.samples, kept)
    for which in itertools.chain.from_iterable(map(setup.alike, chunks)):
        piece, lies = None if kept is None else kept.get(which), True
        if piece is None:
            share = limit and limit.share(len(which), scan.n_slices - which.start)
            piece = _piece(scan, setup, which, sampler, prior, options, device, on_step, share)
            lies = kept is not None and kept.put(which, piece)
        else:
            scan.notes.extend(note for note in piece.remarks if note not in scan.notes)
        made.add(which, piece, lies)
        del piece  # not held while the next one is made
        if on_piece is not None:
            on_piece(which.stop, scan.n_slices)
    record: dict[str, Any] = {
        "chunks": made.logs,
        "scaling": dataclasses.asdict(setup.scaling),
        "notes": [
            *scan.notes, *made.notes, *told_of_limit(limit, sampler, made.logs),
            *misfit_notes(scan, name_of(type(sampler)), made.logs),
        ],
        "circumstances": dataclasses.asdict(_circumstances(scan, setup)),
        "noise_known": not isinstance(setup.noise, Exact | None),
        **setup.record,
    }  # fmt: skip
    if limit is not None:
        record["time_limit"] = limit_record(limit.seconds, made.logs)
    if made.curves:
        record["curve"] = mean_curve(made.curves)
    std = None if made.std is None else scan.volume(made.std)
    maps = {name: scan.volume(planes) for name, planes in made.maps.items()}
    return ReconResult(scan.volume(made.mean), std, record, made.drawn, maps)


def _circumstances(scan: Scan, setup: Setup) -> Circumstances:
    noise = float(setup.record.get("noise_std") or 0.0) / setup.scaling.scale
    return Circumstances(scan.kind, scan.task, scan.difficulty, noise)


def _piece(
    scan: Scan,
    setup: Setup,
    which: range,
    sampler: Sampler,
    prior: Model | None,
    options: ReconOptions,
    device: torch.device,
    on_step: OnStep | None,
    limit: TimeLimit | None,
) -> Piece:
    before = len(scan.notes)
    problem = setup.problem(which, device)
    result = solve_problem(
        problem, prior=prior, sampler=sampler, samples=options.samples, seed=options.seed,
        on_step=_told(on_step, which), trace=options.trace, precision=options.precision, time_limit=limit,
        trajectory_map=options.trajectory_map, chosen_start=options.start,
    )  # fmt: skip
    stack = result.image[None] if result.samples is None else result.samples
    curve = result.curve() if options.trace else []
    left = of_chunk(problem, result, sampler.fits_data)
    precision = {"precision": result.provenance["precision"]} if prior is not None else {}
    logs = [{"slices": list(problem.ids), **end, **left, **precision} for end in result.ends]
    notes, remarks = list(result.notes), scan.notes[before:]
    images = scan.in_source_units(problem.operator.shown(stack))
    maps = {"trajectory": result.trajectory_std}
    if result.structured is not None:
        maps["structured"] = problem.operator.shown(problem.operator.pinv(result.structured))
    planes = {name: _difference(scan, x) for name, x in maps.items() if x is not None}
    return Piece(images, logs, curve, notes, remarks, **planes)


def _difference(scan: Scan, x: Tensor) -> NDArray[np.float32]:
    """A deviation or a part of an image in the units that the scan gives. Neither has a zero of its own, as HU have:
    what the units add to an image is taken off again."""
    return scan.in_source_units(x) - scan.in_source_units(torch.zeros_like(x))


def mean_curve(curves: list[tuple[int, list[list[float]]]]) -> list[list[float]]:
    """The chunks' curves as one, weighted by their numbers of slices; what a time limit ended stays where it was."""
    weights = [size for size, _ in curves]
    longest = max(len(curve) for _, curve in curves)
    held = ([*curve, *[curve[-1]] * (longest - len(curve))] for _, curve in curves)
    return [
        [max(p[0] for p in step), float(np.average([p[1] for p in step], weights=weights))]
        for step in zip(*held, strict=True)
    ]


def told_of_limit(
    limit: TimeLimit | None, sampler: Sampler, chunks: list[dict[str, Any]]
) -> list[str]:
    """What a user must know of chunks that a time limit ended, once for all of them."""
    if limit is None:
        return []
    settings = dataclasses.asdict(sampler)
    return limit_notes(limit.seconds, name_of(type(sampler)), settings, chunks)


def _told(on_step: OnStep | None, which: range) -> Callable[[Step], None] | None:
    return None if on_step is None else lambda step: on_step(which.start, len(which), step)
