"""What filling the middle of k-space is worth where few of its lines were measured: PSNR of `dds` by how maps are made.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/few_calibration.py ../shared/data [--seeds 3,5] [--steps 10]
        [--times 8,6,4] [--places 0.35,0.5,0.62] [--faults]

Slices of each head, eight coils, noise 0.005 of the maximum, as it is (124 to 188 columns), with at most twelve lines
side by side in the middle. Maps: of the simulation, by ESPIRiT of the measured lines alone, and by ESPIRiT of the
filled middle; how many times as much of the samples about the middle the former leave as the latter, by which one of
them is chosen. Then, for thresholds of that factor, what the choice is worth. --faults: in the place of that table,
what the estimate leaves of the samples beyond the noise, and how far the maps lie off (the part of coil images across
them), of sound lines and of such that do not belong together.
"""

from __future__ import annotations

import argparse
import dataclasses
from itertools import product
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
from restore.operators.mri.filling import FEW_LINES, WORSE, filled_centre, left_by_maps
from restore.operators.mri.joint_maps import joint_estimate
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
"""With the place of the slice of --faults, as a share of all."""
THRESHOLDS = (0.0, 1.0, 1.1, WORSE, 1.2, 1.3)


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


def faults(width: int) -> dict[str, Tensor]:
    """Factors of the lines of k-space."""
    draw = torch.randn(width, generator=torch.Generator().manual_seed(1))
    off = torch.arange(width) % 2
    angles = {
        "sound": 0 * draw,
        "phases 0.3": 0.3 * draw,
        "phases 1": draw,
        "every other 0.5": 0.5 * off,
    }
    return {name: torch.polar(torch.ones(width), angle.float()) for name, angle in angles.items()}


def off_by(maps: Tensor, true: Tensor, image: np.ndarray) -> float:
    """Root mean square part of the coil images (coils, *image) that lies across the maps."""
    weight = torch.from_numpy(np.square(image, dtype=np.float64))
    across = (1 - (maps.conj() * true).sum(0).abs().square()).clamp(min=0)
    return float(((across * weight).sum() / weight.sum()).sqrt())


def fault_rows(scan: Scan, label: str) -> None:
    """A line of the table for each fault."""
    true = scan.setup(SetupOptions(maps="file", remove_phase=False)).problem(
        range(1), torch.device("cpu")
    )
    mask, level = torch.from_numpy(np.array(scan.mask)), float(scan.noise_std or 0)  # type: ignore[attr-defined]
    for fault, factors in faults(true.y.shape[-1]).items():
        kspace = true.y[0] * factors
        estimate = joint_estimate(kspace, mask)
        share = estimate.misfit * max(0.0, 1 - (level / estimate.left) ** 2) ** 0.5
        maps, _ = espirit(*filled_centre(kspace, mask, estimate))
        error = off_by(maps, true.operator.maps[0], np.asarray(scan.reference)[0])  # type: ignore
        print(f"| {label} | {fault} | {100 * share:.1f} | {100 * error:.1f} |", flush=True)


def row(scan: Scan, label: str, steps: int) -> tuple[int, float, float]:
    """Print a line of the table. Lines, the factor of what is left, and what filling gains in dB."""
    true = scan.setup(SetupOptions(maps="file")).problem(range(1), torch.device("cpu"))
    kspace, mask = true.y[0], torch.from_numpy(np.array(scan.mask))  # type: ignore[attr-defined]
    region = calibration_lines(scan.mask, tuple(kspace.shape[-2:]))  # type: ignore[attr-defined]
    alone, filled = (kspace, region), filled_centre(kspace, mask)
    left = [left_by_maps(kspace, mask, *which) for which in (alone, filled)]
    problems = (true, with_maps(true, *alone), with_maps(true, *filled))
    figures = [quality(scan, p, steps) for p in problems]
    lines = region[1].stop - region[1].start
    cells = " | ".join(f"{figure:.2f}" for figure in figures)
    print(f"| {label} | {lines} | {cells} | {left[0] / left[1]:.2f} |", flush=True)
    return lines, left[0] / left[1], figures[2] - figures[1]


def summary(rows: list[tuple[int, float, float]]) -> None:
    """What is gained over the lines alone where a middle is filled from a factor on."""
    heads = ["lines", "slices", *(f"from {t:g} on" for t in THRESHOLDS)]
    print(f"\n| {' | '.join(heads)} |\n" + "| --- " * len(heads) + "|")
    for first, last in ((4, 8), (9, FEW_LINES)):
        some = [(factor, gain) for lines, factor, gain in rows if first <= lines <= last]
        cells = []
        for threshold in THRESHOLDS:
            gains = [gain if factor >= threshold else 0.0 for factor, gain in some] or [0.0]
            cells.append(f"{np.mean(gains):+.2f} ({min(gains):+.2f} to {max(gains):+.2f})")
        print(f"| {first} to {last} | {len(some)} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", default="3,5")
    parser.add_argument("--times", default="8,6,4")
    parser.add_argument("--places", default="0.35,0.5,0.62")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    one_thread()
    print_versions()
    if options.faults:
        print("\n| head, times, seed | lines | left, % | maps off by, % |\n" + "| --- " * 4 + "|")
        for name, where in HEADS:
            for times, seed in ((8, 3), (8, 5), (4, 3)):
                scan = scan_of(options.data, name, where, times, seed)
                if scan.difficulty["centre"] <= FEW_LINES:
                    fault_rows(scan, f"{Path(name).name.removesuffix('.nii.gz')} {times} {seed}")
        return
    print(
        "\n| head, place, times, seed | lines | maps of the simulation | lines alone | filled | factor |\n"
        + "| --- " * 6 + "|"
    )  # fmt: skip
    rows = []
    for name, _ in HEADS:
        for where, times, seed in product(
            *(o.split(",") for o in (options.places, options.times, options.seeds))
        ):
            scan = scan_of(options.data, name, float(where), int(times), int(seed))
            if scan.difficulty["centre"] <= FEW_LINES:
                label = f"{Path(name).name.removesuffix('.nii.gz')} {where} {times} {seed}"
                rows.append(row(scan, label, options.steps))
    summary(rows)


if __name__ == "__main__":
    main()
