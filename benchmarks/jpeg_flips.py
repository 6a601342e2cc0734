"""How many flipped bits of a JPEG's data `restore` tells of: the figures of docs/what-is-read.md.

    OMP_NUM_THREADS=1 python benchmarks/jpeg_flips.py

Three photographs of scikit-image, 512 x 512 at most, as Pillow writes them. In each of 200 files a kind one bit of the
coded data is flipped. Counted are flips that change the picture, and among them those that spoil it: more than one
pixel in a hundred by over 8 grey values. A minute on one processor core.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from restore.datasets.picture.jpeg_damage import notes_of
from restore.errors import InputError

FLIPS, SEED = 200, 0
PHOTOGRAPHS = [
    Image.fromarray(picture[:512, :512])
    for picture in (data.astronaut(), data.coffee(), data.chelsea())
]
KINDS = {
    "quality 75": {"quality": 75},
    "quality 90": {"quality": 90},
    "quality 95, full colour": {"quality": 95, "subsampling": 0},
    "quality 90, progressive": {"quality": 90, "progressive": True},
    "quality 90, restarts": {"quality": 90, "restart_marker_rows": 1},
}


def seen(content: bytes) -> NDArray[np.int64] | None:
    """The pixels, None where Pillow refuses."""
    try:
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(np.int64)
    except (OSError, SyntaxError, ValueError):
        return None


def told(content: bytes) -> bool:
    """Whether anything is said of the file."""
    try:
        return bool(notes_of(Path("flipped.jpg"), content))
    except InputError:
        return True


def main() -> None:
    """Print a row for each kind of file."""
    print(
        "| files | flips that change the picture | told | that spoil it | told |\n| --- | --- | --- | --- | --- |"
    )
    for kind, how in KINDS.items():
        draw = np.random.default_rng(SEED)
        counts = np.zeros(4, int)
        for flip in range(FLIPS):
            stream = io.BytesIO()
            PHOTOGRAPHS[flip % len(PHOTOGRAPHS)].save(stream, "JPEG", **how)
            content = bytearray(stream.getvalue())
            whole = seen(bytes(content))
            start = content.index(b"\xff\xda")
            start += 2 + int.from_bytes(content[start + 2 : start + 4], "big")
            content[draw.integers(start, len(content) - 2)] ^= 1 << int(draw.integers(8))
            flipped = seen(bytes(content))
            if flipped is None or whole is None or (flipped == whole).all():
                continue
            said, spoilt = told(bytes(content)), (np.abs(flipped - whole).max(-1) > 8).mean() > 0.01
            counts += [1, said, spoilt, said and spoilt]
        print(f"| {kind} | {counts[0]} | {counts[1]} | {counts[2]} | {counts[3]} |")


if __name__ == "__main__":
    main()
