"""Call the BART programs on numpy arrays, through its file format in a temporary folder.

BART's dimensions run x, y, z, coil with the first the fastest, so that a C-ordered array (coil, z,
y, x) is its file byte for byte. https://mrirecon.github.io/bart/
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def program() -> str | None:
    """Path of the program, or None where it is not installed."""
    return shutil.which("bart")


def version() -> str:
    """What `bart version` prints."""
    done = subprocess.run([program() or "bart", "version"], capture_output=True, text=True)
    return done.stdout.strip()


class Bart:
    """A temporary folder with BART's files in it; use as a context manager."""

    def __enter__(self) -> Bart:
        self._folder = tempfile.TemporaryDirectory(prefix="bart")
        self.folder = Path(self._folder.name)
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    def put(self, name: str, array: NDArray[np.complexfloating]) -> None:
        """Write an array (H, W) or (coils, H, W)."""
        planes = array.reshape(-1, 1, *array.shape[-2:]).astype(np.complex64)
        dims = " ".join(str(n) for n in planes.shape[::-1])
        (self.folder / f"{name}.hdr").write_text(f"# Dimensions\n{dims}\n")
        planes.tofile(self.folder / f"{name}.cfl")

    def get(self, name: str) -> NDArray[np.complex64]:
        """Read an array without its dimensions of length one."""
        lines = (self.folder / f"{name}.hdr").read_text().splitlines()
        dims = [int(n) for n in lines[1].split()]
        values = np.fromfile(self.folder / f"{name}.cfl", np.complex64)
        return values.reshape(dims[::-1]).squeeze()

    def run(self, *arguments: str | int | float) -> None:
        """`bart arguments` with the folder as its working directory."""
        command = [program() or "bart", *map(str, arguments)]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)
