"""Thick slices made thin: `restore volume --task superres` against interpolation and total variation.

    OMP_NUM_THREADS=1 python benchmarks/thick_slices.py DATA [--volumes t1] [--factors 4] [--draws 4]

Small crops, 36 slices of 48 x 48, of volumes that no bundled prior was trained on:

t1: DATA/mr/dicom_t1, means of 4 x 4 pixels (1.6 x 1.6 x 1.5 mm); chris: DATA/mr/train/chris_T1.nii.gz (0.9 mm);
iguana: DATA/ct/train/iguana_microct.nii.gz; thorax: DATA/ct/train/thorax_1p5mm.nii.gz, HU from -1000 to 1500.

Intensities go from 0 to 1. A thick slice is the mean of 3, 4 or 6 thin ones (numpy), with noise of 0.01. Trilinear and
cubic: scipy's map_coordinates. TV: along z, and along all axes, each with the best of six weights for the very volume.
superres: the task as it is, noise told. --draws: the mean of so many samples, and the root mean square of the error
over that of their deviation, 1 being right.
PSNR of the volume; SSIM, the mean over its coronal and sagittal planes. One row a volume and factor, as Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from restore.datasets.open import read
from restore.datasets.volume.volume import Volume
from restore.front_door import solve_problem
from restore.metrics import psnr, ssim
from restore.pipelines.volume.superres import Superres
from restore.problem import Problem
from restore.solvers.admm import admm_tv_steps

Array = NDArray[np.float32]

NOISE = 0.01
CORNERS = {"t1": (6, 44, 34), "chris": (66, 94, 64), "iguana": (66, 94, 64), "thorax": (26, 24, 24)}
SHAPE = (36, 48, 48)
TV_WEIGHTS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
NAMES = ("trilinear", "cubic", "TV along z", "TV", "superres")


def volume_of(name: str, data: Path) -> Array:
    """A crop with intensities from 0 to about 1."""
    if name == "t1":
        pixels = read(data / "mr" / "dicom_t1").data
        rows, columns = (n // 4 for n in pixels.shape[1:])
        whole = pixels[:, : 4 * rows, : 4 * columns].reshape(-1, rows, 4, columns, 4).mean((2, 4))
    elif name == "chris":
        whole = read(data / "mr" / "train" / "chris_T1.nii.gz").data
    elif name == "iguana":
        whole = read(data / "ct" / "train" / "iguana_microct.nii.gz").data
    else:
        whole = (read(data / "ct" / "train" / "thorax_1p5mm.nii.gz").data + 1000) / 2500
    part = whole[tuple(slice(a, a + n) for a, n in zip(CORNERS[name], SHAPE, strict=True))]
    if name == "thorax":
        return np.clip(part, 0, 1).astype(np.float32)
    return (part / np.quantile(part, 0.999)).astype(np.float32)


def interpolated(y: Array, factor: int, order: int) -> Array:
    """The slices on the thin grid by scipy, beyond the outer ones their values."""
    z = (np.arange(SHAPE[0]) - (factor - 1) / 2) / factor
    at = np.meshgrid(z, np.arange(SHAPE[1]), np.arange(SHAPE[2]), indexing="ij")
    return map_coordinates(y, at, order=order, mode="nearest")


def tv(problem: Problem, axes: tuple[int, ...], reference: Array) -> Array:
    """With the weight that is best for this volume."""
    found = []
    with torch.no_grad():
        for weight in TV_WEIGHTS:
            *_, last = admm_tv_steps(problem.data, weight, axes=axes, iters=60, cg_iters=5)
            found.append(problem.scaling.to_physical(last).numpy())
    return min(found, key=lambda x: float(np.square(x - reference).sum()))


def figures(x: Array, reference: Array) -> str:
    """PSNR / SSIM."""
    span = float(np.ptp(reference))
    planes = [
        ssim(x.take(k, axis), reference.take(k, axis), data_range=span)
        for axis in (1, 2) for k in range(SHAPE[axis])
    ]  # fmt: skip
    return f"{psnr(x, reference, data_range=span):.2f} / {np.mean(planes):.3f}"


def row(name: str, factor: int, data: Path, draws: int) -> str:
    """All methods on one volume."""
    reference = volume_of(name, data)
    y = reference.reshape(-1, factor, *SHAPE[1:]).mean(1)
    y = y + NOISE * np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)
    task = Superres(spacing=1.0, noise_level=NOISE)
    prepared = task.prepare((Volume(y, np.diag([1.0, 1.0, factor, 1.0])),))
    (block,) = prepared.blocks()
    problem = prepared.problem(block, torch.device("cpu"))
    offset = prepared.intensities.offset
    results = {
        "trilinear": interpolated(y, factor, 1),
        "cubic": interpolated(y, factor, 3),
        "TV along z": tv(problem, (-3,), reference - offset) + offset,
        "TV": tv(problem, (-3, -2, -1), reference - offset) + offset,
    }
    sampler, preset = task.usual(draws)
    found = solve_problem(problem, sampler=sampler, preset=preset, samples=draws)
    results["superres"] = prepared.in_source_units(found.image[None], block)[0]
    said = [figures(results[method], reference) for method in NAMES]
    if found.std is not None:
        error = float(np.square(results["superres"] - reference).mean()) ** 0.5
        spread = float(found.std.square().mean() * (1 + 1 / draws)) ** 0.5
        said.append(f"{error / spread:.2f}")
    return f"| {name} | {factor} | {' | '.join(said)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--volumes", nargs="+", default=list(CORNERS), choices=list(CORNERS))
    parser.add_argument("--factors", nargs="+", type=int, default=[3, 4, 6])
    parser.add_argument("--draws", type=int, default=1)
    given = parser.parse_args()
    last = (" | error / spread", "---|") if given.draws > 1 else ("", "")
    print(
        f"| volume | factor | {' | '.join(NAMES)}{last[0]} |\n|{'---|' * (len(NAMES) + 2)}{last[1]}"
    )
    for name in given.volumes:
        for factor in given.factors:
            print(row(name, factor, given.data, given.draws), flush=True)


if __name__ == "__main__":
    main()
