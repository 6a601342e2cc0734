"""Time the cone-beam pair and FDK beside itk-rtk's and diffct's in one run, and compare their numbers.

    python benchmarks/cone_beam.py [--size 128] [--views 60] [--detector 192] [--repeats 2] [--threads 2]

Contenders take turns, and each keeps its best; the first turn, which compiles or plans, is not counted. RTK works in
place, so that every turn of it gets images of its own, made before the clock starts. diffct (its PyTorch backend, the
one that runs on a CPU) is Siddon's projector instead of Joseph's and takes hundreds of times as long: it is timed
on every `--diffct-sparser`-th view and detector row, and its seconds are those times the share. A peer that is not
installed (README.md) is named and left out.

RTK and ours differ at the rim alone, where RTK ends its rays at the outermost voxels' centres and leaves no ramp beyond
the detector; FDK is compared within nine tenths of the ball's radius. The ball lies off the axis, so that a wrong order
or sign of an axis would show.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timing import Seconds, measure, print_versions

from restore.operators.ct.beams import ConeBeam
from restore.operators.ct.geometry import equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.x_ray_transform import XRayTransform

RADIUS = 0.36  # of the ball, in sides of the volume
PLACE = (0.03, -0.08, 0.05)  # of its middle, likewise
Prepared = Callable[[], Any]
Contender = Callable[[], Prepared]
"""Prepares a turn outside the clock; what it returns is timed and gives the result."""


def distances(size: int) -> torch.Tensor:
    """Of every voxel from the ball's middle, (size, size, size), in voxels."""
    z, y, x = (np.arange(size) - (size - 1) / 2 - middle * size for middle in PLACE)
    return torch.from_numpy(np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2))


def ball(size: int) -> torch.Tensor:
    """Attenuation of water within the ball, float32."""
    return (distances(size) < RADIUS * size) * torch.tensor(0.02)


def rtk_contenders(
    scan: ConeBeam, volume: torch.Tensor, y: torch.Tensor, threads: int
) -> dict[str, Contender]:
    """RTK's filters for the same work; its axes are (x, z, -y) of ours, and its results are turned to ours."""
    import itk
    from itk import RTK as rtk

    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)
    kind = itk.Image[itk.F, 3]
    geometry = rtk.ThreeDCircularProjectionGeometry.New()
    for angle in np.degrees(scan.angles):
        geometry.AddProjection(scan.source_object_mm, scan.source_detector_mm, float(angle))

    def image(
        values: torch.Tensor, spacing: tuple[float, float, float], stack: bool = False
    ) -> Any:
        found = itk.image_from_array(np.ascontiguousarray(values.numpy()))
        found.SetSpacing(spacing)
        origin = [-(n - 1) / 2 * s for n, s in zip(values.shape[::-1], spacing, strict=True)]
        found.SetOrigin([*origin[:2], 0.0] if stack else origin)  # a view's place is its number
        return found

    dv, du = scan.det_spacing_mm

    def made(
        kind_of: Any, first: torch.Tensor, second: torch.Tensor, panel_first: bool
    ) -> Prepared:
        """A filter with inputs of its own: RTK works in place and lets go of what it was given."""
        sizes = ((du, dv, 1.0), (1.0, 1.0, 1.0))
        found = kind_of.New()
        found.SetGeometry(geometry)
        found.SetInput(0, image(first, sizes[not panel_first], panel_first))
        found.SetInput(1, image(second, sizes[panel_first], not panel_first))
        if kind_of is analytic:
            found.GetRampFilter().SetTruncationCorrection(0.0)
            found.GetRampFilter().SetHannCutFrequency(0.0)

        def run() -> torch.Tensor:
            found.Update()
            values = torch.from_numpy(itk.array_view_from_image(found.GetOutput()))
            return values.clone() if panel_first else values.clone().transpose(0, 1)

        return run

    analytic = rtk.FDKConeBeamReconstructionFilter[kind]
    joseph = rtk.JosephForwardProjectionImageFilter[kind, kind]
    back = rtk.JosephBackProjectionImageFilter[kind, kind]
    turned = volume.transpose(0, 1)
    return {
        "A": lambda: made(joseph, 0 * y, turned, True),
        "A^T": lambda: made(back, 0 * turned, y, False),
        "FDK": lambda: made(analytic, 0 * turned, y, False),
    }


def diffct_contenders(
    scan: ConeBeam, volume: torch.Tensor, y: torch.Tensor
) -> dict[str, Contender]:
    """diffct's projector on the CPU: rows of its volumes run along y, ours against it; panels are (columns, rows)."""
    from diffct import Projector

    views = scan.reduced()
    spacing = tuple(float(np.linalg.norm(step[0])) for step in (views.u, views.v))
    vectors = (views.source, views.centre, views.u / spacing[0], views.v / spacing[1])
    projector = Projector(
        tuple(torch.from_numpy(v).float() for v in vectors), tuple(volume.shape), (views.columns, views.rows),
        detector_spacing=spacing, backend="torch",
    )  # fmt: skip
    panels, turned = y.transpose(1, 2).contiguous(), volume.flip(1)
    return {
        "A": lambda: lambda: projector.project(turned).transpose(1, 2),
        "A^T": lambda: lambda: projector.backproject(panels).flip(1),
    }


