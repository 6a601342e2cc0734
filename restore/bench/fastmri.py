"""fastmri-volume: the rules of the fastMRI leaderboard, on its folders as they are.

Masks are those that the fastMRI package gives each file, coil maps are ours from what the mask leaves, and figures are
volume-wise as its evaluation defines them. Called by the runner through `Protocol`; reads the folder of the data and
writes the cache of maps only. `FastMRIFolder` and the reading of a file's facts serve `inversebench` too.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from restore.bench.case import Case, Conditions, Figures, ScanCase
from restore.bench.maps_cache import cache_key, cached_maps, discard, maps_path, slice_maps
from restore.bench.protocol import Protocol, Setting
from restore.bench.store import place_of
from restore.datasets.content_hash import sha256_of
from restore.datasets.hdf5_guard import attribute, find_dataset, find_text, open_hdf5
from restore.datasets.mri.calibration import calibration_lines
from restore.datasets.mri.cropping import center_crop
from restore.datasets.mri.fastmri_files.fastmri import read_slices
from restore.datasets.mri.fastmri_files.fastmri_folder import find_volumes
from restore.datasets.mri.fastmri_files.fastmri_header import Header, parse_header
from restore.datasets.mri.fastmri_files.fastmri_masks import (
    KINDS,
    center_fraction_for,
    fastmri_mask,
)
from restore.datasets.mri.fastmri_files.fastmri_write import target_image
from restore.datasets.mri.oversampling import remove_readout_oversampling
from restore.datasets.mri.pattern.sampling import Mask, slice_mask
from restore.datasets.mri.scan import MRIScan, unit_maps
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError, NotFoundError
from restore.metrics import SSIM_VARIANT, nmse, psnr, ssim
from restore.operators.mri.coil_maps import Region
from restore.operators.mri.filling import calibration_data

RULES = 1
"""Counts up when figures come out otherwise for the same files, settings and methods."""

SAMPLERS = "zerofilled,cgsense,tv,wavelet,dds,diffpir,reddiff"
PRIORS = {"denoiser": "medical", "cascade": "brain-varnet"}

TARGETS = {
    "reconstruction_rss": "root sum of squares of the full k-space (reconstruction_rss)",
    "reconstruction_esc": "magnitude of the full single-coil k-space (reconstruction_esc)",
    "": "none in the file",
}
APART = 0.05
"""Of the target's norm, by which it may differ from the image of its k-space; published ones agree to rounding."""

RANGE_RULE = "maximum of the target volume, as evaluated"


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """What the layout says besides k-space. own_mask: a test file's. acceleration: its attribute, or None.
    columns: (first, end) of the measured columns by the header, or None. target: a key of `TARGETS`."""

    single_coil: bool
    own_mask: bool
    acceleration: float | None
    acquisition: str
    columns: tuple[int, int] | None
    noise_in_file: bool
    target: str

    def is_brain(self, name: str) -> bool:
        """Whether the volume is of the brain data, whose masks are of another kind."""
        return name.startswith("file_brain") or self.acquisition.upper().startswith("AX")

    def noise_rule(self, std: float | None) -> str:
        """Where the noise level comes from."""
        if std is None:
            return "unknown"
        if self.noise_in_file:
            return "given in the file"
        rule = "median deviation in the corners of the middle slice's k-space"
        return rule if self.own_mask else rule + " before undersampling"


def read_facts(path: Path) -> FileFacts:
    """The facts of a file that `read_fastmri` accepts. Raises NotFoundError, InputError."""
    with open_hdf5(path) as file:
        kspace = find_dataset(file, "kspace")
        if kspace is None:
            raise InputError(path, "no data set 'kspace'")
        single = kspace.ndim == 3
        keys = ("reconstruction_esc", "reconstruction_rss")[:: 1 if single else -1]
        acceleration = attribute(file, "acceleration")
        acquisition = str(attribute(file, "acquisition") or "")
        return FileFacts(
            single_coil=single or kspace.shape[1] == 1,
            own_mask=find_dataset(file, "mask") is not None,
            acceleration=float(acceleration) if isinstance(acceleration, int | float) else None,
            acquisition=acquisition if re.fullmatch(r"[A-Za-z0-9_]{1,40}", acquisition) else "",
            columns=_columns(find_text(file, "ismrmrd_header"), kspace.shape[-1]),
            noise_in_file=attribute(file, "noise_std") is not None,
            target=next((key for key in keys if find_dataset(file, key) is not None), ""),
        )


