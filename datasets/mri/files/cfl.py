"""BART's arrays: NAME.cfl holds complex numbers with the first axis fastest, NAME.hdr their sizes in a text.

May be called by whoever reads or writes such files; touches the two files of a name. What the axes mean: 0 readout, 1
and 2 phase encoding, 3 coils, 4 sets of maps, 13 slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.atomic import atomic_file
from restore.datasets.budget import check_budget
from restore.datasets.content import spelled_out
from restore.errors import InputError
from restore.version import __version__

COILS, SLICES, AXES = 3, 13, 16
HALVES = {".cfl": ".hdr", ".hdr": ".cfl"}
"""The two files of a pair, by how their names end."""


def read_cfl(path: Path) -> NDArray[np.complex64]:
    """The array of a pair of files, all of its 16 axes. path: NAME.cfl, NAME.hdr or NAME. Raises InputError."""
    path = spelled_out(path)
    data, header = path.with_suffix(".cfl"), path.with_suffix(".hdr")
    if not data.is_file() or not header.is_file():
        raise InputError(
            path, f"expected {data.name} and {header.name} side by side", "a BART file is two files"
        )
    with header.open("rb") as stream:
        lines = stream.read(4096).decode("ascii", "replace").splitlines()
    words = lines[1].split() if len(lines) > 1 and lines[0].startswith("# Dimensions") else []
    if not 1 <= len(words) <= AXES or not all(w.isdecimal() and 0 < int(w) < 2**31 for w in words):
        raise InputError(
            header,
            "its second line holds no sizes of axes",
            "expected '# Dimensions' and up to 16 numbers",
        )
    shape = [*map(int, words), *[1] * (AXES - len(words))]
    found, expected = data.stat().st_size, 8 * math.prod(shape)
    if found != expected:
        raise InputError(
            data, f"holds {found} bytes, and {header.name} says {expected}", "copy both files again"
        )
    check_budget(3 * expected, data)
    return np.fromfile(data, np.complex64).reshape(shape, order="F")


def is_half(path: Path) -> bool:
    """Whether a name is that of a BART file, which is two: NAME.cfl and NAME.hdr."""
    return path.suffix in HALVES


def other_half(path: Path) -> tuple[Path, ...]:
    """The header of NAME.cfl, or the numbers of NAME.hdr: what shapes a result beside the file that was named."""
    other = path.with_suffix(HALVES.get(path.suffix, path.suffix))
    return (other,) if other != path and other.is_file() else ()


def write_cfl(
    path: Path, sizes: dict[int, int], parts: Iterable[NDArray[Any]], command: str = ""
) -> None:
    """Write NAME.cfl and NAME.hdr, which appear whole, the header first.

    path: NAME.cfl. sizes: by axis, the others have one entry. parts: the values in the order of the file, each with
    its axes in BART's order. command: a line for the header. Raises OutputError.
    """
    shape = [sizes.get(axis, 1) for axis in range(AXES)]
    head = f"# Dimensions\n{' '.join(map(str, shape))}\n"
    said = f"# Command\n{' '.join(command.split())}\n" if command else ""
    with (
        atomic_file(path.with_suffix(".cfl"), 8 * math.prod(shape)) as numbers,
        atomic_file(path.with_suffix(".hdr")) as header,
    ):
        header.write_text(f"{head}{said}# Creator\nrestore {__version__}\n")
        with numbers.open("wb") as stream:
            for part in parts:
                stream.write(np.asarray(part, np.complex64).tobytes(order="F"))
