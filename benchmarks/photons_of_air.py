"""What it costs not to be told the photons of a CT scan: estimated from air, and one level for all rays.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/photons_of_air.py ../shared/data

One slice of three bodies at 60 and 30 views, 1e5 photons a ray, `dds` tuned.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import torch
from misfits import TRUNKS
from timing import one_thread, print_versions

from restore.datasets.ct.scan import CTScan
from restore.datasets.open import read
from restore.datasets.scan import SetupOptions
from restore.datasets.simulate.ct import simulate_ct
from restore.front_door import solve_problem
from restore.metrics import psnr
from restore.registry import load_sampler

WINDOW_HU = 2500.0


def solved(scan: CTScan, level: float | None) -> str:
    """PSNR in dB of a range of `WINDOW_HU`; the misfit in units of the noise that was assumed, the share left over.

    level: of all rays; None: as the scan has it.
    """
    problem = scan.problem(range(1), torch.device("cpu"), SetupOptions(noise_std=level))
    sampler = load_sampler("dds").configured("tuned", scan, {})
    found = solve_problem(problem, prior="medical", sampler=sampler, seed=0)
    assert scan.reference is not None
    image = scan.in_source_units(problem.operator.shown(found.image))[0]
    quality = psnr(image, np.asarray(scan.reference[0]), data_range=WINDOW_HU)
    left = problem.residual(problem.scaling.to_unit(found.image))
    share = 100 * float(torch.linalg.vector_norm(left) / torch.linalg.vector_norm(problem.unit_y))
    return f"{quality:.1f} ({found.ends[0]['misfit']:.3g}, {share:.1f} %)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    given = parser.parse_args()
    one_thread()
    print_versions()
    print(
        "\n| slice | views | photons stated | estimated from air: how many | and the result | one level for all rays | "
        "1e7 photons, stated |\n" + "| --- " * 7 + "|"
    )  # fmt: skip
    for name, where in TRUNKS:
        volume = read(given.data / "ct" / "train" / f"{name}.nii.gz", modality="CT")
        index = int(where * len(volume.data))
        for views in (60, 30):
            scan, strong = (
                simulate_ct(volume, views=views, slices=slice(index, index + 1), photons=photons)
                for photons in (1e5, 1e7)
            )
            silent = dataclasses.replace(scan, photons=None, noise_std=None, notes=[])
            level = silent.setup().record["noise_std"]
            ways = (silent, None), (silent, scan.noise_std), (strong, None)
            told = [solved(scan, None), f"{level**-2:.2g}", *itertools.starmap(solved, ways)]
            print(f"| {name} | {views} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
