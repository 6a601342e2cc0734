"""A volume written as a derived DICOM series, one file a slice, in a folder of its own.

May be called by `restore.datasets.open` and by anybody who wants DICOM. Touches the folder it is
given, which appears whole or not at all; a folder that holds anything but a series written here
before is never replaced.

From a volume that was read from DICOM the patient, the study, the frame of reference, the
acquisition and each slice's place are copied, so the result belongs to the patient and **names
them**. New are the series and instance UIDs, the series number (+ 1000) and description, image type
DERIVED, the derivation, references to the source images, intensities and everything computed from
them. Not copied: private tags (their contents are unknown, may be stale and may name people),
overlays, and tags that describe the source's pixels; padding is named anew. A source that was ever compressed with loss
stays marked so. From any other volume an anonymous series with just enough to be read is written.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import dcmwrite
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from restore.datasets.atomic import atomic_folder
from restore.datasets.volume.dicom_files import boundary
from restore.datasets.volume.dicom_frames import SINGLE_FRAME_CLASS
from restore.datasets.volume.dicom_new import anonymous_series, complete
from restore.datasets.volume.dicom_quantise import Stored, quantise
from restore.datasets.volume.dicom_series import DicomSeries
from restore.datasets.volume.dicom_sort import LPS_TO_RAS, plane_of
from restore.datasets.volume.padding import named_padding, padding_of
from restore.datasets.volume.volume import GeometryError, Volume
from restore.errors import ConfigError, InputError, OutputError, ShapeError
from restore.version import __version__

FILE_NAME = re.compile(r"\d{4,}\.dcm")
BYTES_PER_HEADER = 1 << 16
SERIES_NUMBER_OFFSET = 1000
PLACE_TOLERANCE = 0.1
"""How far, in voxels, a slice's header and the volume's affine may disagree."""

CODES = {CTImageStorage: "CT", MRImageStorage: "MR"}
"""Classes whose images are completed -> modality code."""

DERIVED = ("RESTORED", "Restored with a prior or reconstructed", "99RESTORE")
"""How the images were derived: no code of the standard (CID 7203) says it, so it is one of a private scheme."""

PURPOSE = "Research use only, not for diagnosis."

STALE_TAGS = (
    "PixelPaddingValue PixelPaddingRangeLimit SmallestPixelValueInSeries LargestPixelValueInSeries "
    "RedPaletteColorLookupTableDescriptor WindowCenterWidthExplanation VOILUTSequence "
    "VOILUTFunction ModalityLUTSequence RealWorldValueMappingSequence IconImageSequence "
    "DigitalSignaturesSequence MACParametersSequence PixelDataProviderURL PresentationLUTShape "
    "PixelAspectRatio PlanarConfiguration EncapsulatedPixelDataValueTotalLength"
).split()
"""Tags of the source that describe its pixels, not the new ones."""


@dataclass(frozen=True)
class _Series:
    """What all files of one new series share."""

    uid: str
    now: datetime
    description: str


def write(volume: Volume, folder: str | Path, *, description: str = "") -> Path:
    """Write a series of 16-bit images `0001.dcm`, ... in the volume's order; return the folder.

    The stored integers cover the data's range with one slope for the series, so that nothing is
    clipped and no value is off by more than half a slope; whole numbers, and whole steps of the
    source's own slope, are stored without loss. description: what was done, for instance the
    sampler's name. Raises OutputError (also for values that are not finite), ConfigError for
    complex data, GeometryError and ShapeError where volume and header disagree.
    """
    target = Path(folder)
    if np.iscomplexobj(volume.data):
        raise ConfigError(f"{target}: DICOM holds real images; write the magnitude, or NIfTI")
    bad = int(volume.data.size - np.isfinite(volume.data).sum())
    if bad:
        raise OutputError(f"{target}: {bad} of {volume.data.size} voxels are not finite; not saved")
    refuse_foreign(target)
    if isinstance(volume.header, DicomSeries):
        sources = volume.header.slices
        _check_places(volume, sources)
        templates = [_derived(source, volume) for source in sources]
        hints = [
            (_number(sources[0], "RescaleSlope", 1), _number(sources[0], "RescaleIntercept", 0)),
            (1, 0),
        ]
    else:
        templates, hints = anonymous_series(volume), [(1, 0)]
    padding = padding_of(volume)
    measured = None if padding is None else np.logical_not(padding)
    stored = quantise(volume.data, [(float(a), float(b)) for a, b in hints], measured)
    series = _Series(generate_uid(prefix=None), datetime.now(), _plain(description))
    size = stored.pixels.nbytes + len(templates) * BYTES_PER_HEADER
    with atomic_folder(target, expected_bytes=size) as partial:
        for k, image in enumerate(templates):
            _fill(image, series, k, stored, volume)
            encoded = _encoded(image, volume.source or target)
            (partial / f"{k + 1:04d}.dcm").write_bytes(encoded)
    return target


def check_sources(volume: Volume) -> None:
    """Try one header of a volume's DICOM series as that of a derived image, before any work is done.

    Raises InputError naming the tag that is missing or cannot be copied.
    """
    if not isinstance(volume.header, DicomSeries):
        return
    image = _derived(volume.header.slices[0], volume)
    _refuse_unwritable(image, volume.source or "series")


def _refuse_unwritable(image: Dataset, where: str | Path) -> None:
    for tag in image.keys():
        try:
            one = Dataset()
            one[tag] = image[tag]
            one.save_as(BytesIO(), implicit_vr=False, little_endian=True)
        except Exception as cause:  # whatever pydicom raises for a value that is none
            name = keyword_for_tag(tag) or str(tag)
            why = f"the DICOM tag {name} cannot be copied ({type(cause).__name__})"
            raise InputError(where, why, "export the series again, or write NIfTI") from cause


def _number(source: Dataset, keyword: str, default: int) -> float:
    """A number that need not be right: it is a hint, or counts the series of a study."""
    try:
        return float(source.get(keyword) or default)
    except (ValueError, TypeError, OverflowError):
        return float(default)


def _plain(text: str) -> str:
    """Return one line of ASCII without the character that separates DICOM values."""
    return " ".join(text.encode("ascii", "replace").decode().replace("\\", "/").split())


def refuse_foreign(target: Path) -> None:
    """Refuse to replace what this writer did not write (OutputError)."""
    if target.is_dir():
        foreign = [f.name for f in target.iterdir() if not FILE_NAME.fullmatch(f.name)]
        if foreign:
            raise OutputError(
                f"{target}: holds {len(foreign)} other file(s), such as {sorted(foreign)[0]}; "
                "give a new folder"
            )
    elif target.exists():
        raise OutputError(f"{target}: is a file; a DICOM series needs a folder")


def _check_places(volume: Volume, sources: tuple[Dataset, ...]) -> None:
    """The headers' places are written, so they must be the volume's."""
    where = volume.source or "volume"
    if len(sources) != volume.n_slices:
        raise ShapeError(f"{where}: {volume.n_slices} slices, the header describes {len(sources)}")
    for k, source in enumerate(sources):
        plane = plane_of(source, f"slice {k}")
        if plane.shape != volume.data.shape[1:]:
            raise ShapeError(
                f"{where}: slices of {volume.data.shape[1:]}, the header says {plane.shape}"
            )
        ends = np.array([(0, 0), (plane.shape[1] - 1, 0), (0, plane.shape[0] - 1)])
        by_header = plane.position + ends * plane.spacing_mm @ np.stack([plane.row, plane.column])
        index = np.column_stack([ends, np.full(3, k), np.ones(3)])
        by_affine = (index @ (LPS_TO_RAS @ volume.affine).T)[:, :3]
        off = float(np.abs(by_header - by_affine).max())
        if off > PLACE_TOLERANCE * min(volume.spacing_mm):
            raise GeometryError(where, f"slice {k} lies {off:.3g} mm from where its header says")


def _derived(source: Dataset, volume: Volume) -> Dataset:
    """Return the header of a new image of the same place, with references to the source."""
    where = volume.source or "series"
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if not source.get(keyword):
            why = f"the DICOM tag {keyword} is missing: a derived series has to refer to it"
            raise InputError(where, why, "export the series again, or write NIfTI")
    with boundary(Path(where)):
        return _copied(source, volume)


def _copied(source: Dataset, volume: Volume) -> Dataset:
    image = deepcopy(source)
    image.remove_private_tags()
    for keyword in STALE_TAGS:
        if keyword in image:
            del image[keyword]
    for tag in [
        t for t in image.keys() if 0x5000 <= t.group < 0x5100 or 0x6000 <= t.group < 0x6100
    ]:
        del image[tag]
    kind = list(image.get("ImageType") or [])
    image.ImageType = ["DERIVED", kind[1] if len(kind) > 1 else "PRIMARY", *kind[2:]]
    image.SeriesNumber = int(_number(source, "SeriesNumber", 0)) + SERIES_NUMBER_OFFSET
    if volume.n_slices > 1:
        image.SpacingBetweenSlices = f"{volume.spacing_mm[2]:.10g}"
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if source.SOPClassUID in SINGLE_FRAME_CLASS:
        reference.ReferencedFrameNumber = source.InstanceNumber
        image.SOPClassUID = SINGLE_FRAME_CLASS[source.SOPClassUID]
    reference.PurposeOfReferenceCodeSequence = [
        _code("121322", "Source image for image processing operation")
    ]
    image.SourceImageSequence = [reference]
    if image.SOPClassUID in CODES:
        complete(image, CODES[image.SOPClassUID])
    if image.get("PregnancyStatus") not in (None, 1, 2, 3, 4):
        del image["PregnancyStatus"]  # of no meaning that the standard knows
    return image


def _fill(image: Dataset, series: _Series, k: int, stored: Stored, volume: Volume) -> None:
    """Set everything that is new in slice k."""
    image.SOPInstanceUID = generate_uid(prefix=None)
    image.SeriesInstanceUID = series.uid
    image.InstanceNumber = k + 1
    words = series.description.removeprefix("restore ")  # named once
    label = (f" [restore {words}]" if words else " [restore]")[:64]
    image.SeriesDescription = str(image.get("SeriesDescription") or "")[: 64 - len(label)] + label
    done = f"restore {__version__}: {words or 'reconstructed'}. {PURPOSE}"
    image.DerivationDescription = done[:1024]
    image.DerivationCodeSequence = [*(image.get("DerivationCodeSequence") or []), _code(*DERIVED)]
    image.ContributingEquipmentSequence = [
        *(image.get("ContributingEquipmentSequence") or []),
        _equipment(series.now),
    ]
    if volume.header is not None:
        for event in ("InstanceCreation", "Content", "Series"):
            setattr(image, f"{event}Date", series.now.strftime("%Y%m%d"))
            setattr(image, f"{event}Time", series.now.strftime("%H%M%S"))
    _put_pixels(image, stored, k, volume)


def _put_pixels(image: Dataset, stored: Stored, k: int, volume: Volume) -> None:
    pixels = stored.pixels[k]
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = image.get("PhotometricInterpretation") or "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit = 15
    image.PixelRepresentation = int(stored.signed)
    kind = "SS" if stored.signed else "US"
    image.add_new("SmallestImagePixelValue", kind, int(pixels.min()))
    image.add_new("LargestImagePixelValue", kind, int(pixels.max()))
    image.RescaleSlope, image.RescaleIntercept = stored.slope_text, stored.intercept_text
    image.RescaleType = volume.units[:16] or "US"
    if volume.units != "HU" or "WindowCenter" not in image:
        center, width = stored.window
        image.WindowCenter, image.WindowWidth = f"{center:.8g}", f"{width:.8g}"
    _put_padding(image, stored, volume)
    for keyword in ("FloatPixelData", "DoubleFloatPixelData"):
        if keyword in image:
            del image[keyword]
    little = pixels.astype(pixels.dtype.newbyteorder("<"))
    image.add_new("PixelData", "OW", little.tobytes())


def _put_padding(image: Dataset, stored: Stored, volume: Volume) -> None:
    """The padding tags, in the new steps, where voxels of the series hold what the source calls padding."""
    if volume.padding is None:
        return
    held = volume.data[named_padding(volume.data, volume.padding)]
    if held.size == 0:
        return
    kind = "SS" if stored.signed else "US"
    ends = sorted({stored.step(float(held.min())), stored.step(float(held.max()))})
    for keyword, end in zip(("PixelPaddingValue", "PixelPaddingRangeLimit"), ends, strict=False):
        image.add_new(keyword, kind, end)


def _encoded(image: Dataset, where: str | Path) -> bytes:
    """The file of an image. Raises InputError naming a tag of its source that cannot be copied."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = image.SOPClassUID
    meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta = meta
    image.preamble = b"\0" * 128  # the source's may hold another program's file
    buffer = BytesIO()  # in memory: pydicom's errors about values are OSErrors too
    try:
        dcmwrite(buffer, image, enforce_file_format=True)
    except Exception as cause:  # whatever pydicom raises for a value that is none
        _refuse_unwritable(image, where)
        why = f"its headers cannot be copied ({type(cause).__name__})"
        raise InputError(where, why, "export the series again, or write NIfTI") from cause
    return buffer.getvalue()


def _code(value: str, meaning: str, scheme: str = "DCM") -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _equipment(now: datetime) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code("109103", "Modifying Equipment")]
    item.Manufacturer = item.ManufacturerModelName = "restore"
    item.SoftwareVersions = __version__
    item.ContributionDescription = PURPOSE
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    return item
