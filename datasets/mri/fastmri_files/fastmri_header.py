"""The ISMRMRD XML header of a fastMRI file: matrix sizes, field of view, measured columns.

May be called by the fastMRI reader and writer; touches nothing but its arguments. The text is
untrusted: it is bounded by the caller, and a document type or entity declaration is refused, so
that nothing can be expanded or fetched.
"""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMESPACE = "http://www.ismrm.org/ISMRMRD"


@dataclass(frozen=True)
class Header:
    """What the reconstruction needs of an ISMRMRD header.

    encoded, recon: matrix (x = readout, y = phase encode, z); fov_mm, encoded_fov_mm: their fields of
    view (x, y, z); columns: first and one past the last measured phase-encode column, or None; partition: where the
    first one along kz lies;
    trajectory, calibration: in small letters, "" where the header does not say. channels: receivers, factor: how many
    times fewer phase-encode lines; None and 1 where the header does not say. encodings: how many it describes; this is
    one of them.
    """

    encoded: tuple[int, int, int]
    recon: tuple[int, int, int]
    fov_mm: tuple[float, float, float]
    columns: tuple[int, int] | None
    encoded_fov_mm: tuple[float, float, float]
    trajectory: str = ""
    channels: int | None = None
    factor: float = 1.0
    encodings: int = 1
    partition: int = 0
    calibration: str = ""

    def turned(self) -> Header:
        """With the readout along columns and the phase encoding along rows; measured columns are then not known."""

        def turn(values: Any) -> Any:
            return values[1], values[0], values[2]

        return dataclasses.replace(
            self, encoded=turn(self.encoded), recon=turn(self.recon), fov_mm=turn(self.fov_mm),
            encoded_fov_mm=turn(self.encoded_fov_mm), columns=None,
        )  # fmt: skip

    def pitch(self, size: tuple[int, int]) -> tuple[float, float]:
        """(row, column) distance of pixels in mm of images made from k-space of `size` (H, W).

        Samples lie 1 / (encoded field of view) apart, so pixels are that field over their number. K-space of the
        image's matrix, and not the encoded one, had its oversampling removed.
        """
        down, across = (
            (recon if n == small and n != large else encoded) / n
            for n, small, large, recon, encoded in zip(
                size, self.recon[:2], self.encoded[:2], self.fov_mm[:2], self.encoded_fov_mm[:2],
                strict=True,
            )
        )  # fmt: skip
        return down, across

    def affine(self, shape: tuple[int, int], kspace: tuple[int, int]) -> NDArray[np.float64]:
        """Voxel (column, row, slice) -> mm, centred in the plane; the orientation is not in the
        file.

        shape: (rows, columns) of the image; kspace: those of k-space. Rows run along x, columns along y of the header.
        """
        down, across = self.pitch(kspace)
        flat = self.encoded[2] < 2
        through = (
            self.fov_mm[2] / self.recon[2] if flat else self.encoded_fov_mm[2] / self.encoded[2]
        )
        affine = np.diag([across, down, through, 1.0])
        affine[:2, 3] = -0.5 * affine[[0, 1], [0, 1]] * (np.array(shape[::-1]) - 1)
        return affine


def parse_header(text: str, size: tuple[int, int] | None = None) -> Header:
    """Read the header. size: (H, W) of k-space: of several encodings the first of this matrix is taken, else the first.

    Raises ValueError with a reason for anything malformed.
    """
    if "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
        raise ValueError("document type or entity declarations are refused")
    try:
        root = ET.fromstring(text)  # noqa: S314 (declarations are refused above, the size is bounded)
    except ET.ParseError as error:
        raise ValueError(f"malformed XML: {error}") from error
    parts = root.findall(_path("encoding"))
    if not parts:
        raise ValueError("encoding is missing")
    if size is not None and len(parts) > 1:
        fitting = [p for p in parts if _triple(p, "encodedSpace", "matrixSize")[:2] == size]
        parts = [*fitting, *parts][: len(parts)]
    found = _encoding(parts[0])
    channels = root.findtext(_path("acquisitionSystemInformation", "receiverChannels"), "").strip()
    return dataclasses.replace(
        found, encodings=len(parts), channels=int(channels) if channels.isdecimal() else None
    )


