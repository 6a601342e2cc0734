"""Slices of Cartesian k-space as problems: whitened, compressed, with their maps and noise.

Made by `scan`, which decides all of it once a scan; the layers above use it by the
contract of `restore.datasets.scan.Setup`. torch is imported where a problem is asked for, not before.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.pattern.partial_fourier import symmetric
from restore.datasets.mri.pattern.sampling import slice_mask
from restore.datasets.mri.receivers.reception import Reception
from restore.datasets.scan import Scan, Setup
from restore.datasets.stack import LazyStack

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.datasets.mri.off_resonance.precession import Precession
    from restore.noise import Noise
    from restore.operators.base import LinearOperator
    from restore.operators.mri.coil_compression import CoilCompression
    from restore.operators.mri.joint_maps import JointEstimate
    from restore.problem import Problem


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MRISetup(Setup):
    """How problems are made of k-space.

    kspace, mask: of the scan. maps: of it, None to estimate them by ESPIRiT, or as in estimates, one a slice;
    second_maps: the other set of two.
    reception: of the channels.
    remove_phase: put the low-resolution phase into the maps, so that the image left to reconstruct is nearly real and
    non-negative. shade: what estimated maps of whitened channels are multiplied by, None for the brightness of the real
    channels at each place. levels: of the noise of each slice, empty for one of all. sets: of maps by ESPIRiT, 1
    or 2. widens: 2 in the place of 1 for slices whose object reaches the edges of the field of view, and for those that
    are asked for together with them. held_real: images are, with the phase that the symmetric middle shows in the maps.
    precession: by a field map.
    """

    scan: Scan
    kspace: LazyStack
    mask: NDArray[np.bool_]
    maps: LazyStack | None
    reception: Reception
    remove_phase: bool
    levels: tuple[float, ...] = ()
    shade: float | None = None
    estimates: tuple[JointEstimate, ...] = ()
    sets: int = 1
    widens: bool = False
    second_maps: LazyStack | None = None
    held_real: bool = False
    precession: Precession | None = None

    def problem(self, which: range, device: torch.device) -> Problem:
        """k-space, maps and noise of the slices `which`. Raises InputError for maps of zeros."""
        import torch

        from restore.operators.mri.multicoil import MultiCoilMRI
        from restore.operators.mri.real_images import RealImages
        from restore.operators.mri.soft_sense import SoftSenseMRI
        from restore.problem import Problem

        sets = self._sets(which)
        slices = [self._slice(index, device, sets) for index in which]
        kspace, maps = (torch.stack(parts) for parts in zip(*slices, strict=True))
        mask = self.mask
        mask = mask[which.start : which.stop] if mask.ndim == 3 else mask
        sampled = torch.from_numpy(np.array(mask)).to(device)
        operator: LinearOperator
        if self.held_real:
            kspace, operator = torch.view_as_real(kspace), RealImages(MultiCoilMRI(maps, sampled))
        else:
            operator = (MultiCoilMRI if sets == 1 else SoftSenseMRI)(maps, sampled)
        if self.precession is not None:
            operator = self.precession.around(operator, which)
        return Problem(kspace, operator, self._noise(which), self.scaling, self.scan.ids(which))

    def alike(self, which: range) -> list[range]:
        """Runs of slices that have as many sets of maps."""
        if not self.widens or len(which) == 1:
            return [which]
        runs = itertools.groupby(which, key=lambda index: self._sets(range(index, index + 1)))
        pieces = [list(run) for _, run in runs]
        return [range(piece[0], piece[-1] + 1) for piece in pieces]

    @property
    def _plane(self) -> tuple[int, int]:
        rows, columns = self.kspace.shape[-2:]
        return rows, columns

    def _noise(self, which: range) -> Noise | None:
        """That of all slices, or of these."""
        import torch

        from restore.noise import noise_model

        if not self.levels:
            return self.noise
        each = torch.tensor([self.levels[i] for i in which])
        return noise_model(each.reshape(-1, *[1] * (4 if self.held_real else 3)))

    def _sets(self, which: range) -> int:
        """Sets of maps that these slices have together. Says of the first one found whose object reaches the edges of
        the field of view that it does."""
        from restore.datasets.mri.receivers.cut_field import note_cut

        if self.sets > 1 or self.maps is not None or self.estimates:
            return self.sets
        cut = next((index for index in which if self._is_cut(index)), None)
        if cut is None:
            return 1
        (name,) = self.scan.ids(range(cut, cut + 1))
        note_cut(self.scan.notes, name, widens=self.widens)
        return 2 if self.widens else 1

    def _is_cut(self, index: int) -> bool:
        from restore.operators.mri.coil_maps import field_is_cut

        kspace = self.reception.samples(self.kspace[index], index)
        return field_is_cut(kspace, self.reception.region(index))

    def _slice(self, index: int, device: torch.device, sets: int) -> tuple[Tensor, Tensor]:
        """k-space (coils, H, W) and maps ([sets,] coils, H, W) of a slice as the problem has them: whitened and
        compressed, with the phase of the image, or of each component, in the maps if it is to be removed."""
        from restore.operators.mri.coil_maps import fold_phase, image_phase

        measured, region = self.kspace[index], self.reception.region(index)
        kspace = self.reception.white(measured).to(device)
        maps = self._given(index)
        maps = None if maps is None else maps.to(device)
        compression = self.reception.compression(kspace, index)
        if compression is not None:
            kspace = compression.samples(kspace)
            maps = None if maps is None else _compressed(maps, compression)
        middle = kspace
        if self.estimates:
            middle, (rows, columns) = self.estimates[index].centre(self._plane)
            middle, region = middle.to(device), (rows, columns)
        if maps is None:
            maps = self._estimated(kspace, index, sets) * self._shading(measured, index).to(device)
        if self.held_real and region is not None:
            rows, columns = (symmetric(p, n) for p, n in zip(region, maps.shape[-2:], strict=True))
            region = rows, columns
        if self.remove_phase and region is not None:
            maps = fold_phase(maps, image_phase(middle.expand_as(maps), maps, region))
        return kspace, maps

    def _given(self, index: int) -> Tensor | None:
        """Maps ([sets,] coils, H, W) of the file as the whitened channels see them."""
        if self.maps is None:
            return None
        first = self.maps[index]
        if self.second_maps is None:
            return self.reception.white(first)
        return self.reception.white(np.stack([first, self.second_maps[index]]))

    def _estimated(self, kspace: Tensor, index: int, sets: int) -> Tensor:
        """Maps of norm one: those estimated with the image, else by ESPIRiT of the middle of k-space, filled where few
        of its lines were measured."""
        import torch

        from restore.operators.mri.coil_maps import espirit
        from restore.operators.mri.filling import calibration_data

        if self.estimates:
            return self.estimates[index].maps(self._plane).to(kspace.device)
        middle, region = kspace, self.reception.region(index)
        if sets == 1:
            mask = torch.from_numpy(np.array(slice_mask(self.mask, index)))
            middle, region, estimate = calibration_data(kspace, mask, region)
            if estimate is not None:
                self._doubt_filling(estimate, index)
        return espirit(middle, region, sets=sets)[0]

    def _doubt_filling(self, estimate: JointEstimate, index: int) -> None:
        """Say of the first slice whose estimate leaves much unexplained that it does."""
        from restore.datasets.mri.receivers.few_lines import DOUBTED, filling_doubt

        level = self.levels[index] if self.levels else self.record["noise_std"]
        (name,) = self.scan.ids(range(index, index + 1))
        found = filling_doubt(estimate, level, name)
        if found is not None and not any(note.startswith(DOUBTED) for note in self.scan.notes):
            self.scan.notes.append(found)

    def _shading(self, measured: NDArray[Any], index: int) -> Tensor:
        """What maps of norm one, of the whitened channels, are to be multiplied by."""
        import torch

        whitening, region = self.reception.whitening, self.reception.region(index)
        if self.shade is not None:
            return torch.tensor(self.shade)
        if whitening is None or region is None:
            return torch.tensor(1.0)
        return whitening.shading(measured, region)


def _compressed(maps: Tensor, compression: CoilCompression) -> Tensor:
    """Maps ([sets,] coils, H, W) as virtual coils see them."""
    import torch

    if maps.ndim == 3:
        return compression.maps(maps)
    return torch.stack([compression.maps(one) for one in maps])
