"""Whether the trajectory map is large where the error is: beside the deviation of four samples, and the edges alone.

    python benchmarks/trajectory_map.py DATA [--side 96] [--tasks mri4,mri8,ct30]

The slices of `uncertainty.py`, which neither training nor tuning saw; about half a minute a slice. Spearman's rank
correlation with the absolute error over pixels (magnitudes without air, HU): of the map of one run of dds with that
run's error; of the deviation of four samples of dds, and of split, with their mean's; of the image's own gradient with
the one run's. And the rms error over the rms of each map. The table goes to docs/uncertainty-map.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from uncertainty import ScanRun, tasks

from restore.bench.case import FOREGROUND
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.scan_to_volume import ReconResult, reconstruct
from restore.priors.store import load_prior
from restore.registry import load_sampler

TASKS = "mri4,mri8,ct30"
SAMPLES = 4


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--side", type=int, default=96)
    arguments.add_argument("--tasks", default=TASKS)
    chosen = arguments.parse_args()
    print(
        "| slice | trajectory map, one run | 4 x dds | 4 x split | edges alone |\n| --- | --- | --- | --- | --- |"
    )
    for name, make in tasks(chosen.data, chosen.side).items():
        if name.split()[0] in chosen.tasks.split(","):
            print(f"| {name} | {' | '.join(line(make()))} |", flush=True)


def line(run: ScanRun) -> list[str]:
    """The cells of a slice."""
    truth = np.asarray(run.scan.reference[0], float)
    where = truth > FOREGROUND * truth.max() if run.magnitude else np.ones(truth.shape, bool)
    one = drawn(run, "dds", trajectory_map=True)
    image = one.volume.data[0]
    found = [(one.trajectory.data[0], image)]
    for sampler in ("dds", "split"):
        several = drawn(run, sampler, samples=SAMPLES)
        found.append((several.std.data[0], several.volume.data[0]))
    cells = [cell(std, np.abs(mean - truth), where) for std, mean in found]
    edges = np.hypot(*np.gradient(image))
    return [*cells, f"{rank(edges, np.abs(image - truth), where):.2f}"]


def drawn(run: ScanRun, sampler: str, **options: Any) -> ReconResult:
    """The slice reconstructed with the tuned sampler."""
    runner, prior = load_sampler(sampler).configured("tuned", run.scan, {}), load_prior("medical")
    return reconstruct(run.scan, runner, prior, ReconOptions(**options), device=torch.device("cpu"))


def cell(std: NDArray[Any], error: NDArray[Any], where: NDArray[Any]) -> str:
    """Rank correlation; rms error over rms deviation."""
    ratio = np.sqrt(np.mean(error[where] ** 2) / np.mean(std[where].astype(float) ** 2))
    return f"{rank(std, error, where):.2f}; {ratio:.1f}"


def rank(std: NDArray[Any], error: NDArray[Any], where: NDArray[Any]) -> float:
    """Spearman's correlation over the pixels of `where`."""
    return float(spearmanr(std[where], error[where])[0])


if __name__ == "__main__":
    main()
