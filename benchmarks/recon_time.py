"""A whole reconstruction in two checkouts: CPU seconds, what of them is network and what data step, and the PSNR.

    git worktree add build/before <commit>
    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/recon_time.py build/before . DATA [--rounds 2] [--tasks ...]
                                                                          [--slices 8]

One slice a task, or neighbouring ones, by `dds` with its tuned preset, as `restore recon` makes them. Each checkout
works in a process of its own, the second one in every precision that is asked for; they take turns, and each keeps
its quickest round. CPU seconds leave out what other programs of the machine take, but not that they slow caches and
memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from timing import one_thread, print_versions

TASKS = ("mri4", "mri8", "ct60", "ct30")
SEED = 7


def scan_of(task: str, data: Path, slices: int) -> Any:
    """The middle slice of a task of `benchmarks/tasks.py`, or so many from it on, held in memory: simulated when read,
    they would be simulated anew whenever the work looks at them."""
    from restore.datasets.stack import LazyStack

    scan = simulated(task, data, slices)
    fields = {f.name: getattr(scan, f.name) for f in dataclasses.fields(scan)}
    stacks = {k: np.asarray(v) for k, v in fields.items() if isinstance(v, LazyStack)}
    held = {k: LazyStack(v.shape, v.__getitem__) for k, v in stacks.items()}
    return dataclasses.replace(scan, **held)


def simulated(task: str, data: Path, slices: int) -> Any:
    """The slices, computed when read."""
    from restore.datasets.open import read
    from restore.datasets.simulate.ct import simulate_ct
    from restore.datasets.simulate.mri import simulate_mri

    if task.startswith("ct"):
        thorax = read(data / "ct" / "train" / "thorax_1p5mm.nii.gz", modality="CT")
        return simulate_ct(
            thorax, slices=slice(45, 45 + slices), seed=SEED, views=int(task[2:]), photons=1e5
        )
    head = read(data / "mr" / "train" / "chris_T1.nii.gz", modality="MR")
    times = int(task[3:])
    return simulate_mri(
        head, slices=slice(100, 100 + slices), seed=SEED, coils=8, noise=0.005, mask="random",
        acceleration=times, center_fraction=0.32 / times,
    )  # fmt: skip


def metered(call: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    """The function, which adds its CPU seconds under a name."""

    @functools.wraps(call)
    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return call(*args, **kwargs)
        finally:
            spent[name] += time.process_time() - start

    return run


def measured(task: str, data: Path, slices: int, precision: str) -> dict[str, float]:
    """One reconstruction: total, network and data step in CPU seconds, PSNR in dB. precision "": of before there was
    a choice."""
    import torch

    from restore.metrics import psnr
    from restore.pipelines import scan_to_volume
    from restore.priors.image_prior import ImagePrior
    from restore.priors.store import load_prior
    from restore.registry import load_sampler
    from restore.samplers.toolbox.consistency import ProximalStep

    scan, prior = scan_of(task, data, slices), load_prior("medical")
    sampler = load_sampler("dds").configured("tuned", scan, {})
    door: Any = scan_to_volume  # imports its options from wherever a checkout has them
    options = door.ReconOptions(**({"precision": precision} if precision else {}))
    spent = {"total": 0.0, "network": 0.0, "data step": 0.0}
    whole = ImagePrior.__call__, ProximalStep.__call__
    ImagePrior.__call__ = metered(whole[0], spent, "network")  # type: ignore[method-assign]
    ProximalStep.__call__ = metered(whole[1], spent, "data step")  # type: ignore[method-assign]
    run = metered(door.reconstruct, spent, "total")
    result = run(scan, sampler, prior, options, device=torch.device("cpu"))
    ImagePrior.__call__, ProximalStep.__call__ = whole  # type: ignore[method-assign]
    truth = np.asarray(scan.reference)
    peak = float(truth.max() - (truth.min() if task.startswith("ct") else 0))
    return spent | {"psnr": float(psnr(result.volume.data, truth, data_range=peak))}


def asked(tree: Path, task: str, data: Path, slices: int, precision: str) -> dict[str, float]:
    """`measured` in a process that works with the package of one tree."""
    command = [
        sys.executable,
        __file__,
        "--work",
        task,
        precision or "none",
        str(slices),
        str(data),
    ]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(tree.resolve())}, capture_output=True, text=True, check=False
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{tree}: {done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def line(task: str, what: str, found: dict[str, float], before: dict[str, float]) -> str:
    """A row of the table."""
    total, network, step = (found[k] for k in ("total", "network", "data step"))
    return (
        f"| {task} | {what} | {total:.1f} | {network:.1f} ({network / total:.0%}) | {step:.1f} ({step / total:.0%}) | "
        f"{before['total'] / total:.2f} | {found['psnr']:.3f} ({found['psnr'] - before['psnr']:+.3f}) |"
    )


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        one_thread()
        task, precision, slices, data = sys.argv[2:]
        precision = "" if precision == "none" else precision
        print(json.dumps(measured(task, Path(data), int(slices), precision)))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--precisions", default="float32,auto")
    parser.add_argument("--slices", type=int, default=1)
    options = parser.parse_args()
    one_thread()
    print_versions()
    contenders = [("before", options.before, "")]
    contenders += [(f"after, {p}", options.after, p) for p in options.precisions.split(",")]
    heads = (
        "task",
        "checkout",
        "CPU s",
        "network",
        "data step",
        "times as fast",
        "PSNR dB (change)",
    )
    print(f"\n| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
    for task in options.tasks.split(","):
        best: dict[str, dict[str, float]] = {}
        for _ in range(options.rounds):
            for name, tree, precision in contenders:
                found = asked(tree, task, options.data, options.slices, precision)
                if name not in best or found["total"] < best[name]["total"]:
                    best[name] = found
        for name in best:
            print(line(task, name, best[name], best["before"]), flush=True)


if __name__ == "__main__":
    main()
