"""What filling the middle of k-space is worth for volumes of two phase encodings: PSNR of `tv` by how maps are made.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/few_calibration_volumes.py ../shared/data [--steps 12]

The middle of each head at half its resolution, eight coils, noise 0.005 of the maximum. Maps: of the simulation, by
ESPIRiT of the box that was measured alone, and of the filled one. "Off by": the part of coil images across the maps.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from few_calibration import off_by
from timing import one_thread, print_versions

from restore.datasets.mri.calibration import calibration_lines
from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.middle import Middle
from restore.datasets.open import read
from restore.datasets.scan import SetupOptions
from restore.datasets.simulate.mri_volume import simulate_mri_volume
from restore.datasets.volume.volume import Volume
from restore.front_door import solve_problem
from restore.metrics import psnr
from restore.registry import load_sampler

CASES = (
    ("stroke_T1", "poisson2d", 8, 0.12),
    ("seg3d_T1", "poisson2d", 8, 0.12),
    ("mr_gd_T1c", "poisson2d", 8, 0.12),
    ("stroke_T1", "poisson2d", 6, 0.17),
    ("stroke_T1", "poisson2d", 6, 0.25),
    ("seg3d_T1", "poisson2d", 6, 0.25),
    ("mr_gd_T1c", "poisson2d", 6, 0.25),
    ("mr_gd_T1c", "poisson2d", 6, 0.3),
)
"""Head, pattern, times, share of each phase encoding in the middle."""

SLICES = 40


class Alone(CartesianVolumeScan):
    """Maps of the measured box, however small."""

    def map_middle(self, item: int, level: float | None) -> Middle | None:
        """Not filled."""
        return self.seen_middle(item, needed=True)


def halved(volume: Volume) -> Volume:
    """Means of 2 x 2 x 2 voxels, of the middle slices."""
    sides = [n // 2 for n in volume.data.shape]
    data = volume.data[: 2 * sides[0], : 2 * sides[1], : 2 * sides[2]]
    data = data.reshape(sides[0], 2, sides[1], 2, sides[2], 2).mean((1, 3, 5))
    first = max(0, (sides[0] - SLICES) // 2)
    affine = volume.affine.copy()
    affine[:, :3] *= 2
    return dataclasses.replace(
        volume, data=data[first : first + SLICES].astype(np.float32), affine=affine
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    one_thread()
    print_versions()
    print(
        "\n| head | pattern | lines | maps | off by, % | PSNR, dB |\n" + "| --- " * 6 + "|",
        flush=True,
    )
    for name, pattern, times, middle in CASES:
        head = halved(read(given.data / "mr" / "train" / f"{name}.nii.gz", modality="MR"))
        scan = simulate_mri_volume(
            head, acceleration=times, center_fraction=middle, mask=pattern, seed=3
        )
        fields = {f.name: getattr(scan, f.name) for f in dataclasses.fields(scan) if f.init}
        truth, true = np.asarray(scan.reference[:]), torch.from_numpy(scan.maps[0])  # type: ignore[index]
        lines = np.asarray(scan.mask)[:, 0]
        part = calibration_lines(lines, (lines.shape[0], lines.shape[1]))
        sides = " x ".join(str(side.stop - side.start) for side in part)
        for word, of, maps in (
            ("of the simulation", scan, "file"),
            ("lines alone", Alone(**fields), "espirit"),
            ("filled", scan, "espirit"),
        ):
            problem = of.setup(SetupOptions(maps=maps)).problem(  # type: ignore[arg-type]
                range(scan.n_slices), torch.device("cpu")
            )
            sampler = load_sampler("tv").configured("tuned", scan, {"n_steps": given.steps})
            found = solve_problem(problem, sampler=sampler)
            quality = psnr(scan.in_source_units(found.image), truth, data_range=float(truth.max()))
            error = off_by(problem.operator.maps, true, truth)  # type: ignore[attr-defined]
            print(
                f"| {name} {tuple(head.data.shape)} | {pattern} {times}x | {sides} | {word} | "
                f"{100 * error:.1f} | {quality:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
