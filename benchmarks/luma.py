"""What `restore image --luma` costs: lightness by the grey prior and interpolated colours, beside the colour prior.

    OMP_NUM_THREADS=1 python benchmarks/luma.py            # prints the table of docs/choosing-a-sampler.md

Two of scikit-image's photographs, 128 x 128, degraded and restored by DDS (denoising: by one evaluation) with both, in
PSNR (dB) of all three channels. Some minutes on one processor core.
"""

from __future__ import annotations

import numpy as np
import torch
from skimage import data

from restore.pipelines.degrade import Degradation
from restore.pipelines.photograph import restore_image

SIDE, SEED = 128, 7
PHOTOGRAPHS = {"astronaut": data.astronaut()[20:, 180:], "coffee": data.coffee()[150:, 250:]}
LEVELS = (0.01, 0.05)


def degradations() -> dict[str, Degradation]:
    """The tasks; half of the pixels are known where some are missing."""
    known = torch.from_numpy(np.random.default_rng(SEED).random((SIDE, SIDE)) < 0.5).float()
    return {
        "denoise": Degradation("denoise"),
        "inpaint": Degradation("inpaint", mask=known),
        "deblur": Degradation("deblur", kernel="gaussian:1.6"),
        "superres": Degradation("superres", factor=4),
    }


def psnr(photo: torch.Tensor, degradation: Degradation, noise: float, *, luma: bool) -> float:
    """Of the restored picture, values clipped to 0..1 as in a file."""
    prior = "medical" if luma else "natural"
    found = restore_image(
        photo, degradation, noise=noise, simulate=True, prior=prior, luma=luma, seed=SEED
    )
    return float(found.record["metrics"]["restored"]["psnr"])


def main() -> None:
    """Print the table, a row as soon as it is known."""
    torch.set_num_threads(1)
    print(
        "| task | noise | photograph | colour prior | `--luma` | difference |\n| --- | --- | --- | --- | --- | --- |"
    )
    for noise in LEVELS:
        for name, pixels in PHOTOGRAPHS.items():
            photo = torch.from_numpy(pixels[:SIDE, :SIDE].transpose(2, 0, 1) / 255).float()
            for task, degradation in degradations().items():
                colour, grey = (
                    psnr(photo, degradation, noise, luma=luma) for luma in (False, True)
                )
                print(
                    f"| {task} | {noise} | {name} | {colour:.2f} | {grey:.2f} | {grey - colour:+.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
