"""Muon against Adam on the denoiser, for the same minutes: validation PSNR on the way.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/optimisers.py DATA [--minutes 2]

The network, the crops, the noise and the learning-rate schedule (a cosine over the budget) are
those of `restore train denoiser` on DATA/images/train, in grey; only the optimiser differs. Both
train in one process in turns of a few steps, and each has its budget of its own CPU seconds: other
work on the machine slows both alike and takes nothing from either. PSNR is that of the averaged
weights on DATA/images/val at noise 15, 25 and 50 of 255.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timing import one_thread, print_versions
from torch import nn

from restore.priors.edm import EDMDenoiser, build_unet_denoiser
from restore.priors.unet import UNetConfig
from restore.training.corpus import Corpus
from restore.training.denoiser import DenoiserTraining, noise_levels
from restore.training.loop import Budget
from restore.training.muon import MuonAdam, split_parameters
from restore.training.sources import load_source
from restore.training.validation import denoising_psnr, validation_images

TURN, MARKS, IMAGES = 5, (0.25, 0.5, 0.75, 1.0), 4


class Run:
    """One training: its network, averaged weights, optimiser and CPU seconds so far."""

    def __init__(self, make: Callable[[nn.Module], MuonAdam], settings: DenoiserTraining) -> None:
        # One seed: the same first weights for both runs, and for the average of each.
        self.prior, self.mean = (build_unet_denoiser(UNetConfig()) for _ in range(2))
        self.mean.network.eval()
        self.optimiser, self.settings = make(self.prior.network), settings
        self.step, self.seconds = 0, 0.0

    @property
    def done(self) -> float:
        return self.seconds / (60 * self.settings.budget.minutes)

    def turn(self, corpus: Corpus) -> None:
        start = time.process_time()
        for _ in range(TURN):
            rise = min(1.0, (self.step + 1) / self.settings.budget.warmup)
            self.optimiser.factor = rise * 0.5 * (1 + math.cos(math.pi * min(1.0, self.done)))
            train_step(self.prior, corpus, self.settings, self.optimiser, self.step)
            keep = min(self.settings.budget.ema, (1 + self.step) / (10 + self.step))
            weights = self.prior.network.state_dict()
            for name, mean in self.mean.network.state_dict().items():
                mean.lerp_(weights[name], 1 - keep)
            self.step += 1
        self.seconds += time.process_time() - start


def train_step(
    prior: EDMDenoiser,
    corpus: Corpus,
    settings: DenoiserTraining,
    optimiser: MuonAdam,
    step: int,
) -> None:
    """One gradient step on the EDM loss, as `restore train` takes it."""
    g = torch.Generator().manual_seed(step)
    x0 = corpus.batch(step, settings.batch).contiguous(memory_format=torch.channels_last)
    s = noise_levels(settings, settings.batch, g)[:, None, None, None]
    denoised = prior(x0 + s * torch.randn(x0.shape, generator=g), s.flatten())
    _, c_out, _ = prior.preconditioning(s)
    optimiser.zero_grad(set_to_none=True)
    ((denoised - x0) / c_out).square().mean().backward()
    nn.utils.clip_grad_norm_(prior.network.parameters(), 1.0)
    optimiser.step()


def adam_only(network: nn.Module) -> MuonAdam:
    """The same Adam for every parameter."""
    return MuonAdam([], network.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with images/train and images/val")
    parser.add_argument("--minutes", type=float, default=2.0, help="CPU minutes of each")
    args = parser.parse_args()
    one_thread()
    print_versions()
    settings = DenoiserTraining(Budget(minutes=args.minutes))
    corpus = Corpus([load_source(args.data / "images" / "train", 1.0, 1)], settings.crop, 0)
    photographs = validation_images(args.data / "images" / "val", 1, IMAGES)
    runs = {"muon": Run(split_parameters, settings), "adam": Run(adam_only, settings)}
    marks = {name: list(MARKS) for name in runs}
    print(f"{'':6}{'steps':>7}{'minutes':>9}   PSNR at noise 15, 25, 50 of 255")
    while any(marks.values()):
        for name, run in runs.items():
            if run.done < 1:
                run.turn(corpus)
            while marks[name] and run.done >= marks[name][0]:
                marks[name].pop(0)
                psnr = "  ".join(f"{v:.2f}" for v in denoising_psnr(run.mean, photographs).values())
                print(f"{name:6}{run.step:7}{run.seconds / 60:9.2f}   {psnr}", flush=True)


if __name__ == "__main__":
    main()
