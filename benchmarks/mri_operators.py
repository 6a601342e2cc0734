"""Time MRI operators, CG-SENSE and ESPIRiT beside deepinv, sigpy, BART and bartorch, on one thread.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/mri_operators.py DATA [--rounds 7] [--only many]

The object is a slice of DATA/mr/dicom_t1, 320 x 320, seen by eight coils. CG-SENSE solves
(A^H A + 1e-3) x = A^H y by 30 steps from zero, with a mask of lines and one of single points. Every
contender gets its data in the form it wants; its image or maps are compared with ours. BART's time
includes the start of its process and its files; "steps alone" is the time of 31 steps less that of
one step.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import bart
import bartorch.tools
import numpy as np
import sigpy.mri.app
import sigpy.mri.linop
import torch
from deepinv.physics import MultiCoilMRI as PeerMRI
from timing import Work, interleaved, one_thread, print_ratios, print_versions

from restore.datasets.mri.pattern.masks import make_mask
from restore.datasets.open import read
from restore.datasets.simulate.coils import birdcage
from restore.linalg.conjugate_gradients import cg
from restore.operators.mri.coil_maps import espirit
from restore.operators.mri.fourier import fft2c, ifft2c
from restore.operators.mri.multicoil import MultiCoilMRI

SIDE, COILS, STEPS, DAMPING = 320, 8, 30, 1e-3
MANY = 64
CALIBRATION, KERNEL, THRESHOLD = 24, 6, 0.02


class Scene(NamedTuple):
    """One measurement in the form of ours, (coils, H, W), and in that of deepinv."""

    operator: MultiCoilMRI
    image: torch.Tensor
    y: torch.Tensor
    peer: PeerMRI
    peer_image: torch.Tensor
    peer_y: torch.Tensor


def scene(data: Path, sampled: str, coils: int = COILS) -> Scene:
    """sampled: "lines" (a quarter of the columns), "points" (a quarter of all samples) or "all"."""
    head = torch.from_numpy(read(data / "mr" / "dicom_t1").data[24].astype(np.complex64))
    first = head.shape[-1] // 2 - SIDE // 2
    image = ifft2c(fft2c(head)[first : first + SIDE, first : first + SIDE])
    image = image / image.abs().max()
    rng = np.random.default_rng(3)
    mask = torch.ones(SIDE, dtype=torch.bool)
    if sampled == "lines":
        mask = torch.from_numpy(make_mask("random", (SIDE, SIDE), 4, 0.08, 7))
    elif sampled == "points":
        mask = torch.from_numpy(rng.random((SIDE, SIDE)) < 0.25)
        mask[148:172, 148:172] = True
    maps = torch.from_numpy(birdcage((SIDE, SIDE), coils))
    operator = MultiCoilMRI(maps, mask)
    noise = rng.normal(scale=5e-3, size=(coils, SIDE, SIDE, 2)).astype(np.float32)
    y = operator(image) + torch.view_as_complex(torch.from_numpy(noise)) * mask
    plane = mask.float().expand(SIDE, SIDE).clone()
    peer = PeerMRI(mask=plane, coil_maps=maps)
    return Scene(operator, image, y, peer, _channels(image)[None], _channels(y)[None])


def _channels(x: torch.Tensor) -> torch.Tensor:
    """deepinv's form of complex values: real and imaginary part in front."""
    return torch.view_as_real(x).movedim(-1, 0).contiguous()


def _relative(a: Any, b: Any) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def operators(data: Path, rounds: int) -> None:
    """A and A^H; agreement first."""
    s = scene(data, "lines")
    weights = s.operator.mask.numpy().astype(np.float32) * np.ones((SIDE, 1), np.float32)
    linop = sigpy.mri.linop.Sense(s.operator.maps.numpy(), weights=weights)
    image, y = s.image.numpy(), s.y.numpy()
    products: dict[str, dict[str, Callable[[], Any]]] = {
        "A": {
            "restore": lambda: s.operator(s.image),
            "deepinv": lambda: s.peer.A(s.peer_image),
            "sigpy": lambda: linop(image),
        },
        "A^H": {
            "restore": lambda: s.operator.adjoint(s.y),
            "deepinv": lambda: s.peer.A_adjoint(s.peer_y),
            "sigpy": lambda: linop.H(y),
        },
        "A^H A": {
            "restore": lambda: s.operator.normal(s.image),
            "deepinv": lambda: s.peer.A_adjoint_A(s.peer_image),
            "sigpy": lambda: linop.N(image),
        },
    }
    for name, works in products.items():
        ours = works["restore"]().numpy()
        for peer in ("deepinv", "sigpy"):
            apart = _relative(_as_complex(works[peer]()), ours)
            print(f"{name}: {peer} differs by {apart:.1e}")
        print_ratios(f"{name}, {COILS} x {SIDE} x {SIDE}", interleaved(works, rounds), "restore")


