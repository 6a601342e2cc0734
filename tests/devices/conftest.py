"""CUDA devices that are not there, for every test of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_device import FakeDevices


@pytest.fixture(autouse=True)
def devices() -> Iterator[None]:
    with FakeDevices():
        yield