def _columns(text: str | None, width: int) -> tuple[int, int] | None:
    """The measured columns where the header tells them for k-space of this width."""
    try:
        header: Header | None = None if text is None else parse_header(text)
    except ValueError:  # the reader has noted it
        return None
    return None if header is None or header.encoded[1] != width else header.columns


def measured_columns(scan: MRIScan) -> Mask:
    """Columns with samples in a file without a mask, bool (W,): all but zero padding at both ends.

    Raises InputError where there are gaps: such k-space is undersampled, and nothing says how.
    """
    columns: Mask = np.logical_or.reduce(scan.mask.reshape(-1, scan.mask.shape[-1]), axis=0)
    found = np.flatnonzero(columns)
    if found[-1] - found[0] + 1 != found.size:
        raise InputError(
            scan.path,
            f"holds no mask, but {columns.size - found.size} columns of k-space are zero, some between measured ones",
            "benchmarks need fully sampled k-space, or a test file with its mask",
        )
    return columns


@dataclasses.dataclass(frozen=True)
class FastMRIFolder(Protocol):
    """A protocol on the volumes of one split of a fastMRI folder.

    root, split, coils: as `find_volumes`. limit: the first so many by name; names: only these; exclude: not these, for
    volumes that served for tuning (all with or without .h5). keep_maps: leave the cache of coil maps in the run.
    """

    default_samplers: ClassVar[str] = SAMPLERS
    default_prior: ClassVar[dict[str, str]] = PRIORS

    root: Path
    accelerations: tuple[int, ...] = (4, 8)
    _: dataclasses.KW_ONLY
    split: str = "val"
    coils: str = "auto"
    limit: int | None = None
    names: tuple[str, ...] = ()
    exclude: Collection[str] = ()
    keep_maps: bool = False

    def __post_init__(self) -> None:
        if not self.accelerations or any(r != int(r) or r < 2 for r in self.accelerations):
            raise ConfigError(
                f"accelerations are whole numbers of at least 2, got {self.accelerations}"
            )
        if len(set(self.accelerations)) < len(self.accelerations):
            raise ConfigError(f"an acceleration is named twice: {self.accelerations}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"the number of volumes must be at least 1, got {self.limit}")

    def volumes(self) -> dict[str, Path]:
        """File names with .h5 and their paths, by name. Raises as `find_volumes`, and for names that are not there."""
        left_out = {_file_name(name) for name in self.exclude}
        found = {name: path for name, path in self._found.items() if name not in left_out}
        wanted = [_file_name(name) for name in self.names]
        missing = [name for name in wanted if name not in found]
        if missing:
            raise NotFoundError(
                f"{self.root}: no volume {', '.join(missing[:5])} in the split '{self.split}'"
                + (", or it is excluded" if left_out else "")
            )
        chosen = {name: path for name, path in found.items() if not wanted or name in wanted}
        if not chosen:
            raise NotFoundError(
                f"{self.root}: all {len(self._found)} volumes of '{self.split}' are excluded"
            )
        return dict(itertools.islice(chosen.items(), self.limit))

    @functools.cached_property
    def _found(self) -> dict[str, Path]:
        return {f.name: f.path for f in find_volumes(self.root, self.split, self.coils)}

    def path(self, volume: str) -> Path:
        """The file of a volume. Raises NotFoundError."""
        if volume not in self._found:
            raise NotFoundError(f"{self.root}: no volume {volume} in the split '{self.split}'")
        return self._found[volume]


@dataclasses.dataclass(frozen=True)
class FastMRIVolume(FastMRIFolder):
    """Volume-wise figures against the file's own target, at fastMRI's masks.

    mask: a kind of `fastmri_masks.KINDS`, or "auto": random for knees, equispaced_fraction for brains, as the
    leaderboards. center_fraction: None for 0.08 at 4 and 0.04 at 8. A test file takes part with its own mask in the
    setting of its own acceleration; without a target it gives images and no figures.
    """

    name: ClassVar[str] = "fastmri-volume"

    mask: str = "auto"
    center_fraction: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask != "auto" and self.mask not in KINDS:
            raise ConfigError(
                f"unknown fastMRI mask {self.mask!r}; known: auto, {', '.join(KINDS)}"
            )

    def settings(self) -> tuple[Setting, ...]:
        """One an acceleration: "4x", "8x"."""
        return tuple(
            Setting(
                f"{r}x",
                {
                    "acceleration": r,
                    "center_fraction": center_fraction_for(r)
                    if self.center_fraction is None
                    else self.center_fraction,
                },
            )
            for r in self.accelerations
        )

    def describe(self) -> dict[str, Any]:
        """The kind of mask and the version of these rules; the centre belongs to the setting."""
        return {"mask": self.mask, "rules": RULES}

    def open(self, volume: str, setting: Setting, run: Path) -> Case | None:
        """The undersampled volume. Reads its target and a few slices; maps are made when they are asked for."""
        path = self.path(volume)
        full, facts = read_slices(path), read_facts(path)
        if facts.own_mask and _nominal(path, facts) != setting.values["acceleration"]:
            return None
        mask, low = (full.mask, None) if facts.own_mask else self._mask(full, facts, setting)
        scan = undersampled(full, mask)
        scan = dataclasses.replace(
            scan, maps=_maps(scan, facts, maps_path(run, volume, setting.name))
        )
        reference = _reference(full, facts)
        if reference is not None and not facts.own_mask:
            _compare_target(full, reference)
        slices = scan.slice_indices
        details = {
            **_details(full, scan, facts, setting), "central_columns": low, "split": self.split,
            "notes": scan.notes,  # grows while methods run
        }  # fmt: skip
        kind = "stored in the file" if facts.own_mask else f"fastMRI {self._kind(volume, facts)}"
        conditions = Conditions(
            target=TARGETS[facts.target], mask=kind, mask_seed="" if facts.own_mask else f"file name {volume}",
            noise_std=scan.noise_std, noise_rule=facts.noise_rule(scan.noise_std), details=details,
        )  # fmt: skip
        return ScanCase(
            scan=scan, conditions=conditions, place=place_of(scan), reference=reference, maps="file",
            scoring=lambda image: volume_figures(image, reference, slices),
        )  # fmt: skip

    def close(self, volume: str, setting: Setting, run: Path) -> None:
        """Remove the maps of the case, unless they are to be kept."""
        if not self.keep_maps:
            discard(maps_path(run, volume, setting.name))

    def _kind(self, volume: str, facts: FileFacts) -> str:
        if self.mask != "auto":
            return self.mask
        return "equispaced_fraction" if facts.is_brain(volume) else "random"

    def _mask(self, full: MRIScan, facts: FileFacts, setting: Setting) -> tuple[Mask, int]:
        """fastMRI's mask for the file, without columns that were never measured."""
        measured = measured_columns(full)
        drawn, low = fastmri_mask(
            self._kind(full.path.name, facts), full.shape[-1], setting.values["acceleration"],
            setting.values["center_fraction"], full.path.name, facts.columns,
        )  # fmt: skip
        return drawn & measured, low


def undersampled(full: MRIScan, mask: Mask) -> MRIScan:
    """The scan cut by a mask, its readout oversampling removed where the mask depends on the column only.

    full: with k-space of (slices, coils, H, W); the result has `recon_shape[0]` rows and no maps.
    """
    slices, coils, height, width = full.shape
    rows = full.recon_shape[0] if mask.ndim == 1 else height

    def load(index: int) -> NDArray[Any]:
        kept = np.where(slice_mask(mask, index), full.kspace[index], np.complex64(0))
        return remove_readout_oversampling(kept, rows).astype(np.complex64, copy=False)

    kspace = LazyStack((slices, coils, rows, width), load)
    return dataclasses.replace(full, kspace=kspace, mask=mask, maps=None, reference=None)


def volume_figures(
    image: NDArray[Any], reference: NDArray[Any] | None, slices: tuple[int, ...]
) -> Figures:
    """NMSE, PSNR and SSIM of a volume as fastMRI's evaluation defines them.

    image, reference: (slices, H, W) magnitudes. Both are cut to the square of the target's width first; the range is
    the maximum of what is left of the target. Raises ShapeError, ConfigError.
    """
    if reference is None:
        raise ConfigError("a volume without a target has no figures")
    side = reference.shape[-1]
    shape = (min(side, reference.shape[-2]), side)
    x, target = center_crop(image, shape), center_crop(reference, shape)
    top = float(target.max())
    pairs = list(zip(x, target, strict=True))
    similar = [ssim(a, b, data_range=top) for a, b in pairs]
    return Figures(
        psnr=psnr(x, target, data_range=top), ssim=float(np.mean(similar)), nmse=nmse(x, target),
        data_range=top, data_range_rule=RANGE_RULE, ssim_variant=SSIM_VARIANT,
        per_slice={
            "slice": [float(i) for i in slices], "ssim": similar,
            "psnr": [psnr(a, b, data_range=top) for a, b in pairs],
        },
    )  # fmt: skip


def _file_name(name: str) -> str:
    return name if name.endswith(".h5") else name + ".h5"


def _nominal(path: Path, facts: FileFacts) -> int:
    """The whole acceleration that a test file is of. Raises InputError."""
    if facts.acceleration is None or not 1 <= facts.acceleration < 1e3:
        raise InputError(
            path,
            f"holds a mask, but its attribute 'acceleration' is {facts.acceleration}",
            "a test file says which acceleration it is of",
        )
    return round(facts.acceleration)


def _maps(scan: MRIScan, facts: FileFacts, path: Path) -> LazyStack:
    """One everywhere for a single coil, else ESPIRiT from the calibration region of the undersampled scan, cached."""
    if facts.single_coil:
        return unit_maps(scan.shape)
    masks = scan.mask if scan.mask.ndim == 3 else scan.mask[None]
    regions = [calibration_lines(mask, scan.shape[-2:]) for mask in masks]
    calib = [[[part.start, part.stop] for part in region] for region in regions]
    key = cache_key(
        content=sha256_of(scan.path), shape=scan.shape, mask=scan.mask.astype(int).tolist(),
        calib=calib if len(calib) > 1 else calib[0],
    )  # fmt: skip
    return cached_maps(
        path, scan.shape, key,
        lambda i: _slice_maps(scan, i, regions[i if len(regions) > 1 else 0]),
    )  # fmt: skip


def _slice_maps(scan: MRIScan, index: int, region: Region) -> NDArray[np.complex64]:
    """Maps of a slice as `restore recon` makes them. Raises ConfigError."""
    kspace = torch.from_numpy(scan.kspace[index])
    mask = torch.from_numpy(np.array(slice_mask(scan.mask, index)))
    middle, found, _ = calibration_data(kspace, mask, region)
    return slice_maps(middle.numpy(), found)


def _reference(full: MRIScan, facts: FileFacts) -> NDArray[np.float32] | None:
    """The target, cut to the image's size where k-space is smaller than it. Raises InputError."""
    if full.reference is None:
        return None
    stack = full.reference
    shape = full.recon_shape
    target = np.stack([center_crop(stack[i], shape) for i in range(len(stack))])
    if not target.max() > 0:
        raise InputError(full.path, f"'{facts.target}' is zero everywhere, so it has no range")
    return target


def _compare_target(full: MRIScan, reference: NDArray[np.float32]) -> None:
    """Note a target that is not the root sum of squares of its own complete k-space, by the middle slice."""
    middle = full.n_slices // 2
    own, target = target_image(full.kspace[middle], full.recon_shape), reference[middle]
    size = float(np.linalg.norm(target))
    apart = float(np.linalg.norm(target - own)) / size if size else 0.0
    if apart > APART:
        factor = float(np.vdot(own, target)) / max(float(np.vdot(own, own)), 1e-300)
        left = float(np.linalg.norm(target - factor * own)) / size
        full.note(
            f"the target is not what its k-space shows: {factor:.3g} times it, and {left:.0%} of it differs besides"
        )


def _details(full: MRIScan, scan: MRIScan, facts: FileFacts, setting: Setting) -> dict[str, Any]:
    """What else a figure depends on, in plain values."""
    padding = 0
    if facts.columns is not None:
        first, end = max(facts.columns[0], 0), min(facts.columns[1], full.shape[-1])
        padding = full.shape[-1] - max(end - first, 0)
    return {
        "acceleration": setting.values["acceleration"],
        "acceleration_measured": round(scan.mask.size / int(scan.mask.sum()), 4),
        "center_fraction": None if facts.own_mask else setting.values["center_fraction"],
        "coils": scan.shape[1], "acquisition": facts.acquisition, "padded_columns": padding,
        "kspace_shape": list(full.shape[-2:]), "image_shape": list(full.recon_shape),
        "readout_oversampling_removed": scan.shape[2] < full.shape[2],
        "maps": "one everywhere (single coil)" if facts.single_coil
        else "ESPIRiT from the calibration region of the undersampled scan",
    }  # fmt: skip
