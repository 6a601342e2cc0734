"""What a CPU minute of training is worth: the denoiser with one thing changed at a time, for the same minutes each.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/training_minutes.py DATA [VARIANT ...] [--minutes 2]

The network, the crops, the noise and the learning-rate schedule (a cosine over the budget) are
those of `restore train denoiser` on DATA/images/train, in grey, but for what a variant changes. All
train in one process in turns of a few steps, and each has its budget of its own CPU seconds: other
work on the machine slows all alike and takes nothing from any. PSNR is that of averaged weights on
DATA/images/val at noise 15, 25 and 50 of 255; each run keeps averages of several lengths.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from timing import one_thread, print_versions
from torch import Tensor, nn

from restore.precision import autocast
from restore.priors.edm import build_unet_denoiser
from restore.priors.unet import UNetConfig
from restore.training.corpus import Corpus
from restore.training.denoiser import DenoiserTraining, noise_levels
from restore.training.muon import MuonAdam, split_parameters
from restore.training.sources import Source, load_source
from restore.training.validation import denoising_psnr, validation_images

TURN, MARKS, IMAGES = 5, (0.5, 1.0), 4
AVERAGES = (0.99, 0.999, 0.9995)  # the second is that of `restore train`


@dataclasses.dataclass(frozen=True)
class Variant:
    """What differs. immiscible: noise is paired with the images of the batch by assignment."""

    dtype: torch.dtype = torch.bfloat16
    adam: bool = False
    immiscible: bool = False
    settings: DenoiserTraining = dataclasses.field(default_factory=DenoiserTraining)


VARIANTS = {
    "float32": Variant(torch.float32),
    "bfloat16": Variant(),
    "adam": Variant(torch.float32, adam=True),
    "immiscible": Variant(immiscible=True),
    "crop 40, batch 24": Variant(settings=DenoiserTraining(crop=40, batch=24)),
    "crop 80, batch 6": Variant(settings=DenoiserTraining(crop=80, batch=6)),
    "noise lower": Variant(settings=DenoiserTraining(log_sigma_mean=-2.4)),
    "noise higher": Variant(settings=DenoiserTraining(log_sigma_mean=-1.6)),
    "noise wider": Variant(settings=DenoiserTraining(wide_share=0.3)),
}


class Run:
    """One training: its network, averaged weights, optimiser and CPU seconds so far."""

    def __init__(self, variant: Variant, sources: list[Source], minutes: float) -> None:
        # One seed: the same first weights for all runs, and for the averages of each.
        self.prior, self.mean = (build_unet_denoiser(UNetConfig()) for _ in range(2))
        self.mean.network.eval()
        network, self.variant, self.minutes = self.prior.network, variant, minutes
        self.averages = {
            ema: {k: v.detach().clone() for k, v in network.state_dict().items()}
            for ema in AVERAGES
        }
        self.optimiser = (
            MuonAdam([], network.parameters())
            if variant.adam
            else split_parameters(network, dtype=variant.dtype)
        )
        self.corpus = Corpus(sources, variant.settings.crop, 0)
        self.step, self.seconds = 0, 0.0

    @property
    def done(self) -> float:
        return self.seconds / (60 * self.minutes)

    def turn(self) -> None:
        start = time.process_time()
        for _ in range(TURN):
            rise = min(1.0, (self.step + 1) / self.variant.settings.budget.warmup)
            self.optimiser.factor = rise * 0.5 * (1 + math.cos(math.pi * min(1.0, self.done)))
            self._step()
            for ema, average in self.averages.items():
                keep = min(ema, (1 + self.step) / (10 + self.step))
                for k, v in self.prior.network.state_dict().items():
                    average[k].lerp_(v, 1 - keep)
            self.step += 1
        self.seconds += time.process_time() - start

    def _step(self) -> None:
        """One gradient step on the EDM loss, as `restore train` takes it."""
        settings, prior = self.variant.settings, self.prior
        g = torch.Generator().manual_seed(self.step)
        x0 = self.corpus.batch(self.step, settings.batch)
        x0 = x0.contiguous(memory_format=torch.channels_last)
        s = noise_levels(settings, settings.batch, g)[:, None, None, None]
        noise = torch.randn(x0.shape, generator=g)
        if self.variant.immiscible:
            noise = assigned(noise, x0)
        with autocast(self.variant.dtype, "cpu"):
            denoised = prior(x0 + s * noise, s.flatten())
        _, c_out, _ = prior.preconditioning(s)
        self.optimiser.zero_grad(set_to_none=True)
        ((denoised - x0) / c_out).square().mean().backward()
        nn.utils.clip_grad_norm_(prior.network.parameters(), 1.0)
        self.optimiser.step()

    def psnr(self, ema: float, photographs: list[Tensor]) -> str:
        self.mean.network.load_state_dict(self.averages[ema])
        return "  ".join(f"{v:.2f}" for v in denoising_psnr(self.mean, photographs).values())


def assigned(noise: Tensor, images: Tensor) -> Tensor:
    """The noise of a batch in the order that lies nearest to the images, in sum: both (N, C, H, W)."""
    distance = torch.cdist(images.flatten(1), noise.flatten(1))
    return noise[torch.from_numpy(linear_sum_assignment(distance.numpy())[1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with images/train and images/val")
    parser.add_argument("variants", nargs="*", help=f"of {', '.join(VARIANTS)}; all by default")
    parser.add_argument("--minutes", type=float, default=2.0, help="CPU minutes of each")
    args = parser.parse_args()
    one_thread()
    print_versions()
    sources = [load_source(args.data / "images" / "train", 1.0, 1)]
    photographs = validation_images(args.data / "images" / "val", 1, IMAGES)
    runs = {name: Run(VARIANTS[name], sources, args.minutes) for name in args.variants or VARIANTS}
    marks = {name: list(MARKS) for name in runs}
    print(f"{'':20}{'steps':>7}{'minutes':>9}{'average':>9}   PSNR at noise 15, 25, 50 of 255")
    while any(marks.values()):
        for name, run in runs.items():
            if run.done < 1:
                run.turn()
            while marks[name] and run.done >= marks[name][0]:
                last = len(marks[name]) == 1
                marks[name].pop(0)
                for ema in AVERAGES if last else AVERAGES[1:2]:
                    figures = run.psnr(ema, photographs)
                    print(
                        f"{name:20}{run.step:7}{run.seconds / 60:9.2f}{ema:9}   {figures}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
