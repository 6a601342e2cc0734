"""What filling the middle of k-space is worth where few of its lines were measured: PSNR of `dds` by how maps are made.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/few_calibration.py ../shared/data [--seeds 3,5] [--steps 10]

One slice of each head at 8x and 4x, eight coils, noise 0.005 of the maximum, as it is (124 to 188 columns). Maps: of
the simulation, by ESPIRiT of the measured lines alone, and by ESPIRiT of the filled middle, however many lines there
are.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from timing import one_thread, print_versions
from torch import Tensor

from restore.datasets.mri.calibration import calibration_lines
from restore.datasets.open import read
from restore.datasets.scan import Scan, SetupOptions
from restore.datasets.simulate.mri import simulate_mri
from restore.front_door import solve_problem
from restore.metrics import psnr
from restore.operators.mri.coil_maps import Region, espirit, fold_phase, image_phase
from restore.operators.mri.filling import filled_centre
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.problem import Problem
from restore.registry import load_sampler

HEADS = (
    ("mr/train/stroke_T1.nii.gz", 0.45),
    ("mr/train/seg3d_T1.nii.gz", 0.45),
    ("mr/train/mr_gd_T1c.nii.gz", 0.45),
    ("mr/train/chris_T1.nii.gz", 0.5),
    ("mr/train/chris_PD.nii.gz", 0.45),
)


def scan_of(data: Path, name: str, where: float, times: int, seed: int) -> Scan:
    """One slice, measured."""
    head = read(data / name, modality="MR")
    index = int(where * len(head.data))
    return simulate_mri(
        head, slices=slice(index, index + 1), seed=seed, coils=8, noise=0.005, mask="random",
        acceleration=times, center_fraction=0.32 / times,
    )  # fmt: skip


def with_maps(problem: Problem, middle: Tensor, region: Region) -> Problem:
    """The problem with maps by ESPIRiT of the middle of k-space, and the image's phase of it in them."""
    maps, _ = espirit(middle, region)
    maps = fold_phase(maps, image_phase(middle, maps, region))
    operator = MultiCoilMRI(maps[None], problem.operator.mask)  # type: ignore[attr-defined]
    return dataclasses.replace(problem, operator=operator)


def quality(scan: Scan, problem: Problem, steps: int) -> float:
    """PSNR in dB of dds."""
    sampler = load_sampler("dds").configured("tuned", scan, {"n_steps": steps})
    found = solve_problem(problem, prior="medical", sampler=sampler, seed=0)
    image = scan.in_source_units(problem.operator.shown(found.image))[0]
    truth = np.asarray(scan.reference)[0]  # type: ignore[index]
    return float(psnr(image, truth, data_range=float(truth.max())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", default="3,5")
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    one_thread()
    print_versions()
    print(
        "\n| head | times | seed | lines | maps of the simulation | lines alone | filled |\n"
        + "| --- " * 7 + "|"
    )  # fmt: skip
    for name, where in HEADS:
        for times in (8, 4):
            for seed in map(int, options.seeds.split(",")):
                scan = scan_of(options.data, name, where, times, seed)
                true = scan.setup(SetupOptions(maps="file")).problem(range(1), torch.device("cpu"))
                kspace, mask = true.y[0], torch.from_numpy(np.array(scan.mask))  # type: ignore[attr-defined]
                region = calibration_lines(scan.mask, tuple(kspace.shape[-2:]))  # type: ignore[attr-defined]
                alone = with_maps(true, kspace, region)
                filled = with_maps(true, *filled_centre(kspace, mask))
                figures = [quality(scan, p, options.steps) for p in (true, alone, filled)]
                lines = region[1].stop - region[1].start
                label = name.split("/")[-1].removesuffix(".nii.gz")
                cells = " | ".join(f"{figure:.2f}" for figure in figures)
                print(f"| {label} | {times} | {seed} | {lines} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
