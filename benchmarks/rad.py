"""`rad` beside `dds`, `ddrm` and `biharmonic` at equal evaluations: holes in photographs that no training saw.

    python benchmarks/rad.py ../shared/data [--noise 0.05]    # the tables of docs/choosing-a-sampler.md

Two minutes each. PSNR in dB inside the hole (nothing is clipped) and SSIM of the whole picture, means over photographs:
the middle 128 x 128 pixels of the 15th to 18th of images/val by name, of which the first 12 gave the figures of the
cards and two more the settings of rad. Seconds are of the processor, one thread, a picture.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restore.front_door import solve
from restore.metrics import ssim
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.masks import parse_mask
from restore.pipelines.degrade import add_noise, noise_level
from restore.training.validation import validation_images

SIDE, FIRST, IMAGES = 128, 14, 4
MASKS = ("box:48", "strokes:6", "random:0.3")
METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("biharmonic", {}),
    ("ddrm", {"n_steps": 10, "sigma_start": 1.0}), ("ddrm", {"n_steps": 30, "sigma_start": 1.0}),
    ("dds", {"n_steps": 10}), ("dds", {"n_steps": 30}),
    ("dds", {"n_steps": 10, "sigma_start": 10.0}), ("dds", {"n_steps": 30, "sigma_start": 10.0}),
    ("rad", {"n_steps": 1}), ("rad", {"n_steps": 10}), ("rad", {"n_steps": 30}),
)  # fmt: skip


def main() -> None:
    """Print the rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="the folder of data that compare.py takes")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation, 1 = white")
    chosen = parser.parse_args()
    images = [middle(i) for i in validation_images(chosen.data / "images/val", 3, FIRST + IMAGES)]
    torch.set_num_threads(1)
    print(f"| method | evaluations | {' | '.join(MASKS)} | seconds |")
    print("| --- " * (len(MASKS) + 3) + "|")
    for name, settings in METHODS:
        cells, start, calls = [], time.process_time(), 0
        for word in MASKS:
            scores = []
            for seed, truth in enumerate(images[FIRST:]):
                found, calls = filled(truth, word, seed, chosen.noise, name, settings)
                scores.append(found)
            inside, whole = (sum(s) / len(s) for s in zip(*scores, strict=True))
            cells.append(f"{inside:.2f} / {whole:.3f}")
        seconds = (time.process_time() - start) / (len(MASKS) * IMAGES)
        more = ", ".join(f"{k} {v:g}" for k, v in settings.items() if k != "n_steps")
        print(
            f"| {name} {more} | {calls or '-'} | {' | '.join(cells)} | {seconds:.1f} |", flush=True
        )


def middle(image: Tensor) -> Tensor:
    """The middle SIDE x SIDE pixels."""
    top, left = ((n - SIDE) // 2 for n in image.shape[-2:])
    return image[:, top : top + SIDE, left : left + SIDE]


def filled(
    truth: Tensor, word: str, seed: int, noise: float, name: str, settings: dict[str, Any]
) -> tuple[tuple[float, float], int]:
    """PSNR inside the hole and SSIM of one picture, and the evaluations that it took."""
    known = parse_mask(word, SIDE, SIDE, seed)
    operator = Inpainting(known, tuple(truth.shape))
    y = add_noise(truth, noise, seed) * known
    how = {"noise": noise_level(noise), "sampler": name, "precision": "float32", "seed": seed}
    result = solve(y, operator, **how, **settings)
    hole = (1 - known).bool().expand(truth.shape)
    error = float((result.image - truth)[hole].square().mean())
    return (-10 * math.log10(error), ssim(result.image, truth, data_range=1.0)), result.ends[0][
        "evaluations"
    ]


if __name__ == "__main__":
    main()
