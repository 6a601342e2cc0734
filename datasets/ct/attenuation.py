"""What scans of attenuation share: water's attenuation, and the units that their images come out in.

The base of the kinds of CT scan (`scan`, `beam_scan`); numbers alone, no file is touched.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from restore.datasets.scan import Scan
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError
from restore.operators.ct.geometry import hu_to_mu, mu_to_hu

if TYPE_CHECKING:
    from torch import Tensor

    from restore.operators.ct.line_integrals import LineIntegrals

UNITS = ("HU", "1/mm")

_OF_WATER = "mu_water is not in the file"
"""How the note begins that says which attenuation of water was assumed."""


def assumed_water(mu_water: float) -> str:
    """The note on an attenuation of water in 1/mm that no file told."""
    return f"{_OF_WATER}: {mu_water} per mm assumed"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AttenuationScan(Scan):
    """Abstract: line integrals of attenuation.

    mu_water: 1/mm, between attenuation and HU. photons: unattenuated counts per ray, or None where unknown. noise_std:
    of a ray through air, 1/sqrt(photons).
    image_units: of the images, one of `UNITS`; `reference` is in them.
    """

    kind = "ct"
    modality: ClassVar[str] = "CT"

    mu_water: float
    photons: float | None = None
    image_units: str = "HU"

    @property
    def stated_photons(self) -> float | None:
        """Counts of a ray through air, of its noise where these are not told; None where neither is."""
        return self.photons or (self.noise_std**-2 if self.noise_std else None)

    @property
    def units(self) -> str:
        """Hounsfield units, or 1/mm where they were asked for."""
        return self.image_units

    def in_units(self, units: str, mu_water: float | None) -> Self:
        """The same scan with images in "HU" or "1/mm" ("": as they are); mu_water in 1/mm replaces the file's.

        Raises ConfigError for other units and for what is no attenuation.
        """
        wanted = units or self.image_units
        if wanted not in UNITS:
            raise ConfigError(f"units {units!r}: images of CT come in {' or '.join(UNITS)}")
        if mu_water is not None and not (np.isfinite(mu_water) and mu_water > 0):
            raise ConfigError(f"mu_water is {mu_water}, expected an attenuation above 0 in 1/mm")
        water = self.mu_water if mu_water is None else float(mu_water)
        if mu_water is not None:  # the list itself: it grows while slices are read
            self.notes[:] = [note for note in self.notes if not note.startswith(_OF_WATER)]
        reference = self.reference
        if reference is not None and (wanted, water) != (self.image_units, self.mu_water):
            reference = self._converted(reference, wanted, water)
        source = {**self.source, "units": wanted}
        return dataclasses.replace(
            self, mu_water=water, image_units=wanted, reference=reference, source=source
        )

    def _converted(self, reference: LazyStack, units: str, mu_water: float) -> LazyStack:
        def load(index: int) -> NDArray[np.float32]:
            values = np.asarray(reference[index])
            mu = hu_to_mu(values, self.mu_water) if self.image_units == "HU" else values
            found: NDArray[np.float32] = (mu_to_hu(mu, mu_water) if units == "HU" else mu).astype(
                np.float32
            )
            return found

        return LazyStack(reference.shape, load)

    def _in_units(self, mu: Tensor) -> NDArray[np.float32]:
        """Attenuation in 1/mm as it comes out."""
        values = mu_to_hu(mu, self.mu_water) if self.image_units == "HU" else mu
        found: NDArray[np.float32] = values.float().cpu().numpy()
        return found


def stored_rays(operator: LineIntegrals, images: int) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of the weights of rays that a projector stores for so many images at once, and of making them; none where
    it makes them anew."""
    size = operator.stored_bytes(images)
    if not size:
        return {}, {}
    return {"weights of the rays, stored twice": size}, {"making the weights of the rays": size}
