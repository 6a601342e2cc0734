"""The tutorials run from top to end, and draw the pictures that they show; `make docs` and `make slow` run them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from docs.pages import TUTORIALS, run_page
from PIL import Image

ALIKE = 12.0
"""Mean difference of grey values from the committed picture, of 255. Other processors round otherwise and 60 steps of a
network enlarge that; another image altogether differs by 30 and more."""

PAGES = sorted(p.stem for p in TUTORIALS.glob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_tutorial(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    said = run_page(TUTORIALS / f"{name}.md")
    assert said
    shown, drawn = (
        np.asarray(Image.open(folder / f"{name}.jpg").convert("L"), float)
        for folder in (TUTORIALS / "pictures", tmp_path)
    )
    assert shown.shape == drawn.shape
    assert np.abs(shown - drawn).mean() < ALIKE


def test_there_are_five() -> None:
    assert PAGES == ["ct", "kspace", "method-and-prior", "photographs", "volume"]
