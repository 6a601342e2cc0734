"""Whether several samples are spread as they should be, and what their mean is worth: dds and split, task by task.

    python benchmarks/uncertainty.py DATA -o uncertainty.jsonl [--samples 4] [--side 128] [--tasks mri4,ct30]

One slice or photograph a row, cropped to at most `side` pixels; a row that is in the file is not made again.
The table goes to docs/uncertainty.md. PSNR of one sample and of the mean; coverage of the interval from the least to
the largest sample (nominal: (K - 1)/(K + 1)); rms error over rms deviation of the image and over that which a mean of
K samples should have (sqrt(1 + 1/K) of it), both 1 where the spread is right. Magnitudes and HU; MRI without air.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from restore.bench.case import FOREGROUND
from restore.bench.coverage import calibration
from restore.datasets.open import read, read_image
from restore.datasets.scan import Scan
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.front_door import solve
from restore.metrics import psnr
from restore.operators.ct.geometry import AIR_HU
from restore.pipelines.degrade import Degradation, add_noise
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.scan_to_volume import reconstruct
from restore.priors.store import load_prior
from restore.registry import load_sampler

METHODS: dict[str, dict[str, Any]] = {
    "dds": {}, "split, own mean": {"centre": "none"}, "split": {},
}  # fmt: skip
SEED = 7

Run = Callable[[str, dict[str, Any], int], tuple[np.ndarray, np.ndarray]]
"""(sampler, settings, samples) -> samples (K, ...) and truth."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", type=Path)
    arguments.add_argument("-o", "--out", type=Path, default=Path("uncertainty.jsonl"))
    arguments.add_argument("--samples", type=int, default=4)
    arguments.add_argument("--side", type=int, default=128)
    arguments.add_argument("--tasks", default="")
    chosen = arguments.parse_args()
    done = (
        [json.loads(line) for line in chosen.out.read_text().splitlines()]
        if chosen.out.exists()
        else []
    )
    there = {(row["task"], row["method"]) for row in done}
    for task, make in tasks(chosen.data, chosen.side).items():
        if chosen.tasks and task.split()[0] not in chosen.tasks.split(","):
            continue
        for method, settings in METHODS.items():
            if (task, method) in there:
                continue
            row = {"task": task, "method": method} | measured(make(), method, settings, chosen)
            with chosen.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def tasks(data: Path, side: int) -> dict[str, Callable[[], Run]]:
    """Every task by name; slices and photographs that neither training nor tuning saw."""
    fast = {"coils": 8, "noise": 0.005, "acceleration": 4, "center_fraction": 0.08}
    faster = fast | {"acceleration": 8, "center_fraction": 0.04}
    chris, dicom = ("mr/train/chris_T1.nii.gz", 80), ("mr/dicom_t1", 20)
    thorax, iguana = ("ct/train/thorax_1p5mm.nii.gz", 60), ("ct/train/iguana_microct.nii.gz", 52)
    found: dict[str, Callable[[], Run]] = {}
    for name, where, binned in (("chris_T1", chris, 1), ("dicom_t1", dicom, 2)):
        for word, how in (("mri4", fast), ("mri8", faster)):
            found[f"{word} {name}"] = lambda w=where, h=how, b=binned: mri(data, *w, h, side, b)
    for name, where, binned in (("thorax", thorax, 1), ("iguana", iguana, 2)):
        for views in (60, 30):
            found[f"ct{views} {name}"] = lambda w=where, v=views, b=binned: ct(data, *w, v, side, b)
    photographs = sorted((data / "images" / "val").glob("*.jpg"))
    for number in (7,):
        for word in ("superres", "inpaint"):
            found[f"{word} {photographs[number].stem}"] = lambda p=photographs[number], t=word: (
                picture(p, t, side)
            )
    return found


