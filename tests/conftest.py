"""Shared fixtures: where the real data and the golden traces lie, and a seeded generator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def _folder(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(
            f"needs the folder '{name}' of the shared material, which is not beside this checkout"
        )
    return path


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real photographs, volumes and k-space."""
    return _folder("data")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of traces of published numerics."""
    return _folder("golden")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
