"""What one client sent, as an ISMRMRD file in a private folder: readouts go to disk as they come.

Used by `session`; touches the one folder it is given. The file is then read by the reader of such files, so that a
stream is checked and sorted as a file is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.mrd.acquisitions import NO_IMAGE, NOISE
from restore.datasets.mri.mrd.mrd_types import ACQUISITION, GROUP
from restore.errors import InputError

AT_ONCE = 64
"""Readouts that are written together."""

APART = ("contrast", "phase", "repetition", "set")
"""Counters of which every number is an image of its own."""

MOST_IMAGES = 1024
Key = tuple[int, ...]
"""Numbers of APART."""


class Spool:
    """A file that grows. `path`: where; `count`: readouts so far; `firsts`: of each image the first header of each
    slice, which its images take their counters and times from."""

    def __init__(self, folder: Path, xml: str) -> None:
        self.path, self.count = folder / "scan.h5", 0
        self.firsts: dict[Key, dict[int, NDArray[Any]]] = {}
        self._waiting: list[NDArray[Any]] = []
        self._file = h5py.File(self.path, "w")
        group = self._file.create_group(GROUP)
        text = group.create_dataset("xml", (1,), h5py.string_dtype("utf-8"))
        text[0] = xml
        self._data = group.create_dataset(
            "data", (0,), ACQUISITION, maxshape=(None,), chunks=(AT_ONCE,)
        )

    def add(self, record: NDArray[Any]) -> None:
        """Keep a readout, (1,) of ACQUISITION. Raises InputError for more images than a scan has."""
        head = record["head"][0]
        if not int(head["flags"]) & (NOISE | NO_IMAGE):
            key = tuple(int(head["idx"][name]) for name in APART)
            slices = self.firsts.setdefault(key, {})
            slices.setdefault(int(head["idx"]["slice"]), head.copy())
            if len(self.firsts) > MOST_IMAGES:
                raise InputError(
                    self.path, f"more than {MOST_IMAGES} contrasts, phases, repetitions and sets",
                    "send them in several connections",
                )  # fmt: skip
        self.count += 1
        self._waiting.append(record)
        if len(self._waiting) == AT_ONCE:
            self._write()

    def selections(self) -> list[tuple[Key, str]]:
        """Each image and how `--select` names it: counters that differ among them."""
        keys = sorted(self.firsts)
        differ = [i for i in range(len(APART)) if len({key[i] for key in keys}) > 1]
        return [(key, ",".join(f"{APART[i]}={key[i]}" for i in differ)) for key in keys]

    def close(self) -> None:
        """Write what is waiting and close the file, which is then whole."""
        if self._file:
            self._write()
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        start = len(self._data)
        self._data.resize(start + len(self._waiting), axis=0)
        if self._waiting:
            self._data[start:] = np.concatenate(self._waiting)
        self._waiting.clear()
