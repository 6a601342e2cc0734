"""One image in one process and split among two: differences and seconds, with borders of now and of the step before.

    python benchmarks/split_image.py PICTURE [--rows 480] [--columns 96] [--steps 8]

The middle of a picture (turned where it is wider than high, mirrored where it has fewer rows), its blur undone by dds
with the prior `natural`. Seconds by the clock mean something where two cores are free; those of the processes'
processors (of the helper on Linux alone) do on a busy machine too: each has one of two strips and its rows beyond, the
first also all data steps. The table goes to docs/network-options.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from pathlib import Path
from typing import get_args

import torch
from timing import one_thread
from torch import Tensor

from restore.datasets.open import read_image
from restore.front_door import solve
from restore.many.engines.split_processes import split_among
from restore.pipelines.degrade import Degradation, add_noise
from restore.priors.split_rows import Borders

NOISE = 0.01


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("picture", type=Path)
    arguments.add_argument("--rows", type=int, default=480)
    arguments.add_argument("--columns", type=int, default=96)
    arguments.add_argument("--steps", type=int, default=8)
    chosen = arguments.parse_args()
    one_thread()
    truth = middle(chosen.picture, chosen.rows, chosen.columns)
    operator = Degradation("deblur", None, "gaussian:1.6", 4, "reflect").operator(
        tuple(truth.shape)
    )
    y = add_noise(operator(truth), NOISE, 0)

    def restored(
        places: int, split: Borders | None, eta: float
    ) -> tuple[Tensor, float, float, float]:
        inside = split_among(places, split, "cpu") if split else contextlib.nullcontext()
        with inside:
            # A first call of one step: processes start, weights are read.
            how = {"noise": NOISE, "sampler": "dds", "eta": eta, "turns": False}
            solve(y, operator, prior="natural", n_steps=1, **how)
            begin, used, helped = time.perf_counter(), time.process_time(), of_helpers()
            image = solve(y, operator, prior="natural", n_steps=chosen.steps, **how).image
            seconds, used = time.perf_counter() - begin, time.process_time() - used
            return image, seconds, used, of_helpers() - helped

    print(
        "| noise | processes | borders | largest difference | rms | by the clock | of the first's processor "
        "| of the second's |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for eta, said in ((1.0, "new at every step"), (0.0, "none new")):
        alone, seconds, used, _ = restored(1, None, eta)
        print(f"| {said} | 1 | | 0 | 0 | {seconds:.2f} | {used:.2f} | |", flush=True)
        for split in get_args(Borders):
            image, seconds, used, helped = restored(2, split, eta)
            apart = (image - alone).double()
            largest, rms = float(apart.abs().max()), float(apart.square().mean().sqrt())
            print(
                f"| {said} | 2 | {split} | {largest:.1e} | {rms:.1e} | {seconds:.2f} | {used:.2f} | {helped:.2f} |",
                flush=True,
            )


def of_helpers() -> float:
    """Processor seconds of the processes that this one started, so far; nan where no /proc tells them."""
    started = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not started.exists():
        return float("nan")
    seconds = 0.0
    for child in started.read_text().split():
        spent = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:13]
        seconds += sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")
    return seconds


def middle(path: Path, rows: int, columns: int) -> Tensor:
    """The middle of a picture, its longer side down, (3, rows, columns)."""
    data = torch.from_numpy(read_image(path).data)
    data = data if data.shape[-2] >= data.shape[-1] else data.mT
    while data.shape[-2] < rows:
        data = torch.cat([data, data.flip(-2)], -2)
    top, left = ((n - m) // 2 for n, m in zip(data.shape[-2:], (rows, columns), strict=True))
    return data[:, top : top + rows, left : left + columns].contiguous()


if __name__ == "__main__":
    main()
