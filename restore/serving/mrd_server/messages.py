"""Messages of the MRD streaming protocol, read and written one at a time, none larger than was allowed beforehand.

Used by `session`. A message is a number of 16 bits and what belongs to it, all little-endian; records lie in it as in
files (`datasets/mri/mrd/mrd_types.py`). What comes is untrusted: every length is held against a limit before that.
The protocol is that of ISMRMRD's own serializer and of FIRE, against which tests/serving holds this.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.mrd.mrd_types import ACQUISITION, ACQUISITION_HEAD, IMAGE_HEAD
from restore.errors import RestoreError

CONFIG_NAME_BYTES = 1024
LARGEST_TEXT = 1 << 20
LARGEST_XML = 1 << 24
LARGEST_RECORD = 1 << 28
"""Bytes of a text, of the header, and of the samples of one readout."""

WAVEFORM_HEAD = np.dtype([
    ("version", "<u2"), ("unused", "V6"), ("flags", "<u8"), ("measurement_uid", "<u4"), ("scan_counter", "<u4"),
    ("time_stamp", "<u4"), ("number_of_samples", "<u2"), ("channels", "<u2"), ("sample_time_us", "<f4"),
    ("waveform_id", "<u2"), ("end", "V2"),
])  # fmt: skip
"""As compilers lay it out: this record alone is not packed."""


class Kind(IntEnum):
    """What a message is."""

    CONFIG_FILE = 1
    CONFIG_TEXT = 2
    HEADER = 3
    CLOSE = 4
    TEXT = 5
    ACQUISITION = 1008
    IMAGE = 1022
    WAVEFORM = 1026


class ProtocolError(RestoreError):
    """What came is no message, is too large, or ends within one."""

    exit_code = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Message:
    """kind; text: of names, texts and headers; record: (1,) of mrd_types.ACQUISITION, of acquisitions alone."""

    kind: Kind
    text: str = ""
    record: NDArray[Any] | None = None


def read_message(read: Callable[[int], bytes]) -> Message:
    """The next message; images, which nothing here takes, have their kind alone and stay unread.

    read(n): the next n bytes, all of them. Raises ProtocolError, and what `read` raises.
    """
    (number,) = struct.unpack("<H", read(2))
    try:
        kind = Kind(number)
    except ValueError as cause:
        known = ", ".join(f"{k.value} ({k.name.lower()})" for k in Kind)
        raise ProtocolError(
            f"a message is numbered {number}, known are {known}: is the peer an MRD client?"
        ) from cause
    if kind is Kind.CONFIG_FILE:
        return Message(kind, _decoded(read(CONFIG_NAME_BYTES)))
    if kind in (Kind.CONFIG_TEXT, Kind.TEXT, Kind.HEADER):
        most = LARGEST_XML if kind is Kind.HEADER else LARGEST_TEXT
        (length,) = struct.unpack("<I", read(4))
        return Message(kind, _decoded(read(_allowed(length, most, kind))))
    if kind is Kind.ACQUISITION:
        return Message(kind, record=_acquisition(read))
    if kind is Kind.WAVEFORM:
        head = np.frombuffer(read(WAVEFORM_HEAD.itemsize), WAVEFORM_HEAD)[0]
        length = 4 * int(head["number_of_samples"]) * int(head["channels"])
        read(_allowed(length, LARGEST_RECORD, kind))
    return Message(kind)


def text_message(text: str) -> bytes:
    """A text, ended by a zero byte, as clients written in C expect it."""
    raw = text.encode() + b"\0"
    return struct.pack("<HI", Kind.TEXT, len(raw)) + raw


def image_message(head: NDArray[Any], attributes: str, values: NDArray[Any]) -> bytes:
    """An image. head: () of IMAGE_HEAD, whose sizes and type are those of values (channels, z, y, x)."""
    raw = attributes.encode()
    whole = np.array(head, IMAGE_HEAD)
    whole["attribute_string_len"] = len(raw)
    data = np.ascontiguousarray(values).tobytes()
    return b"".join(
        (struct.pack("<H", Kind.IMAGE), whole.tobytes(), struct.pack("<Q", len(raw)), raw, data)
    )


def close_message() -> bytes:
    """The last message of either side."""
    return struct.pack("<H", Kind.CLOSE)


def _acquisition(read: Callable[[int], bytes]) -> NDArray[Any]:
    """A readout as it lies in files: (1,) of ACQUISITION."""
    found = np.zeros(1, ACQUISITION)
    found["head"] = np.frombuffer(read(ACQUISITION_HEAD.itemsize), ACQUISITION_HEAD)
    samples, channels, dimensions = (
        int(found["head"][0][name])
        for name in ("number_of_samples", "active_channels", "trajectory_dimensions")
    )
    for name, count in (("traj", samples * dimensions), ("data", 2 * samples * channels)):
        raw = read(_allowed(4 * count, LARGEST_RECORD, Kind.ACQUISITION))
        found[name][0] = np.frombuffer(raw, np.float32)
    return found


def _allowed(length: int, most: int, kind: Kind) -> int:
    """The length, where it may be. Raises ProtocolError."""
    if length > most:
        raise ProtocolError(
            f"a message ({kind.name.lower()}) of {length} bytes, at most {most} are taken: is it damaged?"
        )
    return length


def _decoded(raw: bytes) -> str:
    """The text before the first zero byte. Raises ProtocolError."""
    try:
        return raw.split(b"\0", 1)[0].decode()
    except UnicodeDecodeError as cause:
        raise ProtocolError("a text is no UTF-8") from cause