def measured(run: Run, method: str, settings: dict[str, Any], chosen: Any) -> dict[str, Any]:
    """The figures of a row."""
    start = time.process_time()
    samples, truth = run(method.split(",")[0], settings, chosen.samples)
    seconds = time.process_time() - start
    complex_ = getattr(run, "magnitude", False)
    where = truth > FOREGROUND * truth.max() if complex_ else np.ones(truth.shape, bool)
    found = calibration(samples, truth, where)
    peak = float(truth.max() - (0 if complex_ else truth.min()))
    k = len(samples)
    return {
        "one": round(float(np.mean([psnr(s, truth, data_range=peak) for s in samples])), 2),
        "mean": round(psnr(samples.mean(0), truth, data_range=peak), 2),
        "coverage": round(found.coverage, 3), "nominal": round(found.nominal, 3),
        "of_deviation": round(found.spread_ratio * (1 + 1 / k) ** 0.5, 2), "of_spread": round(found.spread_ratio, 2),
        "samples": k, "cpu_seconds": round(seconds, 1),
    }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ScanRun:
    """A `Run` of a simulated scan."""

    scan: Scan
    magnitude: bool

    def __call__(self, sampler: str, settings: dict[str, Any], samples: int) -> Any:
        runner = load_sampler(sampler).configured("tuned", self.scan, settings)
        options = ReconOptions(samples=samples)
        result = reconstruct(
            self.scan, runner, load_prior("medical"), options, device=torch.device("cpu")
        )
        return np.asarray(result.drawn.whole(), np.float64), np.asarray(
            self.scan.reference[0:1], float
        )


def mri(data: Path, name: str, index: int, how: dict[str, Any], side: int, binned: int) -> Run:
    """A slice of an MR volume, `binned` pixels averaged along each side."""
    volume = read(data / name)
    there = dataclasses.replace(volume, data=_seen(volume.data[index], side, binned))
    return ScanRun(simulate_mri(there, slices=slice(0, 1), seed=SEED, **how), True)


def ct(data: Path, name: str, index: int, views: int, side: int, binned: int) -> Run:
    """A slice of a CT volume, likewise; one that knows no air has grey levels, taken as 10 HU each from air upward."""
    volume = read(data / name, modality="CT")
    image = _seen(volume.data[index], side, binned)
    image = image if image.min() < 0 else AIR_HU + 10 * image
    there = dataclasses.replace(volume, data=image)
    scan = simulate_ct(there, slices=slice(0, 1), seed=SEED, views=views, photons=1e5)
    return ScanRun(scan, False)


def picture(path: Path, task: Any, side: int) -> Run:
    """A photograph enlarged four times (noise 0.02), or seen at 30 % of its pixels (noise 0.02)."""
    truth = torch.from_numpy(np.stack([_centre(c, side) for c in read_image(path).data]))
    keep = torch.rand(truth.shape[-2:], generator=torch.Generator().manual_seed(SEED)) < 0.3
    how = Degradation(task, mask=keep.float()) if task == "inpaint" else Degradation(task, factor=4)
    operator = how.operator(tuple(truth.shape))
    y = add_noise(operator(truth), 0.02, SEED)
    y = y * how.mask if how.mask is not None else y

    def run(sampler: str, settings: dict[str, Any], samples: int) -> Any:
        prior = load_prior("natural")
        found = solve(y, operator, noise=0.02, prior=prior, sampler=sampler, samples=samples, **settings)  # fmt: skip
        return np.asarray(found.samples, np.float64), np.asarray(truth, np.float64)

    return run


def _seen(image: np.ndarray, side: int, binned: int) -> np.ndarray:
    """A slice (1, H, W) of means over binned x binned pixels, its middle alone."""
    h, w = (n // binned for n in image.shape)
    means = image[: h * binned, : w * binned].reshape(h, binned, w, binned).mean((1, 3))
    return _centre(means, side)[None]


def _centre(image: np.ndarray, side: int) -> np.ndarray:
    """The middle of a picture (H, W), at most side x side, even sides."""
    top, left = (max(0, (n - side) // 2) for n in image.shape)
    h, w = (min(n, side) // 2 * 2 for n in image.shape)
    return np.ascontiguousarray(image[top : top + h, left : left + w])


if __name__ == "__main__":
    main()
