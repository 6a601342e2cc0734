"""BART's pairs of files as BART itself writes them, for tests of several rooms."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_cfl(path: Path, values: np.ndarray) -> Path:
    """NAME.cfl and NAME.hdr: sizes in a text, numbers with the first axis fastest."""
    sizes = [*values.shape, *[1] * (16 - values.ndim)]
    path.with_suffix(".hdr").write_text(
        f"# Dimensions\n{' '.join(map(str, sizes))} \n# Command\nphantom\n"
    )
    values.astype(np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))
    return path.with_suffix(".cfl")
