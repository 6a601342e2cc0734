"""Siemens raw data as it is laid out in public readers of it, for tests: no scanner's file is at hand.

VB: a header, then for every readout and channel a record of 128 bytes and samples. VD: a list of measurements, each
with a header, and for every readout a record of 192 bytes and for every channel one of 32 and samples.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from restore.datasets.mri.mrd.twix_layout import CHANNEL, END, VB, VD

NOISE, REFLECT, SYNC, REFERENCE = 1 << 25, 1 << 24, 1 << 5, 1 << 22

PROTOCOL = {
    "sKSpace.lBaseResolution": "24", "sKSpace.lPhaseEncodingLines": "20", "sKSpace.ucDimension": "0x2",
    "sKSpace.ucTrajectory": "0x1", "sSliceArray.lSize": "2", "sSliceArray.asSlice[0].dReadoutFOV": "48.0",
    "sSliceArray.asSlice[0].dPhaseFOV": "60.0", "sSliceArray.asSlice[0].dThickness": "5.0",
    "sRXSPEC.alDwellTime[0]": "5000", "tPatientName": '"SECRET^NAME"',
}  # fmt: skip


def header(protocol: dict[str, str], vd: bool) -> bytes:
    """The protocol as one named buffer; VB's is told from VD by its length."""
    lines = "".join(f"{name}\t = \t{value}\n" for name, value in protocol.items())
    text = f"### ASCCONV BEGIN ###\n{lines}### ASCCONV END ###\n".encode("latin-1")
    body = b"MeasYaps\0" + struct.pack("<I", len(text)) + text
    size = -(-max(len(body) + 8, 0 if vd else 12000) // 32) * 32
    return struct.pack("<II", size, 1) + body.ljust(size - 8, b"\0")


def readout(data: np.ndarray, vd: bool, flags: int = 0, **fields: Any) -> bytes:
    """A readout (channels, samples) with the fields of its record."""
    kind = VD if vd else VB
    record = np.zeros(1, kind)
    record["flags"], record["samples"], record["channels"] = flags, data.shape[1], data.shape[0]
    record["centre_column"], record["quaternion"] = data.shape[1] // 2, (1, 0, 0, 0)
    for name, value in fields.items():
        record[name] = value
    each = CHANNEL if vd else kind.itemsize
    record["length"] = (kind.itemsize if vd else 0) + len(data) * (each + 8 * data.shape[1])
    before = bytes(CHANNEL) if vd else record.tobytes()
    channels = b"".join(before + row.astype(np.complex64).tobytes() for row in data)
    return (record.tobytes() if vd else b"") + channels


def other(vd: bool, flags: int, content: bytes = bytes(160)) -> bytes:
    """A record without samples: the last one, or the scanner's own data."""
    record = np.zeros(1, VD if vd else VB)
    record["flags"], record["length"] = flags, record.itemsize + len(content)
    return record.tobytes() + content


def write_twix(
    path: Path, scans: list[list[bytes]], vd: bool = True, protocol: dict[str, str] | None = None, ended: bool = True
) -> Path:  # fmt: skip
    """scans: the readouts of each measurement; VB has one."""
    end = [other(vd, END)] if ended else []
    whole = [
        header({**PROTOCOL, **(protocol or {})}, vd) + b"".join([*readouts, *end])
        for readouts in scans
    ]
    if not vd:
        path.write_bytes(whole[0])
        return path
    entries, at = b"", 10240
    for k, content in enumerate(whole):
        names = b"SECRET^NAME".ljust(64, b"\0") + b"protocol".ljust(64, b"\0")
        entries += struct.pack("<IIQQ", k, k, at, len(content)) + names
        at += -(-len(content) // 512) * 512
    head = struct.pack("<II", 0, len(scans)) + entries
    padded = b"".join(content.ljust(-(-len(content) // 512) * 512, b"\0") for content in whole)
    path.write_bytes(head.ljust(10240, b"\0") + padded)
    return path
