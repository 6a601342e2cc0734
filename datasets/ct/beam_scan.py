"""Line integrals along the rays of a fan, a cone, a helix or free vectors as a scan, and how problems are made of them.

Made by the reader of such files; the layers above use it by the contract of `restore.datasets.scan`. torch is imported
where a problem is asked for. `scan.CTScan` is the parallel scan of slices, which looks at its data more closely.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from restore.datasets.ct.attenuation import AttenuationScan, stored_rays
from restore.datasets.ct.detector.conditioning import TAKEN, conditioned, conditioning_of
from restore.datasets.ct.detector.noise_estimation import doubt_of_air
from restore.datasets.ct.detector.rogue_rays import rogue_rays_found
from restore.datasets.ct.rotation_axis.beam_centre import beam_about
from restore.datasets.scan import Setup, SetupOptions
from restore.datasets.stack import LazyStack
from restore.errors import InputError
from restore.operators.ct.beams import Beam
from restore.operators.ct.grid import VoxelGrid

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.operators.ct.x_ray_transform import XRayTransform
    from restore.problem import Problem

RAYS_PER_BIN = {True: 2, False: 1}
"""In the plane and in space: a bin has a width, but four rays for every bin of a panel are four times the work."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class BeamScan(AttenuationScan):
    """Line integrals on a detector that goes round, of slices (a fan) or of a volume.

    projections: float32, -log(counts / photons), without unit: (slices, views, columns) of a scan in the plane, whose
    slices share their geometry; else (views, rows, columns). geometry: the rays; grid: the voxels of a slice or of the
    volume. The other fields are those of every `AttenuationScan`.
    """

    holds: ClassVar[str] = "projections"
    takes: ClassVar[tuple[str, ...]] = ("noise_std", "projector", "center", *TAKEN)
    first_look: ClassVar[str] = "fdk"
    suspects: ClassVar[str] = (
        "truncated views, an object larger than the volume, a detector or an axis that stands elsewhere (--center "
        "auto), angles of the other sense or order, a wrong size of voxels or bins, or a noise level that is too small"
    )

    projections: LazyStack
    geometry: Beam
    grid: VoxelGrid

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the projections."""
        return self.projections.shape

    @property
    def n_slices(self) -> int:
        """Of the image: those that were measured, or those of the volume."""
        return self.projections.shape[0] if self.grid.in_plane else self.grid.shape[0]

    @property
    def whole(self) -> bool:
        """The rays of a volume cross its slices."""
        return not self.grid.in_plane

    def held(self, slices: int, options: SetupOptions) -> tuple[dict[str, int], dict[str, int]]:
        """Projections, and what is made of them besides. The rays of a volume are followed, not stored."""
        projections = 4 * math.prod(self.shape)
        if self.whole:
            kept = {"projections, as measured and as the prior's": 2 * projections}
            return kept, {"projections of the volume, and what they leave": 5 * projections}
        sinograms = projections // self.n_slices * slices
        kept = {"sinograms, as measured and as the prior's": 2 * sinograms}
        stored, passing = stored_rays(self._operator(options.projector), slices)
        projected = {"projections of the slices, and what they leave": 5 * sinograms}
        return kept | stored, passing | projected

    @property
    def image_shape(self) -> tuple[int, int]:
        """(rows, columns) of the grid."""
        return self.grid.shape[-2], self.grid.shape[-1]

    @property
    def abilities(self) -> frozenset[str]:
        """Those of the projector."""
        return self._operator("auto").abilities

    @property
    def values_per_slice(self) -> int:
        """Pixels of a slice."""
        rows, columns = self.image_shape
        return rows * columns

    @property
    def direct_explains(self) -> bool:
        """Filtered backprojection is exact in the plane of the source alone: what it leaves of a cone is no alarm."""
        return self.grid.in_plane

    @property
    def sampling(self) -> str:
        """The kind and the number of views."""
        return f"{self.geometry.shape[0]} views, {self.geometry.kind}"

    def image_of(self, index: int) -> NDArray[np.float32]:
        """The reference; projections are no image. Raises InputError."""
        if self.reference is None:
            raise InputError(
                self.path, "holds projections without reference images", "reconstruct it"
            )
        return np.asarray(self.reference[index])

    def in_source_units(self, samples: Tensor) -> NDArray[np.float32]:
        """Attenuation in `units`."""
        return self._in_units(samples)

    def _check(self, options: SetupOptions) -> None:
        """Also what filtered backprojection cannot do of a helix, as a note."""
        from restore.operators.ct.helical import remarks

        conditioning_of(options)
        if options.center:
            beam_about(options.center, self.geometry, self.projections, self.path)
        self._operator(options.projector)
        self.notes.extend(
            said for said in remarks(self.geometry, self.grid) if said not in self.notes
        )

    def _operator(self, projector: str, beam: Beam | None = None) -> XRayTransform:
        from restore.operators.ct.x_ray_transform import XRayTransform

        rays, beam = RAYS_PER_BIN[self.grid.in_plane], beam or self.geometry
        return XRayTransform(beam, self.grid, projector=projector, rays_per_bin=rays)

    def _setup(self, options: SetupOptions) -> BeamSetup:
        return self._conditioned(options)._ready(options)

    def _conditioned(self, options: SetupOptions) -> BeamScan:
        """The scan with its projections as they are asked for; what outliers they hold is noted otherwise."""
        steps = conditioning_of(options)
        if steps is None or not steps.outliers:
            for finding in (f for y in self._looked_at() for f in rogue_rays_found(y)):
                self._note(finding.sentence)
        lines = conditioned(self.projections, self.grid.in_plane, steps, self.path, self.notes)
        return self if steps is None else dataclasses.replace(self, projections=lines)

    def _looked_at(self) -> list[NDArray[np.floating[Any]]]:
        """Sinograms: some slices of a fan, the middle row of a panel."""
        lines = self.projections
        if self.grid.in_plane:
            return [lines[k] for k in sorted({0, len(lines) // 2, len(lines) - 1})]
        return [np.stack([lines[k][lines.shape[1] // 2] for k in range(len(lines))])]

    def _note(self, sentence: str) -> None:
        """Once, however often the scan is made ready."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _ready(self, options: SetupOptions) -> BeamSetup:
        """The noise model, the attenuation of the HU window as intensity scale, the projector. Raises ConfigError."""
        from restore.noise import PostLogPoisson, noise_model
        from restore.scaling import CT_WINDOW_HU, Scaling

        photons, level = self.stated_photons, options.noise_std
        noise = noise_model(level)
        if level is None and photons is not None:
            noise, level = PostLogPoisson(photons), photons**-0.5
        if doubt := doubt_of_air(level, self._looked_at()):
            self._note(doubt)
        record: dict[str, object] = {"projector": options.projector, "geometry": self.geometry.kind}
        beam = self.geometry
        if options.center:
            beam, sentence = beam_about(options.center, self.geometry, self.projections, self.path)
            record["det_offset_mm"] = beam.to_dict()["det_offset_mm"]
            self._note(sentence)
        span = (CT_WINDOW_HU[1] - CT_WINDOW_HU[0]) / 1000 * self.mu_water
        return BeamSetup(
            scaling=Scaling(span, "attenuation of the HU window"),
            noise=noise,
            record={"noise_std": level, **record}, scan=self, operator=self._operator(options.projector, beam),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class BeamSetup(Setup):
    """How problems are made of the projections."""

    scan: BeamScan
    operator: XRayTransform

    def problem(self, which: range, device: torch.device) -> Problem:
        """The chosen slices of a fan; of a volume all projections, whatever is chosen: it is one item."""
        import torch

        from restore.problem import Problem

        scan = self.scan
        taken = slice(which.start, which.stop) if scan.grid.in_plane else slice(None)
        y = torch.from_numpy(scan.projections[taken]).to(device)
        ids = scan.ids(which) if scan.grid.in_plane else ("volume",)
        return Problem(y, self.operator.to(device), self.noise, self.scaling, ids)
