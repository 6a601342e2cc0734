"""Time a radial scan beside finufft alone and sigpy, on one thread: 64 spokes of 512 samples, 8 coils, 256 x 256.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/nufft.py [--rounds 7]

A and A^H of all, the normal operator, and how far the results lie apart. finufft alone is its plan, made once, on the
coil images; ours multiplies by the maps and adds up the coils besides. CPU seconds, the least of all rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import finufft
import numpy as np
import sigpy
import sigpy.mri.linop
import torch

from restore.datasets.simulate.coils import birdcage
from restore.operators.mri.noncartesian import NonCartesianMRI
from restore.operators.mri.nonuniform import ACCURACY, FINER
from restore.operators.mri.trajectories import Trajectory, radial

SIDE, COILS, SPOKES, SAMPLES = 256, 8, 64, 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    trajectory = Trajectory(radial(SPOKES, SAMPLES, (SIDE, SIDE), full=True))
    maps = torch.from_numpy(birdcage((SIDE, SIDE), COILS))
    ours = NonCartesianMRI(maps, trajectory)
    theirs = sigpy.mri.linop.Sense(maps.numpy(), coord=trajectory.points)
    accuracy, finer = ACCURACY[torch.complex64], FINER[torch.complex64]
    plan = finufft.Plan(
        2, (SIDE, SIDE), COILS, accuracy, -1, "complex64", nthreads=1, upsampfac=finer
    )
    plan.setpts(*[a.astype(np.float32) for a in trajectory.radians((SIDE, SIDE))])
    x = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)
    coils, y = (maps * x).numpy(), ours(x)
    flat = y.reshape(COILS, -1).numpy()
    image, samples = x.numpy(), y.numpy()
    found = least(
        {
            "ours A": lambda: ours(x),
            "ours A^H": lambda: ours.adjoint(y),
            "ours A^H A": lambda: ours.normal(x),
            "finufft A": lambda: plan.execute(coils),
            "finufft A^H": lambda: plan.execute_adjoint(flat),
            "sigpy A": lambda: theirs(image),
            "sigpy A^H": lambda: theirs.H(samples),
        },
        rounds,
    )
    for name, seconds in found.items():
        print(f"{name:12} {1000 * seconds:8.1f} ms")
    both = {who: found[f"{who} A"] + found[f"{who} A^H"] for who in ("ours", "finufft", "sigpy")}
    print(f"ours / finufft alone: {both['ours'] / both['finufft']:.2f}")
    print(f"sigpy / ours: {both['sigpy'] / both['ours']:.1f}")
    print(f"A then A^H / A^H A: {both['ours'] / found['ours A^H A']:.1f}")
    apart = np.linalg.norm(theirs(image) - samples) / np.linalg.norm(samples)
    print(f"sigpy's samples differ from ours by {apart:.1e}")


def least(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """CPU seconds of each, one after the other in every round; the first round is not counted."""
    found = dict.fromkeys(work, float("inf"))
    for number in range(rounds + 1):
        for name, do in work.items():
            before = time.process_time()
            do()
            spent = time.process_time() - before
            if number:
                found[name] = min(found[name], spent)
    return found


if __name__ == "__main__":
    main()
