"""Projections in DICOM-CT-PD by hand (pydicom): a helix, a flying focal spot, a cylindrical detector, a sphere."""

from __future__ import annotations

import struct

import numpy as np
import pydicom
from ct_spheres import MU, chord
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROWS, COLUMNS, VIEWS, A_TURN = 8, 72, 48, 24
NEAR, FAR, PITCH, CENTRE = 100.0, 180.0, (2.0, 1.5), (36.25, 4.5)
"""In mm; the central element as (column, row), counted from 1."""
FEED, SLOPE = 6.0, 1e-5


def spot(k: int) -> tuple[float, float, float]:
    """Angle, z and radius by which the focal spot lies beside the focal centre, alternating."""
    return ((0.004, 0.3, 0.2), (-0.004, -0.3, 0.0))[k % 2]


def view(k: int, feed: float = FEED) -> tuple[np.ndarray, float, float]:
    """The line integrals (rows, columns) of view k, its angle and its place along z."""
    phi, place = 0.3 + 2 * np.pi * k / A_TURN, feed * (k - VIEWS / 2) / A_TURN + 1.0
    towards = np.array([-np.sin(phi), np.cos(phi), 0])
    right = np.array([-np.cos(phi), -np.sin(phi), 0])
    fan = (np.arange(COLUMNS) - (CENTRE[0] - 1)) * PITCH[1] / FAR
    z = (np.arange(ROWS) - (CENTRE[1] - 1)) * PITCH[0]
    around = np.sin(fan)[:, None] * right - np.cos(fan)[:, None] * towards
    elements = NEAR * towards + FAR * around + z[:, None, None] * [0, 0, 1] + [0, 0, place]
    angle, up, out = spot(k)
    at, radius = phi + angle, NEAR + out
    source = np.array([-radius * np.sin(at), radius * np.cos(at), place + up])
    return MU * chord(source, elements), phi, place


def projection(k: int, turn: int = 1, raw: bool = False, feed: float = FEED) -> pydicom.Dataset:
    """A file as the collection has them: Rows are detector columns; turn=-1: columns counted the other way."""
    lines, phi, place = view(k, feed)
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = CTImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = f"1.2.3.{k + 1}"
    header.Modality, header.InstanceNumber = "CT", k + 1
    header.Rows, header.Columns, header.BitsAllocated, header.BitsStored = COLUMNS, ROWS, 16, 16
    header.HighBit, header.PixelRepresentation, header.SamplesPerPixel = 15, 0, 1
    header.RescaleSlope, header.RescaleIntercept = str(SLOPE), "0"
    angle, up, out = spot(k)
    centre = [CENTRE[0] if turn == 1 else COLUMNS + 1 - CENTRE[0], CENTRE[1]]
    numbers = {
        0x70291002: PITCH[1], 0x70291006: PITCH[0], 0x70311001: phi % (2 * np.pi), 0x70311002: place, 0x70311003: NEAR,
        0x70311031: FAR, 0x70311033: centre, 0x7033100B: angle, 0x7033100C: up, 0x7033100D: out,
    }  # fmt: skip
    for group in (0x7029, 0x7031, 0x7033, 0x7041):
        header.add_new((group, 0x10), "LO", "TCIA CT-PD")
    for tag, value in numbers.items():
        each = value if isinstance(value, list) else [value]
        packed = struct.pack(f"<{len(each)}f", *each)
        header.add_new(tag, *(("UN", packed) if raw else ("FL", value)))
    header.add_new(0x70291010, "US", ROWS)
    header.add_new(0x70291011, "US", COLUMNS)
    header.add_new(0x7029100B, "CS", "CYLINDRICAL")
    header.add_new(0x70411001, "DS", "0.0192")
    stored = np.rint(lines[:, ::turn].T / SLOPE).astype("<u2")
    header.add_new("PixelData", "OW", stored.tobytes())
    return header
