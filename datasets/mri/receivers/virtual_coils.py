"""Which virtual coils a scan is reconstructed with: the words of `--coils-virtual`, and the compression of each item.

May be called by the set-up of k-space; touches nothing but its arguments. torch is imported where samples are
compressed, not before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from restore.datasets.mri.pattern.sampling import Mask
from restore.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from restore.operators.mri.coil_compression import CoilCompression

KINDS = ("svd", "geometric")

MUCH = 0.05
"""Share of the energy from which its loss is more than noise and is warned of."""


@dataclasses.dataclass(frozen=True)
class VirtualCoils:
    """number: how many. kind: `svd`, the principal components of an item, or `geometric`, those of each place along a
    fully sampled readout."""

    number: int
    kind: Literal["svd", "geometric"] = "svd"

    @classmethod
    def parse(cls, text: str) -> VirtualCoils | None:
        """Of "12" or "12:geometric"; None of nothing. Raises ConfigError."""
        if not text:
            return None
        number, _, kind = text.partition(":")
        kind = kind.strip() if ":" in text else "svd"
        if not (number.strip().isascii() and number.strip().isdecimal()) or kind not in KINDS:
            raise ConfigError(
                f"virtual coils: {text!r}, expected a number, such as 12, or 12:svd or 12:geometric"
            )
        if int(number) < 1:
            raise ConfigError(f"virtual coils: {text!r}, at least one coil must be left")
        return cls(int(number), cast(Literal["svd", "geometric"], kind))

    def check(self, path: Path, coils: int, readout: int | None) -> None:
        """Raise ConfigError where there are fewer channels, or no readout that is measured in full, as is wanted."""
        if self.number > coils:
            raise ConfigError(
                f"{path}: {self.number} virtual coils are asked for, and {coils} channels receive signal; "
                f"--coils-virtual 1 to {coils}"
            )
        if self.kind == "geometric" and readout is None:
            raise ConfigError(
                f"{path}: geometric coil compression is for Cartesian lines that were measured in full along one axis; "
                f" --coils-virtual {self.number}:svd"
            )

    def of(
        self, kspace: Tensor, readout: int | None, region: tuple[slice, ...] | None
    ) -> CoilCompression:
        """The compression of an item (coils, *samples), whitened, by its calibration lines, or by all where it has
        none.

        region: of the item's axes. readout: of them, counted from the last, None where there is none.
        """
        from restore.operators.mri.coil_compression import geometric_compression, svd_compression

        if self.kind == "svd" or readout is None:
            chosen = kspace if region is None else kspace[(slice(None), *region)]
            return svd_compression(chosen, self.number)
        if region is not None:
            lines = list(region)
            lines[readout] = slice(None)
            kspace = kspace[(slice(None), *lines)]
        return geometric_compression(kspace, self.number, readout)

    def note(self, coils: int, dropped: Iterable[float]) -> str:
        """What is said of it; dropped: of each item."""
        most = max(dropped, default=0.0)
        text = (
            f"{coils} channels compressed to {self.number} virtual coils ({self.kind}): "
            f"{100 * most:.2g} % of the energy dropped at most"
        )
        return f"{text}; more of them keep more" if most > MUCH else text


def readout_axis(mask: Mask) -> int | None:
    """The axis, -2 or -1, along which every line that was measured was measured in full; None where there is none.

    mask: of `sampling.Mask`, for all slices or one a slice.
    """
    plane = np.atleast_2d(mask)
    if plane.shape[-2] == 1 or bool((plane == plane[..., :1, :]).all()):
        return -2
    return -1 if bool((plane == plane[..., :1]).all()) else None
