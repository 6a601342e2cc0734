"""A result of the verb, and a page of it on a port of this machine."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from restore.datasets.open import write
from restore.datasets.simulate.phantom import head_phantom
from restore.report.study import Study
from restore.serving.page.server import PageServer
from restore.serving.page.shown import Shown, open_result, study_of_volumes

LARGEST = 1 << 20


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head as head.nii.gz, brighter by ten as second.nii.gz, and elsewhere as far.nii.gz; nobody may change them."""
    folder = tmp_path_factory.mktemp("volumes")
    head = head_phantom((6, 32, 28))
    write(head, folder / "head.nii.gz")
    write(head.with_data(head.data + 10), folder / "second.nii.gz")
    moved = head.affine.copy()
    moved[:3, 3] += 10_000
    write(dataclasses.replace(head, affine=moved), folder / "far.nii.gz")
    return folder


@contextmanager
def serving(path: Path) -> Iterator[PageServer]:
    result = open_result(path)

    def compare(other: Path, name: str) -> Study:
        return study_of_volumes(result, path, Shown(name, open_result(other).volume, {}))

    with PageServer(study_of_volumes(result, path), compare, 0, LARGEST) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        yield server
        server.end()
        thread.join()


@pytest.fixture(scope="session")
def serve() -> Callable[[Path], object]:
    return serving
