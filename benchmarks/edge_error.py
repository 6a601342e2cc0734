"""What `edge_error` of dds is worth in CT, on slices of the tuning: the table of RESULTS.md, "the operator's error".

    python benchmarks/edge_error.py ../shared/data [--errors 0,0.03,0.05,0.07] [--views 60,30]

Two heads made by rule and a slice of an abdomen, measured on a grid twice finer than that of the image, and a slice of
the thorax, which is measured finer too but interpolated there, so that it has no edge between two pixels. None of them
is in the tables of `compare.py`. Prints PSNR in dB, SSIM and, of the result, the misfit in deviations of the noise.
Called by nobody; writes nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from cases import PHOTONS, SEED, THORAX, Case, finer_scan, phantom_scan, slices_of

from restore.datasets.open import read
from restore.datasets.simulate.ct import simulate_ct
from restore.front_door import solve
from restore.operators.ct.geometry import AIR_HU

ABDOMEN = "ct/train/abdomen_3mm.nii.gz"


def cases(data: Path, views: int) -> Iterator[Case]:
    """The slices of the tuning."""
    for head, index in ((11, 0), (12, 1)):
        scan = phantom_scan(head, views)
        yield named(f"head {index + 1}, {views} views", slices_of("", scan), index)
    volume = read(data / ABDOMEN, modality="CT")
    fine = np.maximum(volume.data[60:61], AIR_HU)
    scan = finer_scan(dataclasses.replace(volume, data=fine), views, 60)
    yield named(f"abdomen, {views} views", slices_of("", scan), 0)
    thorax = read(data / THORAX, modality="CT")
    scan = simulate_ct(thorax, slices=slice(45, 46), seed=SEED, views=views, photons=PHOTONS)
    yield named(f"thorax, {views} views", slices_of("", scan), 0)


def named(name: str, found: Iterator[Case], index: int) -> Case:
    """One of them under a name of its own."""
    return dataclasses.replace([*found][index], name=name)


def main() -> None:
    """Print a row a slice."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--errors", default="0,0.03,0.05,0.07")
    parser.add_argument("--views", default="60,30")
    args = parser.parse_args()
    errors = [float(e) for e in args.errors.split(",")]
    torch.set_num_threads(1)
    print("| slice |", " | ".join(f"{e:g}" for e in errors), "|")
    print("| --- |" + " --- |" * len(errors))
    chosen = [int(v) for v in args.views.split(",")]
    for case in (case for views in chosen for case in cases(args.data, views)):
        found = []
        for error in errors:
            result = solve(
                case.y, case.operator, noise=case.noise, scaling=case.scaling, sampler="dds", edge_error=error
            )  # fmt: skip
            psnr, ssim = case.score(result.image)
            found.append(f"{psnr:.2f} / {ssim:.3f}; {result.ends[0]['misfit']:.2f}")
        print(f"| {case.name} |", " | ".join(found), "|", flush=True)


if __name__ == "__main__":
    main()
