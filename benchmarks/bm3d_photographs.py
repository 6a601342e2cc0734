"""The bundled denoisers of photographs beside BM3D, and from it where FFDNet would be on the same photographs.

    OMP_NUM_THREADS=1 python benchmarks/bm3d_photographs.py ../shared/data/images/val    # the table of RESULTS.md

FFDNet's weights are in no package index. Its paper (Zhang, Zuo, Zhang, IEEE TIP 2018, tables of BSD68 and CBSD68)
has it beside BM3D, both on 68 photographs of the set that the twelve here come from. Its lead over BM3D there, put on
top of what BM3D reaches here, estimates FFDNet here. For grey photographs the card of `medical` has FFDNet's own
figures, which show how well that estimate holds. Noise, crops and PSNR are those of `restore train`
(`restore.training.validation`). Wants bm3d of the peers' environment (README.md); a quarter of an hour of one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import bm3d
import torch
from torch import Tensor

from restore.priors.base import Denoiser
from restore.priors.store import load_prior
from restore.training.validation import denoising_psnr, validation_images

LEAD = {1: {"15": 0.56, "25": 0.62, "50": 0.67}, 3: {"15": 0.35, "25": 0.50, "50": 0.58}}
"""FFDNet less (C)BM3D in dB, by channels and noise: 31.63, 29.19, 26.29 less 31.07, 28.57, 25.62 on BSD68, and
33.87, 31.21, 27.96 less 33.52, 30.71, 27.38 on CBSD68."""
PRIORS = {1: "medical", 3: "natural"}


class BM3D(Denoiser):
    """BM3D for one channel, CBM3D for three, told the noise level; with its default profile."""

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """x: (1, channels, H, W) in [0, 1]."""
        noisy = x[0].movedim(0, -1).double().numpy()
        found = (
            bm3d.bm3d_rgb(noisy, sigma)
            if self.channels == 3
            else bm3d.bm3d(noisy[..., 0], sigma)[..., None]
        )
        return torch.from_numpy(found).movedim(-1, 0)[None].to(x)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photographs", type=Path)
    folder = parser.parse_args().photographs
    torch.set_num_threads(1)
    print(
        "| photographs | noise of 255 | BM3D | FFDNet, estimated | bundled |",
        "| --- " * 5 + "|",
        sep="\n",
    )
    for channels, name in PRIORS.items():
        images = validation_images(folder, channels)
        ours = denoising_psnr(load_prior(name), images)
        peer = denoising_psnr(BM3D(channels), images)
        for level, lead in LEAD[channels].items():
            kind = "colour" if channels == 3 else "grey"
            found = (peer[level], peer[level] + lead, ours[level])
            print(
                f"| {kind} | {level} | " + " | ".join(f"{v:.2f}" for v in found) + " |", flush=True
            )


if __name__ == "__main__":
    main()
