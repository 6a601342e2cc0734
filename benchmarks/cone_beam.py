"""Time the cone-beam pair and FDK beside itk-rtk's, in CPU seconds on one thread, and compare their numbers.

    python benchmarks/cone_beam.py [--size 128] [--views 60] [--detector 192] [--repeats 2]

The two differ at the rim alone, where RTK ends its rays at the outermost voxels' centres and leaves no ramp beyond the
detector. RTK is named and left out where it is not installed (`pip install itk-rtk==2.7.0`, in an environment of
peers). CPU seconds rather than the clock's: other work on the machine counts less. The best of the repeats is printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from restore.operators.ct.beams import ConeBeam
from restore.operators.ct.geometry import equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.x_ray_transform import XRayTransform


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """CPU seconds of the quickest call; the first, which compiles or plans, is left out."""
    work()
    took = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        took.append(time.process_time() - start)
    return min(took)


def ball(size: int) -> torch.Tensor:
    """Attenuation of water within 0.4 of the cube's side."""
    place = np.arange(size) - (size - 1) / 2
    r = np.sqrt(place[:, None, None] ** 2 + place[:, None] ** 2 + place**2)
    return torch.from_numpy((r < 0.4 * size) * np.float32(0.02))


def rtk_filters(
    scan: ConeBeam, volume: torch.Tensor, y: torch.Tensor
) -> dict[str, Callable[[], Any]]:
    """What makes RTK's filters for the same work; its axes are (x, z, -y) of ours."""
    import itk
    from itk import RTK as rtk

    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(1)
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

    def made(kind_of: Any, first: torch.Tensor, second: torch.Tensor, panel_first: bool) -> Any:
        """A filter with inputs of its own: RTK works in place and lets go of what it was given."""
        sizes = ((du, dv, 1.0), (1.0, 1.0, 1.0))
        found = kind_of.New()
        found.SetGeometry(geometry)
        found.SetInput(0, image(first, sizes[not panel_first], panel_first))
        found.SetInput(1, image(second, sizes[panel_first], not panel_first))
        return found

    def analytic() -> Any:
        found = made(rtk.FDKConeBeamReconstructionFilter[kind], 0 * volume, y, False)
        found.GetRampFilter().SetTruncationCorrection(0.0)
        found.GetRampFilter().SetHannCutFrequency(0.0)
        return found

    joseph = rtk.JosephForwardProjectionImageFilter[kind, kind]
    back = rtk.JosephBackProjectionImageFilter[kind, kind]
    return {
        "A": lambda: made(joseph, 0 * y, volume.transpose(0, 1), True),
        "A^T": lambda: made(back, 0 * volume, y, False),
        "FDK": analytic,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("size", 128), ("views", 60), ("detector", 192), ("repeats", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    scan = ConeBeam(
        equispaced(args.views, 360), (args.detector, args.detector), 1.5, 500.0, 1000.0
    )  # fmt: skip
    op, x = XRayTransform(scan, VoxelGrid((args.size,) * 3)), ball(args.size)
    y = op(x)
    work = {"A": lambda: op(x), "A^T": lambda: op.adjoint(y), "FDK": lambda: op.backproject(y)}
    ours = {name: seconds(call, args.repeats) for name, call in work.items()}
    print("restore:", ", ".join(f"{name} {took:.2f} s" for name, took in ours.items()))
    if importlib.util.find_spec("itk") is None:
        print("itk-rtk is not installed: left out")
        return
    import itk

    for name, make in rtk_filters(scan, x, y).items():
        took = []
        for _ in range(args.repeats):
            made = make()
            start = time.process_time()
            made.Update()
            took.append(time.process_time() - start)
        theirs = torch.from_numpy(itk.array_from_image(made.GetOutput()).copy())
        found = work[name]()
        found = found if name == "A" else found.transpose(0, 1)
        apart = float(torch.linalg.vector_norm(found - theirs) / torch.linalg.vector_norm(theirs))
        print(
            f"itk-rtk {name}: {min(took):.2f} s, {min(took) / ours[name]:.1f} times ours; apart by {apart:.1e}"
        )


if __name__ == "__main__":
    main()
