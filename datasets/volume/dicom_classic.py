"""What a single-frame MR or CT image says at its top level, from the functional groups of an enhanced one.

May be called by the splitting of frames only; works on headers in memory. The words of the enhanced classes become
those of the classic ones (DICOM PS3.3, C.8.13.4 and C.8.3.1; C.8.15.3 and C.8.2.1), and attributes that only enhanced
images have are left out: a derived series of single-frame images would carry them without the groups they belong to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset

SAME_NAME = {
    "MRTimingAndRelatedParametersSequence": ("RepetitionTime", "FlipAngle", "EchoTrainLength"),
    "MRAveragesSequence": ("NumberOfAverages",),
    "MRImagingModifierSequence": ("PixelBandwidth",),
    "MRReceiveCoilSequence": ("ReceiveCoilName",),
    "MRTransmitCoilSequence": ("TransmitCoilName",),
    "MRFOVGeometrySequence": ("PercentSampling", "PercentPhaseFieldOfView"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth"),
    "CTXRayDetailsSequence": ("KVP", "FilterType"),
    "CTReconstructionSequence": ("ConvolutionKernel", "ReconstructionDiameter"),
    "CTAcquisitionDetailsSequence": ("RotationDirection", "GantryDetectorTilt", "TableHeight"),
}
"""Functional group -> tags that the classic image has under the same name."""

OTHER_NAME = (
    ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
    ("MRImagingModifierSequence", "TransmitterFrequency", "ImagingFrequency"),
    ("FrameContentSequence", "FrameAcquisitionNumber", "AcquisitionNumber"),
)
"""Functional group, its tag, and the name of that number in the classic image."""

ENHANCED_GROUPS = (0x0008, 0x0018, 0x0020)
"""Groups whose elements from 9000 to 9FFF belong to enhanced images."""

SEQUENCES = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}
VARIANTS = (
    ("SegmentedKSpaceTraversal", ("PARTIAL", "FULL"), "SK"),
    ("MagnetizationTransfer", ("ON_RESONANCE", "OFF_RESONANCE"), "MTC"),
    ("SteadyStatePulseSequence", ("FREE_PRECESSION", "TRANSVERSE", "TIME_REVERSED", "LONGITUDINAL"), "SS"),
    ("Spoiling", ("RF", "GRADIENT", "RF_AND_GRADIENT"), "SP"),
    ("OversamplingPhase", ("2D", "3D", "2D_3D"), "OSP"),
)  # fmt: skip
"""Attribute of the enhanced image, its words, and the variant of the sequence that they are."""

Find = Callable[[str], Dataset | None]


def put(frame: Dataset, keyword: str, value: Any) -> None:
    """Set a tag by a new element: the old one may belong to other frames as well."""
    if keyword in frame:
        del frame[keyword]
    setattr(frame, keyword, value)


def fill_classic(frame: Dataset, find: Find) -> None:
    """Set what a classic image of the frame has to say, in place, and leave out what only enhanced images say.

    find: the item of a functional group that holds for this frame, None where there is none.
    """
    for group, keywords in SAME_NAME.items():
        _copy(frame, find(group), {keyword: keyword for keyword in keywords})
    for group, keyword, name in OTHER_NAME:
        _copy(frame, find(group), {keyword: name})
    if frame.get("Modality") == "MR":
        _fill_mr(frame, find)
    for tag in [
        t for t in frame.keys() if t.group in ENHANCED_GROUPS and 0x9000 <= t.element < 0xA000
    ]:
        del frame[tag]


def _copy(frame: Dataset, item: Dataset | None, names: dict[str, str]) -> None:
    for keyword, name in names.items():
        value = None if item is None else item.get(keyword)
        if value is not None and value != "":
            put(frame, name, f"{value:.10g}" if isinstance(value, float) else value)


def _fill_mr(frame: Dataset, find: Find) -> None:
    modifier, timing = find("MRModifierSequence"), find("MRTimingAndRelatedParametersSequence")
    geometry = find("MRFOVGeometrySequence")
    inversion = _word(modifier, "InversionRecovery") == "YES"
    sequence = list(SEQUENCES.get(str(frame.get("EchoPulseSequence")), []))
    sequence += ["EP"] if frame.get("EchoPlanarPulseSequence") == "YES" else []
    sequence += ["IR"] if inversion else []
    if "ScanningSequence" not in frame:
        frame.ScanningSequence = sequence or "RM"
    held = [name for keyword, words, name in VARIANTS if frame.get(keyword) in words]
    if "SequenceVariant" not in frame:
        frame.SequenceVariant = held or "NONE"
    if "EchoTrainLength" not in frame and timing is not None:
        lengths = [int(timing.get(f"{kind}EchoTrainLength") or 0) for kind in ("RF", "Gradient")]
        frame.EchoTrainLength = max(lengths) or 1
    if "ResonantNucleus" in frame and "ImagedNucleus" not in frame:
        frame.ImagedNucleus = str(frame.ResonantNucleus)
    direction = _word(geometry, "InPlanePhaseEncodingDirection")
    if direction in ("ROW", "COLUMN"):
        put(frame, "InPlanePhaseEncodingDirection", direction[:3])
    _set_inversion_time(frame, modifier, inversion)


def _set_inversion_time(frame: Dataset, modifier: Dataset | None, inversion: bool) -> None:
    """Classic images say it for inversion recovery, and then only."""
    if "InversionTime" in frame and not inversion:
        del frame["InversionTime"]
    times: Any = None if modifier is None else modifier.get("InversionTimes")
    if inversion and times is not None:
        first = times if isinstance(times, float | int) else times[0]
        put(frame, "InversionTime", f"{float(first):.10g}")


def _word(item: Dataset | None, keyword: str) -> str:
    return "" if item is None else str(item.get(keyword) or "")
