"""Volumes: DDS slice by slice, DDS with TV across the slices, and DiffusionMBIR, seen along all three axes.

    OMP_NUM_THREADS=1 python benchmarks/volume_3d.py DATA [--pictures benchmarks]
    OMP_NUM_THREADS=1 python benchmarks/volume_3d.py DATA --noise [--tasks ct15] [--first 44] [--slices 12] [--thick 5]

Two volumes that no bundled prior was trained on, neighbouring slices of about isotropic voxels:

mr: DATA/mr/dicom_t1, means of 4 x 4 pixels; eight coils, random lines, noise 0.005 of the maximum. The mask is the
same in all slices.
ct: DATA/ct/train/iguana_microct.nii.gz, means of 2 x 2 x 2 voxels; its grey values g are taken as
13 g - 1000 HU (soft tissue near 40 HU) and the voxels as 1 mm; 1e5 photons a ray.

PSNR along an axis is the mean over the sections across it that are not empty, data range as `restore eval`.
"z error" is the root mean square error of differences between neighbouring slices, in thousandths of the range:
jumps between slices that are not in the reference. Memory is the largest growth of the process while a method runs,
each in a process of its own; --memory does it for three numbers of steps.
--noise: weights of TV against correlations of the noise of neighbouring slices (z_noise), tuned DDS with 20 steps, seed
1. --thick: means of so many slices first; --first counts these.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from restore.datasets.open import read
from restore.datasets.scan import Scan
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.volume.volume import Volume
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.scan_to_volume import reconstruct
from restore.priors.store import load_prior
from restore.registry import load_sampler

SEED, SLICES = 7, 16
Array = NDArray[np.float32]

# Name of a row: sampler and settings, per kind of scan. DDS: 30 evaluations a slice; DiffusionMBIR: 60.
METHODS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "TV, slice by slice": ("tv", {"mr": {}, "ct": {}}),
    "DDS, slice by slice": ("dds", {"mr": {"n_steps": 30}, "ct": {"n_steps": 30, "sigma_start": 0.5, "few_data": 0}}),
    "DDS, 3-D": (
        "dds",
        {
            "mr": {"n_steps": 30, "tv_weight": 0.003, "tv_rho": 0.1},
            "ct": {"n_steps": 30, "sigma_start": 0.5, "few_data": 0, "tv_weight": 0.003, "tv_rho": 0.1},
        },
    ),
    "DiffusionMBIR": ("diffusionmbir", {"mr": {"n_steps": 30}, "ct": {"n_steps": 30}}),
}  # fmt: skip


NOISE = (
    (0.0, 0.0), (0.0, -0.9), (0.0015, -0.9), (0.003, 0.0), (0.003, -0.5), (0.003, -0.9), (0.003, -1.0), (0.006, 0.0),
    (0.006, -0.9),
)  # fmt: skip
"""tv_weight and z_noise of --noise."""


def volume(kind: str, data: Path) -> Volume:
    """The reduced volume (z, y, x)."""
    if kind == "mr":
        x = read(data / "mr" / "dicom_t1").data
        x = _means(x, (1, 4, 4))[:, 2:122, 12:116]
        return Volume(np.ascontiguousarray(x), np.diag([1.64, 1.64, 1.5, 1.0]), "MR")
    x = read(data / "ct" / "train" / "iguana_microct.nii.gz", modality="CT").data
    x = 13 * _means(x, (2, 2, 2))[:, 8:120, 2:98] - 1000
    return Volume(np.ascontiguousarray(x), np.eye(4), "CT", "HU")


def _means(x: NDArray[Any], by: tuple[int, int, int]) -> Array:
    z, y, w = (n // k for n, k in zip(x.shape, by, strict=True))
    x = x[: z * by[0], : y * by[1], : w * by[2]]
    blocks = x.reshape(z, by[0], y, by[1], w, by[2])
    return blocks.mean((1, 3, 5)).astype(np.float32)


def scan_of(
    task: str, data: Path, slices: int = SLICES, first: int | None = None, thick: int = 1
) -> Scan:
    """task: "mr4" for acceleration 4, "ct15" for 15 views. thick: how many slices are averaged to one."""
    source, number = thicker(volume(task[:2], data), thick), int(task[2:])
    start = first if first is not None else 24 if task.startswith("mr") else 44
    chosen = slice(start, start + slices)
    if task.startswith("mr"):
        return simulate_mri(
            source, coils=8, noise=0.005, mask="random", acceleration=number, center_fraction=0.08,
            slices=chosen, seed=SEED,
        )  # fmt: skip
    return simulate_ct(source, views=number, photons=1e5, slices=chosen, seed=SEED)


def thicker(source: Volume, by: int) -> Volume:
    """Means of `by` neighbouring slices."""
    affine = source.affine @ np.diag([1.0, 1.0, by, 1.0])
    data = np.ascontiguousarray(_means(source.data, (by, 1, 1)))
    return Volume(data, affine, source.modality, source.units)


def run(scan: Scan, sampler: str, settings: dict[str, Any], seed: int = 0) -> Array:
    """The reconstructed volume."""
    chosen = load_sampler(sampler).configured("tuned", scan, settings)
    prior = load_prior("medical") if chosen.prior_kinds else None
    result = reconstruct(scan, chosen, prior, ReconOptions(seed=seed), device=torch.device("cpu"))
    return np.asarray(result.volume.data, dtype=np.float32)


def data_range(truth: Array) -> float:
    """The maximum of a magnitude image, the whole range of HU."""
    return float(truth.max() - min(float(truth.min()), 0.0))


def along(image: Array, truth: Array, axis: int) -> float:
    """Mean PSNR of the sections across one axis that show more than a tenth of the range."""
    peak = data_range(truth)
    pairs = zip(np.moveaxis(image, axis, 0), np.moveaxis(truth, axis, 0), strict=True)
    found = [
        20 * np.log10(peak / np.sqrt(np.mean((a - b) ** 2)))
        for a, b in pairs
        if np.ptp(b) > 0.1 * peak
    ]
    return float(np.mean(found))


def z_error(image: Array, truth: Array) -> float:
    """RMS error of the differences between neighbouring slices, in thousandths of the range."""
    error = np.diff(image - truth, axis=0)
    return 1000 * float(np.sqrt(np.mean(error**2))) / data_range(truth)


def table(task: str, data: Path) -> dict[str, Array]:
    """Print one table; return the volumes, the reference first."""
    scan = scan_of(task, data)
    truth = np.asarray(scan.reference)
    images = {"reference": truth}
    print(f"\n{task}: volume {truth.shape}\n")
    print("| method | evaluations | axial | coronal | sagittal | z error | CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (sampler, settings) in METHODS.items():
        chosen = settings[task[:2]]
        start = time.process_time()
        image = images[name] = run(scan, sampler, chosen)
        seconds = time.process_time() - start
        each = {"tv": 0, "dds": 1, "diffusionmbir": 2}[sampler] * chosen.get("n_steps", 0)
        figures = " | ".join(f"{along(image, truth, axis):.2f}" for axis in range(3))
        row = f"| {name} | {each or ''} | {figures} | {z_error(image, truth):.1f} | {seconds:.0f} |"
        print(row, flush=True)
    return images


def noise_table(scan: Scan, name: str) -> None:
    """PSNR along the three axes and z error for weights of TV and correlations of the slices' noise."""
    truth = np.asarray(scan.reference)
    print(
        f"\n{name}: volume {truth.shape}\n\n| tv_weight | z_noise | axial | coronal | sagittal | z error |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for weight, r in NOISE:
        settings = {"n_steps": 20, "tv_weight": weight, "z_noise": r}
        image = run(scan, "dds", settings, seed=1)
        figures = " | ".join(f"{along(image, truth, axis):.2f}" for axis in range(3))
        print(f"| {weight} | {r} | {figures} | {z_error(image, truth):.1f} |", flush=True)


def picture(images: dict[str, Array], task: str, path: Path) -> None:
    """A coronal and a sagittal section of every volume, each with five times its error beside it."""
    truth = images["reference"]
    low, high = (0.0 if task.startswith("mr") else -1000.0), float(np.quantile(truth, 0.998))
    sections = {
        "coronal": lambda v: v[::-1, v.shape[1] // 2],
        "sagittal": lambda v: v[::-1, :, v.shape[2] // 3],
    }
    rows = [(where, name) for where in sections for name in images]
    figure = Figure((9.0, 0.86 * len(rows)), 85)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 2)
    figure.subplots_adjust(0.01, 0.005, 0.99, 0.98, wspace=0.02, hspace=0.25)
    for row, (where, name) in zip(axes, rows, strict=True):
        shown, wanted = sections[where](images[name]), sections[where](truth)
        row[0].imshow(shown, cmap="gray", vmin=low, vmax=high, aspect="auto")
        row[1].imshow(np.abs(shown - wanted), cmap="magma", vmax=(high - low) / 5, aspect="auto")
        row[0].set_title(f"{where}: {name}", fontsize=8, loc="left", pad=2)
        row[1].set_title("|error| x 5", fontsize=8, loc="left", pad=2)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(path, format="png")


def memory(data: Path) -> None:
    """Peak growth of a fresh process for three numbers of steps."""
    print("\n| steps | " + " | ".join(m for m in METHODS if not m.startswith("TV")) + " |")
    print("| --- | --- | --- | --- |")
    for n in (2, 8, 32):
        grown = []
        for sampler, settings in METHODS.values():
            if sampler != "tv":
                job = [sampler, json.dumps({**settings["ct"], "n_steps": n})]
                command = [sys.executable, __file__, str(data), "--one", *job]
                out = subprocess.run(command, check=True, capture_output=True, text=True)
                grown.append(f"{float(out.stdout):.0f} MB")
        print(f"| {n} | " + " | ".join(grown) + " |", flush=True)


def one(data: Path, sampler: str, settings: dict[str, Any]) -> None:
    """Print how much the peak of this process grew while a method ran, in MB."""
    scan = scan_of("ct15", data, slices=8)
    run(scan, "fbp", {})  # the projector's weights
    load_prior("medical")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(scan, sampler, settings)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main() -> None:
    """Tables, pictures, or memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--tasks", default="mr4,ct15")
    parser.add_argument("--pictures", type=Path, help="folder for volume_3d_<task>.png")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--first", type=int)
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--thick", type=int, default=1)
    parser.add_argument("--one", nargs=2, metavar=("SAMPLER", "SETTINGS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.one:
        return one(args.data, args.one[0], json.loads(args.one[1]))
    if args.memory:
        return memory(args.data)
    for task in args.tasks.split(","):
        if args.noise:
            noise_table(scan_of(task, args.data, args.slices, args.first, args.thick), task)
            continue
        images = table(task, args.data)
        if args.pictures:
            picture(images, task, args.pictures / f"volume_3d_{task}.png")
    return None


if __name__ == "__main__":
    main()
