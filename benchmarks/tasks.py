"""The measurement tasks that tuning and tables share: simulated from real volumes and photographs.

`load_tasks(data, part)` gives named tasks; each makes its scan or degraded images and scores a
sampler. Tuning (`part="tune"`) and tables (`"test"`) use different photographs and slices.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from restore.datasets.open import read, read_image
from restore.datasets.scan import Scan
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.front_door import solve
from restore.metrics import psnr, ssim
from restore.noise import Gaussian
from restore.operators.ct.geometry import AIR_HU
from restore.pipelines.degrade import Degradation, Task, add_noise, noise_level
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.scan_to_volume import reconstruct
from restore.priors.base import Denoiser
from restore.priors.store import load_prior
from restore.registry import load_sampler

SEED = 7


@dataclasses.dataclass(frozen=True)
class Score:
    """PSNR in dB, SSIM, seconds and worst data misfit of one method on one task."""

    psnr: float
    ssim: float
    seconds: float
    misfit: float


@dataclasses.dataclass(frozen=True)
class ScanTask:
    """A simulated scan of a volume. PSNR and SSIM over all its slices, data range as `restore eval`."""

    name: str
    volume: Path
    modality: str
    slices: slice
    simulate: dict[str, Any]
    maps: str = "auto"

    def scan(self) -> Scan:
        """The measurement."""
        volume = (
            read(self.volume) if self.volume.is_dir() else read(self.volume, modality=self.modality)
        )
        simulate = simulate_mri if self.modality == "MR" else simulate_ct
        return simulate(volume, slices=self.slices, seed=SEED, **self.simulate)

    def run(self, sampler: str, preset: str, settings: dict[str, Any]) -> Score:
        """Reconstruct and score."""
        scan = self.scan()
        chosen = load_sampler(sampler).configured(preset, scan, settings)
        prior = _prior("medical") if chosen.prior_kinds else None
        start = time.perf_counter()
        options = ReconOptions(maps=self.maps)  # type: ignore[arg-type]
        result = reconstruct(scan, chosen, prior, options, device=torch.device("cpu"))
        seconds = time.perf_counter() - start
        truth = np.asarray(scan.reference)
        peak = float(truth.max() - (truth.min() if self.modality == "CT" else 0))
        misfit = max(chunk["misfit"] for chunk in result.record["chunks"])
        image = result.volume.data
        if self.modality == "CT":  # SSIM depends on where zero lies: air, as in `restore eval`
            image, truth = image - AIR_HU, truth - AIR_HU
        return Score(
            psnr(image, truth, data_range=peak),
            ssim(image, truth, data_range=peak),
            seconds,
            misfit,
        )


@dataclasses.dataclass(frozen=True)
class ImageTask:
    """A degraded set of photographs, centre crops of 256 x 256. Mean PSNR and SSIM with data range 1."""

    name: str
    photographs: tuple[Path, ...]
    degradation: str
    noise: float

    def run(self, sampler: str, preset: str, settings: dict[str, Any]) -> Score:
        """Restore every photograph and score."""
        figures, start = [], time.perf_counter()
        for path in self.photographs:
            truth = torch.from_numpy(centre(read_image(path).data, 256))
            how = _degradation(self.degradation, tuple(truth.shape[-2:]))
            operator = how.operator(tuple(truth.shape))
            y = add_noise(operator(truth), self.noise, SEED)
            if how.mask is not None:
                y = y * how.mask
            chosen = load_sampler(sampler).configured(preset, type(operator), dict(settings))
            prior = _prior("natural") if chosen.prior_kinds else None
            found = solve(
                y, operator, noise=Gaussian(noise_level(self.noise)), prior=prior, sampler=chosen
            )
            image = found.image.clamp(0, 1)
            misfit = float(found.log[-1]["misfit"])
            figures.append(
                (psnr(image, truth, data_range=1.0), ssim(image, truth, data_range=1.0), misfit)
            )
        mean = np.mean(figures, axis=0)
        return Score(float(mean[0]), float(mean[1]), time.perf_counter() - start, float(mean[2]))


def load_tasks(data: Path, part: str) -> dict[str, ScanTask | ImageTask]:
    """All tasks by name. part: "tune" or "test"."""
    test = part == "test"
    mri = {"coils": 8, "noise": 0.005, "mask": "random"}
    fast, faster = (
        {**mri, "acceleration": 4, "center_fraction": 0.08},
        {**mri, "acceleration": 8, "center_fraction": 0.04},
    )
    chris = data / "mr" / "train" / "chris_T1.nii.gz"
    thorax = data / "ct" / "train" / "thorax_1p5mm.nii.gz"
    head, chest = (
        (slice(65, 146, 20), slice(10, 103, 23)) if test else (slice(100, 101), slice(45, 46))
    )
    tasks: list[ScanTask | ImageTask] = [
        ScanTask("mri4", chris, "MR", head, fast),
        ScanTask("mri8", chris, "MR", head, faster),
        ScanTask("ct60", thorax, "CT", chest, {"views": 60, "photons": 1e5}),
        ScanTask("ct30", thorax, "CT", chest, {"views": 30, "photons": 1e5}),
    ]
    if test:
        dicom = data / "mr" / "dicom_t1"
        tasks += [
            ScanTask("dicom4", dicom, "MR", slice(4, 44, 8), fast),
            ScanTask("dicom8", dicom, "MR", slice(4, 44, 8), faster),
            ScanTask("mri4 espirit", chris, "MR", head, fast, "espirit"),
            ScanTask("mri8 espirit", chris, "MR", head, faster, "espirit"),
        ]
    photographs = sorted((data / "images" / "val").glob("*.jpg"))
    chosen = tuple(photographs[:6] if test else photographs[20:22])
    tasks += [
        ImageTask("inpaint", chosen, "inpaint 0.3", 0.0),
        ImageTask("deblur", chosen, "deblur gaussian:1.6", 0.01),
        ImageTask("superres", chosen, "superres 4", 0.0),
        ImageTask("denoise", chosen, "denoise", 0.1),
    ]
    return {task.name: task for task in tasks}


_loaded: dict[str, Denoiser] = {}


def _prior(name: str) -> Denoiser:
    return _loaded.setdefault(name, load_prior(name))


def _degradation(text: str, size: tuple[int, ...]) -> Degradation:
    task, _, value = text.partition(" ")
    kind: Task = task  # type: ignore[assignment]
    if kind == "inpaint":
        keep = torch.rand(size, generator=torch.Generator().manual_seed(SEED)) < float(value)
        return Degradation(kind, mask=keep.float())
    if kind == "superres":
        return Degradation(kind, factor=int(value))
    return Degradation(kind, kernel=value)


def centre(image: np.ndarray, side: int) -> np.ndarray:
    top, left = ((n - side) // 2 for n in image.shape[-2:])
    return np.ascontiguousarray(image[:, top : top + side, left : left + side])
