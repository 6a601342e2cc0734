"""Few views of a cone beam and few spokes of radial MRI: DDS beside the classical methods, each at its best weight.

    OMP_NUM_THREADS=1 python benchmarks/acquisitions.py DATA cone [--slices 14]
    OMP_NUM_THREADS=1 python benchmarks/acquisitions.py DATA radial
    OMP_NUM_THREADS=1 python benchmarks/acquisitions.py DATA preconditioner

cone: 30 views over a turn, 1e5 photons, of slices of DATA/ct/train/iguana_microct (means of 2 x 2 x 2 voxels, as in
`volume_3d.py`), source 500 mm from the axis, panel twice as far. PSNR as there, across each axis.
radial: 34 golden-angle spokes, 8 coils, noise 0.005 of the maximum, slices of DATA/mr/dicom_t1 (means of 4 x 4 pixels),
maps estimated from the gridded centre. PSNR over all slices, data range the maximum.
preconditioner: steps of conjugate gradients and seconds until the data step of the cone beam is within one percent of
its end.
TV and l1-wavelet are shown at several weights, the best of which the reference itself tells; DDS is a preset. The
results stand in ACQUISITIONS.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from volume_3d import along, data_range, volume

from restore.datasets.scan import Scan
from restore.datasets.simulate.ct_beams import BeamSettings, simulate_beams
from restore.datasets.simulate.noncartesian import simulate_noncartesian
from restore.datasets.volume.volume import Volume
from restore.operators.ct.geometry import AIR_HU
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.scan_to_volume import reconstruct
from restore.priors.store import load_prior
from restore.registry import load_sampler
from restore.solvers.proximal import DataTerm, data_step

Array = NDArray[np.float32]
Row = tuple[str, str, str, dict[str, Any]]  # name, sampler, preset, settings

VIEWS, WIDE, BIN_MM, FIRST, SEED = 30, 160, 2.0, 44, 7
MOST = 128
"""Steps of conjugate gradients after which a data step counts as ended."""
SPOKES, HEAD = 34, slice(24, 40, 8)
CONE: list[Row] = [
    ("FDK", "fdk", "tuned", {}),
    *[
        (f"TV in 3-D, weight {w:g}", "tv", "tuned", {"weight": w, "n_steps": 40})
        for w in (1e-4, 2e-4, 4e-4)
    ],
    ("DDS, preset volume", "dds", "volume", {}),
]
RADIAL: list[Row] = [
    ("gridded", "zerofilled", "tuned", {}),
    *[(f"l1-wavelet, weight {w:g}", "wavelet", "tuned", {"weight": w}) for w in (1e-4, 3e-4, 1e-3, 3e-3)],
    *[(f"TV, weight {w:g}", "tv", "tuned", {"weight": w}) for w in (3e-4, 1e-3, 3e-3)],
    ("DDS, tuned", "dds", "tuned", {}),
]  # fmt: skip


def cone_scan(data: Path, slices: int) -> Scan:
    """The first and the last slice are air, as beyond them; the panel is a quarter taller than the slices' shadow."""
    settings = BeamSettings("cone", f"{slices * 5 // 4 + 2}x{WIDE}@{BIN_MM}", views=VIEWS)
    head = volume("ct", data)
    cut = head.data[FIRST : FIRST + slices].copy()
    cut[[0, -1]] = AIR_HU
    return simulate_beams(Volume(cut, head.affine, "CT", "HU"), settings, seed=SEED)


def radial_scan(data: Path) -> Scan:
    """Two slices of the head."""
    return simulate_noncartesian(volume("mr", data), f"radial:{SPOKES}", slices=HEAD, seed=SEED)


def run(scan: Scan, row: Row) -> tuple[Array, float]:
    """The reconstructed volume, and CPU seconds."""
    _, sampler, preset, settings = row
    chosen = load_sampler(sampler).configured(preset, scan, settings)
    prior = load_prior("medical") if chosen.prior_kinds else None
    start = time.process_time()
    found = reconstruct(scan, chosen, prior, ReconOptions(), device=torch.device("cpu"))
    return np.asarray(found.volume.data, np.float32), time.process_time() - start


def three_axes(image: Array, truth: Array) -> list[float]:
    """PSNR across the axial, coronal and sagittal sections."""
    return [along(image, truth, axis) for axis in range(3)]


def whole(image: Array, truth: Array) -> list[float]:
    """PSNR of all slices together."""
    return [20 * float(np.log10(data_range(truth) / np.sqrt(np.mean((image - truth) ** 2))))]


def table(
    scan: Scan, rows: list[Row], figures: Callable[[Array, Array], list[float]], heads: str
) -> None:
    """Print a row for every method as soon as it is there."""
    truth = np.asarray(scan.reference[:])  # type: ignore[index]
    print(f"\nvolume {truth.shape}\n\n| method | {heads} | mean | CPU s |")
    print("| --- " * (heads.count("|") + 4) + "|")
    for row in rows:
        image, seconds = run(scan, row)
        found = figures(image, truth)
        numbers = " | ".join(f"{f:.2f}" for f in found)
        print(f"| {row[0]} | {numbers} | {np.mean(found):.2f} | {seconds:.0f} |", flush=True)


def preconditioner(scan: Scan) -> None:
    """Steps and CPU seconds until a data step is within a percent, with the circulant preconditioner and without."""
    problem = scan.problem(range(scan.n_slices), torch.device("cpu"))
    term, x0 = problem.data, problem.degraded
    print("\n| noise level s | preconditioner | steps to 1 % | CPU s |\n| --- | --- | --- | --- |")
    for sigma in (0.03, 0.01, 0.003):
        weight = 3 * sigma**2
        end = data_step(term, x0, weight, iters=MOST, tol=1e-5).x
        for known in (False, True):
            start = time.process_time()
            data_step(term, x0, weight, iters=4, preconditioned=known)
            each = (time.process_time() - start) / 4
            steps = steps_to(term, x0, weight, end, known)
            word = "circulant" if known else "none"
            print(f"| {sigma:g} | {word} | {steps} | {steps * each:.2f} |", flush=True)


def steps_to(term: DataTerm, x0: Tensor, weight: float, end: Tensor, known: bool) -> int:
    """Steps until the data step is within a percent of its end, by halving; MOST where that does not suffice."""

    def far(steps: int) -> bool:
        found = data_step(term, x0, weight, iters=steps, preconditioned=known).x
        return bool((found - end).norm() > 0.01 * (x0 - end).norm())

    low, high = 0, 8
    while high < MOST and far(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if far(middle) else (low, middle)
    return high


def main() -> None:
    """One table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("what", choices=("cone", "radial", "preconditioner"))
    parser.add_argument("--slices", type=int, default=14)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "radial":
        table(radial_scan(args.data), RADIAL, whole, "PSNR")
    elif args.what == "cone":
        table(cone_scan(args.data, args.slices), CONE, three_axes, "axial | coronal | sagittal")
    else:
        preconditioner(cone_scan(args.data, args.slices))


if __name__ == "__main__":
    main()
