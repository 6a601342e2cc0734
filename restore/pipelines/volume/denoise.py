"""Denoise: Gaussian noise, that of MR magnitudes (Rician), and the correlated noise of reconstructed CT.

A task of `restore volume`; the contract stands in `task.py`. Rician noise is stabilised (`restore.rician`) and comes
back through the exact unbiased inverse; correlated noise is whitened (`operators.volume.whitening`).
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.config import setting
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Identity
from restore.operators.volume.whitening import Whitening
from restore.pipelines.volume.blocks import Block
from restore.pipelines.volume.grids import on_grid_of
from restore.pipelines.volume.intensities import Intensities, intensities_of
from restore.pipelines.volume.noise_level import (
    Levels,
    gaussian_levels,
    rician_levels,
    rician_levels_of_object,
)
from restore.pipelines.volume.noise_spectrum import WHITE, NoiseSpectrum, spectrum_in
from restore.pipelines.volume.planes import planes_of
from restore.pipelines.volume.stated_level import doubts_of_level
from restore.pipelines.volume.task import Prepared, VolumeTask, empty_like
from restore.problem import Problem
from restore.rician import stabiliser
from restore.samplers.base import Planned

Kind = Literal["auto", "gaussian", "rician", "correlated"]

WEAK = 0.002
"""Of the intensity range: weaker noise than half a grey level of 8 bits is below what the priors know."""

NOTHING = WEAK / 10
"""Of the range: what is weaker is left in the volume."""


@dataclasses.dataclass(frozen=True)
class Denoise(VolumeTask):
    """noise_map: a volume of the noise's deviation at every voxel, on the grid of VOLUMES. noise_region: one that is
    not zero where there is noise alone."""

    name: ClassVar[str] = "denoise"

    noise: Kind = setting(
        "auto", "what the noise is: MR magnitudes have rician, CT mostly correlated"
    )
    noise_level: float | None = setting(
        None,
        "its deviation (rician: of either channel), in the volume's units; none: estimated",
        above=0,
    )
    noise_map: Path | None = None
    noise_region: Path | None = None

    def _check_together(self) -> None:
        if self.noise_map is not None and self.noise_level is not None:
            raise ConfigError("--noise-map says the level everywhere; leave out --noise-level")
        if self.noise_map is not None and self.noise == "correlated":
            raise ConfigError(
                "correlated noise has one level: --noise-map is for gaussian and rician"
            )
        if self.noise_region is not None and self.noise in ("gaussian", "rician"):
            raise ConfigError(
                f"--noise-region tells a spectrum, and {self.noise} noise is white; leave it out"
            )
        if self.noise_region is not None and self.noise_map is not None:
            raise ConfigError("--noise-region and --noise-map contradict each other: give one")

    @property
    def traits(self) -> Planned:
        """Of denoising; abilities show with the noise, which "auto" finds later."""
        known = {
            "gaussian": {"linear", "identity"},
            "rician": {"linear", "identity"},
            "correlated": {"linear", "svd"},
        }
        abilities = known.get(self.noise)
        return Planned("image", "denoise", None if abilities is None else frozenset(abilities))

    def usual(self, samples: int) -> tuple[str, str]:
        """Two looks at all planes (`diffpir`, preset "volume"); several samples as everywhere."""
        return ("diffpir", "volume") if samples == 1 else super().usual(samples)

    def prepare(self, volumes: tuple[Volume, ...]) -> PreparedDenoise:
        """Find out what the noise is and how strong. Raises InputError, ConfigError."""
        (volume,) = volumes
        planes, notes = planes_of(volume)
        intensities = intensities_of(volume)
        found = _noise_of(volume, self)
        scale = intensities.scaling.scale
        level = float(np.sqrt(np.mean(np.square(found.std, dtype=np.float64))))
        nothing = level < NOTHING * scale
        if nothing:
            notes.append("no noise was found, or next to none: the volume was left as it is")
        elif level < WEAK * scale:
            notes.append(
                f"the noise is weak, {level:.3g} of a range of {scale:.3g}: there is hardly anything to take out"
            )
        intensities.check_noise(level, str(volume.source or "volume"))
        if self.noise_level is not None:
            notes += _doubts_of_level(volume, self.noise_level, found, scale)
        record = found.record | {
            "planes": list(planes), "scaling": dataclasses.asdict(intensities.scaling),
            "noise_std": level, "noise_known": True,
        }  # fmt: skip
        return PreparedDenoise(
            result=empty_like(volume), level=level / scale, record=record,
            notes=(*volume.notes, *notes, *found.notes), volume=volume, planes=planes, found=found,
            preset="correlated" if found.spectrum is not None else "",
            intensities=intensities, unchanged=volume.data if nothing else None,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class FoundNoise:
    """std: of the noise, broadcastable to (D, H, W). rician: of magnitudes. spectrum: of correlated noise."""

    std: NDArray[np.float32]
    rician: bool
    spectrum: NoiseSpectrum | None
    record: dict[str, Any]
    notes: tuple[str, ...]

    def of(self, block: Block) -> NDArray[np.float32]:
        """The deviations of a block."""
        one = len(self.std) == 1
        return self.std if one else self.std[block.seen.start : block.seen.stop]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedDenoise(Prepared):
    """The volume, its noise, and the planes that the prior is shown."""

    volume: Volume
    planes: tuple[int, ...]
    found: FoundNoise
    intensities: Intensities

    def problem(self, block: Block, device: torch.device) -> Problem:
        """y = x + n, stabilised or whitened."""
        data, std = self.volume.data[block.seen.start : block.seen.stop], self.found.of(block)
        if self.found.rician:
            data = stabiliser().forward(data, std)
        y = torch.from_numpy(self.intensities.shifted(data)).to(device)
        noise = Gaussian(float(std.flat[0]) if std.size == 1 else torch.from_numpy(std).to(device))
        operator: LinearOperator = Identity(tuple(y.shape))
        if self.found.spectrum is not None:
            power = self.found.spectrum.power((len(y), y.shape[1], y.shape[2]))
            operator = Whitening(torch.from_numpy(power).to(device), tuple(y.shape))
            y = operator(y)
        return Problem(y, operator, noise, self.intensities.scaling, (block.name,), self.planes)

    def in_source_units(self, samples: Tensor, block: Block) -> NDArray[np.float32]:
        """The volume without its noise; of magnitudes the signal."""
        found = self.intensities.source(samples.cpu().numpy().astype(np.float32))
        if not self.found.rician:
            return found
        return stabiliser().inverse(found, self.found.of(block))

    @property
    def difficulty(self) -> dict[str, float | str]:
        """The noise's kind."""
        return {"noise": str(self.record["noise"])}


