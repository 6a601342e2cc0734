"""Verbs run in processes of their own that can be killed, with a log of what they did. Used by `test_kill`.

Processes are forked from a server that has imported torch once, so that a kill meets the work and not the start.
"""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

IMPORTED_ONCE = (
    "torch", "restore.pipelines.run_recon", "restore.bench.runner", "restore.bench.images", "restore.training.loop",
    "restore.pipelines.train_job", "restore.pipelines.photograph", "restore.datasets.simulate.mri",
    "restore.samplers.dds", "restore.samplers.tv", "restore.cli",
)  # fmt: skip
NEVER_THE_SAME = {
    "seconds", "minutes", "peak_memory_mb", "finished", "date", "started", "updated", "environment", "command",
    "calls",
}  # fmt: skip
"""Entries of records that say when and how quickly, not what."""

PATIENCE_SECONDS = 300


def start(arguments: Sequence[object], log: Path) -> Any:
    """A process that runs `restore ARGUMENTS`; each unit of work adds a line to `log`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED_ONCE))
    process = context.Process(target=run, args=([str(a) for a in arguments], str(log)), daemon=True)
    process.start()
    return process


def to_the_end(arguments: Sequence[object], log: Path) -> float:
    """Run a verb uninterrupted; returns its seconds. Raises AssertionError with its output where it fails."""
    began = time.monotonic()
    process = start(arguments, log)
    process.join(PATIENCE_SECONDS)
    said = log.with_suffix(".out").read_text()
    assert process.exitcode == 0, f"exit {process.exitcode}: {said[-2000:]}"
    return time.monotonic() - began


def killed_after(seconds: float, arguments: Sequence[object], log: Path) -> bool:
    """Start a verb and kill it with SIGKILL; whether it was still at work."""
    process = start(arguments, log)
    process.join(seconds)
    process.kill()
    process.join(PATIENCE_SECONDS)
    return process.exitcode != 0


def run(arguments: list[str], log: str) -> None:
    """In the process: the verb with its output in a file, and every unit of work noted before it begins."""
    from restore import cli
    from restore.bench import runner
    from restore.cli import image
    from restore.datasets.simulate import mri
    from restore.pipelines import scan_to_volume
    from restore.training import loop

    loop.SAVE_EVERY_S = 0.0  # every step, so that a kill can lose one at most

    def noted(place: Any, name: str, unit: Any) -> None:
        original = getattr(place, name)

        def noting(*given: Any, **named: Any) -> Any:
            with Path(log).open("a", encoding="utf-8") as file:
                file.write(f"{unit(*given)}\n")
            return original(*given, **named)

        setattr(place, name, noting)

    noted(scan_to_volume, "solve_problem", lambda problem: f"slices {problem.ids}")
    noted(mri, "phased_slice", lambda volume, index, seed: f"slice {index}")
    noted(image, "_with_progress", lambda name, *more: f"picture {name}")
    noted(loop, "_step", lambda network, loss, optimiser, step: f"step {step}")
    noted(runner._Work, "row", lambda *g: f"row {g[1].name} of {g[5]} under {g[6].name}")
    with (
        Path(log).with_suffix(".out").open("a", encoding="utf-8") as out,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        cli.app(arguments)


def done_twice(log: Path) -> int:
    """Units of work that were begun more than once, counted as often as they were begun again."""
    return sum(n - 1 for n in Counter(log.read_text().splitlines()).values()) if log.exists() else 0


def results(folder: Path) -> dict[str, Any]:
    """What stands in a folder, without what is never the same; logs of the course are left out."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json":
            found[name] = _timeless(json.loads(path.read_text()))
        elif path.suffix == ".csv":
            rows = csv.DictReader(path.read_text().splitlines())
            found[name] = sorted(str(_timeless(row)) for row in rows)
        elif name.endswith(".state.safetensors"):
            found[name] = path.read_bytes()[8 + int.from_bytes(path.read_bytes()[:8], "little") :]
        elif path.suffix != ".jsonl":
            found[name] = path.read_bytes()
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in NEVER_THE_SAME}
    return [_timeless(v) for v in value] if isinstance(value, list) else value
