"""Whether a study that is coming in is complete, will never be, or is to be waited for.

DICOM's C-STORE says nowhere that a study has ended. What is known: how long nothing came, how many images headers
tell of (few do), whether an association broke off, and which images the node itself had to refuse. Used by the intake;
computes on counts alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from restore.serving.dicom_node.limits import Limits
from restore.serving.dicom_node.study import StudyRecord

SETTLED_SHARE = 0.1
"""Of the quiet time: so long is waited for more where all images that the headers tell of are there."""

SEND_AGAIN = "send the study again, or have what came processed with --retry-failed"


def judge(
    study: StudyRecord, counts: Mapping[str, int], quiet_s: float, limits: Limits
) -> tuple[bool, str] | None:
    """(True, "") for a complete study, (False, a sentence) for one that fails, None for one to be waited for.

    counts: images that came, by mark of the series; quiet_s: seconds since the last sign of life.
    """
    if study.too_large:
        text = f"{study.too_large}; {sum(counts.values())} images came, see the limits of the node"
        return (False, text) if quiet_s >= limits.quiet_s else None
    lacking = _lacking(study, counts)
    if lacking:
        return (False, f"{lacking}; {SEND_AGAIN}") if quiet_s >= limits.patience_s else None
    wait_s = limits.quiet_s * (SETTLED_SHARE if study.told else 1.0)
    return (True, "") if quiet_s >= wait_s else None


def _lacking(study: StudyRecord, counts: Mapping[str, int]) -> str:
    """What is known to be missing, in words."""
    came, lacking = sum(counts.values()), []
    if study.refused:
        lacking.append(f"{len(study.refused)} images could not be kept, as the disk was full")
    if study.cut:
        lacking.append(f"{study.peer} broke off in the middle, after {came} images")
    if came < study.told:
        lacking.append(f"{came} of the {study.told} images came that the headers tell of")
    for mark, series in study.series.items():
        if counts.get(mark, 0) < series.told:
            lacking.append(
                f"of series {mark[:12]} {counts.get(mark, 0)} of {series.told} images came"
            )
    return " and ".join(lacking)
