"""Reconstruct a measured scan into a volume: chunks of slices through `restore.solve`, geometry put back.

The main job of the package, without files: reading stands in `restore.datasets`, writing and sidecars in
`restore.pipelines.run_recon`. A scan says what its problems, units and place are; nothing here asks what kind it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from restore.config import check_settings, setting
from restore.datasets.scan import Scan, Setup, SetupOptions
from restore.datasets.volume.volume import Volume
from restore.front_door import solve_problem
from restore.noise import Exact
from restore.pipelines.alarm import misfit_notes, unexplained
from restore.pipelines.factors import Circumstances
from restore.precision import Word
from restore.priors.choosing import Model
from restore.priors.image_prior import PIXELS_PER_CALL
from restore.problem import Step
from restore.registry import name_of
from restore.samplers.base import Sampler

OnStep = Callable[
    [int, int, Step], None
]  # slices finished before this chunk, slices in it, the step


OnPiece = Callable[[int, int], None]
"""Called after a piece: slices finished, of how many."""

SLICES_AT_ONCE = 4
"""A scan of more slices goes slice by slice on a CPU, which gains nothing from batches: an interruption costs one."""


@dataclasses.dataclass(frozen=True)
class DrawOptions:
    """What is drawn, and in which numbers. Raises ConfigError for values out of range."""

    samples: int = setting(1, "draws from the posterior, averaged", at_least=1)
    seed: int = setting(0, "of the sampler's noise", between=(-(2**63), 2**63 - 1))
    precision: Word = setting("auto", "of the numbers inside networks; auto: the device's quickest")
    trace: bool = setting(
        False, "record the data misfit after every step, one forward projection each"
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class ReconOptions(SetupOptions, DrawOptions):
    """Everything that shapes the result: how the scan is set up, and what is drawn."""


@dataclasses.dataclass(frozen=True, eq=False)
class ReconResult:
    """The volume, its standard deviation over samples (or None), the samples (K, slices, H, W) themselves (or None),
    and a record for the sidecar; "chunks" in it has one entry for each chunk of slices and sample, "curve" is
    [evaluations, misfit] after each step, the mean over all slices and samples."""

    volume: Volume
    std: Volume | None
    record: dict[str, Any]
    samples: NDArray[Any] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """Slices that were reconstructed together.

    stack: (samples, slices, *image_shape) in the source's units. logs: their names and the last step of every sample.
    curve: with `trace`, [evaluations, misfit] of every step. notes: those of the reconstruction. remarks: what reading
    the slices made the scan note.
    """

    stack: NDArray[Any]
    logs: list[dict[str, Any]]
    curve: list[list[float]]
    notes: list[str]
    remarks: list[str]


class Kept(Protocol):
    """Where finished pieces are kept across interruptions."""

    def get(self, which: range) -> Piece | None:
        """A piece that was finished earlier, or None."""

    def put(self, which: range, piece: Piece) -> None:
        """Keep a piece."""


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
) -> ReconResult:
    """Every slice of a scan, in the units that the scan gives.

    Slices are independent and go in chunks that fit; a sampler that couples them gets them all at once.
    kept: gives the pieces that an earlier call with these very arguments finished, and gets those of this one.
    Raises ConfigError, InputError, DivergenceError, OutOfMemory.
    """
    setup = scan.setup(options)
    prior = None if prior is None else prior.to(device)  # once, not for every chunk
    pieces: list[Piece] = []
    chunks = _chunks(scan, sampler.couples_slices or scan.whole, device)
    for which in chunks:
        piece = None if kept is None else kept.get(which)
        if piece is None:
            piece = _piece(scan, setup, which, sampler, prior, options, device, on_step)
            if kept is not None:
                kept.put(which, piece)
        else:
            scan.notes.extend(note for note in piece.remarks if note not in scan.notes)
        pieces.append(piece)
        if on_piece is not None:
            on_piece(which.stop, scan.n_slices)
    stacks, logs = [piece.stack for piece in pieces], [log for p in pieces for log in p.logs]
    curves = [(len(w), p.curve) for w, p in zip(chunks, pieces, strict=True) if options.trace]
    notes = dict.fromkeys(note for piece in pieces for note in piece.notes)
    samples = np.concatenate(stacks, axis=1)
    record: dict[str, Any] = {
        "chunks": logs,
        "scaling": dataclasses.asdict(setup.scaling),
        "notes": [*scan.notes, *notes, *misfit_notes(scan, name_of(type(sampler)), logs)],
        "circumstances": dataclasses.asdict(_circumstances(scan, setup)),
        "noise_known": not isinstance(setup.noise, Exact | None),
        **setup.record,
    }
    if curves:
        record["curve"] = mean_curve(curves)
    several = options.samples > 1
    std = scan.volume(samples.std(0, ddof=1)) if several else None
    return ReconResult(scan.volume(samples.mean(0)), std, record, samples if several else None)


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
) -> Piece:
    before = len(scan.notes)
    problem = setup.problem(which, device)
    result = solve_problem(
        problem, prior=prior, sampler=sampler, samples=options.samples, seed=options.seed,
        on_step=_told(on_step, which), trace=options.trace, precision=options.precision,
    )  # fmt: skip
    stack = result.image[None] if result.samples is None else result.samples
    curve = result.curve() if options.trace else []
    left = unexplained(problem, result)
    precision = {"precision": result.provenance["precision"]} if prior is not None else {}
    logs = [{"slices": list(problem.ids), **end, **left, **precision} for end in result.ends]
    notes, remarks = list(result.notes), scan.notes[before:]
    images = scan.in_source_units(problem.operator.shown(stack))
    return Piece(images, logs, curve, notes, remarks)


def _chunks(scan: Scan, coupled: bool, device: torch.device) -> list[range]:
    """Slices that go through the network together: as many as fill a call, one on a CPU where there are many."""
    size = max(1, PIXELS_PER_CALL // 2 // scan.values_per_slice)
    if device.type == "cpu" and scan.n_slices > SLICES_AT_ONCE:
        size = 1
    size = scan.n_slices if coupled else size
    return [range(i, min(i + size, scan.n_slices)) for i in range(0, scan.n_slices, size)]


def mean_curve(curves: list[tuple[int, list[list[float]]]]) -> list[list[float]]:
    """The chunks' curves as one, weighted by their numbers of slices; all chunks take the same steps."""
    weights = [size for size, _ in curves]
    steps = zip(*(curve for _, curve in curves), strict=True)
    return [
        [step[0][0], float(np.average([point[1] for point in step], weights=weights))]
        for step in steps
    ]


def _told(on_step: OnStep | None, which: range) -> Callable[[Step], None] | None:
    return None if on_step is None else lambda step: on_step(which.start, len(which), step)
