"""Training images from files: pictures, NIfTI and DICOM volumes, HDF5 scans, as lists of 2-D images with what to say.

Used by `restore train` and the validation. Everything is in [0, 1] on loading: photographs by their bit depth, slices
as `restore.training.slices` has it. Data that teach nothing are refused, data that surprise are noted.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from restore.datasets.open import read_image
from restore.datasets.picture.images import SUFFIXES, Picture
from restore.errors import ConfigError, NotFoundError
from restore.scaling import PICTURE_RULE
from restore.training.slices import COMPLEX, Slices, slices_of

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as the denoising literature's grey images


@dataclasses.dataclass(frozen=True)
class Source:
    """One folder or file with its share of the crops.

    images: (channels, H, W); 1 or 3 channels, or 2 for re and im. photographs: never scaled or negated on drawing.
    modality: "MR", "CT", both as "CT, MR", or "". scaling: by modality, or "picture", how intensities became [0, 1].
    notes: what was left out or assumed.
    """

    images: tuple[np.ndarray, ...]
    weight: float
    photographs: bool
    name: str
    notes: tuple[str, ...] = ()
    modality: str = ""
    scaling: dict[str, str] = dataclasses.field(default_factory=dict)


def load_source(path: str | Path, weight: float, channels: int, modality: str = "") -> Source:
    """Read a folder of pictures, of NIfTI or HDF5 files, or of a DICOM series; or a single file of these kinds.

    channels: of the network: 1, 3 for colour, 2 for complex images (`slices`; photographs stay real for those).
    modality: "MR" or "CT" of a NIfTI file, which does not say; by default one that reaches below -500 is CT in HU. An
    HDF5 file is a scan: its reference images where it holds them, else the root sum of squares of its coils; for
    complex images its combined coils. Raises InputError, NotFoundError, ConfigError.
    """
    path = Path(path)
    if not path.exists():
        raise NotFoundError(f"{path}: no such file or folder")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    pictures = [p for p in files if _is_picture(p)]
    volumes = [p for p in files if _is_volume_file(p)] if path.is_dir() else []
    if pictures and volumes:
        raise ConfigError(
            f"{path}: holds {len(pictures)} pictures and {len(volumes)} volumes or scans; put them into two folders "
            "and give both, each with its share"
        )
    passed = _passed_over(files, [*pictures, *volumes]) if path.is_dir() else ()
    if pictures:
        return _photographs(path, pictures, weight, channels, passed)
    if channels == 3:
        raise ConfigError(
            f"{path}: volumes train one-channel models; give --channels 1 or a folder of photographs"
        )
    found = [slices_of(p, channels, modality) for p in volumes or [path]]
    scaling = {s.modality: s.scaling for s in found}
    return Source(
        tuple(image for s in found for image in s.images), weight, False, path.name,
        _said_of_slices(found) + passed * bool(volumes), ", ".join(sorted(scaling)), scaling,
    )  # fmt: skip


def _photographs(
    path: Path, pictures: Sequence[Path], weight: float, channels: int, passed: tuple[str, ...]
) -> Source:
    found = [read_image(p) for p in pictures]
    wanted = 1 if channels == COMPLEX else channels
    images = tuple(_channels(p.data, wanted) for p in found)
    notes = _said_of_pictures(found, wanted) + passed
    return Source(images, weight, True, path.name, notes, scaling={"picture": PICTURE_RULE})


def _said_of_pictures(pictures: Sequence[Picture], channels: int) -> tuple[str, ...]:
    """What reading changed or left out, once with the number of pictures; transparency, which no crop knows of."""
    said = [note for p in pictures for note in p.notes]
    clear = sum(p.alpha is not None for p in pictures)
    said += ["partly transparent: colours are learnt as if nothing were clear"] * clear
    grey = sum(p.data.shape[0] == 1 for p in pictures)
    if channels == 1:
        said += ["in colour: their luminance is learnt"] * (len(pictures) - grey)
    else:
        said += ["grey: learnt as colour with three equal channels"] * grey
    return tuple(
        f"{count} of {len(pictures)} pictures: {note}" for note, count in Counter(said).items()
    )


def _said_of_slices(files: Sequence[Slices]) -> tuple[str, ...]:
    """How many slices were left out, by reason; what was assumed, once with the number of files."""
    left_out = Counter[str]()
    for found in files:
        left_out.update(found.left_out)
    every = sum(left_out.values()) + sum(len(f.images) for f in files)
    notes = [f"{n} of {every} slices left out: {reason}" for reason, n in left_out.items()]
    for note, count in Counter(note for f in files for note in f.notes).items():
        notes.append(note if len(files) == 1 else f"{count} of {len(files)} files: {note}")
    return tuple(notes)


def check_learnable(sources: Iterable[Source], crop: int) -> tuple[str, ...]:
    """Refuse images that teach nothing, and say what is odd about the others. Raises ConfigError.

    Refused: a single image, all of a source constant, all of a source smaller than a crop, values that are not finite
    in half precision.
    """
    sources = list(sources)
    if sum(len(s.images) for s in sources) < 2:
        raise ConfigError(
            f"{', '.join(s.name for s in sources)}: one image is no training set: its prior would know nothing else"
        )
    return tuple(note for s in sources if s.images for note in _check_source(s, crop))


def _check_source(source: Source, crop: int) -> list[str]:
    count, notes = len(source.images), []
    even = sum(bool(i.min() == i.max()) for i in source.images)
    if even == count:
        raise ConfigError(
            f"{source.name}: every one of its {count} images is constant; there is nothing to learn"
        )
    if even:
        notes.append(f"{source.name}: {even} of {count} images are constant")
    sides = [min(i.shape[-2:]) for i in source.images]
    small = sum(side < crop for side in sides)
    if small == count:
        raise ConfigError(
            f"{source.name}: all of its {count} images are smaller than the crop of {crop} pixels; give --crop "
            f"{max(sides) // 8 * 8 or max(sides)} or less"
        )
    if small:
        notes.append(
            f"{source.name}: {small} of {count} images are smaller than the crop of {crop} pixels and are continued "
            "by reflection"
        )
    sizes = sorted({i.shape[-2:] for i in source.images}, key=lambda s: (s[0] * s[1], s))
    if len(sizes) > (1 if source.photographs else 3):  # a volume has three planes
        (a, b), (c, d) = sizes[0], sizes[-1]
        notes.append(
            f"{source.name}: images of {len(sizes)} sizes, from {a} x {b} to {c} x {d} pixels: all at their own, none "
            "is resampled"
        )
    return notes


def _passed_over(files: Sequence[Path], read: Sequence[Path]) -> tuple[str, ...]:
    """A note on files of a folder that are not read, if there are any."""
    others = [p for p in set(files) - set(read) if p.is_file() and not p.name.startswith(".")]
    if not others:
        return ()
    ends = ", ".join(sorted({p.suffix.lower() or "without suffix" for p in others})[:6])
    return (f"{len(others)} other files of the folder are not read: {ends}",)


VOLUMES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".h5", ".hdf5")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _is_volume_file(path: Path) -> bool:
    # LoDoPaB-CT's ground truth is read with its observation.
    truth = path.name.startswith("ground_truth_")
    return path.name.lower().endswith(VOLUMES) and not truth


def _channels(image: np.ndarray, channels: int) -> np.ndarray:
    if channels == 1 and image.shape[0] == 3:
        image = np.tensordot(LUMINANCE, image, axes=1)[None]
    elif channels == 3 and image.shape[0] == 1:
        image = np.repeat(image, 3, axis=0)
    return np.round(image * 255).astype(np.uint8)
