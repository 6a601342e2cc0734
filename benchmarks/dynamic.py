"""Frames over time, found together or one by one: the tables of docs/dynamic.md.

    OMP_NUM_THREADS=1 python benchmarks/dynamic.py DATA mri|ct [--methods redpsm,lps] [--seeds 7,1] [--set rank=6]

mri: slice 100 of DATA/mr/train/chris_T1.nii.gz, means of 4 x 4 pixels (64 x 47), 4 coils, noise 0.005; 24 frames of 0.1
s, 4 golden-angle spokes each. ct: slice 45 of DATA/ct/train/thorax_1p5mm.nii.gz, means of 2 x 2 pixels (51 x 61), 1e5
photons; 24 frames, 4 views each. Neither volume was seen by the training of the bundled prior. Heart and breath are a
phantom's (datasets/simulate/motion.py); a seed moves them otherwise, and draws other noise.

PSNR of a frame with the volume's maximum as data range, of HU with 2500; the mean over the frames, and the worst. A
line a run. Seconds of the processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from restore.datasets.open import read
from restore.datasets.over_time import SeriesScan
from restore.datasets.scan import SetupOptions
from restore.datasets.simulate.frames import simulate_ct_frames, simulate_mri_frames
from restore.front_door import solve_problem
from restore.metrics import psnr

FRAMES, CT_RANGE_HU = 24, 2500.0
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


def series(kind: str, data: Path, seed: int) -> tuple[SeriesScan, float]:
    """The scan, and the data range of its images."""
    if kind == "ct":
        chest = read(data / "ct" / "train" / "thorax_1p5mm.nii.gz", modality="CT")
        small = chest.data[45].astype(np.float32).reshape(1, 51, 2, 61, 2).mean((2, 4))
        affine = chest.affine @ np.diag([2.0, 2.0, 1.0, 1.0])
        chest = dataclasses.replace(chest, data=small, affine=affine)
        return simulate_ct_frames(chest, FRAMES, views=4, seed=seed), CT_RANGE_HU
    head = read(data / "mr" / "train" / "chris_T1.nii.gz", modality="MR")
    small = head.data[100].astype(np.float32).reshape(1, 64, 4, 47, 4).mean((2, 4))
    head = dataclasses.replace(head, data=small)
    scan = simulate_mri_frames(head, FRAMES, "radial:4", coils=4, seed=seed)
    return scan, float(small.max())


def main() -> None:
    """Measure, reconstruct, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("kind", choices=METHODS)
    parser.add_argument("--methods")
    parser.add_argument("--seeds", default="7")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    asked = parser.parse_args()
    more = dict(word.split("=", 1) for word in asked.set)
    methods = METHODS[asked.kind]
    for seed in map(int, asked.seeds.split(",")):
        scan, peak = series(asked.kind, asked.data, seed)
        assert scan.reference is not None
        truth = torch.from_numpy(scan.reference[:])
        problem = scan.setup(SetupOptions()).problem(range(scan.n_slices), torch.device("cpu"))
        for method in asked.methods.split(",") if asked.methods else methods:
            name, settings = methods[method]
            start = time.process_time()
            found = solve_problem(problem, sampler=name, **settings, **more)
            seconds = time.process_time() - start
            images = torch.from_numpy(scan.in_source_units(found.image))
            each = [psnr(x, t, data_range=peak) for x, t in zip(images, truth, strict=True)]
            print(
                f"{asked.kind} seed {seed} {method}: {np.mean(each):.2f} dB, worst {min(each):.2f}, "
                f"{seconds:.0f} s, misfit {found.ends[0]['misfit']:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
