"""`restore volume --task denoise` beside BM4D, non-local means and TV on held-out volumes: benchmarks/VOLUMES.md.

    python benchmarks/volumes.py DATA rows.jsonl                # all cases that rows.jsonl lacks; minutes a case
    python benchmarks/volumes.py DATA rows.jsonl --cases t1/rician --peers build/peers/bin/python
    python benchmarks/volumes.py --table rows.jsonl

The rivals' strengths are chosen for each case by the truth, which nobody has: they are at their best. BM4D (peers'
environment) is told the true level, of correlated noise the true spectrum, of magnitudes the true level and the same
stabiliser; ours is told nothing but the kind of noise.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.datasets.open import read
from restore.datasets.volume.volume import Volume
from restore.metrics import psnr
from restore.pipelines.recon_options import DrawOptions
from restore.pipelines.volume.denoise import Denoise
from restore.pipelines.volume.intensities import intensities_of
from restore.pipelines.volume.restoring import restore_volume
from restore.priors.store import load_prior
from restore.registry import load_sampler
from restore.rician import stabiliser

Array = NDArray[np.float32]

VOLUMES = {
    "t1": ("mr/train/chris_T1.nii.gz", "MR", (70, 90, 80)),
    "thorax": ("ct/train/thorax_1p5mm.nii.gz", "CT", (30, 20, 30)),
    "micro-ct": ("ct/train/iguana_microct.nii.gz", "", (70, 90, 70)),
}
"""Held out from the training of the bundled prior: file, modality, first voxel of the crop (z, y, x)."""

SIZE = (24, 40, 40)
KINDS = ("gaussian5", "gaussian10", "rician", "correlated")
CORRELATED = (0.4, 1.0, 0.4)
"""Kernel of the correlated noise along y and x; along z (0.3, 1, 0.3)."""

BM4D = """
import sys, numpy as np, bm4d
np.trapz = getattr(np, "trapz", np.trapezoid)  # which bm4d 4.2.5 calls, and NumPy 2.4 has no more
given = np.load(sys.argv[1])
noise = given["psd"] if "psd" in given else float(given["std"])
np.save(sys.argv[2], bm4d.bm4d(given["y"], noise).astype(np.float32))
"""


@dataclasses.dataclass(frozen=True)
class Case:
    """truth, noisy: volumes in units of the intensity range. std: of the noise. power: of correlated noise, rfftn."""

    name: str
    kind: str
    truth: Array
    noisy: Array
    std: float
    power: NDArray[np.float64] | None
    like: Volume

    @classmethod
    def of(cls, data: Path, volume: str, kind: str) -> Case:
        """One of `VOLUMES` with one of `KINDS` of noise."""
        file, modality, first = VOLUMES[volume]
        whole = read(data / file, modality=modality)
        scaled = intensities_of(whole)
        at = tuple(slice(a, a + n) for a, n in zip(first, SIZE, strict=True))
        crop = whole.data[at].astype(np.float32)
        truth = np.asarray(scaled.shifted(crop) / scaled.scaling.scale, np.float32)
        draws = np.random.default_rng(7).standard_normal((2, *SIZE))
        std, power, noise = 0.05 if kind in ("gaussian5", "correlated") else 0.1, None, draws[0]
        if kind == "correlated":
            power = _power(SIZE)
            noise = np.fft.irfftn(np.fft.rfftn(noise) * np.sqrt(power), SIZE, (0, 1, 2))
        noisy = truth + std * noise
        if kind == "rician":
            truth = np.maximum(truth, 0)
            noisy = np.hypot(truth + std * noise, std * draws[1])
        like = dataclasses.replace(whole, data=crop, header=None, source=None, padding=None)
        return cls(f"{volume}/{kind}", kind, truth, noisy.astype(np.float32), std, power, like)


def _power(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Of the correlated noise, mean 1."""
    total = np.ones(shape)
    for axis, kernel in enumerate(((0.3, 1.0, 0.3), CORRELATED, CORRELATED)):
        line = np.zeros(shape[axis])
        line[[-1, 0, 1]] = kernel
        gain = np.abs(np.fft.fft(line)) ** 2
        total *= gain.reshape([-1 if a == axis else 1 for a in range(3)])
    return total[..., : shape[2] // 2 + 1] / total.mean()


def ours(case: Case, **told: Any) -> Array:
    """As the verb does it, told the kind of noise alone."""
    scaled = intensities_of(case.like)
    source = scaled.source((case.noisy * scaled.scaling.scale).astype(np.float32))
    kind = case.kind.rstrip("0123456789")
    if kind == "rician":  # magnitudes begin at zero
        source, scaled = (
            (case.noisy * 1000).astype(np.float32),
            dataclasses.replace(scaled, offset=0.0),
        )
    modality = "MR" if kind == "rician" else case.like.modality
    volume = dataclasses.replace(case.like, data=source, modality=modality, units="")
    task = Denoise(**{"noise": kind} | told)
    prepared = task.prepare((volume,))
    name, usual = task.usual(1)
    preset = prepared.preset or usual
    sampler = load_sampler(name).configured(preset, task.traits, {})
    prior = load_prior("medical")
    options = DrawOptions(precision="float32")
    found = restore_volume(prepared, sampler, prior, options, device=torch.device("cpu")).samples[0]
    if kind == "rician":
        return found / np.float32(1000)
    return np.asarray(scaled.shifted(found) / scaled.scaling.scale, np.float32)


def best(
    case: Case, run: Callable[[Array, float], Array], strengths: tuple[float, ...]
) -> tuple[Array, float]:
    """The result of the strength that lies nearest to the truth."""
    found = [(run(_plain(case), s * case.std), s) for s in strengths]
    return max(
        ((_back(case, x), s) for x, s in found),
        key=lambda pair: psnr(pair[0], case.truth, data_range=1.0),
    )


def _plain(case: Case) -> Array:
    return stabiliser().forward(case.noisy, case.std) if case.kind == "rician" else case.noisy


def _back(case: Case, x: Array) -> Array:
    return stabiliser().inverse(x, case.std) if case.kind == "rician" else np.asarray(x, np.float32)


def nlm(y: Array, strength: float) -> Array:
    """Non-local means of scikit-image in 3-D."""
    from skimage.restoration import denoise_nl_means

    return np.asarray(
        denoise_nl_means(y, patch_size=3, patch_distance=4, h=strength, fast_mode=True)
    )


def tv(y: Array, strength: float) -> Array:
    """Total variation of scikit-image in 3-D."""
    from skimage.restoration import denoise_tv_chambolle

    return np.asarray(denoise_tv_chambolle(y, weight=strength, max_num_iter=100))


def bm4d(case: Case, python: str) -> Array:
    """BM4D of its authors, in an environment of its own."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "y.npz", Path(folder) / "x.npy"
        noise: dict[str, Any] = {"std": case.std}
        if case.power is not None:
            full = np.fft.fftn(np.fft.irfftn(case.power, SIZE, (0, 1, 2))).real
            noise = {"psd": case.std**2 * full * full.size}
        np.savez(given, y=_plain(case), **noise)
        subprocess.run([python, "-c", BM4D, given, made], check=True, capture_output=True)
        return _back(case, np.load(made))


def rows_of(case: Case, python: str) -> list[dict[str, Any]]:
    """One a method."""
    methods: dict[str, Callable[[], tuple[Array, float]]] = {
        "noisy": lambda: (case.noisy, 0.0),
        "TV": lambda: best(case, tv, (0.3, 0.5, 0.8, 1.2)),
        "non-local means": lambda: best(case, nlm, (0.4, 0.6, 0.8)),
        "restore": lambda: (ours(case), 0.0),
    }
    if python:
        methods["BM4D"] = lambda: (bm4d(case, python), 0.0)
    rows = []
    for name, run in methods.items():
        start = time.process_time(), time.perf_counter()
        image, strength = run()
        rows.append({
            "case": case.name, "method": name, "psnr": round(float(psnr(image, case.truth, data_range=1.0)), 3),
            "strength": strength, "seconds": round(time.perf_counter() - start[1], 1),
        })  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """PSNR in dB, a line a case."""
    names = ("noisy", "TV", "non-local means", "BM4D", "restore")
    found = {(r["case"], r["method"]): r["psnr"] for r in rows}
    lines = [f"| volume, noise | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for case in dict.fromkeys(r["case"] for r in rows):
        cells = [f"{found[case, n]:.2f}" if (case, n) in found else "" for n in names]
        lines.append(f"| {case.replace('/', ', ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--cases", default=",".join(f"{v}/{k}" for v in VOLUMES for k in KINDS))
    parser.add_argument("--peers", default="", help="python with bm4d")
    parser.add_argument("--table", action="store_true")
    told = parser.parse_args()
    torch.set_num_threads(1)
    file = told.paths[-1]
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    if told.table:
        print(table(rows))
        return
    done = {row["case"] for row in rows}
    for name in told.cases.split(","):
        if name in done:
            continue
        for row in rows_of(Case.of(told.paths[0], *name.split("/")), told.peers):
            print(row, flush=True)
            with file.open("a") as stream:
                stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
