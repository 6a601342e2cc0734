"""A tooth at a synchrotron, from all 181 views and from every sixth: FBP, TV and DDS beside each other.

    OMP_NUM_THREADS=1 python benchmarks/tooth.py tooth.h5 [--out tooth.png] [--table TOOTH.md]

tooth.h5 is TomoPy's example (DXchange). TomoPy has no wheel, so FBP of all views stands where its gridrec would. The
centre of rotation is found (`--center auto`), zingers are bridged, stripes taken out. No reference exists. Two
numbers are given, in the circle that holds the tooth: PSNR against FBP of all views, which has that picture's noise;
and the misfit on the 150 views that the methods of every sixth were not given, in standard deviations of their noise,
where what is invented or lost shows. The file tells no size of a pixel: lengths are in pixels, and water is taken as
0.004 a pixel, which makes dentine a little denser than it.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from restore.datasets.ct.scan import CTScan
from restore.datasets.open import open_scan
from restore.datasets.scan import SetupOptions
from restore.datasets.stack import LazyStack
from restore.front_door import solve_problem
from restore.operators.ct.parallel_beam import ParallelBeamCT

GRID, MU_WATER, SIXTH = "352x352@1", 0.004, 6
OPTIONS = SetupOptions(center="auto", outliers="bridge", rings="sorting")
SAMPLERS = ("fbp", "tv", "dds")


def part_of(scan: CTScan, every: int) -> CTScan:
    """The first slice of one view in so many."""
    lines = scan.sinogram[0:1][:, ::every]
    seen = dataclasses.replace(scan.geometry, angles=scan.geometry.angles[::every])
    stack = LazyStack(lines.shape, lambda i: lines[i])
    return dataclasses.replace(scan, sinogram=stack, geometry=seen, slice_indices=(0,))


def centred(scan: CTScan) -> CTScan:
    """The scan with what `OPTIONS` say done to it once, so that all parts share one centre."""
    setup = scan.setup(OPTIONS)
    return dataclasses.replace(setup.scan, geometry=setup.operator.geometry)


def reconstructed(scan: CTScan, sampler: str) -> tuple[torch.Tensor, float]:
    """The image in attenuation a pixel, and the seconds that it took."""
    problem = scan.setup().problem(range(1), torch.device("cpu"))
    start = time.perf_counter()
    image = solve_problem(problem, sampler=sampler).image
    return image[0], time.perf_counter() - start


def misfit(image: torch.Tensor, scan: CTScan, left_out: NDArray[np.bool_]) -> float:
    """Root mean square of what views leave over, in standard deviations of their noise."""
    seen = dataclasses.replace(
        scan.geometry, angles=np.asarray(scan.geometry.angles)[left_out], shape=tuple(image.shape)
    )
    y = torch.from_numpy(scan.sinogram[0][left_out])
    noise = scan.setup().noise
    rest = (ParallelBeamCT(seen, rays_per_bin=2, projector="own")(image) - y) ** 2
    return float((rest * noise.precision(y)).mean().sqrt())


def psnr(image: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """In the circle of the grid, with the reference's 99.9 percentile as peak."""
    n = len(reference)
    place = np.arange(n) - (n - 1) / 2
    inside = place[:, None] ** 2 + place**2 < (n / 2 - 2) ** 2
    error = float(np.mean((image - reference)[inside] ** 2))
    return 10 * np.log10(float(np.quantile(reference[inside], 0.999)) ** 2 / error)


def draw(images: dict[str, NDArray[np.float32]], path: Path) -> None:
    """All pictures in a row of whole views and a row of details, one window for all."""
    figure = Figure(figsize=(3 * len(images), 6.2), layout="constrained")
    high = float(np.quantile(next(iter(images.values())), 0.998))
    for k, (name, image) in enumerate(images.items()):
        n = len(image)
        detail = image[n // 4 : n // 4 + 110, n // 4 : n // 4 + 110]
        for row, shown in enumerate((image, detail)):
            axes = figure.add_subplot(2, len(images), row * len(images) + k + 1)
            axes.imshow(shown, cmap="gray", vmin=-0.1 * high, vmax=high, interpolation="nearest")
            axes.set_axis_off()
            if not row:
                axes.set_title(name, fontsize=10)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Reconstruct, print, write and draw, row by row: whoever stops it has what is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, default=Path("tooth.png"))
    parser.add_argument("--table", type=Path, default=Path("TOOTH.md"))
    given = parser.parse_args()
    scan = centred(open_scan(given.file, grid=GRID).in_units("1/mm", MU_WATER))
    left_out = np.arange(scan.shape[1]) % SIXTH != 0
    head = ["# A tooth, measured at a synchrotron", "", *(f"- {note}" for note in scan.notes), ""]
    rows = [
        "| views | method | PSNR against FBP of all, dB | misfit on views left out | s |",
        "| --- " * 5 + "|",
    ]
    reference, images = None, {}
    runs = (
        (1, "fbp"),
        *((SIXTH, name) for name in SAMPLERS),
        *((1, name) for name in SAMPLERS[1:]),
    )
    for every, sampler in runs:
        part = part_of(scan, every)
        image, seconds = reconstructed(part, sampler)
        values = image.numpy()
        reference = values if reference is None else reference
        quality = "" if values is reference else f"{psnr(values, reference):.1f}"
        rest = misfit(image, scan, left_out)
        rows.append(f"| {part.shape[1]} | {sampler} | {quality} | {rest:.2f} | {seconds:.0f} |")
        print(rows[-1], flush=True)
        images[f"{sampler}, {part.shape[1]} views"] = values
        draw(images, given.out)
        given.table.write_text("\n".join([*head, *rows, ""]))


if __name__ == "__main__":
    main()
