"""The fully sampled middle of k-space, slice by slice: what maps, phase and scale are seen in.

Made by the scans of `encoded`; touches nothing but its arguments.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from restore.operators.mri.coil_compression import CoilCompression
from restore.operators.mri.coil_maps import Region
from restore.operators.mri.fourier import ifftc


@dataclasses.dataclass(frozen=True, eq=False)
class Middle:
    """samples: complex (slices, coils, h, w), centred k-space of the rows and columns `region` of each slice. size:
    (H, W) of a slice."""

    samples: Tensor
    region: Region
    size: tuple[int, int]

    def plane(self, index: int) -> Tensor:
        """K-space (coils, H, W) of one slice, zero outside the middle."""
        here = self.samples[index]
        full = here.new_zeros((len(here), *self.size))
        full[:, self.region[0], self.region[1]] = here
        return full

    def compressed(self, compression: CoilCompression) -> Middle:
        """As virtual coils see it. Along a readout in the plane, the samples of the region are taken for all."""
        coils, axis = self.samples.movedim(1, 0), compression.readout
        if axis not in (-2, -1):  # one matrix, or one for every slice
            return dataclasses.replace(self, samples=compression.maps(coils).movedim(0, 1))
        part = self.region[axis]
        sizes = list(coils.shape)
        sizes[axis] = self.size[axis]
        lines = coils.new_zeros(sizes)
        lines.narrow(axis, part.start, part.stop - part.start).copy_(coils)
        seen = compression.samples(lines).narrow(axis, part.start, part.stop - part.start)
        return dataclasses.replace(self, samples=seen.movedim(0, 1))

    def principal(self) -> Tensor:
        """The channels (coils,) as the combination that holds most of the energy of all slices."""
        flat = self.samples.movedim(1, 0).flatten(1)
        found: Tensor = torch.linalg.eigh(flat @ flat.mH).eigenvectors[:, -1]
        return found


def middle_of_slice(block: Tensor, region: Region, size: tuple[int, int]) -> Middle:
    """block: complex (coils, h, w), the samples of `region`."""
    return Middle(block.unsqueeze(0), region, size)


def middle_of_volume(
    block: Tensor, box: tuple[slice, slice, slice], matrix: tuple[int, ...]
) -> Middle:
    """block: complex (coils, d, h, w), the samples of `box` in k-space of `matrix` (D, H, W).

    Transformed along z, weighted so that nothing rings.
    """
    n, part = matrix[0], box[0]
    place = torch.arange(part.start, part.stop) - n // 2
    reach = max(n // 2 - part.start, part.stop - 1 - n // 2) + 1
    window = torch.cos(torch.pi / 2 * place / reach) ** 2
    lines = block.new_zeros((*block.shape[:1], *block.shape[2:], n))
    lines[..., part] = block.movedim(1, -1) * window.to(block.real)
    return Middle(ifftc(lines, 1).movedim(-1, 0), (box[1], box[2]), (matrix[1], matrix[2]))
