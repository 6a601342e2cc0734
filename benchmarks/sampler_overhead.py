"""What a sampler costs beside its network: DDS and deepinv's DiffPIR with the denoiser 0.9 x.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/sampler_overhead.py [--rounds 7]

Images of 3 x 256 x 256 with noise of 0.05: half of the pixels lost, circular Gaussian blur, and
bicubic super-resolution by 4. Given is the time of a whole run divided by its steps; "per step" is
the difference of a run of 50 and one of 10 steps, divided by 40, which leaves out the preparation.
"""

from __future__ import annotations

import argparse

import deepinv
import torch
from timing import Work, interleaved, one_thread, print_ratios, print_versions

from restore import solve
from restore.operators.base import LinearOperator
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.priors.base import Denoiser

SHAPE, NOISE, STEPS, FEW, MANY = (3, 256, 256), 0.05, 30, 10, 50


class Shrink(Denoiser):
    """0.9 x: as cheap as a denoiser can be."""

    channels = 3
    name = "0.9 x"

    def __call__(self, x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        return 0.9 * x


def pairs() -> dict[str, tuple[LinearOperator, deepinv.physics.LinearPhysics]]:
    """Our operator and deepinv's of the same degradation."""
    generator = torch.Generator().manual_seed(0)
    noise = deepinv.physics.GaussianNoise(NOISE)
    mask = (torch.rand(SHAPE[1:], generator=generator) < 0.5).float()
    kernel = gaussian(2.0)
    return {
        "inpainting": (
            Inpainting(mask, SHAPE),
            deepinv.physics.Inpainting(SHAPE, mask=mask.expand(SHAPE), noise_model=noise),
        ),
        "circular blur": (
            Blur(kernel, SHAPE),
            deepinv.physics.BlurFFT(SHAPE, filter=kernel[None, None], noise_model=noise),
        ),
        "super-resolution x 4": (
            Downsample(SHAPE, 4),
            deepinv.physics.Downsampling(SHAPE, filter="bicubic", factor=4, noise_model=noise),
        ),
    }


def works(
    operator: LinearOperator, physics: deepinv.physics.LinearPhysics
) -> dict[str, dict[int, Work]]:
    """Runs of each sampler by number of steps."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(SHAPE, generator=generator)
    y, prior = operator(image), Shrink()
    y = y + NOISE * torch.randn(y.shape, generator=generator)
    peer_y = y[None]

    def ours(steps: int) -> Work:
        return lambda: solve(y, operator, noise=NOISE, prior=prior, sampler="dds", n_steps=steps)

    def theirs(steps: int) -> Work:
        data = deepinv.optim.data_fidelity.L2()
        model = deepinv.sampling.DiffPIR(lambda x, s: 0.9 * x, data, sigma=NOISE, max_iter=steps)
        return lambda: model(peer_y, physics)

    counts = (STEPS, FEW, MANY)
    return {
        "restore DDS": {n: ours(n) for n in counts},
        "deepinv DiffPIR": {n: theirs(n) for n in counts},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    one_thread()
    print_versions("deepinv")
    for name, (operator, physics) in pairs().items():
        runs = works(operator, physics)
        timed = {f"{who} {n}": run for who, by_count in runs.items() for n, run in by_count.items()}
        times = interleaved(timed, args.rounds)
        whole = {who: times[f"{who} {STEPS}"].over(STEPS) for who in runs}
        print_ratios(f"{name}: whole run of {STEPS} steps, each", whole, "restore DDS")
        step = {
            who: times[f"{who} {MANY}"].less(times[f"{who} {FEW}"]).over(MANY - FEW) for who in runs
        }
        print_ratios(f"{name}: per step", step, "restore DDS")


if __name__ == "__main__":
    main()
