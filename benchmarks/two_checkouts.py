"""Speed of two checkouts of this package in one run: what a redesign costs or gains.

    git worktree add build/before <commit>
    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/two_checkouts.py build/before . [--rounds 5]

Each checkout works in a process of its own that is asked for one piece of work at a time, in turns, so that other
programs of the machine slow both alike; each keeps its best round. Only names that `restore` and `restore.operators`
publish are used, and the contract `Denoiser`, so that the two trees may differ inside. Prints CPU milliseconds and the
ratio.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from timing import Work, one_thread, print_versions

WARM = 2  # calls before a piece is timed: caches, compiled kernels
# Where glibc gives memory back at the end of every call, new pages cost up to four times the work; whether it does is
# chance, from one process to the next.
STEADY = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
LEAST_S = 0.1  # a turn lasts at least so long, by repetition


def pieces() -> dict[str, Callable[[], Work]]:
    """Every piece of work by name: what prepares it, and then the work itself."""
    import torch

    from restore import operators, solve
    from restore.priors.base import Denoiser

    class Shrink(Denoiser):
        """0.9 x: as cheap as a denoiser can be."""

        name = "0.9 x"

        def __call__(self, x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
            return 0.9 * x

    draws = torch.Generator().manual_seed(0)

    def mri() -> operators.MultiCoilMRI:
        maps = torch.randn(8, 256, 256, dtype=torch.complex64, generator=draws)
        mask = torch.rand(256, generator=draws) < 0.3
        return operators.MultiCoilMRI(maps / maps.norm(dim=0), mask)

    def ct() -> operators.ParallelBeamCT:
        angles = [k * torch.pi / 60 for k in range(60)]
        return operators.ParallelBeamCT(operators.ParallelBeam(angles, 367, 1.0, (256, 256)))

    def blur() -> operators.Blur:
        return operators.Blur(operators.parse_kernel("gaussian:2"), (3, 256, 256))

    def downsample() -> operators.Downsample:
        return operators.Downsample((3, 256, 256), 4)

    def image(A: operators.LinearOperator) -> torch.Tensor:
        real = torch.rand(A.in_shape, generator=draws)
        return real.to(torch.complex64) if isinstance(A, operators.MultiCoilMRI) else real

    def once(make: Callable[[], operators.LinearOperator], call: str) -> Callable[[], Work]:
        def prepared() -> Work:
            A = make()
            x = A(image(A)) if call == "adjoint" else image(A)
            return lambda: getattr(A, call)(x)

        return prepared

    def run(
        make: Callable[[], operators.LinearOperator], sampler: str, **settings: object
    ) -> Callable[[], Work]:
        def prepared() -> Work:
            A = make()
            y = A(image(A))
            options = {"prior": Shrink()} if sampler != "tv" else {}
            return lambda: solve(y, A, noise=0.05, sampler=sampler, **options, **settings)

        return prepared

    made = {"MRI": mri, "CT": ct, "blur": blur, "x4": downsample}
    works = {
        f"{name} {call.strip(chr(95))}": once(make, call)
        for name, make in made.items()
        for call in ("__call__", "adjoint", "normal")
    }
    works |= {f"{name} dds, 10 steps": run(make, "dds", n_steps=10) for name, make in made.items()}
    works |= {f"{name} tv, 10 steps": run(make, "tv", n_steps=10) for name, make in made.items()}
    works["MRI reddiff, 10 steps"] = run(mri, "reddiff", n_steps=10)
    works["x4 diffpir, 10 steps"] = run(downsample, "diffpir", n_steps=10)
    return works


def serve() -> None:
    """Child: reads names of pieces, works, answers with a line each."""
    works = pieces()
    print(" | ".join(works), flush=True)
    ready: dict[str, Work] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in ready:
            ready[name] = works[name]()
            for _ in range(WARM):
                ready[name]()
        turns, start = 0, time.process_time()
        while turns == 0 or time.process_time() - start < LEAST_S:
            ready[name]()
            turns += 1
        print((time.process_time() - start) / turns, flush=True)


class Checkout:
    """A process that works with the package of one tree."""

    def __init__(self, tree: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            env=os.environ | STEADY | {"PYTHONPATH": str(tree.resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.names = self._answer().split(" | ")

    def seconds(self, name: str) -> float:
        """CPU seconds of one turn."""
        assert self.process.stdin is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise SystemExit("a checkout ended; its message stands above")
        return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trees", nargs="*", type=Path, metavar="TREE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    one_thread()
    if options.serve:
        serve()
        return
    if len(options.trees) != 2:
        parser.error("two checkouts are needed: BEFORE AFTER")
    print_versions()
    before, after = (Checkout(tree) for tree in options.trees)
    print(f"\n| work | before, CPU ms | after, CPU ms | after / before |\n{'| --- ' * 4}|")
    for name in before.names:
        turns = [(before.seconds(name), after.seconds(name)) for _ in range(options.rounds)]
        old, new = (min(column) for column in zip(*turns, strict=True))
        print(f"| {name} | {1e3 * old:.1f} | {1e3 * new:.1f} | {new / old:.2f} |", flush=True)


if __name__ == "__main__":
    main()
