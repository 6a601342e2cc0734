"""scikit-image's methods beside TV and DDS: two of its photographs, 128 x 128, as one Markdown table.

    OMP_NUM_THREADS=1 python benchmarks/baselines.py build/baselines

The photographs are written to the folder and benchmarked by the protocol `images` (`restore bench images` with the same
settings gives the same rows); a second call shows the table of the rows that are there.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import re
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from skimage import data

import restore
from restore.bench.images import ImageFolder
from restore.bench.method import parse_methods
from restore.bench.results import Row, load
from restore.bench.runner import RunOptions, Told, run_benchmark
from restore.datasets.picture.images import write_image

CROPS = {"astronaut": (20, 150), "coffee": (100, 200)}
"""Photograph and the first row and column of its square."""

SIDE = 128
TASKS = {
    "inpaint: 30 % known": (("inpaint",), 0.0, "gaussian:1.6", "biharmonic,tv,dds"),
    "deblur: gaussian:1.6, noise 0.02": (
        ("deblur",), 0.02, "gaussian:1.6", "richardson-lucy,unsupervised-wiener,tv,dds",
    ),
    "deblur: motion:9:30, noise 0.02": (
        ("deblur",), 0.02, "motion:9:30", "richardson-lucy,unsupervised-wiener,tv,dds",
    ),
    "denoise: noise 0.1": (("denoise",), 0.1, "gaussian:1.6", "nlm,tv,dds"),
}  # fmt: skip


def photographs(folder: Path) -> Path:
    """Write the squares as PNG files, once."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (top, left) in CROPS.items():
        if not (folder / f"{name}.png").exists():
            square = getattr(data, name)()[top : top + SIDE, left : left + SIDE]
            write_image(np.moveaxis(square, -1, 0) / 255, folder / f"{name}.png")
    return folder


def processor() -> str:
    """Its name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def cells(rows: list[Row]) -> str:
    """PSNR of each photograph, their mean SSIM, and the seconds of one."""
    by_name = {r.volume: r for r in rows}
    shown = [f"{by_name[f'{name}.png'].psnr:.2f}" for name in CROPS]
    ssim, seconds = (np.mean([getattr(r, what) for r in rows]) for what in ("ssim", "seconds"))
    return " | ".join([*shown, f"{ssim:.3f}", f"{seconds:.1f}"])


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    folder = photographs(out / "photographs")
    versions = [f"{name} {metadata.version(name)}" for name in ("scikit-image", "torch")]
    print(
        f"{datetime.date.today()}, restore {restore.__version__}, {', '.join(versions)}, one thread of {processor()}\n"
    )
    print(
        f"| task | sampler | {' | '.join(CROPS)} | SSIM | seconds |\n|{' --- |' * (4 + len(CROPS))}"
    )
    for number, (title, (tasks, noise, kernel, samplers)) in enumerate(TASKS.items()):
        protocol = ImageFolder(folder, tasks, (noise,), crop=SIDE, kernel=kernel)  # type: ignore[arg-type]
        run = out / f"run{number}"
        run_benchmark(
            protocol, parse_methods(samplers), run, RunOptions(torch.device("cpu")), Told()
        )
        rows = load(run)
        for method in samplers.split(","):
            print(f"| {title} | {method} | {cells([r for r in rows if r.method == method])} |")


if __name__ == "__main__":
    main()