def _noise_of(volume: Volume, task: Denoise) -> FoundNoise:
    """As it was said, and what was not is looked for."""
    where = str(volume.source or "volume")
    if task.noise == "rician" and float(volume.data.min()) < 0:
        raise InputError(
            where, f"has values down to {float(volume.data.min()):.4g}, and magnitudes with Rician noise have none "
            "below zero", "give --noise gaussian, or export the magnitude",
        )  # fmt: skip
    kind, levels, notes = task.noise, None, []
    if kind == "auto":
        kind, levels, said = _kind_of(volume, where)
        notes.append(said)
    spectrum = None
    if kind == "correlated" or task.noise_region is not None:
        kind, region = "correlated", None
        if task.noise_region is not None:
            region = on_grid_of(volume, task.noise_region) != 0
        spectrum = spectrum_in(volume.data, region, where)
    record: dict[str, Any] = {"noise": kind}
    if task.noise_map is not None:
        std = _map(volume, task.noise_map)
        record["noise_found_in"] = task.noise_map.name
        return FoundNoise(std, kind == "rician", None, record, tuple(notes))
    if task.noise_level is not None:
        found, record["noise_found_in"] = np.array([task.noise_level]), "--noise-level"
    elif spectrum is not None:
        found, record["noise_found_in"] = np.array([spectrum.std]), f"{spectrum.patches} patches"
    else:
        levels = levels or _levels(volume, kind, where)
        found, record["noise_found_in"] = levels.used, levels.found_in
        record["noise_levels"] = [float(f"{value:.4g}") for value in found]
        if levels.doubt:
            notes.append(levels.doubt)
        if levels.vary:
            notes.append(
                f"the noise varies over the slices, from {found.min():.3g} to {found.max():.3g}: each has its own level"
            )
    if spectrum is not None:
        record["noise_neighbours"] = [round(c, 3) for c in spectrum.neighbours]
    elif kind == "gaussian" or task.noise_level is None:
        notes += _doubts(volume, where, kind)
    std = found.astype(np.float32)[:, None, None]
    return FoundNoise(std, kind == "rician", spectrum, record, tuple(notes))


