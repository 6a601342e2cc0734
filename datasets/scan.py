"""What every measured scan is to the rest of the package, whatever it measures and wherever it comes from.

The pipelines, benchmarks and reports know this contract alone; `mri/scan.py` and `ct/scan.py` hold the kinds. A scan
is numbers and lazy readers; torch is imported only when a problem is asked for. `open.open_scan` opens files.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from restore.config import check_settings, setting
from restore.datasets.stack import LazyStack
from restore.datasets.volume.identity import header_of_source
from restore.datasets.volume.volume import Unplaced, Volume
from restore.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.noise import Noise
    from restore.problem import Problem
    from restore.scaling import Scaling

MapsSource = Literal["auto", "file", "espirit", "joint"]
Projector = Literal["auto", "own", "astra"]
Outliers = Literal["", "bridge"]
PartialFourier = Literal["none", "real"]


@dataclasses.dataclass(frozen=True)
class SetupOptions:
    """What may be chosen about turning a scan into problems; each kind of scan names those that it takes.

    Raises ConfigError for values out of range.
    """

    maps: MapsSource = setting(
        "auto",
        "coil maps of the file, by ESPIRiT, or the file's where it has them; joint: together with the image",
    )
    remove_phase: bool = setting(True, "put the low-resolution phase into the maps")
    noise_std: float | None = setting(
        None,
        "per real channel in the scan's units, 0: none, None: the file's or estimated",
        at_least=0,
    )
    coils_virtual: str = setting(
        "", "MRI: virtual coils in the place of all, such as 12 or 12:geometric"
    )
    maps_sets: int = setting(
        1,
        "MRI: sets of coil maps, 2 for a cut field of view, 0: two in slices that show that it is",
        between=(0, 2),
    )
    partial_fourier: PartialFourier = setting(
        "none",
        "MRI of which one side of k-space is missing: real holds the image real, its phase taken out",
    )
    projector: Projector = setting("auto", "whose projector of CT: own, or that of ASTRA")
    center: str = setting(
        "",
        "CT: where the axis of rotation lies: auto, as the data tell, or det_offset_mm in the place of the file's",
    )

    outliers: Outliers = setting("", "CT: bridge replaces zingers and odd bins of the detector")
    rings: str = setting(
        "", "CT: sorting or sorting:BINS takes stripes out of the sinogram, rings out of the image"
    )
    beam_hardening: str = setting(
        "", "CT: numbers c1,c2,...: line integrals y become c1 y + c2 y^2 + ..."
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Setup(ABC):
    """A scan made ready once, for all of its slices: one intensity scale, one noise model.

    record: what was chosen, in plain values for the sidecar.
    """

    scaling: Scaling
    noise: Noise | None
    record: dict[str, Any]

    @abstractmethod
    def problem(self, which: range, device: torch.device) -> Problem:
        """The problem of the slices `which` of the scan, on a device. Reads them: raises InputError."""

    def alike(self, which: range) -> list[range]:
        """`which` in runs of slices whose result does not depend on which others are solved with them."""
        return [which]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Scan(ABC):
    """A measurement of some slices, and their place in the patient.

    `kind`, `task` and `abilities` are asked by samplers and presets before any data are read, as those of an operator.

    modality: "MR" or "CT". holds: what was measured ("k-space"). takes: names of `SetupOptions` that mean
    something here. first_look: the classical sampler whose image a reader sees first. components: whether slices may
    have images of several components where the data ask for it (`maps_sets` 0). suspects: what is usually
    wrong where a reconstruction does not explain the data, in words.

    slice_indices: where the slices stood in the source. noise_std: in the units of the measurement, or None. affine:
    voxel (column, row, slice) -> RAS mm of the image of `image_shape`, or None. reference: float32
    (slices, *image_shape) in the units of the image, or None. source: geometry record of the source (kind, zooms,
    codes, modality, units). settings: how it was simulated (empty for measured data). notes: what a reader had to
    assume or repair; grows while slices are read with a repair. files: what is read beside `path`.
    """

    modality: ClassVar[str]
    holds: ClassVar[str]
    takes: ClassVar[tuple[str, ...]]
    first_look: ClassVar[str]
    components: ClassVar[bool] = False
    suspects: ClassVar[str] = (
        "a forward model that is not the one measured with, or a noise level that is too small"
    )

    path: Path
    slice_indices: tuple[int, ...]
    noise_std: float | None = None
    affine: NDArray[np.float64] | None = None
    reference: LazyStack | None = None
    source: dict[str, Any] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    files: tuple[Path, ...] = ()

    @property
    @abstractmethod
    def kind(self) -> str:
        """Of its forward operators: "mri", "ct" or "image"."""

    @property
    def task(self) -> str:
        """Of its forward operators; a scan poses no task of image restoration."""
        return ""

    @property
    @abstractmethod
    def abilities(self) -> frozenset[str] | None:
        """Of its forward operators, None where they are known only once data were read."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of the measurement, slices in front."""

    @property
    def time_axis(self) -> int | None:
        """The axis of `shape` whose samples follow each other in time, None where nobody knows of any."""
        return None

    def between(self, problem: Problem, run: slice) -> Problem:
        """Of the problem of one slice, one item: what was measured in a run of places along `time_axis`.

        Its operator has no dimension of slices: y is (1, *out_shape). Raises ConfigError.
        """
        raise ConfigError(f"{self.path}: {self.holds} of this kind has no order in time")

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int]:
        """(rows, columns) of a reconstructed slice."""

    @property
    @abstractmethod
    def values_per_slice(self) -> int:
        """Real numbers of one slice that go through a network, re and im counted."""

    @property
    @abstractmethod
    def units(self) -> str:
        """Of the reconstructed intensities; "" where unknown."""

    @property
    def direct_explains(self) -> bool:
        """Whether the direct reconstruction (`first_look`) of sound data leaves little of them over."""
        return True

    @property
    def whole(self) -> bool:
        """Whether the slices are one item, a volume, and are reconstructed together."""
        return False

    def held(self, slices: int, options: SetupOptions) -> tuple[dict[str, int], dict[str, int]]:
        """Bytes by what they hold of so many slices of the measurement and of its operator, all the time and for a
        while. slices: those that are reconstructed together, of one item all of them."""
        numbers = math.prod(self.shape) // self.n_slices * slices
        return {"the measurement, as measured and as the prior's": 2 * 8 * numbers}, {}

    @property
    @abstractmethod
    def sampling(self) -> str:
        """What was measured, in words."""

    @property
    def difficulty(self) -> dict[str, float | str]:
        """What decides how hard it is, numbers and words by name: scans that agree in it are alike but for noise."""
        return {"sampling": self.sampling}

    @abstractmethod
    def image_of(self, index: int) -> NDArray[np.float32]:
        """One slice as an image without a reconstruction: the reference, or what the data show by themselves.

        Raises InputError where they show none.
        """

    @abstractmethod
    def in_source_units(self, samples: Tensor) -> NDArray[np.float32]:
        """Images (..., *in_shape of the operator) as intensities (..., *image_shape) in `units`."""

    def in_units(self, units: str, mu_water: float | None) -> Self:
        """The same scan with images in other units; mu_water: of CT, 1/mm. "" and None leave them as they are.

        Raises ConfigError for units that the images of this kind of scan do not have.
        """
        if units not in ("", self.units) or mu_water is not None:
            raise ConfigError(
                f"{self.path}: --units and --mu-water are for CT, this is a {self.modality} scan; leave them out"
            )
        return self

    @abstractmethod
    def _setup(self, options: SetupOptions) -> Setup: ...

    def __str__(self) -> str:
        return f"{self.holds} in {self.path.name}"

    @property
    def n_slices(self) -> int:
        """Number of measured slices."""
        return self.shape[0]

    def setup(self, options: SetupOptions = SetupOptions()) -> Setup:
        """The scan made ready for its problems; one scale and one noise model for all slices.

        Raises ConfigError for options that mean nothing for this kind of scan, InputError for a measurement that
        cannot be used.
        """
        self._require_taken(options)
        return self._setup(options)

    def check(self, options: SetupOptions = SetupOptions()) -> None:
        """Refuse and note before any work what `setup` would, as far as a few slices tell it.

        Raises ConfigError, InputError.
        """
        self._require_taken(options)
        self._check(options)

    def _check(self, options: SetupOptions) -> None:  # noqa: B027 (a kind of scan may have nothing)
        """What a kind of scan can find out cheaply; nothing by default."""

    def _require_taken(self, options: SetupOptions) -> None:
        for field in dataclasses.fields(SetupOptions):
            chosen = getattr(options, field.name)
            if chosen != field.default and field.name not in self.takes:
                raise ConfigError(
                    f"{self.path}: {field.name}={chosen!r} means nothing for a {self.modality} scan; leave it out"
                )

    def problem(
        self, which: range, device: torch.device, options: SetupOptions = SetupOptions()
    ) -> Problem:
        """The problem y = A x + noise of the slices `which`, for scripts; jobs call `setup` once and ask that."""
        return self.setup(options).problem(which, device)

    def ids(self, which: range) -> tuple[str, ...]:
        """Names of slices by their number in the source, which seed a sampler's noise."""
        return tuple(f"slice {self.slice_indices[i]}" for i in which)

    def volume(self, data: NDArray[Any]) -> Volume:
        """Intensities (slices, *image_shape) in the place and with the header that the scan's source gives."""
        affine = np.eye(4) if self.affine is None else self.affine
        header = Unplaced() if self.affine is None else header_of_source(self.source, affine)
        return Volume(data, affine, self.modality, self.units, header, notes=tuple(self.notes))

    def empty_volume(self) -> Volume:
        """Zeros of the shape, in the place and with the header of what the scan is reconstructed to."""
        return self.volume(np.zeros((self.n_slices, *self.image_shape), np.float32))
