"""What slices of a CT tell against being one volume in Hounsfield units.

Called by the DICOM reader; touches nothing but its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

SETTINGS = {
    "KVP": "the tube's voltage",
    "ConvolutionKernel": "the kernel of the reconstruction",
    "RescaleIntercept": "what is added to their values",
}
"""Tags whose values change the numbers of the same tissue, or their noise."""

AIRLESS_HU = -200.0
"""Above that lies no air, which any scan has around or within the patient; fat lies at -100."""


def doubts_of_ct(headers: Sequence[Dataset], data: NDArray[np.floating]) -> list[str]:
    """Notes on settings that differ from slice to slice, and on values without air.

    headers: of the slices. data: (slices, rows, columns) in HU.
    """
    notes = []
    for keyword, words in SETTINGS.items():
        found = sorted(
            {_text(h[keyword].value) for h in headers if h.get(keyword) not in (None, "")}
        )
        if len(found) > 1:
            notes.append(
                f"the slices differ in {words} ({keyword}: {', '.join(found[:3])}): so may their values"
            )
    lowest = float(data.min())
    if lowest > AIRLESS_HU:
        notes.append(
            f"the lowest value of this CT is {lowest:g} HU, and air has -1000: the RescaleIntercept is wrong, or the "
            "air was cut off"
        )
    return notes


def _text(value: object) -> str:
    """The same for 120 and 120.0, as different programs write it."""
    return f"{float(value):g}" if isinstance(value, int | float | Decimal) else str(value)
