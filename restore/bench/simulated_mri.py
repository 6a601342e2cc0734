"""mri-simulated: MR volumes (NIfTI, DICOM) measured by `simulate_mri` with several coils, retrospectively undersampled.

For `restore calibrate`, which needs volumes with a known truth where no raw k-space is at hand; the maps are estimated
from what the mask leaves, as a scanner's have to be. fastMRI files have their own protocols.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from restore.bench.case import Case, Conditions, Figures, ScanCase
from restore.bench.ct import found_volumes
from restore.bench.fastmri import PRIORS
from restore.bench.protocol import Protocol, Setting, item_seed, selected
from restore.bench.store import place_of
from restore.datasets.mri.fastmri_files.fastmri_masks import center_fraction_for
from restore.datasets.open import read
from restore.datasets.simulate.mri import simulate_mri
from restore.errors import ConfigError, InputError, NotFoundError
from restore.metrics import SSIM_VARIANT, nmse, psnr, ssim

RULES = 1
"""Counts up when figures come out otherwise for the same files, settings and methods."""


@dataclasses.dataclass(frozen=True)
class SimulatedMRI(Protocol):
    """root: a folder of NIfTI volumes and of folders of DICOM series, or one of them.

    accelerations, coils, mask, noise: as `simulate_mri`; the centre is 0.08 of the lines at 4, 0.04 at 8. slices: of
    every volume, default all. limit, exclude: as in `CTSparseView`. seed: of masks and noise, with the volume's name.
    Raises ConfigError.
    """

    name: ClassVar[str] = "mri-simulated"
    default_samplers: ClassVar[str] = "zerofilled,cgsense,tv,dds"
    default_prior: ClassVar[dict[str, str]] = PRIORS

    root: Path
    accelerations: tuple[int, ...] = (4, 8)
    coils: int = 8
    mask: str = "random"
    noise: float = 0.005
    slices: slice | None = None
    limit: int | None = None
    exclude: Collection[str] = ()
    seed: int = 7

    def __post_init__(self) -> None:
        rates = self.accelerations
        if not rates or min(rates) < 2 or len(set(rates)) < len(rates):
            raise ConfigError(f"accelerations are different whole numbers from 2, got {rates}")
        if self.coils < 1:
            raise ConfigError(f"there must be a coil or more, got {self.coils}")

    def volumes(self) -> dict[str, Path]:
        """By file or folder name, sorted."""
        return selected(self._found, self.exclude, self.limit)

    def settings(self) -> tuple[Setting, ...]:
        """One an acceleration: "4x", "8x"."""
        return tuple(Setting(f"{r}x", {"acceleration": r}) for r in self.accelerations)

    def describe(self) -> dict[str, Any]:
        """How it is simulated."""
        s = self.slices
        chosen = "all" if s is None else f"{s.start}:{s.stop}:{s.step}".replace("None", "")
        return {
            "coils": self.coils, "mask": self.mask, "noise": self.noise, "slices": chosen, "seed": self.seed,
            "rules": RULES,
        }  # fmt: skip

    def open(self, volume: str, setting: Setting, run: Path) -> Case:
        """Read the volume and simulate its scan. Raises InputError for what is no MR volume, or black."""
        path = self._found.get(volume)
        if path is None:
            raise NotFoundError(f"{self.root}: no volume {volume}")
        found = read(path)
        if found.modality == "CT":
            raise InputError(path, "a CT volume", "this protocol measures MR volumes; use ct")
        seed, rate = item_seed(self.seed, volume), setting.values["acceleration"]
        scan = simulate_mri(
            found, coils=self.coils, acceleration=rate, center_fraction=center_fraction_for(rate), mask=self.mask,
            noise=self.noise, slices=self.slices, seed=seed,
        )  # fmt: skip
        scan = dataclasses.replace(scan, path=path)
        reference = np.asarray(scan.reference[:]) if scan.reference is not None else None
        if reference is None or not np.ptp(reference) > 0:
            raise InputError(path, "the chosen slices are black", "choose others with --slices")
        conditions = Conditions(
            target="the volume that was measured", mask=f"{self.mask}, {rate}x", mask_seed=str(seed),
            noise_std=scan.noise_std, noise_rule=f"{self.noise:g} of the volume's maximum, simulated",
            details={"coils": self.coils, "notes": list(scan.notes)},
        )  # fmt: skip
        return ScanCase(
            scan=scan, conditions=conditions, place=place_of(scan), reference=reference, maps="espirit",
            scoring=lambda image: _figures(image, reference),
        )  # fmt: skip

    @cached_property
    def _found(self) -> dict[str, Path]:
        return found_volumes(self.root)


def _figures(image: NDArray[Any], reference: NDArray[Any]) -> Figures:
    """Volume-wise, with the maximum of the reference as range."""
    top = float(reference.max())
    return Figures(
        psnr=psnr(image, reference, data_range=top), ssim=ssim(image, reference, data_range=top),
        nmse=nmse(image, reference), data_range=top, data_range_rule="maximum of the chosen slices",
        ssim_variant=SSIM_VARIANT,
    )  # fmt: skip
