"""Structured noise taken out beside plain dds, and images without any: docs/structured-noise.md.

    OMP_NUM_THREADS=1 python benchmarks/joint.py mri|ct DATA [--slices 100] [--steps 20] [--picture FILE.png]
    OMP_NUM_THREADS=1 python benchmarks/joint.py haze PRIOR [--steps 20] [--picture FILE.png]
    python benchmarks/joint.py phantoms FOLDER

mri: slice 100 of DATA/mr/train/chris_T1.nii.gz, means of 2 x 2 pixels (128 x 94), 8 coils, 4x, noise 0.005.
herringbone: six spikes in all coils, each a wave of 1 or 5 % of the peak; zipper: one tone of the readout, 30 % of the
peak in its row. ct: slices 60 and 75 of DATA/ct/train/thorax_1p5mm.nii.gz, 60 views, 1e5 photons; stripes: every
tenth bin off by N(0, 0.1) in all views. haze: B-mode phantoms 1 to 6, or those of --slices, noise 0.02, haze of 0 to
0.4 at the transducer; PRIOR: a name or a weight file. phantoms: 3000 haze-free pictures to train one with (numbers from
1000 on). What finds haze was settled on phantoms 11 to 40, what finds stripes on slices 30 and 45.

A line a case: PSNR in dB of dds, of joint, of dds where the structured noise was never added. Data range: the slice's
maximum, of HU 2500, of B-mode 1. --picture draws the last case.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.datasets.open import read
from restore.datasets.picture.images import write_image
from restore.datasets.scan import Scan, SetupOptions
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.ultrasound import bmode_phantom, haze
from restore.front_door import solve_problem
from restore.metrics import psnr
from restore.noise import Gaussian
from restore.operators.diagonal import Identity
from restore.pipelines.picture import Panel, comparison_picture
from restore.problem import Problem

CT_RANGE_HU = 2500.0


class Case(NamedTuple):
    """name: of measurement and structured noise. second: the prior. noise: what is added to y; truth: (H, W)."""

    name: str
    second: str
    problem: Problem
    noise: Tensor
    truth: NDArray[np.float32]
    peak: float
    scan: Scan | None = None

    def image(
        self, problem: Problem, sampler: str, prior: str, **settings: Any
    ) -> NDArray[np.float32]:
        """A reconstruction in the truth's units."""
        found = solve_problem(problem, prior=prior, sampler=sampler, seed=1, **settings)
        if self.scan is None:
            return found.image.numpy()
        return self.scan.in_source_units(found.image)[0]


def mri_cases(data: Path, slices: list[int]) -> Iterator[Case]:
    """Spikes and a tone in k-space, the same for all slices."""
    head = read(data / "mr" / "train" / "chris_T1.nii.gz")
    for index in slices or [100]:
        small = head.data[index].astype(np.float32).reshape(1, 128, 2, 94, 2).mean((2, 4))
        scan = simulate_mri(dataclasses.replace(head, data=small), coils=8, acceleration=4)
        problem = scan.setup(SetupOptions()).problem(range(1), torch.device("cpu"))
        peak, shape = float(small.max()), tuple(problem.y.shape[1:])
        taken = (problem.y[0] != 0).numpy()

        def case(name: str, second: str, noise: NDArray[np.complex128]) -> Case:
            added = torch.from_numpy(noise * taken)[None].to(problem.y.dtype)  # noqa: B023
            what = f"mri slice {index}: {name}"  # noqa: B023
            return Case(what, second, problem, added, small[0], peak, scan)  # noqa: B023

        for second in ("herringbone", "zipper"):
            yield case(f"nothing, {second} expected", second, np.zeros(shape, complex))
        yield case("herringbone 1 %", "herringbone", 0.01 * peak * _spikes(shape, taken[0]))
        yield case("herringbone 5 %", "herringbone", 0.05 * peak * _spikes(shape, taken[0]))
        yield case("zipper", "zipper", 0.3 * peak * _tone(shape))


