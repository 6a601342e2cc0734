"""A prepared volume restored block by block through `restore.solve`, in its source's units.

The work without files: called by the job of `restore volume` and by scripts. Finished blocks are kept by whoever gives
`kept`, so that an interruption costs one; memory holds one block and the joined samples.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.front_door import solve_problem
from restore.pipelines.alarm import misfit_notes, of_chunk
from restore.pipelines.pieces import Kept, Piece
from restore.pipelines.recon_options import DrawOptions
from restore.pipelines.scan_to_volume import OnPiece, OnStep, mean_curve, told_of_limit
from restore.pipelines.volume.blocks import Block, join
from restore.pipelines.volume.task import Prepared
from restore.priors.traits import Model
from restore.problem import Step
from restore.registry import name_of
from restore.samplers.base import Sampler
from restore.time_limit import Clock, TimeLimit, limit_record


@dataclasses.dataclass(frozen=True, eq=False)
class Restored:
    """samples: (K, D, H, W) in the units of the result. record: for the sidecar; "chunks" in it has one entry for each
    block and sample, "curve" is [evaluations, misfit] after each step, the mean over all of them."""

    samples: NDArray[np.float32]
    record: dict[str, Any]


def restore_volume(
    prepared: Prepared,
    sampler: Sampler,
    prior: Model | None,
    options: DrawOptions,
    *,
    device: torch.device,
    on_step: OnStep | None = None,
    on_piece: OnPiece | None = None,
    kept: Kept | None = None,
    out: NDArray[np.float32] | None = None,
    clock: Clock = time.monotonic,
) -> Restored:
    """Every block of a task's volume.

    on_step, on_piece: hear how many slices are done. kept: gives the blocks that an earlier call with these very
    arguments finished, and gets those of this one. out: (samples, D, H, W), where the samples are put together, such as
    a file that is mapped; by default in memory. clock: on which a time limit begins here, shared by the blocks as by
    the chunks of a scan. Raises ConfigError, InputError, DivergenceError, OutOfMemory.
    """
    limit = options.limit(clock)
    if out is None:
        out = np.empty((options.samples, *prepared.result.data.shape), np.float32)
    if prepared.unchanged is not None:
        out[...] = prepared.unchanged
        logs = [{"slices": [block.name], "misfit": 0.0} for block in prepared.blocks()]
        return Restored(out, {"chunks": logs, "notes": list(prepared.notes)} | prepared.record)
    model = None if prior is None else prior.to(device)  # once, not for every block
    blocks, depth = prepared.blocks(), prepared.result.n_slices
    told: list[Piece] = []
    in_memory: dict[Block, NDArray[np.float32]] = {}
    for block in blocks:
        to_do = sum(len(b.seen) for b in blocks[len(told) :])
        piece = None if kept is None else kept.get(block.own)
        if piece is None:
            share = limit and limit.share(len(block.seen), to_do)
            piece = _piece(prepared, block, sampler, model, options, device, on_step, share)
            if kept is not None:
                kept.put(block.own, piece)
        if kept is None:
            in_memory[block] = piece.stack
        told.append(dataclasses.replace(piece, stack=piece.stack[:0]))
        if on_piece is not None:
            on_piece(block.own.stop, depth)

    def part_of(block: Block) -> NDArray[np.float32]:
        found = None if kept is None else kept.get(block.own)
        if found is not None:
            return found.stack
        return in_memory[block]

    join(blocks, part_of, out, fade=options.samples == 1)
    return Restored(out, _record(prepared, sampler, options, blocks, told, limit))


def _piece(
    prepared: Prepared,
    block: Block,
    sampler: Sampler,
    prior: Model | None,
    options: DrawOptions,
    device: torch.device,
    on_step: OnStep | None,
    limit: TimeLimit | None,
) -> Piece:
    problem = prepared.problem(block, device)
    result = solve_problem(
        problem, prior=prior, sampler=sampler, samples=options.samples, seed=options.seed,
        on_step=None if on_step is None else _told(on_step, block), trace=options.trace,
        precision=options.precision, time_limit=limit,
    )  # fmt: skip
    stack = result.image[None] if result.samples is None else result.samples
    curve = result.curve() if options.trace else []
    left = of_chunk(problem, result, sampler.fits_data)
    used = {} if prior is None else {"precision": result.provenance["precision"]}
    logs = [{"slices": [block.name], **end, **left, **used} for end in result.ends]
    return Piece(prepared.in_source_units(stack, block), logs, curve, list(result.notes), [])


def _record(
    prepared: Prepared,
    sampler: Sampler,
    options: DrawOptions,
    blocks: list[Block],
    told: list[Piece],
    limit: TimeLimit | None,
) -> dict[str, Any]:
    logs = [log for piece in told for log in piece.logs]
    notes = dict.fromkeys(note for piece in told for note in piece.notes)
    alarm = misfit_notes(prepared, name_of(type(sampler)), logs)
    ended = told_of_limit(limit, sampler, logs)
    record: dict[str, Any] = {"chunks": logs, "notes": [*prepared.notes, *notes, *ended, *alarm]}
    if limit is not None:
        record["time_limit"] = limit_record(limit.seconds, logs)
    if options.trace:
        curves = [(len(b.own), p.curve) for b, p in zip(blocks, told, strict=True)]
        record["curve"] = mean_curve(curves)
    return record | prepared.record


def _told(on_step: OnStep, block: Block) -> Any:
    def hear(step: Step) -> None:
        on_step(block.own.start, len(block.own), step)

    return hear