def _encoding(part: ET.Element) -> Header:
    encoded, recon = (_triple(part, s, "matrixSize") for s in ("encodedSpace", "reconSpace"))
    fov = _triple(part, "reconSpace", "fieldOfView_mm")
    told = part.find(_path("encodedSpace", "fieldOfView_mm")) is not None
    encoded_fov = _triple(part, "encodedSpace", "fieldOfView_mm") if told else fov
    if min(encoded + recon) < 1 or not all(f > 0 for f in fov + encoded_fov):
        raise ValueError("matrix sizes and fields of view must be positive")
    columns, partition = None, 0
    limit = part.find(_path("encodingLimits", "kspace_encoding_step_1"))
    if limit is not None:
        centre, last = _number(limit, "center"), _number(limit, "maximum")
        start = int(encoded[1]) // 2 - int(centre)
        columns = (start, start + int(last) + 1)
    through = part.find(_path("encodingLimits", "kspace_encoding_step_2"))
    if through is not None and encoded[2] > 1:
        partition = int(encoded[2]) // 2 - int(_number(through, "center"))
    trajectory = (part.findtext(_path("trajectory")) or "").strip().lower()
    factors = part.find(_path("parallelImaging", "accelerationFactor"))
    factor = 1.0 if factors is None else _number(factors, "kspace_encoding_step_1")
    calibration = (part.findtext(_path("parallelImaging", "calibrationMode")) or "").strip().lower()
    return Header(
        _integers(encoded), _integers(recon), fov, columns, encoded_fov, trajectory, factor=factor,
        partition=partition, calibration=calibration,
    )  # fmt: skip


def format_header(
    shape: tuple[int, int],
    spacing_mm: tuple[float, float, float],
    recon: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
    partitions: int = 1,
) -> str:
    """A minimal header for k-space of `shape` (H, W).

    spacing_mm: of (column, row, slice). recon: (rows, columns) of the final image, smaller than
    `shape` where the field of view was oversampled. columns: first and one past the last measured
    one where others are zero padding. Default: all of `shape`. partitions: along kz, one for slices.
    """
    width = shape[1]
    across, down, through = spacing_mm
    first, end = columns or (0, width)
    root = ET.Element("ismrmrdHeader", xmlns=NAMESPACE)
    encoding = ET.SubElement(root, "encoding")
    for name, (rows, cols) in (("encodedSpace", shape), ("reconSpace", recon or shape)):
        space = ET.SubElement(encoding, name)
        for tag, values in (
            ("matrixSize", (rows, cols, partitions)),
            ("fieldOfView_mm", (rows * down, cols * across, partitions * through)),
        ):
            item = ET.SubElement(space, tag)
            for axis, value in zip("xyz", values, strict=True):
                ET.SubElement(item, axis).text = str(value)
    limits = ET.SubElement(ET.SubElement(encoding, "encodingLimits"), "kspace_encoding_step_1")
    for tag, value in (
        ("minimum", 0),
        ("maximum", end - first - 1),
        ("center", width // 2 - first),
    ):
        ET.SubElement(limits, tag).text = str(value)
    ET.SubElement(encoding, "trajectory").text = "cartesian"
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def _path(*tags: str) -> str:
    return "/".join(f"{{*}}{tag}" for tag in tags)


def _triple(part: ET.Element, space: str, tag: str) -> tuple[float, float, float]:
    item = part.find(_path(space, tag))
    if item is None:
        raise ValueError(f"encoding/{space}/{tag} is missing")
    return _number(item, "x"), _number(item, "y"), _number(item, "z")


def _number(item: ET.Element, tag: str) -> float:
    text = item.findtext(f"{{*}}{tag}")
    if text is None:
        raise ValueError(f"{tag} is missing in {item.tag}")
    value = float(text)
    if not np.isfinite(value) or abs(value) > 1e6:
        raise ValueError(f"{tag} in {item.tag} is {text}")
    return value


def _integers(values: tuple[float, float, float]) -> tuple[int, int, int]:
    x, y, z = (int(v) for v in values)
    return x, y, z
