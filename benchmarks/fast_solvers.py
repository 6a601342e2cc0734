"""Solvers of higher order and the Gaussian start for `dds`, at 5, 10 and 15 network evaluations; inversions for `stsl`.

    python benchmarks/fast_solvers.py ../shared/data [--tasks inpaint,superres,mri4,ct30] [--images 2] [--whole]
    python benchmarks/fast_solvers.py ../shared/data --inversion --tasks inpaint,superres

The tables of docs/fast-solvers.md; about two minutes a task. The cases of `compare.py`, photographs cut to 64 x 64.
PSNR in dB, the mean over the images. Whatever is not named is the tuned preset, whose levels are walked in as many
steps. skip: 30 % of more levels are left out, so that as many evaluations remain.
"""

from __future__ import annotations

import argparse
import statistics
from itertools import islice
from pathlib import Path
from typing import Any

import cases

from restore.front_door import solve

SIDE = 64
EVALUATIONS = (5, 10, 15)
SKIP = 0.3
INVERTED = 10
FLOW: dict[str, Any] = {"eta": 0.0}
START: dict[str, Any] = {"start": "gaussian"}
NOISE: dict[str, Any] = FLOW | {"start": "noise", "sigma_start": 20.0}
METHODS: dict[str, dict[str, Any]] = {
    "tuned": {},
    "dpm, order 2, new noise as tuned": {"solver": "dpm"},
    "no new noise: order 1": FLOW | {"solver": "dpm", "order": 1},
    "no new noise: dpm, order 2": FLOW | {"solver": "dpm"},
    "no new noise: dpm, order 3": FLOW | {"solver": "dpm", "order": 3},
    "no new noise: unipc, order 2": FLOW | {"solver": "unipc"},
    "no new noise: deis, order 2": FLOW | {"solver": "deis"},
    "no new noise: plms, momentum 0.8": FLOW | {"solver": "plms", "momentum": 0.8},
    "no new noise: unipc, compensation 0.9": FLOW | {"solver": "unipc", "compensation": "0.9"},
    "from noise of 20, no new noise: order 1": NOISE | {"solver": "dpm", "order": 1},
    "from noise of 20, no new noise: dpm, order 2": NOISE | {"solver": "dpm"},
    "from noise of 20, no new noise: unipc, order 2": NOISE | {"solver": "unipc"},
    "gaussian start": START,
    "gaussian start, skip 0.3": START | {"skip": SKIP},
    "gaussian start, skip 0.3, dpm, order 2": START | {"skip": SKIP, "solver": "dpm"},
    "gaussian start, skip 0.3, no new noise: unipc": START | FLOW | {"skip": SKIP, "solver": "unipc"},
}  # fmt: skip


INVERSIONS: dict[str, dict[str, Any]] = {"noise": {}} | {
    rule: {"inversion": rule, "inversion_steps": INVERTED} for rule in ("ddim", "bdia", "edict")
}


def main() -> None:
    """Print the tables as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="the folder of data that compare.py takes")
    parser.add_argument("--tasks", default="inpaint,superres,mri4,ct30")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--whole", action="store_true", help="the tuned number of steps as well")
    parser.add_argument("--inversion", action="store_true", help="the starts of stsl instead")
    chosen = parser.parse_args()
    cases.SIDE = SIDE
    if chosen.inversion:
        inversions(chosen.data, chosen.tasks.split(","), chosen.images)
        return
    for task in chosen.tasks.split(","):
        images = list(islice(cases.load(chosen.data, task), chosen.images))
        print(f"\n| {task} | {' | '.join(map(str, EVALUATIONS))} |\n{'| --- ' * 4}|", flush=True)
        for method, settings in METHODS.items():
            row = [score(images, n, settings) for n in EVALUATIONS]
            print(f"| {method} | {' | '.join(f'{v:.2f}' for v in row)} |", flush=True)
        if chosen.whole:
            print(f"| tuned, all its steps | {score(images, None, {}):.2f} | | |", flush=True)


def inversions(data: Path, tasks: list[str], count: int) -> None:
    """The tuned `stsl` from the degraded image raised by noise or by an inversion: PSNR by task."""
    images = {task: list(islice(cases.load(data, task), count)) for task in tasks}
    print(f"| start | {' | '.join(tasks)} |\n{'| --- ' * (len(tasks) + 1)}|")
    for name, settings in INVERSIONS.items():
        row = [score(images[task], None, settings, "stsl") for task in tasks]
        print(f"| {name} | {' | '.join(f'{v:.2f}' for v in row)} |", flush=True)


def score(
    images: list[cases.Case],
    evaluations: int | None,
    settings: dict[str, Any],
    sampler: str = "dds",
) -> float:
    """The mean PSNR at so many evaluations; None: at those of the preset."""
    steps: dict[str, Any] = (
        {} if evaluations is None else {"n_steps": walked(evaluations, settings)}
    )
    found = []
    for case in images:
        result = solve(
            case.y, case.operator, noise=case.noise, scaling=case.scaling, sampler=sampler, **steps, **settings
        )  # fmt: skip
        calls = max(record["evaluations"] for record in result.ends)
        if evaluations is not None and calls != evaluations:
            raise SystemExit(f"{settings}: {calls} evaluations, expected {evaluations}")
        found.append(case.score(result.image)[0])
    return statistics.mean(found)


def walked(evaluations: int, settings: dict[str, Any]) -> int:
    """The steps of which so many remain."""
    skip = settings.get("skip", 0.0)
    return next(n for n in range(evaluations, 100) if n - int(skip * n) == evaluations)


if __name__ == "__main__":
    main()
