"""The headers of a DICOM series: what the writer of the same format needs to keep.

Made by the DICOM reader, used by the writer; opaque to everybody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """The headers of a series, one per slice in the volume's order, without pixels and private
    tags. They name the patient: they go into DICOM again and nowhere else.
    """

    slices: tuple[Dataset, ...]

    def select(self, indices: Sequence[int]) -> DicomSeries:
        """Return the headers of these slices, in this order."""
        return DicomSeries(tuple(self.slices[i] for i in indices))
