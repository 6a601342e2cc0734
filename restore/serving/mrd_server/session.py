"""One client's conversation: configuration, header, readouts, close; then images, texts, close.

Used by `server`, in a thread of its own. Whatever goes wrong is said to the client in a text and in one line of the
log, and ends this conversation alone. Neither names a patient: the header is never repeated.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from restore.errors import InputError, RestoreError, expected
from restore.serving.mrd_server import configurations
from restore.serving.mrd_server.configurations import Configuration
from restore.serving.mrd_server.connection import Connection, Gone
from restore.serving.mrd_server.images import Values, image_messages
from restore.serving.mrd_server.messages import (
    Kind,
    Message,
    ProtocolError,
    close_message,
    read_message,
    text_message,
)
from restore.serving.mrd_server.reconstruction import reconstruct_spooled
from restore.serving.mrd_server.spool import Spool

LEVELS = {"info": "INFO    ", "warning": "WARNING ", "error": "ERROR   "}
"""How a text for the scanner's log begins."""

FAULT = "a fault of the program; run the server again with -vv to see where it happened"
_logger = logging.getLogger(__name__)
Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Worker:
    """What all conversations share. busy: one reconstruction at a time. values: of `images`."""

    device: torch.device
    folder: Path
    busy: threading.Lock
    values: Values = "float"


@dataclass(frozen=True)
class _Received:
    configuration: Configuration
    notes: tuple[str, ...]
    waveforms: int


def converse(connection: Connection, worker: Worker, tell: Tell) -> None:
    """Hold the conversation to its end; raises nothing. tell: gets lines for the log."""
    begin = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(dir=worker.folder, ignore_cleanup_errors=True) as private:
            said = _conversation(connection, worker, Path(private))
            connection.send(close_message())
        tell(f"{said}, {time.monotonic() - begin:.1f} s")
    except Gone as error:
        tell(f"given up: {error}")
    except Exception as error:  # the boundary: one client's end is not the server's
        sentence = _sentence(error)
        _logger.debug("connection ended", exc_info=True)
        refuse(connection, sentence, tell)
    finally:
        connection.finish()


def _conversation(connection: Connection, worker: Worker, private: Path) -> str:
    """What was done, in words. Raises RestoreError."""
    asked = read_message(connection.read)
    if asked.kind is Kind.CLOSE:
        return "nothing asked"
    if asked.kind not in (Kind.CONFIG_FILE, Kind.CONFIG_TEXT):
        raise ProtocolError(
            f"the first message is {asked.kind.name.lower()}, expected a configuration's name"
        )
    header = read_message(connection.read)
    if header.kind is Kind.CLOSE:
        configurations.chosen(asked.text)
        return "nothing sent"
    if header.kind is not Kind.HEADER:
        raise ProtocolError(
            f"the second message is {header.kind.name.lower()}, expected the XML header"
        )
    with Spool(private, header.text) as spool:
        received = _received(connection, asked.text, spool)
    if not spool.firsts:
        raise ProtocolError(f"{spool.count} readouts came, none of an image")
    for note in received.notes:
        _text(connection, "warning", note)
    with worker.busy:
        count = _reconstructed(connection, worker, spool, received.configuration)
    left = f", {received.waveforms} waveforms not used" if received.waveforms else ""
    return f"{received.configuration.name}: {spool.count} readouts in, {count} images out{left}"


def _received(connection: Connection, asked: str, spool: Spool) -> _Received:
    """Take everything up to the client's close. Raises ConfigError for an unknown name before the first readout."""
    found: tuple[Configuration, list[str]] | None = None
    further, waveforms = "", 0
    while True:
        message = read_message(connection.read)
        if message.kind is Kind.TEXT:
            further = message.text if found is None else further
            continue
        found = found or configurations.chosen(asked, further)
        if message.kind is Kind.CLOSE:
            return _Received(found[0], tuple(found[1]), waveforms)
        if message.kind is Kind.WAVEFORM:
            waveforms += 1
        else:
            spool.add(_readout(message))


def _readout(message: Message) -> NDArray[Any]:
    if message.record is None:
        raise ProtocolError(
            f"a message ({message.kind.name.lower()}) among the readouts: this server takes raw data alone"
        )
    return message.record


def _reconstructed(
    connection: Connection, worker: Worker, spool: Spool, configuration: Configuration
) -> int:
    """Reconstruct image by image and send each at once; how many were sent."""
    sent, said = 0, set[str]()
    for key, select in spool.selections():
        found = reconstruct_spooled(
            spool.path, select, configuration, worker.device, connection.check_time
        )
        for note in found.notes:
            if note not in said:
                _text(connection, "warning", note)
                said.add(note)
        for message in image_messages(found, spool.firsts[key], worker.values, sent):
            connection.send(message)
            sent += 1
    return sent


def _text(connection: Connection, level: str, words: str) -> None:
    connection.send(text_message(LEVELS[level] + words))


def refuse(connection: Connection, sentence: str, tell: Tell) -> None:
    """Tell the log and the client why there are no images; a client that is gone is not told. Raises nothing."""
    tell(f"refused: {sentence}")
    try:
        _text(connection, "error", sentence)
        connection.send(close_message())
    except RestoreError:
        return


def _sentence(error: Exception) -> str:
    """What a client and the log are told, without the names of our folders."""
    if isinstance(error, InputError):
        return error.why + (f" ({error.hint})" if error.hint else "")
    told = expected(error)
    return told[1] if told is not None else f"unexpected {type(error).__name__}: {FAULT}"
