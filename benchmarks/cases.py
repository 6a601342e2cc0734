"""The small tasks on which `compare.py` runs every method: photographs, MRI and CT slices that no tuning saw.

`load(data, task)` gives the cases of a task: one image, its operator, measurement and noise, and how it is scored.
Called by `compare.py` alone; reads the folder of data, writes nothing. Everything random has the seed 7.

inpaint, deblur, deblur-r, superres, denoise: eight photographs of the validation set, centres of 128 x 128, data
    range 1: 70 % of the pixels missing; Gaussian of 1.6 pixels and noise 0.01, circular and (-r) reflected borders; x4,
    bicubic; noise 0.1. Tuning saw two others.
mri4, mri8: three slices of each of three volumes, means of 2 x 2 pixels (4 x 4 of the contrast T1); eight coils,
    complex noise 0.005 of the volume's maximum, random lines with 8 and 4 % in the centre, maps of the simulation. T1
    and proton density are of one head, of which tuning saw other slices of the T1; data range the slice's maximum.
ct60, ct30: eight slices of a thorax at 1.5 mm, 1e5 photons, simulated on a finer grid; the reference holds noise of
    about 40 HU. Tuning saw another slice. Data range the slice's own.
phantom60, phantom30: three slices of each of three heads made by rule (`datasets/simulate/phantom.py`), whose reference
    has no noise and which nothing was trained or tuned on: measured at 1 mm, reconstructed at 2 mm, 1e5 photons.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tasks import centre
from torch import Tensor

from restore.datasets.ct.scan import CTScan
from restore.datasets.open import read, read_image
from restore.datasets.scan import Scan
from restore.datasets.simulate.ct import BORDER, FINER, finer, simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import ct_phantom
from restore.datasets.stack import LazyStack
from restore.datasets.volume.volume import Volume
from restore.metrics import psnr, ssim
from restore.noise import Noise
from restore.operators.base import Operator
from restore.operators.ct.geometry import AIR_HU, MU_WATER_PER_MM, hu_to_mu
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.pipelines.degrade import Degradation, add_noise, noise_level
from restore.problem import Problem
from restore.scaling import Scaling

SEED = 7
PHOTOGRAPHS, SIDE = 8, 128
PHOTONS = 1e5
MRI = {"coils": 8, "noise": 0.005, "mask": "random", "seed": SEED}
LINES = {
    "mri4": {"acceleration": 4, "center_fraction": 0.08},
    "mri8": {"acceleration": 8, "center_fraction": 0.04},
}
# Where, the pixels averaged, and the slices
HEADS = (
    ("mr/train/chris_T1.nii.gz", 2, slice(65, 146, 40)),
    ("mr/train/chris_PD.nii.gz", 2, slice(12, 43, 15)),
    ("mr/dicom_t1", 4, slice(8, 41, 16)),
)
THORAX, CHEST = "ct/train/thorax_1p5mm.nii.gz", slice(6, 105, 14)
PHANTOM = (16, 208, 208)
PHANTOM_SEEDS, PHANTOM_SLICES = (1, 2, 3), slice(3, 14, 5)
VIEWS = {"ct60": 60, "ct30": 30, "phantom60": 60, "phantom30": 30}

TRAITS = {
    "inpaint": ("image", "inpaint"), "deblur": ("image", "deblur"), "deblur-r": ("image", "deblur"),
    "superres": ("image", "superres"), "denoise": ("image", "denoise"), "mri4": ("mri", ""), "mri8": ("mri", ""),
    **dict.fromkeys(VIEWS, ("ct", "")),
}  # fmt: skip
"""Kind and task of the operator of each."""
TASKS = tuple(TRAITS)
COUNT = {"image": PHOTOGRAPHS, "mri": 9, "ct": 9} | {"ct60": 8, "ct30": 8}
"""Images of a task, by itself or by its kind."""


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One image of a task. name: which; y in its own units; scale: what the truth is divided by for the priors."""

    name: str
    y: Tensor
    operator: Operator
    noise: Noise | float
    scaling: Scaling
    score: Callable[[Tensor], tuple[float, float]]

    @property
    def photograph(self) -> bool:
        """Whether it is a picture in 0..1 and not a scan."""
        return self.operator.kind == "image"

    @property
    def std(self) -> float:
        """One noise level for codes that know no other: in unit intensities, the median over the measurements."""
        if isinstance(self.noise, float):
            return self.noise
        precision = torch.as_tensor(self.noise.precision(self.y))
        return float(precision.rsqrt().median()) / self.scaling.scale


def load(data: Path, task: str) -> Iterator[Case]:
    """The cases of a task, one after the other."""
    if TRAITS[task][0] == "image":
        yield from _photographs(data, task)
        return
    for name, scan in _scans(data, task):
        yield from slices_of(name, scan)