def ct_cases(data: Path, slices: list[int]) -> Iterator[Case]:
    """Bins of the detector that are off."""
    chest = read(data / "ct" / "train" / "thorax_1p5mm.nii.gz")
    for index in slices or [60, 75]:
        scan = simulate_ct(chest, views=60, slices=slice(index, index + 1))
        problem = scan.setup(SetupOptions()).problem(range(1), torch.device("cpu"))
        rng = np.random.default_rng(5)
        bins = problem.y.shape[-1]
        off = 0.1 * rng.normal(size=bins) * (np.arange(bins) % 10 == 7)
        for name, noise in (("nothing", 0 * off), ("stripes", off)):
            added = torch.from_numpy(noise).to(problem.y.dtype).expand(problem.y.shape)
            yield Case(
                f"ct slice {index}: {name}", "stripes", problem, added, scan.image_of(0), CT_RANGE_HU, scan
            )  # fmt: skip


def haze_cases(numbers: list[int]) -> Iterator[Case]:
    """B-mode pictures."""
    for number in numbers or range(1, 7):
        truth = bmode_phantom(number)
        noise = 0.02 * np.random.default_rng(number).normal(size=truth.shape)
        y = torch.from_numpy((truth + noise).astype(np.float32))
        problem = Problem(y, Identity(tuple(y.shape)), Gaussian(0.02))
        yield Case(f"b-mode {number}: nothing", "haze", problem, 0 * y, truth, 1.0)
        for strength in (0.1, 0.2, 0.3, 0.4):
            veil = torch.from_numpy(haze(number, strength=strength))
            yield Case(f"b-mode {number}: haze of {strength}", "haze", problem, veil, truth, 1.0)


def _spikes(shape: tuple[int, ...], taken: NDArray[np.bool_]) -> NDArray[np.complex128]:
    """Six samples of those that were taken, complex Gaussian in every coil, as waves of one in the image."""
    rng, noise = np.random.default_rng(3), np.zeros(shape, complex)
    where = np.argwhere(taken)
    for row, column in where[rng.choice(len(where), 6, replace=False)]:
        noise[:, row, column] = _complex(rng, shape[0]) * np.sqrt(shape[1] * shape[2])
    return noise


def _tone(shape: tuple[int, ...]) -> NDArray[np.complex128]:
    """One frequency of the readout, of another phase and size in every line and coil, as a row of one in the image."""
    rng, (coils, rows, columns) = np.random.default_rng(3), shape
    turn = np.exp(2j * np.pi * (np.arange(rows) - rows // 2) * 17 / rows) / np.sqrt(rows)
    return turn[:, None] * _complex(rng, coils, 1, columns)


def _complex(rng: np.random.Generator, *shape: int) -> NDArray[np.complex128]:
    parts = rng.normal(size=(2, *shape)) / np.sqrt(2)
    return np.asarray(parts[0] + 1j * parts[1])


def draw(case: Case, images: dict[str, NDArray[np.float32]], path: Path) -> None:
    """The images beside the truth."""
    panels = [Panel(f"{name}", x, f"{_psnr(case, x):.2f} dB") for name, x in images.items()]
    comparison_picture([*panels, Panel("truth", case.truth)], path, title=case.name)


def _psnr(case: Case, image: NDArray[np.float32]) -> float:
    return psnr(torch.from_numpy(image), torch.from_numpy(case.truth), data_range=case.peak)


def main() -> None:
    """Add, reconstruct, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("mri", "ct", "haze", "phantoms"))
    parser.add_argument("where")
    parser.add_argument("--slices", type=int, nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    if asked.what == "phantoms":
        for k in range(3000):
            path = Path(asked.where) / f"{k:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(bmode_phantom(1000 + k)[None], path)
        return
    made = {"mri": mri_cases, "ct": ct_cases}.get(asked.what)
    prior = asked.where if made is None else "auto"
    plain: dict[
        int, NDArray[np.float32]
    ] = {}  # of a measurement without structured noise, by its problem
    for case in haze_cases(asked.slices) if made is None else made(Path(asked.where), asked.slices):
        noisy = dataclasses.replace(case.problem, y=case.problem.y + case.noise)
        steps = {"n_steps": asked.steps}
        key = id(case.problem)
        if key not in plain:
            plain = {key: case.image(case.problem, "dds", prior, **steps)}
        images = {
            "dds": case.image(noisy, "dds", prior, **steps) if bool(case.noise.any()) else plain[key],
            "joint": case.image(noisy, "joint", prior, **steps, second_prior=case.second),
            "dds without": plain[key],
        }  # fmt: skip
        told = ", ".join(f"{name} {_psnr(case, x):.2f}" for name, x in images.items())
        print(f"{case.name}: {told}", flush=True)
    if asked.picture:
        draw(case, images, asked.picture)


if __name__ == "__main__":
    main()
