"""Messages of a reconstruction's images: places from the result, counters and times from the readouts.

Used by `session`; touches nothing but its arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.mrd.mrd_images import meta_text
from restore.datasets.mri.mrd.mrd_types import FLOAT, SHORT
from restore.serving.mrd_server.messages import image_message
from restore.serving.mrd_server.reconstruction import SERIES, Reconstructed

Values = Literal["float", "short"]
SHORT_TOP = 4095
"""The largest value of images in whole numbers: 12 bits, as scanners' own."""

TAKEN = (
    "measurement_uid", "patient_table_position", "acquisition_time_stamp", "physiology_time_stamp",
    "user_int", "user_float",
)  # fmt: skip
COUNTED = ("contrast", "phase", "repetition", "set")


def image_messages(
    found: Reconstructed, firsts: dict[int, NDArray[Any]], values: Values, before: int
) -> Iterator[bytes]:
    """One message a slice and series.

    firsts: of each slice number the header of its first readout. values: float32 as reconstructed, or whole numbers
    whose factor (one for a reconstruction) stands in the attributes. before: images that were sent already.
    """
    top = max(float(planes.max()) for _, planes in found.volumes)
    scale = SHORT_TOP / top if values == "short" and top > 0 else 1.0
    numbers = sorted(firsts)
    for series, (heads, planes) in enumerate(found.volumes):
        for index, head in enumerate(heads):
            # Partitions of a volume are one slice in the readouts.
            first = firsts[numbers[index if len(numbers) == len(heads) else 0]]
            whole = np.array(head)
            for name in TAKEN:
                whole[name] = first[name]
            for name in COUNTED:
                whole[name] = first["idx"][name]
            if len(numbers) == len(heads):
                whole["slice"] = numbers[index]
            whole["image_series_index"], whole["image_index"] = series, before + index + 1
            whole["data_type"] = SHORT if values == "short" else FLOAT
            plane = planes[index]
            if values == "short":
                plane = np.rint(plane * scale).clip(0, SHORT_TOP).astype("<i2")
            yield image_message(whole, _attributes(found, series, whole, scale, top), plane)


def _attributes(
    found: Reconstructed, series: int, head: NDArray[Any], scale: float, top: float
) -> str:
    words = " ".join(filter(None, ("restore", found.sampler, SERIES[series])))
    told: dict[str, str | list[str]] = {
        "DataRole": "Image", "ImageComment": words, "SeriesDescriptionAdditional": words.replace(" ", "_"),
        "ImageProcessingHistory": ["RESTORE", found.sampler.upper()], "Keep_image_geometry": "1",
        "WindowCenter": f"{top * scale / 2:.6g}", "WindowWidth": f"{top * scale:.6g}",
    }  # fmt: skip
    if scale != 1:
        told["RescaleSlope"] = f"{1 / scale:.9g}"
    if np.any(head["read_dir"]):
        told["ImageRowDir"] = [f"{v:.9g}" for v in head["read_dir"]]
        told["ImageColumnDir"] = [f"{v:.9g}" for v in head["phase_dir"]]
    return meta_text(told)
