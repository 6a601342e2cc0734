"""How problems are made of k-space that is no Cartesian grid of slices: whitened, compressed, with maps and noise.

Made by the scans of `encoded`, which decide all of it once a scan; the layers above use it by the contract of
`restore.datasets.scan.Setup`. torch is imported where a problem is asked for, not before.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.receivers.virtual_coils import VirtualCoils
from restore.datasets.scan import Setup
from restore.datasets.stack import LazyStack

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.datasets.mri.middle import Middle
    from restore.datasets.mri.off_resonance.precession import Precession
    from restore.datasets.mri.receivers.channels import Whitening
    from restore.operators.base import LinearOperator
    from restore.operators.mri.coil_compression import CoilCompression
    from restore.operators.mri.joint_maps import JointEstimate
    from restore.problem import Problem


class Encoded(Protocol):
    """What a set-up asks of its scan: see `encoded.EncodedScan`."""

    @property
    def kspace(self) -> LazyStack:
        """(items, coils, *samples)."""

    @property
    def matrix(self) -> tuple[int, ...]:
        """Pixels of an item."""

    @property
    def shape(self) -> tuple[int, ...]:
        """That of `kspace`."""

    @property
    def n_slices(self) -> int:
        """Of the images."""

    @property
    def whole(self) -> bool:
        """Whether the slices are one volume."""

    @property
    def innermost(self) -> NDArray[np.intp]:
        """The samples nearest to the centre, flat."""

    @property
    def precession(self) -> Precession | None:
        """By a field map, or None."""

    def ids(self, which: range) -> tuple[str, ...]:
        """Names of slices."""

    def note(self, text: str) -> None:
        """Add a note."""

    def operator(self, maps: Tensor) -> LinearOperator:
        """The encoding with these maps."""

    def compression(self, kspace: Tensor, virtual: VirtualCoils) -> CoilCompression:
        """Of an item to virtual coils."""

    def seen_middle(self, item: int, needed: bool) -> Middle | None:
        """The fully sampled middle of k-space, None where none is needed."""

    def map_middle(self, item: int, level: float | None) -> Middle | None:
        """What maps are estimated from, filled where it is short."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class EncodedSetup(Setup):
    """How problems are made of such k-space.

    maps: of the scan, None to estimate them by ESPIRiT. remove_phase: put the low-resolution phase into the maps,
    so that the image left to reconstruct is nearly real and non-negative. whitening: of the channels, or None. virtual:
    coils in the place of the whitened channels, or None. estimates: maps estimated together with the images, one an
    item, of the channels as problems have them.
    """

    scan: Encoded
    maps: LazyStack | None
    remove_phase: bool
    whitening: Whitening | None = None
    virtual: VirtualCoils | None = None
    estimates: tuple[JointEstimate, ...] = ()

    def problem(self, which: range, device: torch.device) -> Problem:
        """k-space, maps and noise of the slices `which`, all of them where they are one volume. Raises InputError."""
        import torch

        from restore.problem import Problem

        scan = self.scan
        items = [self._item(item) for item in (range(1) if scan.whole else which)]
        kspace, maps = (torch.stack(parts) for parts in zip(*items, strict=True))
        if scan.whole:
            kspace, maps = kspace[0], maps[0]
        operator = scan.operator(maps.to(device))
        if scan.precession is not None:
            places = range(scan.n_slices) if scan.whole else which
            operator = scan.precession.around(operator, places)
        return Problem(kspace.to(device), operator, self.noise, self.scaling, scan.ids(which))

    def white(self, values: NDArray[Any]) -> Tensor:
        """Samples or maps (coils, ...) as the whitened channels see them."""
        import torch

        return torch.from_numpy(whitened(self.whitening, values))

    def compression(self, kspace: Tensor) -> CoilCompression | None:
        """Of an item (coils, *samples), whitened, to virtual coils; None where all are kept."""
        if self.virtual is None:
            return None
        return self.scan.compression(kspace, self.virtual)

    def samples(self, item: int) -> tuple[Tensor, CoilCompression | None]:
        """Samples (coils, *samples) as the problem has them, whitened and compressed, and what compressed them."""
        kspace = self.white(self.scan.kspace[item])
        compression = self.compression(kspace)
        return (kspace if compression is None else compression.samples(kspace)), compression

    def middle(self, item: int) -> Middle | None:
        """Of k-space as measured, or as estimated with the maps, then whitened and compressed; None where there is
        none, and maps are given. Raises InputError."""
        from restore.datasets.mri.receivers.joint import joint_middle

        if self.estimates:
            return joint_middle(self.estimates[item], self.scan.matrix)
        return self.scan.seen_middle(item, needed=self.maps is None)

    def _item(self, item: int) -> tuple[Tensor, Tensor]:
        """Samples (coils, *samples) and maps (coils, *matrix) as the problem has them."""
        kspace, compression = self.samples(item)
        maps = self._joint_maps(item) if self.estimates else self._maps(item, compression)
        return kspace, maps

    def _joint_maps(self, item: int) -> Tensor:
        """(coils, *matrix) as estimated with the image, with its phase if it is to be removed.

        As bright as the channels that were measured, where these were whitened.
        """
        from restore.operators.mri.coil_maps import fold_phase, image_phase

        scan, middle = self.scan, self.middle(item)
        maps = self.estimates[item].maps(scan.matrix)
        assert middle is not None  # noqa: S101  (for the type checker: an estimate has a middle)
        for index, place in enumerate(_by_slice(maps) if self.remove_phase else ()):
            seen = image_phase(middle.plane(index), place, middle.region)
            place.copy_(fold_phase(place, seen))
        if self.whitening is None:
            return maps
        flat = scan.kspace[item].reshape(scan.shape[1], 1, -1)[..., scan.innermost]
        return maps * self.whitening.gain(flat, (slice(None), slice(None)))

    def _maps(self, item: int, compression: CoilCompression | None) -> Tensor:
        """(coils, *matrix) of the file or by ESPIRiT, with the image's phase if it is to be removed."""
        from restore.operators.mri.coil_maps import fold_phase, image_phase

        if self.maps is None:
            middle = self.scan.map_middle(item, self.record["noise_std"])
        else:
            middle = self.scan.seen_middle(item, needed=False)
        given = None if self.maps is None else self.white(self.maps[item])
        if given is not None and compression is not None:
            given = compression.maps(given)
        if middle is None or (given is not None and not self.remove_phase):
            assert given is not None  # noqa: S101  (for the type checker: a middle was needed without maps)
            if self.remove_phase:
                self.scan.note(
                    "too few calibration lines to see the image's phase: it stays in the image"
                )
            return given
        white = self._received(middle, compression)
        phased = self._received(self._phased(item, middle), compression)
        reference = white.principal()
        found = middle.samples.new_empty((white.samples.shape[1], *self.scan.matrix))
        by_slice = _by_slice(found)
        for index, place in enumerate(by_slice):
            kspace = white.plane(index)
            if given is None:
                maps = self._estimated(middle, index, kspace, reference)
            else:
                maps = _by_slice(given)[index]
            if self.remove_phase:
                seen = phased.plane(index)
                maps = fold_phase(maps, image_phase(seen, maps, phased.region))
            place.copy_(maps)
        return found

    def _phased(self, item: int, middle: Middle) -> Middle:
        """What the image's phase is seen in: `middle`, as the maps are."""
        return middle

    def _received(self, middle: Middle, compression: CoilCompression | None) -> Middle:
        """Whitened and compressed."""
        seen = self.white(middle.samples.movedim(1, 0).numpy())
        white = dataclasses.replace(middle, samples=seen.movedim(0, 1))
        return white if compression is None else white.compressed(compression)

    def _estimated(self, middle: Middle, index: int, kspace: Tensor, reference: Tensor) -> Tensor:
        """Maps (coils, H, W) of a slice by ESPIRiT, with the phase of one virtual coil, `reference`, in all slices.

        kspace: of the whitened channels, (coils, H, W).
        """
        from restore.operators.mri.coil_maps import espirit

        maps, _ = espirit(kspace, middle.region)
        along = (maps * reference.conj()[:, None, None]).sum(dim=0)
        maps = maps * along.conj().sgn().where(along != 0, 1)
        if self.whitening is None:
            return maps
        measured = middle.plane(index).numpy()
        return maps * self.whitening.shading(measured, middle.region).unsqueeze(-3)


def whitened(whitening: Whitening | None, values: NDArray[Any]) -> NDArray[Any]:
    """(coils, ...) as the whitened channels see it; unchanged where there is nothing to whiten."""
    if whitening is None:
        return values
    flat = whitening.apply(values.reshape(len(values), 1, -1))
    return flat.reshape(-1, *values.shape[1:])


def _by_slice(values: Tensor) -> Tensor:
    """(coils, H, W) or (coils, D, H, W) as (slices, coils, H, W), without a copy."""
    return values.unsqueeze(0) if values.ndim == 3 else values.movedim(1, 0)