def _kind_of(volume: Volume, where: str) -> tuple[Kind, Levels | None, str]:
    """What noise a volume has, by its modality and its background; the levels where they came of it."""
    ct = volume.modality == "CT" or float(volume.data.min()) < 0
    if ct:
        try:
            spectrum = spectrum_in(volume.data, None, where)
        except InputError:
            spectrum = None
        if spectrum is not None and not spectrum.is_white:
            z, y, x = spectrum.neighbours
            told = (
                f"correlated: that of neighbours {z:.2f} along z, {y:.2f} along y, {x:.2f} along x"
            )
            return "correlated", None, f"the noise was taken for {told}"
        return "gaussian", None, "the noise was taken for white and Gaussian"
    levels = rician_levels(volume.data, where)
    if levels is not None or volume.modality == "MR":
        found = (
            "its background is"
            if levels is not None
            else "MR magnitudes are; there is no background to see it in"
        )
        return "rician", levels, f"the noise was taken for Rician, as {found}"
    return (
        "gaussian",
        None,
        ("the noise was taken for Gaussian: nothing says that this is MR; --noise rician says so"),
    )


def _levels(volume: Volume, kind: Kind, where: str) -> Levels:
    if kind == "gaussian":
        return gaussian_levels(volume.data, where)
    return rician_levels(volume.data, where) or rician_levels_of_object(volume.data, where)


def _doubts_of_level(volume: Volume, stated: float, found: FoundNoise, scale: float) -> list[str]:
    """A note on a stated level that the volume contradicts; nothing where it is too small to tell."""
    where, spectrum = str(volume.source or "volume"), found.spectrum
    try:
        levels = _levels(volume, "rician" if found.rician else "gaussian", where)
    except InputError:
        return []
    if spectrum is None:
        with contextlib.suppress(InputError):
            spectrum = spectrum_in(volume.data, None, where)
    return doubts_of_level(stated, scale, levels, spectrum)


def _doubts(volume: Volume, where: str, kind: Kind) -> list[str]:
    """A note where noise that is taken for white is not: interpolated images, filtered ones."""
    try:
        spectrum = spectrum_in(volume.data, None, where)
    except InputError:
        return []
    _, y, x = spectrum.neighbours
    if max(y, x) < 2 * WHITE:
        return []
    return [
        f"the noise of neighbours in a slice is correlated ({y:.2f} along y, {x:.2f} along x: an interpolated or "
        "filtered image), and was taken for white: its level may be too low; --noise correlated follows it"
    ]


def _map(volume: Volume, path: Path) -> NDArray[np.float32]:
    """Deviations on the volume's grid. Raises InputError."""
    found = on_grid_of(volume, path)
    if not np.isfinite(found).all() or float(found.min()) <= 0:
        raise InputError(
            path, f"deviations of noise are above zero, found {float(found.min()):.3g}",
            "fill what lies outside the object with the level near it",
        )  # fmt: skip
    return found.astype(np.float32)
