"""The channels of Cartesian slices as problems see them: whitened, then compressed to virtual coils.

Made by the set-up of k-space; touches nothing but its arguments. torch is imported where samples are asked for.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from restore.datasets.mri.receivers.virtual_coils import VirtualCoils

if TYPE_CHECKING:
    from torch import Tensor

    from restore.datasets.mri.receivers.channels import Whitening
    from restore.operators.mri.coil_compression import CoilCompression
    from restore.operators.mri.coil_maps import Region


@dataclasses.dataclass(frozen=True, eq=False)
class Reception:
    """whitening: of the channels, or None. virtual: coils in the place of the whitened channels, or None. readout: of
    `virtual_coils.readout_axis`. regions: rows and columns of the fully sampled centre, one for all slices or one
    each, None where there is none."""

    regions: tuple[Region | None, ...]
    whitening: Whitening | None = None
    virtual: VirtualCoils | None = None
    readout: int | None = None

    def region(self, index: int) -> Region | None:
        """The fully sampled centre of a slice."""
        return self.regions[index if len(self.regions) > 1 else 0]

    def white(self, values: NDArray[Any]) -> Tensor:
        """Samples or maps (coils, H, W) as the whitened channels see them."""
        import torch

        return torch.from_numpy(values if self.whitening is None else self.whitening.apply(values))

    def compression(self, kspace: Tensor, index: int) -> CoilCompression | None:
        """Of a slice (coils, H, W), whitened, to virtual coils; None where all are kept."""
        if self.virtual is None:
            return None
        return self.virtual.of(kspace, self.readout, self.region(index))

    def samples(self, kspace: NDArray[Any], index: int) -> Tensor:
        """K-space (coils, H, W) of a slice, whitened and compressed."""
        white = self.white(kspace)
        compression = self.compression(white, index)
        return white if compression is None else compression.samples(white)