def _photographs(data: Path, task: str) -> Iterator[Case]:
    known = torch.rand((SIDE, SIDE), generator=torch.Generator().manual_seed(SEED)) < 0.3
    how, noise = {
        "inpaint": (Degradation("inpaint", mask=known.float()), 0.0),
        "deblur": (Degradation("deblur", kernel="gaussian:1.6", boundary="circular"), 0.01),
        "deblur-r": (Degradation("deblur", kernel="gaussian:1.6"), 0.01),
        "superres": (Degradation("superres", factor=4), 0.0),
        "denoise": (Degradation("denoise"), 0.1),
    }[task]
    for path in sorted((data / "images" / "val").glob("*.jpg"))[:PHOTOGRAPHS]:
        truth = torch.from_numpy(centre(read_image(path).data, SIDE))
        operator = how.operator(tuple(truth.shape))
        y = add_noise(operator(truth), noise, SEED)
        y = y * how.mask if how.mask is not None else y

        def score(found: Tensor, truth: Tensor = truth) -> tuple[float, float]:
            found = found.clamp(0, 1)
            return psnr(found, truth, data_range=1.0), ssim(found, truth, data_range=1.0)

        yield Case(path.stem, y, operator, float(noise_level(noise)), Scaling(), score)


def _scans(data: Path, task: str) -> Iterator[tuple[str, Scan]]:
    if task in LINES:
        for where, factor, slices in HEADS:
            path = data / where
            volume = read(path) if path.is_dir() else read(path, modality="MR")
            name = path.name.removesuffix(".nii.gz")
            yield name, simulate_mri(_coarse(volume, factor), slices=slices, **MRI, **LINES[task])
    elif task.startswith("ct"):
        volume = read(data / THORAX, modality="CT")
        yield (
            "thorax",
            simulate_ct(volume, slices=CHEST, seed=SEED, views=VIEWS[task], photons=PHOTONS),
        )
    else:
        for seed in PHANTOM_SEEDS:
            yield f"phantom{seed}", phantom_scan(seed, VIEWS[task])


def _coarse(volume: Volume, factor: int) -> Volume:
    """Means of factor x factor pixels of a slice; the affine is left out, as no geometry is scored."""
    planes = _means(volume.data, factor)
    return dataclasses.replace(volume, data=planes, header=None)


def _means(v: NDArray[Any], factor: int) -> NDArray[np.float32]:
    depth, rows, columns = v.shape[0], *(n // factor for n in v.shape[1:])
    v = v[:, : rows * factor, : columns * factor].astype(np.float64)
    blocks = v.reshape(depth, rows, factor, columns, factor)
    return np.ascontiguousarray(blocks.mean((2, 4)), dtype=np.float32)


def phantom_scan(seed: int, views: int) -> CTScan:
    """Slices of a head made by rule on a grid `FINER` times finer than the one it is reconstructed on."""
    fine = ct_phantom(PHANTOM, seed)
    return finer_scan(dataclasses.replace(fine, data=fine.data[PHANTOM_SLICES]), views, seed)


def finer_scan(fine: Volume, views: int, seed: int) -> CTScan:
    """Slices measured on their own grid, to be reconstructed on pixels `FINER` times larger. seed: of the counts."""
    coarse = _means(fine.data, FINER)
    affine = fine.affine.copy()
    affine[:3, :2] *= FINER
    volume = dataclasses.replace(fine, data=coarse, affine=affine, header=None)
    scan = simulate_ct(volume, seed=SEED, views=views, photons=PHOTONS)
    project = ParallelBeamCT(finer(scan.geometry))
    rows, columns = (FINER * n for n in coarse.shape[1:])

    def acquire(i: int) -> NDArray[np.float32]:
        padded = np.pad(fine.data[i, :rows, :columns], FINER * BORDER, constant_values=AIR_HU)
        mu = torch.from_numpy(hu_to_mu(padded, MU_WATER_PER_MM).astype(np.float32))
        halves = np.exp(-project(mu).numpy().astype(np.float64))
        passed = halves.reshape(views, scan.geometry.n_det, FINER).mean(-1)
        counts = np.random.default_rng([SEED, seed, i]).poisson(PHOTONS * passed)
        return -np.log(np.maximum(counts, 0.5) / PHOTONS).astype(np.float32)

    return dataclasses.replace(scan, sinogram=LazyStack(scan.shape, acquire))


def slices_of(name: str, scan: Scan) -> Iterator[Case]:
    """A case for every slice of a scan with a reference."""
    setup = scan.setup()
    for i in range(scan.n_slices):
        problem: Problem = setup.problem(range(i, i + 1), torch.device("cpu"))
        truth = np.asarray(scan.reference[i], np.float32)  # type: ignore[index]
        peak = float(truth.max() - (truth.min() if scan.kind == "ct" else 0))
        zero = AIR_HU if scan.kind == "ct" else 0.0  # SSIM depends on where zero lies

        def score(
            found: Tensor, truth: Any = truth, peak: float = peak, zero: float = zero
        ) -> tuple[float, float]:
            image = scan.in_source_units(found.reshape(1, 1, *found.shape[-2:]))[0, 0]
            pair = image - zero, truth - zero
            return psnr(*pair, data_range=peak), ssim(*pair, data_range=peak)

        noise = problem.noise if problem.noise is not None else 0.0
        yield Case(f"{name} {i}", problem.y, problem.operator, noise, problem.scaling, score)
