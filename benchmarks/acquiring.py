"""Lines chosen by posterior draws against lines that are not: docs/acquiring.md.

    OMP_NUM_THREADS=1 python benchmarks/acquiring.py DATA mri|ct [--policies ads,random] [--seeds 7,1,2] [--budget 12]

mri: slice 100 of DATA/mr/train/chris_T1.nii.gz, means of 2 x 2 pixels (128 x 94), 8 coils, noise 0.005; 12 of 94
columns (7.8 times fewer), 4 in the middle to begin with. ct: slice 45 of DATA/ct/train/thorax_1p5mm.nii.gz, 1e5
photons; 10 of 60 views, 2 to begin with.

Reconstructed by `dds` at 30 steps, seed 1, whatever the policy. PSNR of the magnitude with the slice's maximum as
data range, of HU with 2500. A line a run: policy, seed, PSNR, seconds of the choices, order.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
import torch

from restore.acquire import Particles, Plan, measured_lines, order_of_lines
from restore.acquire.measuring import LineScan
from restore.datasets.open import read
from restore.datasets.scan import SetupOptions
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.front_door import solve_problem
from restore.metrics import psnr

POLICIES = {
    "mri": "ads,variance,gaussian1d,centre-out,random",
    "ct": "ads,variance,equispaced,random",
}
BUDGET = {"mri": 12, "ct": 10}
CT_RANGE_HU = 2500.0


def complete(kind: str, data: Path) -> tuple[LineScan, float]:
    """The scan of which all lines are known, and the data range of its image."""
    if kind == "ct":
        chest = read(data / "ct" / "train" / "thorax_1p5mm.nii.gz")
        return simulate_ct(chest, views=60, slices=slice(45, 46)), CT_RANGE_HU
    head = read(data / "mr" / "train" / "chris_T1.nii.gz")
    small = head.data[100].astype(np.float32).reshape(1, 128, 2, 94, 2).mean((2, 4))
    head = dataclasses.replace(head, data=small)
    return simulate_mri(head, coils=8, acceleration=1), float(small.max())


def quality(scan: LineScan, peak: float) -> float:
    """PSNR in dB of dds."""
    problem = scan.setup(SetupOptions()).problem(range(1), torch.device("cpu"))
    found = solve_problem(problem, sampler="dds", n_steps=30, seed=1)
    image = torch.from_numpy(scan.in_source_units(found.image)[0])
    return psnr(image, torch.from_numpy(scan.image_of(0)), data_range=peak)


def main() -> None:
    """Measure, reconstruct, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("kind", choices=POLICIES)
    parser.add_argument("--policies")
    parser.add_argument("--seeds", default="7")
    parser.add_argument("--budget", type=int)
    asked = parser.parse_args()
    scan, peak = complete(asked.kind, asked.data)
    for policy in (asked.policies or POLICIES[asked.kind]).split(","):
        for seed in map(int, asked.seeds.split(",")):
            begin = time.perf_counter()
            plan = Plan(policy, asked.budget or BUDGET[asked.kind], particles=Particles(seed=seed))
            order = order_of_lines(scan, plan)
            seconds = time.perf_counter() - begin
            found = quality(measured_lines(scan, order), peak)
            print(f"{policy} seed {seed}: {found:.2f} dB, {seconds:.0f} s, {order}", flush=True)


if __name__ == "__main__":
    main()
