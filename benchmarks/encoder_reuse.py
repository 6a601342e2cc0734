"""What encoder reuse and skip scaling gain in seconds and lose in dB, beside fewer steps for the same seconds.

    OMP_NUM_THREADS=1 python benchmarks/encoder_reuse.py PICTURE [PICTURE ...] [--side 64]

Colour pictures that the prior `natural` did not learn from, cut to their middle. Restored by dds: PSNR against the
picture; the mean over pictures. Drawn from the prior alone (`restore sample`): PSNR against the draw of 400 steps from
the same noise, which is what the steps lose. Seconds are those of the processor. About half a minute
a picture; the tables go to docs/choosing-a-sampler.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timing import one_thread
from torch import Tensor

from restore.datasets.open import read_image
from restore.front_door import solve
from restore.metrics import psnr
from restore.pipelines.degrade import Degradation, add_noise
from restore.pipelines.prior_draws import draw_from

TASKS = {
    "deblur": (Degradation("deblur", None, "gaussian:1.6", 4, "reflect"), 0.01),
    "superres": (Degradation("superres", None, "", 4, "reflect"), 0.0),
}
CHAINS = {"new noise (eta=1)": {}, "no new noise (eta=0)": {"eta": 0.0}}
NETWORKS = ("reuse=1", "reuse=2", "reuse=3", "skips=0.95", "skips=1.05", "backbone=1.05")
FEWER = (22, 18)
"""Steps instead of 30 that take about as long as reuse=2 and reuse=3."""
EXACT, DRAWS = 400, (40, 29, 24)


class Row(NamedTuple):
    """dB and seconds of one setting."""

    psnr: float
    seconds: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("pictures", type=Path, nargs="+")
    arguments.add_argument("--side", type=int, default=64)
    chosen = arguments.parse_args()
    one_thread()
    pictures = [middle(path, chosen.side) for path in chosen.pictures]
    for task in TASKS:
        for chain, settings in CHAINS.items():
            print(f"\n| {task}, dds, {chain} | PSNR | seconds |\n| --- | --- | --- |")
            for label, row in restored(pictures, task, settings):
                print(f"| {label} | {row.psnr:.2f} | {row.seconds:.2f} |", flush=True)
    print("\n| a draw | PSNR to 400 steps | seconds |\n| --- | --- | --- |")
    for label, row in drawn(chosen.side):
        print(f"| {label} | {row.psnr:.2f} | {row.seconds:.2f} |", flush=True)


def middle(path: Path, side: int) -> Tensor:
    """The middle of a picture, (3, side, side)."""
    data = torch.from_numpy(read_image(path).data)
    top, left = ((n - side) // 2 for n in data.shape[-2:])
    return data[:, top : top + side, left : left + side].contiguous()


def restored(pictures: list[Tensor], task: str, settings: dict[str, Any]) -> list[tuple[str, Row]]:
    """Every setting of the network, then fewer steps."""
    runs = [(n, {"prior": f"natural@{n}", "turns": False}) for n in NETWORKS]
    runs += [(f"n_steps={k}", {"prior": "natural", "turns": False, "n_steps": k}) for k in FEWER]
    runs.append(("all orientations (turns)", {"prior": "natural"}))
    return [(name, mean([of(p, task, settings | run) for p in pictures])) for name, run in runs]


def of(picture: Tensor, task: str, settings: dict[str, Any]) -> Row:
    """One picture, degraded and restored."""
    degradation, noise = TASKS[task]
    operator = degradation.operator(tuple(picture.shape))
    y = add_noise(operator(picture), noise, 0)
    image, seconds = timed(lambda: solve(y, operator, noise=noise, sampler="dds", **settings).image)
    return Row(float(psnr(image.clamp(0, 1), picture, data_range=1.0)), seconds)


def drawn(side: int) -> list[tuple[str, Row]]:
    """Draws of one start noise by fewer and cheaper steps."""

    def draw(prior: str, steps: int) -> Tensor:
        found = draw_from(
            prior, count=1, size=(side, side), settings={"n_steps": steps, "solver": "ddim"}
        )
        return found.images[0]

    exact = draw("natural", EXACT)
    rows = []
    settings = [(f"natural@{n}", DRAWS[0]) for n in NETWORKS]
    for prior, steps in [*settings, *[("natural", k) for k in DRAWS[1:]]]:
        image, seconds = timed(lambda prior=prior, steps=steps: draw(prior, steps))  # type: ignore[misc]
        label = f"{prior.partition('@')[2] or 'reuse=1'}, {steps} steps"
        rows.append((label, Row(float(psnr(image, exact, data_range=1.0)), seconds)))
    return rows


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """What the work makes, and its seconds of the processor."""
    begin = time.process_time()
    return work(), time.process_time() - begin


def mean(rows: list[Row]) -> Row:
    return Row(sum(r.psnr for r in rows) / len(rows), sum(r.seconds for r in rows) / len(rows))


if __name__ == "__main__":
    main()
