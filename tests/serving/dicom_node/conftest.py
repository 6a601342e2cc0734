"""A node, and the archive that its series go to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dicom_node_peers import QUICK, Archive, Halving, Running, archive_on

from restore.serving.dicom_node.limits import Limits
from restore.serving.dicom_node.node import Node, NodeSettings
from restore.serving.dicom_node.peers import Peer


@pytest.fixture
def archive() -> Iterator[Archive]:
    """Where derived series go."""
    with archive_on() as found:
        yield found


@pytest.fixture
def node_on(tmp_path: Path, archive: Archive) -> Callable[..., Any]:
    """Run a node over the spool of the test."""

    @contextmanager
    def running(task: Any = None, limits: Limits = QUICK, **settings: Any) -> Iterator[Running]:
        told = {
            "title": "RESTORE", "host": "127.0.0.1", "port": 0, "allow": (Peer("PACS", "127.0.0.1"),),
            "target": Peer("ORTHANC", "127.0.0.1", archive.port), "spool": tmp_path / "spool", "limits": limits,
        } | settings  # fmt: skip
        said: list[str] = []
        node = Node(NodeSettings(**told), task or Halving(), said.append)
        with node.running():
            yield Running(node, said)

    return running
