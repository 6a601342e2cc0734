"""Misfits of sound scans and of scans with a fault in them, as a whole and of the worst line: where thresholds lie.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/misfits.py ../shared/data [--steps 10]

One slice of two heads, eight coils, maps by ESPIRiT, `dds`. Faults are put into the k-space that was measured: columns
exchanged, phases of lines, filters that a console lays over k-space. The measured head and slices of CT are sound. Each
scan with the noise that is known and with that which its k-space shows. The last column is what `restore recon` says.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import windows
from timing import one_thread, print_versions

from restore.datasets.mri.files.kspace_array import read_kspace_array
from restore.datasets.open import read
from restore.datasets.scan import Scan, SetupOptions
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.stack import LazyStack
from restore.front_door import solve_problem
from restore.metrics import psnr
from restore.pipelines.alarm import misfit_notes, of_chunk
from restore.registry import load_sampler
from restore.unexplained import LeftOver

HEADS = (("seg3d_T1", 0.45), ("mr_gd_T1c", 0.45))
TRUNKS = (("abdomen_3mm", 0.5), ("thorax_1p5mm", 0.5), ("brain_atlas_1mm", 0.5))
STRENGTHS = ((4, 0.08, 0.005), (1, 0.08, 0.005), (4, 0.08, 0.0005), (8, 0.04, 0.001))
"""Times, share of columns in the middle, noise."""

KSpace = NDArray[np.complex64]
Fault = Callable[[KSpace], KSpace]


def exchanged(mask: NDArray[np.bool_], nearest: int, pairs: int) -> Fault:
    """Measured columns left and right of the middle, from the nearest on."""
    middle = mask.size // 2
    right = np.flatnonzero(mask[middle + nearest :])[:pairs] + middle + nearest
    left = np.flatnonzero(mask[: middle - nearest + 1])[::-1][:pairs]

    def apply(kspace: KSpace) -> KSpace:
        found = kspace.copy()
        found[..., np.r_[left, right]] = kspace[..., np.r_[right, left]]
        return found

    return apply


def phases(angles: Callable[[int], NDArray[Any]]) -> Fault:
    """Of lines, by their number."""
    return lambda k: (k * np.exp(1j * angles(k.shape[-1]))).astype(np.complex64)


def random_phases(deviation: float) -> Fault:
    return phases(lambda n: np.random.default_rng(1).normal(0, deviation, n))


def filtered(window: Callable[[int], NDArray[Any]]) -> Fault:
    """By a window along each axis, its zeros at the ends left out."""
    return lambda k: (
        k * window(k.shape[-2] + 2)[1:-1, None] * window(k.shape[-1] + 2)[1:-1]
    ).astype(np.complex64)


def faults(mask: NDArray[np.bool_]) -> dict[str, Fault]:
    return {
        "two columns near the middle exchanged": exchanged(mask, 2, 1),
        "two further out": exchanged(mask, 9, 1),
        "six further out": exchanged(mask, 9, 3),
        "phases of lines, deviation 0.1": random_phases(0.1),
        "phases of lines, deviation 0.3": random_phases(0.3),
        "phases of lines, deviation 1": random_phases(1.0),
        "every other line half a radian off": phases(lambda n: 0.5 * (np.arange(n) % 2)),
        "Hann's filter": filtered(windows.hann),
        "Tukey's filter": filtered(windows.tukey),
    }


def scans(data: Path) -> Iterator[tuple[str, Scan]]:
    """What is measured, in words, and the scan."""
    for name, where in HEADS:
        head = read(data / "mr" / "train" / f"{name}.nii.gz", modality="MR")
        index = int(where * len(head.data))
        for times, middle, noise in STRENGTHS:
            scan = simulate_mri(
                head, slices=slice(index, index + 1), noise=noise, acceleration=times, center_fraction=middle
            )  # fmt: skip
            kinds: dict[str, Fault] = {"sound": lambda k: k}
            if (times, noise) == (4, 0.005):
                kinds |= faults(np.asarray(scan.mask).reshape(-1, scan.shape[-1])[0])
            for fault, put in kinds.items():
                spoiled = put(scan.kspace[0])[None]
                stack = LazyStack(spoiled.shape, lambda i, k=spoiled: k[i])
                for level, word in ((scan.noise_std, "known"), (None, "estimated")):
                    made = dataclasses.replace(scan, kspace=stack, noise_std=level, notes=[])
                    yield f"{name}, {times}x, noise {noise} {word}, {fault}", made
    yield "measured head", read_kspace_array(data / "kspace" / "brain_8ch_poisson.npy")
    for name, where in TRUNKS:
        volume = read(data / "ct" / "train" / f"{name}.nii.gz", modality="CT")
        index = int(where * len(volume.data))
        for views in (60, 30):
            yield (
                f"{name}, {views} views",
                simulate_ct(volume, views=views, slices=slice(index, index + 1)),
            )


def row(name: str, scan: Scan, steps: int) -> str:
    """Misfit, share, those of the worst row, PSNR, and whether there is an alarm."""
    options = SetupOptions(maps="espirit") if scan.kind == "mri" else SetupOptions()
    problem = scan.setup(options).problem(range(1), torch.device("cpu"))
    sampler = load_sampler("dds").configured("tuned", scan, {"n_steps": steps})
    found = solve_problem(problem, prior="medical", sampler=sampler, seed=0)
    logs = [{"slices": list(problem.ids), **found.ends[0], **of_chunk(problem, found, True)}]
    alarm = "yes" if misfit_notes(scan, "dds", logs) else ""
    precision = problem.precision
    assert precision is not None
    left = LeftOver.of(problem, problem.scaling.to_unit(found.image), precision)
    misfits = (left.squares / left.counts.clamp(min=1)).sqrt()[0]
    share = (left.beyond / left.energy.clamp(min=1e-30)).sqrt()[0, misfits.argmax()]
    worst = f"{misfits.max():.2f} | {100 * share:.1f} %" if left.words else " | "
    quality = ""
    if scan.reference is not None and scan.kind == "mri":
        truth = np.asarray(scan.reference[0])
        image = scan.in_source_units(problem.operator.shown(found.image))[0]
        quality = f"{psnr(image, truth, data_range=float(truth.max())):.1f}"
    return (
        f"| {name} | {float(left.misfits()[0]):.2f} | {100 * float(left.shares()[0]):.1f} % | {worst} | {quality} | "
        f"{alarm} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()
    one_thread()
    print_versions()
    print(
        "\n| scan | misfit | left over | worst row | left over of it beyond the noise | PSNR, dB | alarm |\n"
        + "| --- " * 7 + "|"
    )  # fmt: skip
    for name, scan in scans(given.data):
        print(row(name, scan, given.steps), flush=True)


if __name__ == "__main__":
    main()
