"""Record the sampling masks of the fastMRI package as a table for tests/datasets/test_fastmri_masks.py.

    pip install --no-deps fastmri==0.3.0
    python benchmarks/record_fastmri_masks.py tests/datasets/fastmri_masks.json

Only the package's file data/subsample.py is run (it needs numpy and torch), because importing fastmri.data asks for
many other packages. Masks are stored as hexadecimal digits of their bits, packed by numpy.packbits.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

KINDS = ("random", "equispaced", "equispaced_fraction", "magic", "magic_fraction")
ACCELERATIONS = (4, 6, 8)
WIDTHS = (213, 320, 368, 372, 396, 640)
NAMES = (
    "file1000001.h5",
    "file1002538_v2.h5",
    "file_brain_AXT2_200_2000019.h5",
    "file_brain_AXFLAIR_203_6000874.h5",
    "file_brain_AXT1POST_207_2070829.h5",
)


def subsample() -> ModuleType:
    """The file data/subsample.py of the installed package as a module."""
    package = importlib.util.find_spec("fastmri")
    if package is None or not package.submodule_search_locations:
        sys.exit("fastmri is not installed: pip install --no-deps fastmri==0.3.0")
    path = Path(package.submodule_search_locations[0]) / "data" / "subsample.py"
    spec = importlib.util.spec_from_file_location("fastmri_subsample", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record() -> dict[str, object]:
    """The whole table: masks[kind][acceleration][width] = [central columns, one text a name]."""
    module = subsample()
    masks: dict[str, dict[str, dict[str, list[object]]]] = {}
    for kind in KINDS:
        for acceleration in ACCELERATIONS:
            row = masks.setdefault(kind, {}).setdefault(str(acceleration), {})
            maker = module.create_mask_for_mask_type(kind, [0.32 / acceleration], [acceleration])
            for width in WIDTHS:
                found = [maker((1, width, 2), None, tuple(map(ord, name))) for name in NAMES]
                texts = [np.packbits(m.numpy().ravel() > 0).tobytes().hex() for m, _ in found]
                row[str(width)] = [found[0][1], *texts]
    return {
        "package": "fastmri 0.3.0",
        "command": "python benchmarks/record_fastmri_masks.py tests/datasets/fastmri_masks.json",
        "center_fraction": "0.32 / acceleration",
        "names": NAMES,
        "masks": masks,
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(record(), indent=0) + "\n", encoding="utf-8")
