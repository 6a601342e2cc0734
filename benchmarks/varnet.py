"""The unrolled network beside `dds` and `cgsense`, where it was trained and elsewhere: the tables of docs/varnet.md.

    OMP_NUM_THREADS=1 python benchmarks/varnet.py ../shared/data [--prior FILE] [--methods cgsense,varnet] [--whole]

Slices of three scans of two heads that no bundled prior was trained on, means of 2 x 2 pixels (4 x 4 of the contrast
T1) as in `cases.py`; --whole: five slices of the first at full resolution, as in `tasks.py`. Eight birdcage coils,
noise 0.005 of the volume's maximum and masks of seed 7 where a row says nothing else. PSNR in dB, mean over the slices,
data range the maximum of each; seconds of the processor a slice, one thread. A row is printed as soon as it is there;
all take a quarter of an hour with dds and two minutes without.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import HEADS, MRI, _coarse

from restore.datasets.open import read
from restore.datasets.scan import Scan, SetupOptions
from restore.datasets.simulate.mri import simulate_mri
from restore.front_door import solve_problem
from restore.metrics import psnr

OWN: dict[str, Any] = {**MRI, "acceleration": 4, "center_fraction": 0.08}
ROWS: dict[str, tuple[int, dict[str, Any]]] = {
    "as trained (T1)": (0, {}),
    "another draw of the mask": (0, {"seed": 11}),
    "proton density": (1, {}),
    "T1 with contrast": (2, {}),
    "lines denser in the middle": (0, {"mask": "gaussian1d"}),
    "evenly spaced lines": (0, {"mask": "equispaced-fraction"}),
    "points (Poisson disc)": (0, {"mask": "poisson2d"}),
    "2x": (0, {"acceleration": 2, "center_fraction": 0.16}),
    "6x": (0, {"acceleration": 6, "center_fraction": 0.053}),
    "8x": (0, {"acceleration": 8, "center_fraction": 0.04}),
    "4 coils": (0, {"coils": 4}),
    "16 coils": (0, {"coils": 16}),
    "noise four times": (0, {"noise": 0.02}),
    "maps by ESPIRiT": (0, {}),
}
"""Which of `HEADS`, and what differs."""
WHOLE = slice(65, 146, 20)


def measured(data: Path, row: str, whole: bool) -> Scan:
    """The scan of a row."""
    head, changed = ROWS[row]
    where, factor, slices = HEADS[head]
    path = data / where
    volume = read(path) if path.is_dir() else read(path, modality="MR")
    if whole:
        return simulate_mri(volume, slices=WHOLE, **{**OWN, **changed})
    return simulate_mri(_coarse(volume, factor), slices=slices, **{**OWN, **changed})


def quality(scan: Scan, method: str, prior: str, maps: str) -> tuple[float, float]:
    """PSNR and seconds of the processor a slice."""
    setup = scan.setup(SetupOptions(maps=maps))  # type: ignore[arg-type]
    figures, start = [], time.process_time()
    for i in range(scan.n_slices):
        problem = setup.problem(range(i, i + 1), torch.device("cpu"))
        found = solve_problem(
            problem, sampler=method, prior=prior if method == "varnet" else "auto"
        )
        truth = np.asarray(scan.reference[i], np.float32)  # type: ignore[index]
        image = scan.in_source_units(found.image.reshape(1, 1, *truth.shape))[0, 0]
        figures.append(psnr(image, truth, data_range=float(truth.max())))
    return float(np.mean(figures)), (time.process_time() - start) / scan.n_slices


def main() -> None:
    """Print the rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--prior", default="auto", help="weights for varnet")
    parser.add_argument("--methods", default="cgsense,varnet,dds")
    parser.add_argument("--rows", default=",".join(ROWS), help="of the table, by name")
    parser.add_argument("--whole", action="store_true")
    asked = parser.parse_args()
    methods = asked.methods.split(",")
    print(f"| | {' | '.join(methods)} |\n{'| --- ' * (len(methods) + 1)}|")
    for row in asked.rows.split(","):
        scan, maps = measured(asked.data, row, asked.whole), "auto"
        maps = "espirit" if "ESPIRiT" in row else maps
        found = [quality(scan, method, asked.prior, maps) for method in methods]
        cells = " | ".join(f"{figure:.2f} ({seconds:.1f} s)" for figure, seconds in found)
        print(f"| {row} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
