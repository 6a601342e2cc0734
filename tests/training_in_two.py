"""A small training that several processes share: what tests of workers run in both of theirs.

    python training_in_two.py FOLDER LEAVE_AT     (with the environment of torchrun)

LEAVE_AT: the step at which a process beside the first vanishes without a word, or -1.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch

from restore.priors.edm import EDMDenoiser
from restore.priors.unet import UNetConfig
from restore.training import loop
from restore.training.augmentation import Augmentation
from restore.training.corpus import Corpus
from restore.training.denoiser import DenoiserTraining, train_denoiser
from restore.training.loop import Budget
from restore.training.sources import Source
from restore.training.workers import Workers, joined

STEPS, STOP = 6, 3
COMPLEX = UNetConfig(channels=2, widths=(8, 8), blocks=(1, 1), unshuffle=1, embedding=16)


class Stopped(Exception):
    """Stands for an interruption that reaches all processes."""


class Ending(Corpus):
    """Batches until a step at which the process vanishes, as one does that is killed, or is stopped."""

    leave_at = stop_at = -1

    def batch(self, step: int, size: int) -> torch.Tensor:
        if step == self.leave_at:
            os._exit(1)
        if step == self.stop_at:
            raise Stopped
        return super().batch(step, size)


def trained(state: Path, workers: Workers, *, leave_at: int = -1, stop_at: int = -1) -> EDMDenoiser:
    """A tiny denoiser of complex crops, four a step whatever the number of processes, saved after every step."""
    loop.SAVE_EVERY_S = 0.0
    rng = np.random.default_rng(0)
    images = tuple((rng.random((1, 24, 24)) * 255).astype(np.uint8) for _ in range(6))
    source = Source(images, 1.0, True, "noise")
    corpus = Ending([source], 16, 0, Augmentation(phase=0.5), channels=2)
    corpus.leave_at, corpus.stop_at = leave_at if not workers.first else -1, stop_at
    settings = DenoiserTraining(Budget(STEPS, 1e6, warmup=2), batch=4, crop=16)
    return train_denoiser(corpus, [], settings, COMPLEX, state, workers=workers)[0]


def whole_and_in_parts(folder: Path, workers: Workers) -> tuple[EDMDenoiser, EDMDenoiser]:
    """A training in one go, and one that was interrupted at `STOP`."""
    whole = trained(folder / "whole.safetensors", workers)
    try:
        trained(folder / "parts.safetensors", workers, stop_at=STOP)
    except Stopped:
        workers.mean(0.0)  # the first process has written its state before another looks
        return whole, trained(folder / "parts.safetensors", workers)
    raise AssertionError("nothing stopped it")


if __name__ == "__main__":
    told, last = Path(sys.argv[1]), int(sys.argv[2])
    with joined("cpu") as here:
        if last < 0:
            whole_and_in_parts(told, here)
        else:
            trained(told / "lost.safetensors", here, leave_at=last)
