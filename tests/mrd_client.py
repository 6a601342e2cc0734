"""A client of the MRD streaming protocol for tests, by ISMRMRD's own serializer."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ismrmrd
from ismrmrd.serialization import ConfigFile, ProtocolDeserializer, ProtocolSerializer


class Client:
    """A connection; what came back is sorted into images and texts by `answer`."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=120)
        self._out, self._in = self.socket.makefile("wb"), self.socket.makefile("rb")
        self.serializer = ProtocolSerializer(self._out)

    def send(self, *things: Any) -> None:
        """Messages in their order; bytes as they are."""
        for thing in things:
            if isinstance(thing, bytes):
                self._out.write(thing)
            else:
                self.serializer.serialize(thing)
        self._out.flush()

    def answer(self) -> tuple[list[Any], list[str]]:
        """Images and texts up to the server's close."""
        found = list(ProtocolDeserializer(self._in).deserialize())
        images = [item for item in found if isinstance(item, ismrmrd.Image)]
        return images, [str(item).rstrip("\0") for item in found if isinstance(item, str)]

    def close(self) -> None:
        for thing in (self._out, self._in, self.socket):
            thing.close()


def header_and_readouts(path: Path) -> tuple[Any, list[Any]]:
    """Those of an ISMRMRD file, by its own library."""
    with ismrmrd.File(str(path), mode="r") as file:
        group = file["dataset"]
        return group.header, list(group.acquisitions)


def reconstructed(
    address: tuple[str, int], configuration: str, header: Any, readouts: Iterable[Any], *between: Any
) -> tuple[list[Any], list[str]]:  # fmt: skip
    """A whole conversation."""
    client = Client(address)
    client.send(ConfigFile(configuration), header, *between, *readouts)
    client.serializer.close()
    found = client.answer()
    client.close()
    return found
