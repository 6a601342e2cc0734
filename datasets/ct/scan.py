"""Parallel-beam line integrals as a scan, and how problems are made of them.

Made by the readers and simulators of sinograms; the layers above use it by the contract of `restore.datasets.scan`.
torch is imported where a problem is asked for, not before: reading a volume needs none.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from restore.datasets.ct.attenuation import AttenuationScan, stored_rays
from restore.datasets.ct.checks.consistency import Finding, findings, unseen
from restore.datasets.ct.checks.plausibility import narrow_detector
from restore.datasets.ct.detector.conditioning import TAKEN, conditioned, conditioning_of
from restore.datasets.ct.detector.noise_estimation import doubt_of_air, note_of_air, photons_of_air
from restore.datasets.ct.rotation_axis.centre import told_centre
from restore.datasets.ct.rotation_axis.centre_choice import AUTO, centred, evenly_spaced
from restore.datasets.scan import Setup, SetupOptions
from restore.datasets.stack import LazyStack
from restore.errors import InputError
from restore.operators.ct.geometry import ParallelBeam

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.datasets.ct.room import Room
    from restore.noise import Noise
    from restore.operators.ct.parallel_beam import ParallelBeamCT
    from restore.problem import Problem

RAYS_PER_BIN = 2
"""A detector bin has a width: model it (benchmarks/RESULTS.md)."""

ENOUGH_VIEWS = 24
"""From which filtered backprojection leaves below a tenth of sound views: 12 leave 6 %, 6 up to 95 %, 30 leave 1 %."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CTScan(AttenuationScan):
    """Parallel-beam line integrals of some slices.

    sinogram: float32 (slices, views, detectors), -log(counts / photons), dimensionless. geometry: the same for all
    slices, lengths in mm. noise_std: of one air ray. The other fields are those of every `AttenuationScan`.
    """

    holds: ClassVar[str] = "a sinogram"
    takes: ClassVar[tuple[str, ...]] = ("noise_std", "projector", "center", *TAKEN)
    first_look: ClassVar[str] = "fbp"
    suspects: ClassVar[str] = (
        "truncated views, an object larger than the image grid, a wrong centre of rotation (--center auto), angles in "
        "degrees or in another order than the views, a wrong size of pixels or bins, or a noise level that is too small"
    )

    sinogram: LazyStack
    geometry: ParallelBeam

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, views, detectors)."""
        slices, views, detectors = self.sinogram.shape
        return slices, views, detectors

    def held(self, slices: int, options: SetupOptions) -> tuple[dict[str, int], dict[str, int]]:
        """Sinograms, what is made of them besides, and the weights of the rays where these are stored."""
        from restore.operators.ct.parallel_beam import ParallelBeamCT

        sinograms = 4 * math.prod(self.shape[1:]) * slices
        kept = {"sinograms, as measured and as the prior's": 2 * sinograms}
        operator = ParallelBeamCT(
            self.geometry, rays_per_bin=RAYS_PER_BIN, projector=options.projector
        )
        stored, passing = stored_rays(operator, slices)
        projected = {"projections of the slices, and what they leave": 5 * sinograms}
        return kept | stored, passing | projected

    @property
    def time_axis(self) -> int:
        """The views, in the order of the file."""
        return 1

    def between(self, problem: Problem, run: slice) -> Problem:
        """Some views of a slice."""
        from torch import Tensor

        from restore.noise import Gaussian

        noise = problem.noise
        std = noise.std if isinstance(noise, Gaussian) else None
        if isinstance(std, Tensor) and std.ndim > 1 and std.shape[-2] > 1:
            noise = Gaussian(std[..., run, :])
        some = problem.linear.subset(run)
        return dataclasses.replace(problem, y=problem.y[:, run], operator=some, noise=noise)

    @property
    def image_shape(self) -> tuple[int, int]:
        """That of the geometry's grid."""
        return self.geometry.shape

    @property
    def abilities(self) -> frozenset[str]:
        """Those of a projector of this geometry."""
        from restore.operators.ct.parallel_beam import ParallelBeamCT

        return ParallelBeamCT(self.geometry).abilities

    @property
    def values_per_slice(self) -> int:
        """Pixels of the grid."""
        rows, columns = self.geometry.shape
        return rows * columns

    @property
    def direct_explains(self) -> bool:
        """Filtered backprojection is streaks, which do not project to the views, where these are few or an arc.

        The same holds beyond the reach of the detector.
        """
        odd = unseen(self.geometry) or narrow_detector(self.geometry)
        return self.shape[1] >= ENOUGH_VIEWS and odd is None

    @property
    def sampling(self) -> str:
        """The number of views."""
        return f"{self.shape[1]} views"

    @property
    def difficulty(self) -> dict[str, float | str]:
        """Views, and the degrees that they divide."""
        turns = np.unique(np.degrees(self.geometry.angles))
        gap = float(np.median(np.diff(turns))) if turns.size > 1 else 0.0
        return {"views": self.shape[1], "arc_deg": round(float(np.ptp(turns)) + gap, 3)}

    def image_of(self, index: int) -> NDArray[np.float32]:
        """The reference; line integrals are no image. Raises InputError."""
        if self.reference is None:
            raise InputError(
                self.path, "holds a sinogram without reference images", "reconstruct it first"
            )
        return np.asarray(self.reference[index])

    def in_source_units(self, samples: Tensor) -> NDArray[np.float32]:
        """Attenuation in `units`; of a larger image (`CTSetup`) its middle."""
        rows, columns = self.geometry.shape
        top, left = ((n - m) // 2 for n, m in zip(samples.shape[-2:], (rows, columns), strict=True))
        inside = samples[..., top : top + rows, left : left + columns]
        return self._in_units(inside)

    def _setup(self, options: SetupOptions) -> CTSetup:
        return self._conditioned(options)._ready(options)

    def _check(self, options: SetupOptions) -> None:
        self._conditioned(options)._look(options)

    def _conditioned(self, options: SetupOptions) -> CTScan:
        steps = conditioning_of(options)
        lines = conditioned(self.sinogram, True, steps, self.path, self.notes)
        return self if steps is None else dataclasses.replace(self, sinogram=lines)

    def _ready(self, options: SetupOptions) -> CTSetup:
        """The noise model, the attenuation of the HU window as intensity scale, and a geometry that the data fit.

        Raises InputError for data that contradict their geometry (angles in degrees, exchanged axes), ConfigError
        where ASTRA is asked for and cannot project this scan.
        """
        from restore.operators.ct.parallel_beam import ParallelBeamCT
        from restore.scaling import CT_WINDOW_HU, Scaling

        geometry, record, room = self._geometry(options.center)
        noise, level = self._noise(options.noise_std)
        if doubt := doubt_of_air(level, self._looked_at()):
            self._note(doubt)
        if room is not None:
            if not level and options.noise_std is None and (room.first or room.last):
                noise, level = self._noise_of_cut()
            # Without a level nothing says how much less a continued bin is worth: the image alone grows then.
            geometry = (
                room.geometry if level else dataclasses.replace(geometry, shape=room.geometry.shape)
            )
        operator = ParallelBeamCT(geometry, rays_per_bin=RAYS_PER_BIN, projector=options.projector)
        span = (CT_WINDOW_HU[1] - CT_WINDOW_HU[0]) / 1000 * self.mu_water
        return CTSetup(
            scaling=Scaling(span, "attenuation of the HU window"), noise=noise,
            record={"noise_std": level, "projector": options.projector, **record},
            scan=self, operator=operator, room=room if level else None,
        )  # fmt: skip

    def _look(self, options: SetupOptions) -> None:
        """Data that contradict their geometry, and a projector that cannot do this scan, from three slices."""
        from restore.operators.ct.parallel_beam import ParallelBeamCT

        geometry = self.geometry
        if options.center == AUTO:
            self._refuse(self._found(geometry))  # to look for the centre takes longer
        else:
            geometry, *_ = self._geometry(options.center)
        ParallelBeamCT(geometry, rays_per_bin=RAYS_PER_BIN, projector=options.projector)

    def _found(self, geometry: ParallelBeam) -> list[Finding]:
        """What the first, the middle and the last slice say against a geometry."""
        return [f for y in self._looked_at() for f in findings(y, geometry, self.mu_water)]

    def _looked_at(self) -> list[NDArray[np.float32]]:
        return [self.sinogram[i] for i in sorted({0, self.n_slices // 2, self.n_slices - 1})]

    def _geometry(self, center: str) -> tuple[ParallelBeam, dict[str, object], Room | None]:
        """The geometry of the data, what of it differs from the file's, and the room that the object needs.

        A few slices are looked at. What they say against the stored geometry goes into the notes, or is refused where
        no picture could come of it; where they say that the object does not fit, the image is made larger.
        """
        geometry, record = self.geometry, dict[str, object]()
        found = self._found(geometry)
        self._refuse(found)
        if center:
            geometry = self._centred(center)
            record["det_offset_mm"] = geometry.det_offset_mm
            found = self._found(geometry)
        said = {f.cause: f for f in (*found, unseen(geometry)) if f}
        for finding in said.values():
            self._note(finding.sentence)
        if not said.keys() & {"truncated", "beyond the grid"}:
            return geometry, record, None
        from restore.datasets.ct.room import room_for

        room = room_for(geometry, self._looked_at())
        if room.geometry.shape != geometry.shape:
            wide, cut = (" x ".join(map(str, g.shape)) for g in (room.geometry, geometry))
            self._note(
                f"reconstructed on {wide} pixels, so that what lies outside has a place, and cut to {cut}"
            )
            record["reconstructed_shape"] = list(room.geometry.shape)
        return geometry, record, room

    def _centred(self, center: str) -> ParallelBeam:
        """The geometry with the axis of rotation where it is said to be, or where the data say. Raises InputError."""
        geometry = self.geometry
        slices = evenly_spaced(self.n_slices)
        offset, sentence = centred(
            center, geometry.det_offset_mm, (geometry.det_spacing_mm, geometry.n_det), self.path,
            lambda: [told_centre(self.sinogram[i], geometry) for i in slices],
        )  # fmt: skip
        self._note(sentence)
        return dataclasses.replace(geometry, det_offset_mm=offset)

    def _refuse(self, found: list[Finding]) -> None:
        for finding in found:
            if finding.cause in ("degrees", "axes", "intensities", "sign"):
                raise InputError(self.path, finding.sentence)

    def _note(self, sentence: str) -> None:
        """Once, however often the scan is made ready."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _noise(self, given: float | None) -> tuple[Noise | None, float | None]:
        """A given level (0: none) for all rays, else Poisson weights of the photons, or of the stored noise of air.

        Where nothing is stored, of the photons that air shows, as `restore.solve` has it. The number is the standard
        deviation of an air ray.
        """
        from restore.noise import PostLogPoisson, noise_model

        if given is not None:
            return noise_model(given), given
        photons = self.stated_photons
        if photons is None:
            photons = photons_of_air(self.sinogram[i] for i in range(self.n_slices))
            if photons is None:
                return None, None
            self._note(note_of_air(photons))
        return PostLogPoisson(photons), photons**-0.5

    def _noise_of_cut(self) -> tuple[Noise, float]:
        """One level of views that show no air, from the middle slice."""
        from restore.datasets.ct.room import level_of_cut
        from restore.noise import Gaussian

        level = level_of_cut(self.sinogram[self.n_slices // 2])
        self._note(f"noise_std {level:.3g} estimated from neighbouring bins: no ray shows air")
        return Gaussian(level), level


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CTSetup(Setup):
    """How problems are made of a sinogram.

    operator: its image may be larger than the scan's, which is its middle; room: how the
    data are continued to it, None where they need not be.
    """

    scan: CTScan
    operator: ParallelBeamCT
    room: Room | None = None

    def problem(self, which: range, device: torch.device) -> Problem:
        """Sinogram, projector and noise of the slices `which`."""
        import torch

        from restore.problem import Problem

        y = torch.from_numpy(self.scan.sinogram[which.start : which.stop]).to(device)
        if device not in self._operators:
            self._operators[device] = self.operator.to(device)
        noise = self.noise
        if self.room is not None and noise is not None:
            y, noise = self.room.continued(y, noise)
        return Problem(y, self._operators[device], noise, self.scaling, self.scan.ids(which))

    @cached_property
    def _operators(self) -> dict[torch.device, ParallelBeamCT]:
        """One a device for all problems: its matrices go with it."""
        return {}
