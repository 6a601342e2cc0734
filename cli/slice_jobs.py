"""What the verbs that make slices say of their work: how far it is, and that it was done before.

Called by `recon` and `volume`; prints through `console`, touches no files but leftovers of the very same job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from restore.cli import console

if TYPE_CHECKING:
    from restore.problem import Step

OnStep = Callable[[int, int, "Step"], None]
OnPiece = Callable[[int, int], None]


@contextmanager
def followed(
    name: str, n_slices: int, samples: int, pieces: str = "slices"
) -> Iterator[tuple[OnStep, OnPiece]]:
    """A bar or lines about the slices of `name`; gives what hears of steps and of finished pieces.

    pieces: what is counted, in words.
    """
    lines = console.progress_lines(name, pieces)
    with console.progress(name, total=n_slices * samples) as advance:
        done = 0.0

        def on_step(before: int, size: int, step: Step) -> None:
            nonlocal done
            done += size / step.n
            advance(done)

        def on_piece(finished: int, total: int) -> None:
            nonlocal done
            done = finished * samples
            advance(done)
            lines(finished, total)

        yield on_step, on_piece


def done_before(out: Path, fingerprint: str) -> None:
    """Say that the same result lies there, and clear away what an interruption of its making left."""
    from restore.pipelines.vouching import said_of_done
    from restore.pipelines.work_folder import tidy

    tidy(out, fingerprint)
    console.result(said_of_done(out))
