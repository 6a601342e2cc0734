"""The lazy front door of `restore.operators`."""

from __future__ import annotations

import subprocess
import sys

import pytest

import restore.operators


@pytest.mark.parametrize("name", restore.operators.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(restore.operators, name).__name__ == name
    assert name in dir(restore.operators)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="NoSuchThing"):
        restore.operators.NoSuchThing  # noqa: B018


def test_the_package_alone_does_not_import_torch() -> None:
    code = "import sys, restore.operators; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
