"""Frames over time, found together or one by one: the tables of docs/dynamic.md.

    OMP_NUM_THREADS=1 python benchmarks/dynamic.py DATA mri|ct [--methods redpsm,lps] [--scans tuning] [--set rank=6]

mri: means of 4 x 4 pixels of a T1 head (64 x 47), 4 coils, noise 0.005; 24 frames of 0.1 s, 4 golden-angle spokes each.
ct: means of 2 x 2 pixels of a thorax (51 x 61), 1e5 photons; 24 frames, 4 views each. Heart and breath are a phantom's
(datasets/simulate/motion.py); a seed moves them otherwise, and draws other noise.

Reported: three slices, each with another motion, that no setting was chosen on. Tuning: for MRI a proton density head
and a T1 with contrast, for CT slices of the thorax 30 mm and more from those reported, with other motions; what both
samplers had from before was chosen on slice 100 of the head and 45 of the thorax. No bundled denoiser was trained on
any of these volumes.

PSNR of a frame with the volume's maximum as data range, of HU with 2500; the mean over the frames, and the worst. A
line a run, then the means over the scans. Seconds of the processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from restore.datasets.open import read
from restore.datasets.over_time import SeriesScan
from restore.datasets.scan import SetupOptions
from restore.datasets.simulate.frames import simulate_ct_frames, simulate_mri_frames
from restore.datasets.volume.volume import Volume
from restore.front_door import solve_problem
from restore.metrics import psnr

FRAMES, CT_RANGE_HU = 24, 2500.0
THORAX, T1 = "ct/train/thorax_1p5mm.nii.gz", "mr/train/chris_T1.nii.gz"
SCANS: dict[str, dict[str, tuple[tuple[str, int, int, int], ...]]] = {
    "ct": {
        "tuning": ((THORAX, 2, 15, 11), (THORAX, 2, 95, 12)),
        "reported": ((THORAX, 2, 35, 1), (THORAX, 2, 55, 2), (THORAX, 2, 75, 3)),
    },
    "mri": {
        "tuning": (("mr/train/chris_PD.nii.gz", 4, 15, 11), ("mr/dicom_t1", 8, 24, 13)),
        "reported": ((T1, 4, 80, 1), (T1, 4, 110, 2), (T1, 4, 130, 3)),
    },
}
"""File, pixels averaged along each axis, slice, seed."""

METHODS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    kind: {
        "direct": (direct, {}),
        "tv": ("tv", {}),
        "tv over time": ("tv", {"tv_axes": "all"}),
        "dds": ("dds", {"n_steps": 30}),
        "lps": ("lps", {}),
        "redpsm without prior": ("redpsm", {"trust": 0.0}),
        "redpsm": ("redpsm", {}),
    }
    for kind, direct in (("mri", "cgsense"), ("ct", "fbp"))
}


def means_of(volume: Volume, index: int, pixels: int) -> Volume:
    """One slice, its pixels averaged `pixels` by `pixels`; what is left over at the end is cut."""
    image = volume.data[index].astype(np.float32)
    rows, columns = (n // pixels for n in image.shape)
    image = image[: rows * pixels, : columns * pixels]
    small = image.reshape(1, rows, pixels, columns, pixels).mean((2, 4))
    affine = volume.affine @ np.diag([pixels, pixels, 1.0, 1.0])
    return dataclasses.replace(volume, data=small, affine=affine, header=None)


def series(
    kind: str, data: Path, file: str, pixels: int, index: int, seed: int
) -> tuple[SeriesScan, float]:
    """The scan, and the data range of its images."""
    path = data / file
    whole = read(path) if path.is_dir() else read(path, modality="CT" if kind == "ct" else "MR")
    small = means_of(whole, index, pixels)
    if kind == "ct":
        return simulate_ct_frames(small, FRAMES, views=4, seed=seed), CT_RANGE_HU
    scan = simulate_mri_frames(small, FRAMES, "radial:4", coils=4, seed=seed)
    return scan, float(small.data.max())


def main() -> None:
    """Measure, reconstruct, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("kind", choices=METHODS)
    parser.add_argument("--methods")
    parser.add_argument("--scans", choices=("reported", "tuning"), default="reported")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    asked = parser.parse_args()
    more = dict(word.split("=", 1) for word in asked.set)
    methods = METHODS[asked.kind]
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for which in SCANS[asked.kind][asked.scans]:
        scan, peak = series(asked.kind, asked.data, *which)
        for method in asked.methods.split(",") if asked.methods else methods:
            name, settings = methods[method]
            found[method].append(_run(scan, peak, name, settings | more))
            mean, worst, seconds = found[method][-1]
            where = f"{Path(which[0]).name} slice {which[2]} seed {which[3]}"
            print(
                f"{where}, {method}: {mean:.2f} dB, worst {worst:.2f}, {seconds:.0f} s", flush=True
            )
    for method, runs in found.items():
        mean, worst, seconds = np.mean(runs, 0)
        print(f"mean of {len(runs)}, {method}: {mean:.2f} dB, worst {worst:.2f}, {seconds:.0f} s")


def _run(
    scan: SeriesScan, peak: float, name: str, settings: dict[str, Any]
) -> tuple[float, float, float]:
    """PSNR over the frames, of the worst, and seconds; prints what the sampler remarks."""
    problem = scan.setup(SetupOptions()).problem(range(scan.n_slices), torch.device("cpu"))
    start = time.process_time()
    found = solve_problem(problem, sampler=name, **settings)
    seconds = time.process_time() - start
    for note in found.notes:
        print(f"  {note}")
    assert scan.reference is not None
    images = torch.from_numpy(scan.in_source_units(found.image))
    truth = torch.from_numpy(scan.reference[:])
    each = [psnr(x, t, data_range=peak) for x, t in zip(images, truth, strict=True)]
    return float(np.mean(each)), float(min(each)), seconds


if __name__ == "__main__":
    main()