def _as_complex(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return x
    return torch.view_as_complex(x[0].movedim(0, -1).contiguous()).numpy()


def cg_sense(data: Path, rounds: int) -> None:
    """The same regularised least squares by 30 steps of everybody's conjugate gradients, with both masks."""
    for sampled in ("lines", "points"):
        cg_sense_of(data, sampled, rounds)


def cg_sense_of(data: Path, sampled: str, rounds: int) -> None:
    """With a mask of lines or of points."""
    s = scene(data, sampled)
    maps, y = s.operator.maps.numpy(), s.y.numpy()

    def ours(steps: int = STEPS) -> torch.Tensor:
        def system(v: torch.Tensor) -> torch.Tensor:
            return torch.add(s.operator.normal(v), v, alpha=DAMPING)

        return cg(system, s.operator.adjoint(s.y), iters=steps, item_ndim=2).x

    def by_deepinv() -> torch.Tensor:
        return s.peer.prox_l2(0.0, s.peer_y, 1 / DAMPING, solver="CG", max_iter=STEPS, tol=0.0)

    def by_sigpy() -> Any:
        app = sigpy.mri.app.SenseRecon(y, maps, lamda=DAMPING, max_iter=STEPS, show_pbar=False)
        return app.run()

    with bart.Bart() as folder:
        folder.put("kspace", y)
        folder.put("maps", maps)

        def by_bart(steps: int = STEPS) -> None:
            folder.run("pics", "-l2", "-r", DAMPING, "-i", steps, "-w1", "kspace", "maps", "image")

        works: dict[str, Work] = {"restore": ours, "deepinv": by_deepinv, "sigpy": by_sigpy}
        images = {"deepinv": _as_complex(by_deepinv()), "sigpy": by_sigpy()}
        if bart.program():
            by_bart()
            images["bart"] = folder.get("image")
            works |= {"bart, whole call": by_bart}
            works |= {"bart, 1 step": lambda: by_bart(1), "bart, 31 steps": lambda: by_bart(31)}
        works |= {"restore, 1 step": lambda: ours(1), "restore, 31 steps": lambda: ours(31)}
        for peer, image in images.items():
            apart = _relative(image, ours().numpy())
            print(f"CG-SENSE, {sampled}: {peer} differs by {apart:.1e}")
        times = interleaved(works, rounds)
    print_ratios(f"CG-SENSE, {STEPS} steps, mask of {sampled}", times, "restore")
    if bart.program():
        alone = {
            who: times[f"{who}, 31 steps"].less(times[f"{who}, 1 step"])
            for who in ("restore", "bart")
        }
        print_ratios(f"CG-SENSE, {STEPS} steps alone, mask of {sampled}", alone, "restore")


def maps(data: Path, rounds: int) -> None:
    """ESPIRiT from the same 24 x 24 samples; overlap |<a, b>| of the maps where the peer keeps them.

    sigpy's 100 power iterations leave pixels with close eigenvalues unsettled; "converged" are its
    maps after 3000.
    """
    y = scene(data, "all").y
    k = y.numpy()
    settings = {"calib_width": CALIBRATION, "thresh": THRESHOLD, "kernel_width": KERNEL}

    def ours() -> torch.Tensor:
        return espirit(y, CALIBRATION, kernel=KERNEL, threshold=THRESHOLD)[0]

    def by_sigpy(iterations: int = 100) -> Any:
        app = sigpy.mri.app.EspiritCalib(k, show_pbar=False, max_iter=iterations, **settings)
        return app.run()

    with bart.Bart() as folder:
        folder.put("kspace", k)

        def by_bart() -> None:
            options = ("-m1", f"-k{KERNEL}", f"-r{CALIBRATION}", "-t", THRESHOLD, "-c", 0.95)
            folder.run("ecalib", *options, "kspace", "maps")

        works: dict[str, Work] = {
            "restore": ours,
            "sigpy": by_sigpy,
            "bartorch": lambda: by_bartorch(y),
        }
        found = {"sigpy": by_sigpy(), "sigpy converged": by_sigpy(3000), "bartorch": by_bartorch(y)}
        if bart.program():
            by_bart()
            works["bart, whole call"], found["bart"] = by_bart, folder.get("maps")
        mine = ours().numpy()
        for peer, theirs in found.items():
            seen = np.abs(theirs).sum(0) > 0
            overlap = np.abs((mine.conj() * theirs).sum(0))[seen]
            low = np.quantile(overlap, 0.01)
            print(f"ESPIRiT, {peer}: overlap mean {overlap.mean():.6f}, lowest percent {low:.6f}")
        times = interleaved(works, rounds)
    print_ratios(f"ESPIRiT, {COILS} x {SIDE} x {SIDE}", times, "restore")


def by_bartorch(y: torch.Tensor) -> Any:
    """Its ESPIRiT maps of k-space (coils, H, W), with the settings of ours."""
    settings = {"maps": 1, "calib_size": CALIBRATION, "kernel_size": KERNEL, "threshold": THRESHOLD}
    return bartorch.tools.ecalib(y, crop=0.95, **settings).reshape(y.shape).numpy()


def many_coils(data: Path, rounds: int) -> None:
    """ESPIRiT of 64 coils: time, and by how much the peak of memory grows while maps are made."""
    y = scene(data, "all", MANY).y
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    espirit(y, CALIBRATION, kernel=KERNEL, threshold=THRESHOLD)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"ESPIRiT, {MANY} coils: peak {after / 2**20:.2f} GB, {before / 2**20:.2f} GB before")
    works: dict[str, Work] = {
        "restore": lambda: espirit(y, CALIBRATION, kernel=KERNEL, threshold=THRESHOLD),
        "bartorch": lambda: by_bartorch(y),
    }
    print_ratios(f"ESPIRiT, {MANY} x {SIDE} x {SIDE}", interleaved(works, rounds), "restore")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with mr/dicom_t1")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["operators", "cg", "maps", "many"])
    args = parser.parse_args()
    one_thread()
    print_versions("deepinv", "sigpy", "bartorch")
    print("BART", bart.version() if bart.program() else "not installed: its rows are left out")
    parts: dict[str, Callable[[Path, int], None]] = {
        "operators": operators,
        "cg": cg_sense,
        "maps": maps,
        "many": many_coils,
    }
    with torch.no_grad():
        for name, part in parts.items():
            if args.only in (None, name):
                part(args.data, args.rounds)


if __name__ == "__main__":
    main()