def best(
    contenders: dict[str, Contender], repeats: int
) -> tuple[dict[str, Seconds], dict[str, Any]]:
    """The best turns and the results of contenders that take turns."""
    found = {name: make()() for name, make in contenders.items()}
    turns: dict[str, list[Seconds]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, make in contenders.items():
            turns[name].append(measure(make()))
    return {
        name: Seconds(min(t.cpu for t in took), min(t.wall for t in took))
        for name, took in turns.items()
    }, found


def apart(found: torch.Tensor, theirs: torch.Tensor) -> float:
    """Norm of the difference over that of theirs."""
    return float(torch.linalg.vector_norm(found - theirs) / torch.linalg.vector_norm(theirs))


def line(name: str, theirs: Seconds, ours: Seconds, further: str) -> None:
    print(
        f"{name:12} CPU {theirs.cpu:7.2f} s, {theirs.cpu / ours.cpu:6.2f} times ours; "
        f"wall {theirs.wall:7.2f} s, {theirs.wall / ours.wall:6.2f} times ours; {further}",
        flush=True,
    )


def compare_diffct(scan: ConeBeam, grid: VoxelGrid, ours: dict[str, Seconds], sparser: int) -> None:
    """diffct on every `sparser`-th view and detector row: rays as long as those of the whole."""
    dv, du = scan.det_spacing_mm
    part = dataclasses.replace(
        scan,
        angles=scan.angles[::sparser],
        detector=(scan.detector[0] // sparser, scan.detector[1]),
        det_spacing_mm=(dv * sparser, du),
    )
    op, x = XRayTransform(part, grid), ball(grid.shape[0])
    y = op(x)
    share = scan.shape[0] * scan.shape[1] / (y.shape[0] * y.shape[1])
    turns, results = best(diffct_contenders(part, x, y), 1)
    for name, mine in (("A", y), ("A^T", op.adjoint(y))):
        took = Seconds(turns[name].cpu * share, turns[name].wall * share)
        note = f"apart by {apart(mine, results[name]):.1e}; a part of 1/{share:.0f} timed"
        line(f"diffct {name}", took, ours[name], note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("size", 128), ("views", 60), ("detector", 192), ("repeats", 2), ("threads", 2), ("diffct-sparser", 12),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(args.threads)  # read on import
    print_versions("itk-rtk", "diffct", threads=args.threads)
    spacing_mm = 2.25 * args.size / args.detector  # the panel sees 1.125 sides at the axis
    scan = ConeBeam(
        equispaced(args.views, 360), (args.detector, args.detector), spacing_mm, 500.0, 1000.0
    )  # fmt: skip
    op = XRayTransform(scan, VoxelGrid((args.size,) * 3))
    x = ball(args.size)
    y = op(x)
    noise = torch.rand(y.shape, generator=torch.Generator().manual_seed(0))
    left, right = (op(x).double() * noise).sum(), (x.double() * op.adjoint(noise)).sum()
    print(f"dot test, positive data: {abs(float(left / right) - 1):.1e}")
    contenders: dict[str, Contender] = {
        "A": lambda: lambda: op(x),
        "A^T": lambda: lambda: op.adjoint(y),
        "FDK": lambda: lambda: op.backproject(y),
    }
    has_rtk = importlib.util.find_spec("itk") is not None
    if has_rtk:
        rtk = rtk_contenders(scan, x, y, args.threads)
        contenders |= {f"itk-rtk {name}": make for name, make in rtk.items()}
    took, found = best(contenders, args.repeats)
    inside = distances(args.size) < 0.9 * RADIUS * args.size
    for name in ("A", "A^T", "FDK"):
        line(f"restore {name}", took[name], took[name], "")
        if has_rtk:
            ours, theirs = found[name], found[f"itk-rtk {name}"]
            if name == "FDK":
                ours, theirs = ours[inside], theirs[inside]
            line(
                f"itk-rtk {name}",
                took[f"itk-rtk {name}"],
                took[name],
                f"apart by {apart(ours, theirs):.1e}",
            )
    if importlib.util.find_spec("diffct") is not None:
        compare_diffct(scan, op.grid, took, args.diffct_sparser)
    for name, there in (("itk-rtk", "itk"), ("diffct", "diffct")):
        if importlib.util.find_spec(there) is None:
            print(f"{name} is not installed: left out")


if __name__ == "__main__":
    main()
