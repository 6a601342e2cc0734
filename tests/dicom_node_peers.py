"""Peers of a DICOM node in this process, and a task that takes no time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from restore.datasets.open import read, write
from restore.errors import RestoreError
from restore.serving.dicom_node.limits import Limits
from restore.serving.dicom_node.listener import load_network
from restore.serving.dicom_node.node import Node
from restore.serving.dicom_node.task import Outcome

PATIENCE_S = 60.0
"""For what takes hundredths of seconds on an idle machine."""

QUICK = Limits(
    quiet_s=0.3,
    patience_s=0.6,
    silence_s=10.0,
    free_bytes=0,
    tries=3,
    pause_s=0.05,
    longest_pause_s=0.1,
)


class Halving:
    """A task: half of every intensity, as a derived series. `codes`: exit codes to give first, once each."""

    name = "halving"

    def __init__(self, *codes: int) -> None:
        self.codes, self.runs = list(codes), 0

    def run(self, source: Path, out: Path) -> Outcome:
        self.runs += 1
        if self.codes:
            return Outcome(self.codes.pop(0), "it would not do")
        try:
            volume = read(source)
            write(volume.with_data(volume.data / 2), out, description="halving", overwrite=True)
        except RestoreError as error:
            return Outcome(error.exit_code, str(error))
        return Outcome(0)

    def stop(self) -> None:
        """Nothing to stop."""


@dataclass
class Archive:
    """A peer that takes images, unless told otherwise: statuses are what it answers first, once each."""

    port: int = 0
    images: list[Dataset] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    server: Any = None

    def stop(self) -> None:
        """No longer there for anybody."""
        if self.server is not None:
            self.server.shutdown()
            self.server = None

    def on_store(self, event: Any) -> int:
        status = self.statuses.pop(0) if self.statuses else 0
        if status == 0:
            self.images.append(pydicom.dcmread(BytesIO(event.encoded_dataset())))
        return status


@contextmanager
def archive_on(port: int = 0, title: str = "ORTHANC") -> Iterator[Archive]:
    network = load_network()
    archive = Archive()
    entity = network.AE(title)
    entity.supported_contexts = network.StoragePresentationContexts
    entity.require_called_aet = True
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(network.evt.EVT_C_STORE, archive.on_store)]
    )
    archive.port, archive.server = server.server_address[1], server
    try:
        yield archive
    finally:
        archive.stop()


@dataclass
class Running:
    """A node at work, and what it said."""

    node: Node
    said: list[str]

    @property
    def studies(self) -> list[Any]:
        return self.node.spool.studies

    def until(self, *states: str, count: int = 1) -> list[Any]:
        """Wait until so many studies are in one of the states; returns them."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            found = [s for s in self.studies if s.state in states]
            if len(found) >= count:
                return found
            time.sleep(0.01)
        raise AssertionError(f"never {states}: {[s.state for s in self.studies]}, said {self.said}")

    def call(self, title: str = "PACS", called: str = "RESTORE") -> Any:
        """An association with the node."""
        network = load_network()
        entity = network.AE(title)
        entity.add_requested_context(network.sop_class.Verification)
        for context in network.StoragePresentationContexts:
            if "Image" in context.abstract_syntax.name or "SR" in context.abstract_syntax.name:
                if len(entity.requested_contexts) < 100:
                    entity.add_requested_context(context.abstract_syntax, ExplicitVRLittleEndian)
        return entity.associate("127.0.0.1", self.node.port, ae_title=called)

    def send(self, images: list[Dataset], title: str = "PACS") -> list[int]:
        """Store images; the statuses of the node."""
        association = self.call(title)
        assert association.is_established
        statuses = [association.send_c_store(image).Status for image in images]
        association.release()
        return statuses
