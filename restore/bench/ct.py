"""ct-sparse-view: parallel-beam CT from few views or a limited angle, of volumes in HU or of LoDoPaB-CT files.

A folder of volumes (NIfTI, folders of DICOM) is measured by `simulate_ct`: finer pixels and bins than the
reconstruction's and Poisson counts. LoDoPaB-CT files are measurements: settings keep every k-th of their views. Used
by the runner and the command line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import nibabel
import numpy as np
from numpy.typing import NDArray

from restore.bench.case import Conditions, Figures, ScanCase
from restore.bench.protocol import Protocol, Setting, item_seed, selected
from restore.bench.store import place_of
from restore.datasets.content_hash import sha256_of
from restore.datasets.ct.files.lodopab import (
    PUBLISHED_SHAPE,
    ground_truth_path,
    is_observation,
    read_lodopab,
)
from restore.datasets.ct.scan import CTScan
from restore.datasets.open import read
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.slices import slices_within
from restore.datasets.stack import LazyStack
from restore.datasets.volume import nifti
from restore.datasets.volume.dicom_files import is_dicom
from restore.datasets.volume.padding import padding_of
from restore.errors import ConfigError, InputError, NotFoundError
from restore.metrics import SSIM_VARIANT, SSIM_WINDOW, nmse, psnr, ssim, ssim_counts
from restore.operators.ct.geometry import AIR_HU

RULES = 2
"""Counts up when figures come out otherwise for the same files, settings and methods."""

VIEWS, LIMITED, HALF_TURN = (8, 30, 60, 180), (90,), 180.0
LODOPAB_STEPS = (5, 1)
"""Of LoDoPaB-CT's 1000 views, every fifth and all."""

PLANES = ("sagittal", "coronal", "axial")
"""What lies across the RAS axes."""


