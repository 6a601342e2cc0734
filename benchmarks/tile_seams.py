"""Seams of tiles: how far an image that was restored in tiles is from the same one restored in one piece.

    OMP_NUM_THREADS=1 python benchmarks/tile_seams.py PICTURE [--side 192] [--tile 96] [--steps 6]

A colour picture's middle, enlarged four times by dds with the prior `natural`. For every way of cutting: the largest
and the root mean square difference from the run without tiles, PSNR against the picture, and seconds of the processor.
The table goes to docs/memory.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from encoder_reuse import middle, timed
from timing import one_thread
from torch import Tensor

from restore.front_door import solve
from restore.metrics import psnr
from restore.operators.image.downsample import Downsample

OVERLAPS = (2, 4)
"""Tiles overlap by these shares of their side."""
WINDOWS = ("smooth", "uniform", "gaussian")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("picture", type=Path)
    arguments.add_argument("--side", type=int, default=192)
    arguments.add_argument("--tile", type=int, default=96)
    arguments.add_argument("--steps", type=int, default=6)
    chosen = arguments.parse_args()
    one_thread()
    truth = middle(chosen.picture, chosen.side)
    operator = Downsample(tuple(truth.shape), 4)
    y = operator(truth)

    def restored(prior: str) -> tuple[Tensor, float]:
        return timed(
            lambda: (
                solve(y, operator, noise=0, prior=prior, sampler="dds", n_steps=chosen.steps).image
            )
        )

    whole, seconds = restored("natural")
    print(
        "| tiles | largest difference | rms difference | PSNR | seconds |\n| --- | --- | --- | --- | --- |"
    )
    print(
        f"| none | 0 | 0 | {float(psnr(whole.clamp(0, 1), truth, data_range=1.0)):.2f} | {seconds:.1f} |",
        flush=True,
    )
    cuts = [
        (chosen.tile // share // 8 * 8, w, s)
        for share in OVERLAPS
        for w in WINDOWS
        for s in (False, True)
    ]
    for overlap, window, shift in cuts:
        name = f"tile={chosen.tile},overlap={overlap},window={window},shift={str(shift).lower()}"
        image, seconds = restored(f"natural@{name}")
        apart = (image - whole).double()
        figures = float(apart.abs().max()), float(apart.square().mean().sqrt())
        decibels = float(psnr(image.clamp(0, 1), truth, data_range=1.0))
        cells = (
            f"overlap {overlap}, {window}{', shifted' if shift else ''}",
            *[f"{f:.1e}" for f in figures],
            f"{decibels:.2f}",
            f"{seconds:.1f}",
        )
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
