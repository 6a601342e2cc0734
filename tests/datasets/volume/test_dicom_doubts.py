"""DICOM series that decode without a word and are not what they seem: damaged JPEG data, slices of CT that differ."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from restore.datasets.volume import dicom
from restore.errors import InputError

QUALITY = (
    6  # grey values by which noise of 0..249 errs on average after JPEG of quality 95; 1.6 seen
)


def stored(n: int = 4) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 250, (n, 32, 40)).astype(np.uint8)


def in_jpeg(spoilt: bool) -> Callable[[int, Dataset], None]:
    """Slices in JPEG Baseline; of the spoilt series the third ends early."""

    def change(k: int, ds: Dataset) -> None:
        stream = io.BytesIO()
        Image.fromarray(stored()[k]).save(stream, "JPEG", quality=95)
        content = stream.getvalue()
        if spoilt and k == 2:
            content = content[: len(content) * 2 // 3] + b"\xff\xd9"
        ds.PixelData = encapsulate([content])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit

    return change


def test_damaged_jpeg_data_are_refused(axial_series):
    volume = dicom.read(axial_series("sound", stored(), in_jpeg(False)))
    assert float(np.abs(volume.data - stored()).mean()) < QUALITY
    assert not any("damaged" in note for note in volume.notes)
    with pytest.raises(InputError, match=r"2\.dcm: damaged JPEG: its data end early"):
        dicom.read(axial_series("spoilt", stored(), in_jpeg(True)))


@pytest.mark.parametrize(
    ("keyword", "values", "words"),
    [
        ("KVP", [80, 140], "the tube's voltage (KVP: 140, 80)"),
        ("ConvolutionKernel", ["B30f", "B70f"], "ConvolutionKernel: B30f, B70f"),
        ("RescaleIntercept", [0, -1024], "RescaleIntercept: -1024, 0"),
        ("RescaleIntercept", [0, 0], "the lowest value of this CT is"),
        ("KVP", ["120", "120.0"], ""),
    ],
)
def test_slices_of_ct_that_do_not_belong_together_are_said(axial_series, keyword, values, words):
    def change(k: int, ds: Dataset) -> None:
        setattr(ds, keyword, values[k % 2])

    volume = dicom.read(axial_series("s", stored().astype(np.uint16), change, Modality="CT"))
    assert words in " ".join(volume.notes)
    assert bool(words) == any("differ" in n or "lowest" in n for n in volume.notes)
