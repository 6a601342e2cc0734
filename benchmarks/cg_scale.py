"""Does the answer of CG follow the unit of the data? y times 1e-6 to 1e6, ours beside deepinv's.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/cg_scale.py DATA

The problem is min |A x - y|^2 + 1e-2 |x|^2 for eight-coil MRI with a quarter of the lines, from
zero, at most 50 steps to a relative residual of 1e-6. Printed is |x(c y) / c - x(y)| / |x(y)|, for
the solver, for deepinv's and for the whole of `restore.solve` with CG-SENSE and with DDS.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from mri_operators import Scene, scene
from timing import one_thread, print_versions

from restore import solve
from restore.linalg.conjugate_gradients import cg

FACTORS = [10.0**k for k in range(-6, 7)]
DAMPING, STEPS, TOLERANCE, NOISE = 1e-2, 50, 1e-6, 5e-3


def contenders(s: Scene) -> dict[str, Callable[[float], torch.Tensor]]:
    """Solvers of the scaled problem: factor c -> x(c y)."""

    def ours(c: float) -> torch.Tensor:
        def system(v: torch.Tensor) -> torch.Tensor:
            return torch.add(s.operator.normal(v), v, alpha=DAMPING)

        right = s.operator.adjoint(c * s.y)
        return cg(system, right, iters=STEPS, tol=TOLERANCE, item_ndim=2).x

    def by_deepinv(c: float) -> torch.Tensor:
        y, limits = c * s.peer_y, {"max_iter": STEPS, "tol": TOLERANCE}
        return s.peer.prox_l2(0.0, y, 1 / DAMPING, solver="CG", **limits)

    def whole(sampler: str, **settings: int) -> Callable[[float], torch.Tensor]:
        def run(c: float) -> torch.Tensor:
            found = solve(c * s.y, s.operator, noise=c * NOISE, sampler=sampler, **settings)
            return found.image

        return run

    return {
        "restore cg": ours,
        "deepinv cg": by_deepinv,
        "restore.solve cgsense": whole("cgsense"),
        "restore.solve dds": whole("dds", n_steps=4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with mr/dicom_t1")
    args = parser.parse_args()
    one_thread()
    print_versions("deepinv")
    print(f"{'':24}" + "".join(f"{c:>9.0e}" for c in FACTORS) + "    worst")
    with torch.no_grad():
        for name, run in contenders(scene(args.data, "lines")).items():
            reference = run(1.0)
            errors = [float((run(c) / c - reference).norm() / reference.norm()) for c in FACTORS]
            print(f"{name:24}" + "".join(f"{e:9.1e}" for e in (*errors, max(errors))))


if __name__ == "__main__":
    main()