@dataclasses.dataclass(frozen=True)
class CTSparseView(Protocol):
    """root: a folder of NIfTI volumes and of folders of DICOM series, or one of LoDoPaB-CT's observation files.

    views: over half a turn; default 8, 30, 60, 180, for LoDoPaB-CT 200 and 1000. limited: arcs in degrees with one
    view a degree (LoDoPaB-CT: the measured views within); default 90, for LoDoPaB-CT none. photons: unattenuated
    counts a ray, of volumes. slices: of every volume, default all. limit: the first so many volumes by name. exclude:
    not these (names, or patterns with *). seed: of the counts, with the volume's name. Raises ConfigError.
    """

    name: ClassVar[str] = "ct-sparse-view"
    default_samplers: ClassVar[str] = "fbp,tv,wavelet,dds"
    default_prior: ClassVar[dict[str, str]] = {"denoiser": "medical"}

    root: Path
    views: tuple[int, ...] = ()
    limited: tuple[int, ...] | None = None
    photons: float = 1e5
    slices: slice | None = None
    limit: int | None = None
    exclude: Collection[str] = ()
    seed: int = 7

    def __post_init__(self) -> None:
        if any(n < 1 for n in self.views) or len(set(self.views)) < len(self.views):
            raise ConfigError(f"views must be different numbers of at least 1, got {self.views}")
        arcs = self.limited or ()
        if any(not 1 <= a < HALF_TURN for a in arcs) or len(set(arcs)) < len(arcs):
            raise ConfigError(f"limited angles must be different degrees from 1 to 179, got {arcs}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"the number of volumes must be at least 1, got {self.limit}")
        if self.seed < 0:
            raise ConfigError(f"the seed must not be negative, got {self.seed}")

    def volumes(self) -> dict[str, Path]:
        """By file or folder name, sorted."""
        return selected(self._found, self.exclude, self.limit)

    def settings(self) -> tuple[Setting, ...]:
        """views-N, then limited-DEGREES. Raises ConfigError for numbers that do not divide LoDoPaB-CT's views."""
        total = self._measured_views
        few = self.views or (tuple(total // k for k in LODOPAB_STEPS) if total else VIEWS)
        for n in few:
            if total and total % n:
                divisors = (d for d in range(1, total + 1) if not total % d)
                near = sorted(sorted(divisors, key=lambda d: abs(d - n))[:4])
                raise ConfigError(
                    f"{n} of the {total} measured views cannot be evenly spaced; numbers near that can be: "
                    f"{', '.join(map(str, near))}"
                )
        arcs = (() if total else LIMITED) if self.limited is None else self.limited
        return (
            *(Setting(f"views-{n}", {"views": n, "arc": HALF_TURN}) for n in few),
            *(Setting(f"limited-{a}", {"views": a, "arc": float(a)}) for a in arcs),
        )

    def describe(self) -> dict[str, Any]:
        """Photons and seed shape simulated scans alone."""
        s = self.slices
        chosen = "all" if s is None else f"{s.start}:{s.stop}:{s.step}".replace("None", "")
        simulated = {"photons": float(self.photons), "noise_seed": self.seed}
        return {"slices": chosen, "rules": RULES} | ({} if self._measured_views else simulated)

    def mark(self, path: Path) -> str:
        """Of LoDoPaB-CT's observations: with the ground truth beside them."""
        truth = ground_truth_path(path)
        both = is_observation(path) and truth.is_file()
        return sha256_of(path) + (sha256_of(truth) if both else "")

    def open(self, volume: str, setting: Setting, run: Path) -> ScanCase:
        """Read the volume and simulate its scan, slice by slice when it is needed; or thin out measured views.

        Raises InputError for what is not CT, or is the same everywhere, ConfigError for slices that are not there.
        """
        path = self._found.get(volume)
        if path is None:
            raise NotFoundError(f"{self.root}: no volume {volume}")
        measured = is_observation(path)
        scan, seed, where = (
            (self._thinned(path, setting), None, None)
            if measured
            else self._simulated(path, setting)
        )
        whole = None if scan.reference is None else scan.reference[:]
        reference = None if whole is None else np.maximum(whole, AIR_HU)
        score = None if reference is None else CTScore.of(scan, reference, measured, where)
        if score is not None:
            score.require_contrast(path)
        return ScanCase(
            scan=scan,
            conditions=_conditions(scan, setting, seed, score),
            place=place_of(scan),
            reference=reference,
            scoring=score or _unscored,
        )

    @cached_property
    def _found(self) -> dict[str, Path]:
        found = found_volumes(self.root)
        kinds = {is_observation(path) for path in found.values()}
        if len(kinds) > 1:
            raise InputError(
                self.root, "holds volumes and LoDoPaB-CT files", "give each its own folder"
            )
        return found

    @property
    def _measured_views(self) -> int:
        """Views of LoDoPaB-CT files; 0 for volumes."""
        return PUBLISHED_SHAPE[0] if any(map(is_observation, self._found.values())) else 0

    def _simulated(
        self, path: Path, setting: Setting
    ) -> tuple[CTScan, int, NDArray[np.bool_] | None]:
        """The scan, its seed, and where the volume was measured (None: everywhere)."""
        seed = item_seed(self.seed, path.name)
        volume = read(path)
        if volume.modality == "MR":
            raise InputError(path, "an MR volume", "this protocol measures CT volumes in HU")
        scan = simulate_ct(
            volume, views=setting.values["views"], arc=setting.values["arc"], photons=self.photons,
            slices=self.slices, seed=seed,
        )  # fmt: skip
        padding = padding_of(dataclasses.replace(volume, modality="CT"))
        where = None if padding is None else ~padding[list(scan.slice_indices)]
        scan = dataclasses.replace(scan, path=path, sinogram=_remembered(scan.sinogram))
        return scan, seed, where

    def _thinned(self, path: Path, setting: Setting) -> CTScan:
        """The views of a setting and the chosen slices of a measured scan."""
        scan = read_lodopab(path)
        kept = _kept_views(scan.geometry.views, setting, path)
        slices = slices_within(self.slices or slice(None), scan.n_slices, path.name)
        angles = tuple(scan.geometry.angles[k] for k in kept)
        whole, truth = scan.sinogram, scan.reference
        plane = whole.shape[1:]
        return dataclasses.replace(
            scan,
            sinogram=LazyStack((len(slices), len(kept), plane[1]), lambda i: whole[slices[i]][kept]),
            geometry=dataclasses.replace(scan.geometry, angles=angles),
            slice_indices=tuple(slices),
            reference=truth and LazyStack((len(slices), *truth.shape[1:]), lambda i: truth[slices[i]]),
            settings={"views": len(kept), "arc": setting.values["arc"]},
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class CTScore:
    """Figures of an image against one reference (slices, H, W) in HU.

    planes: array axis to slice along, by name; the first is that of the slices. own_range: add LoDoPaB-CT's figures.
    where: True for the voxels that count, all but padding; None for all. Slices without any are left out.
    """

    reference: NDArray[Any]
    slices: tuple[int, ...]
    planes: Mapping[str, int]
    own_range: bool
    where: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls, scan: CTScan, reference: NDArray[Any], measured: bool, where: NDArray[np.bool_] | None
    ) -> CTScore:
        """The planes that the slices allow: the others need `SSIM_WINDOW` slices without gaps."""
        names = _plane_names(scan)
        gaps = {abs(b - a) for a, b in zip(scan.slice_indices, scan.slice_indices[1:], strict=False)}  # fmt: skip
        whole = not measured and gaps == {1} and scan.n_slices >= SSIM_WINDOW
        planes = {name: axis for axis, name in enumerate(names) if axis == 0 or whole}
        return cls(reference, scan.slice_indices, planes, measured, where)

    def require_contrast(self, path: Path) -> None:
        """Raise InputError for a reference that nothing can be compared with."""
        if min(self.reference.shape[1:]) < SSIM_WINDOW:
            size = " x ".join(map(str, self.reference.shape[1:]))
            raise InputError(
                path, f"slices of {size} pixels; SSIM needs {SSIM_WINDOW} x {SSIM_WINDOW}"
            )
        if self.where is not None and not ssim_counts(self.where):
            raise InputError(
                path, "the chosen slices hold padding only", "choose others with --slices"
            )
        if np.ptp(self._counted(self.reference)) == 0:
            raise InputError(
                path, "the chosen slices hold one value everywhere", "choose others with --slices"
            )

    def __call__(self, image: NDArray[Any]) -> Figures:
        """Volume-wise figures, and means over the slices of each plane with the same data range."""
        span = float(np.ptp(self._counted(self.reference)))
        # SSIM and NMSE depend on where zero lies: it is air, as in attenuation.
        image, reference = image - AIR_HU, self.reference - AIR_HU
        extra: dict[str, float] = {}
        per_slice: dict[str, list[float]] = {}
        for plane, axis in self.planes.items():
            masks = self._masks(axis)
            kept = [k for k, w in enumerate(masks) if w is None or ssim_counts(w)]
            pairs = list(zip(*(np.moveaxis(a, axis, 0) for a in (image, reference)), masks, strict=True))  # fmt: skip
            pairs = [pairs[k] for k in kept]
            peaks = [psnr(x, y, data_range=span, where=w) for x, y, w in pairs]
            likenesses = [ssim(x, y, data_range=span, where=w) for x, y, w in pairs]
            extra |= {f"psnr_{plane}": float(np.mean(peaks)), f"ssim_{plane}": float(np.mean(likenesses))}  # fmt: skip
            if axis == 0:
                numbers = [float(self.slices[k]) for k in kept]
                per_slice = {"slice": numbers, "psnr": peaks, "ssim": likenesses}
        if self.own_range:
            extra |= self._image_wise(image, reference)
        return Figures(
            psnr=psnr(image, reference, data_range=span, where=self.where), ssim=float(np.mean(per_slice["ssim"])),
            nmse=nmse(image, reference, where=self.where), data_range=span,
            data_range_rule="reference's maximum minus minimum over the compared slices, in HU"
            + ("" if self.where is None else ", without padding"),
            ssim_variant=f"{SSIM_VARIANT}, on HU + 1000", per_slice=per_slice, extra=extra,
        )  # fmt: skip

    def _counted(self, values: NDArray[Any]) -> NDArray[Any]:
        return values if self.where is None else values[self.where]

    def _masks(self, axis: int) -> list[NDArray[np.bool_] | None]:
        """Of the slices along an axis."""
        if self.where is None:
            return [None] * self.reference.shape[axis]
        return list(np.moveaxis(self.where, axis, 0))

    @staticmethod
    def _image_wise(image: NDArray[Any], reference: NDArray[Any]) -> dict[str, float]:
        """LoDoPaB-CT's own figures: of attenuation, each slice with the range of its own reference."""
        pairs = list(zip(image, reference, strict=True))
        ranged = [(x, y, float(np.ptp(y))) for x, y in pairs]
        scored = [(psnr(x, y, data_range=r), ssim(x, y, data_range=r)) for x, y, r in ranged if r]
        means = np.mean(scored, axis=0)
        return {"psnr_image_range": float(means[0]), "ssim_image_range": float(means[1])}


def found_volumes(root: Path) -> dict[str, Path]:
    """Volumes and scans in a folder by name, or the one that `root` is. Raises NotFoundError, InputError."""
    if not root.exists():
        raise NotFoundError(f"{root}: no such file or folder")
    if not root.is_dir() or _is_series(root):
        return {root.name: root}
    found = {p.name: p for p in sorted(root.iterdir()) if _is_volume(p) or is_observation(p)}
    if not found:
        raise InputError(
            root,
            "holds no volumes",
            "expected .nii or .nii.gz files, folders of DICOM series, or LoDoPaB-CT's observation_*.hdf5",
        )
    return found


def _is_volume(path: Path) -> bool:
    return _is_series(path) if path.is_dir() else path.name.lower().endswith(nifti.FORMAT.suffixes)


def _is_series(folder: Path) -> bool:
    files = (p for p in sorted(folder.iterdir()) if p.is_file() and p.stat().st_size)
    return any(map(is_dicom, files))


def _kept_views(total: int, setting: Setting, path: Path) -> list[int]:
    """The middle one of every k views, so that angles stay midpoints; or the first ones, within the arc."""
    views, arc = setting.values["views"], setting.values["arc"]
    if arc < HALF_TURN:
        return list(range(max(1, round(total * arc / HALF_TURN))))
    if total % views:
        raise InputError(path, f"{total} views, which {views} do not divide evenly")
    step = total // views
    return list(range((step - 1) // 2, total, step))


def _remembered(stack: LazyStack) -> LazyStack:
    """The same stack, each slice computed once: smaller than the volume, which is in memory as well."""
    known: dict[int, NDArray[Any]] = {}

    def load(index: int) -> NDArray[Any]:
        if index not in known:
            known[index] = stack[index]
        return known[index]

    return LazyStack(stack.shape, load)


def _plane_names(scan: CTScan) -> list[str]:
    """Of the planes across the array's axes (slice, row, column), by the nearest directions in the patient."""
    affine = np.eye(4) if scan.affine is None else scan.affine
    toward = nibabel.orientations.io_orientation(affine)[:, 0]
    return [PLANES[int(a)] for a in toward[::-1]]


def _conditions(
    scan: CTScan, setting: Setting, seed: int | None, score: CTScore | None
) -> Conditions:
    views, arc = scan.geometry.views, setting.values["arc"]
    details: dict[str, Any] = {"views": views, "arc_deg": arc, "photons": scan.photons}
    details |= {"notes": list(scan.notes)}
    details |= {} if seed is None else {"noise_seed": seed}
    if score is not None:
        details["nmse"] = "of HU + 1000, attenuation relative to water: zero is air"
        details["planes"] = _planes_told(score.planes)
    if seed is None:
        target, origin = "ground truth of LoDoPaB-CT", "as LoDoPaB-CT states"
    else:
        target = "the volume that was measured; below -1000 HU is air, padding is not compared"
        origin = "simulated"
    return Conditions(
        target=target, mask=f"parallel beam, {views} views over {arc:g} degrees", noise_std=scan.noise_std,
        noise_rule=f"of a ray through air, photons^-1/2; Poisson before the logarithm, {origin}", details=details,
    )  # fmt: skip


def _planes_told(planes: Iterable[str]) -> str:
    names = list(planes)
    if len(names) == len(PLANES):
        return "means over the slices of all three planes, with the data range of the volume"
    others = " and ".join(p for p in PLANES if p not in names)
    return f"{names[0]} only: {others} need {SSIM_WINDOW} or more slices of one volume without gaps"


def _unscored(image: NDArray[Any]) -> Figures:
    raise ConfigError("a scan without a reference has no figures")
