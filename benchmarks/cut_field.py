"""What a second set of coil maps is worth on heads as they are, and what tells that it is: PSNR of `dds`.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/cut_field.py ../shared/data [--places 0.3,0.45,0.6]
        [--times 4,3] [--seed 5] [--steps 10]

Slices of heads with at least twelve calibration lines, eight coils, noise 0.005 of the maximum. Ears and the back of a
head touch the edges of the field of view, from one of which to the other a single set of maps cannot change. "seen": a
note says so, by `coil_maps.field_is_cut`.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import torch
from few_calibration import HEADS, quality, scan_of
from timing import one_thread, print_versions

from restore.datasets.mri.receivers.cut_field import CUT
from restore.datasets.scan import SetupOptions

LEAST_LINES = 12


def main() -> None:
    """Print a row a slice, and the mean of those with and without a note."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--places", default="0.3,0.45,0.6")
    parser.add_argument("--times", default="4,3")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    one_thread()
    print_versions()
    print(
        "\n| head, place, times | lines | one set | two sets | gain | seen |\n" + "| --- " * 6 + "|"
    )
    gains: dict[bool, list[float]] = {True: [], False: []}
    for name, _ in HEADS:
        for where, times in product(options.places.split(","), options.times.split(",")):
            scan = scan_of(options.data, name, float(where), int(times), options.seed)
            if (lines := scan.difficulty["centre"]) < LEAST_LINES:
                continue
            found = []
            for sets in (1, 2):
                setup = scan.setup(SetupOptions(maps="espirit", maps_sets=sets))
                problem = setup.problem(range(1), torch.device("cpu"))
                found.append(quality(scan, problem, options.steps))
            seen, gain = any(note.startswith(CUT) for note in scan.notes), found[1] - found[0]
            gains[seen].append(gain)
            label = f"{Path(name).name.removesuffix('.nii.gz')} {where} {times}"
            told = "yes" if seen else ""
            print(
                f"| {label} | {lines:g} | {found[0]:.2f} | {found[1]:.2f} | {gain:+.2f} | {told} |",
                flush=True,
            )
    for seen, some in gains.items():
        if some:
            said = "seen" if seen else "not seen"
            print(f"\n{said}: {np.mean(some):+.2f} dB ({min(some):+.2f} to {max(some):+.2f})")


if __name__ == "__main__":
    main()
