"""Derived series say what their class demands, and sources that cannot be copied are refused before the work."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
)

from restore.datasets.volume import dicom, dicom_write
from restore.datasets.volume.identity import identity_from
from restore.datasets.volume.volume import Volume
from restore.errors import InputError

PIXELS = np.arange(3 * 8 * 8, dtype=np.uint16).reshape(3, 8, 8)


def item(**values):
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return [ds]


def enhanced(path, storage, shared, **top):
    """An enhanced image of three frames with the given shared groups."""
    ds = Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = storage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3.4.5"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3", "1.2.4", "1.2.5"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = top.pop("Modality"), 4, 1
    ds.PatientName, ds.PatientID = "Doe^Jane", "12345"
    ds.Rows, ds.Columns, ds.NumberOfFrames = 8, 8, len(PIXELS)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    for keyword, value in top.items():
        setattr(ds, keyword, value)
    shared |= {
        "PlaneOrientationSequence": item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        "PixelMeasuresSequence": item(PixelSpacing=[1, 1], SliceThickness=2),
    }
    ds.SharedFunctionalGroupsSequence = item(**shared)
    ds.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=item(ImagePositionPatient=[0, 0, 2 * k]),
            PixelValueTransformationSequence=item(RescaleSlope=1, RescaleIntercept=-5),
        )[0]
        for k in range(len(PIXELS))
    ]
    ds.PixelData = PIXELS.tobytes()
    ds["PixelData"].VR = "OW"
    ds.save_as(path, enforce_file_format=True)
    return path


def enhanced_mr(path, **changes):
    top = {
        "Modality": "MR", "ImageType": ["ORIGINAL", "PRIMARY", "T1", "NONE"], "EchoPulseSequence": "GRADIENT",
        "EchoPlanarPulseSequence": "YES", "SegmentedKSpaceTraversal": "PARTIAL", "Spoiling": "RF",
        "MRAcquisitionType": "2D", "ResonantNucleus": "1H", "VolumetricProperties": "VOLUME",
        "SteadyStatePulseSequence": "NONE", "VelocityEncodingDirection": [0.0, 0.0, 0.0],
    } | changes  # fmt: skip
    shared = {
        "MRTimingAndRelatedParametersSequence": item(
            RepetitionTime=519.5, FlipAngle=90, RFEchoTrainLength=0, GradientEchoTrainLength=7
        ),
        "MREchoSequence": item(EffectiveEchoTime=23.05562400817871),
        "MRModifierSequence": item(InversionRecovery="YES", InversionTimes=[900.0]),
        "MRFOVGeometrySequence": item(InPlanePhaseEncodingDirection="COLUMN", PercentSampling=80),
        "MRAveragesSequence": item(NumberOfAverages=2),
        "MRImagingModifierSequence": item(PixelBandwidth=353.8, TransmitterFrequency=127.819968),
    }
    return enhanced(path, EnhancedMRImageStorage, shared, **top)


def enhanced_ct(path):
    shared = {
        "CTXRayDetailsSequence": item(KVP=120),
        "CTReconstructionSequence": item(ConvolutionKernel="B30f"),
        "FrameVOILUTSequence": item(WindowCenter=40, WindowWidth=400),
        "FrameContentSequence": item(FrameAcquisitionNumber=3),
    }
    return enhanced(
        path, EnhancedCTImageStorage, shared, Modality="CT", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        BodyPartExamined="HEAD",
    )  # fmt: skip


def first_of(source, out):
    return pydicom.dcmread(dicom_write.write(dicom.read(source), out) / "0001.dcm")


def test_an_enhanced_mr_image_as_a_classic_one(tmp_path):
    found = first_of(enhanced_mr(tmp_path / "e.dcm"), tmp_path / "out")
    assert found.SOPClassUID == MRImageStorage
    assert list(found.ScanningSequence) == ["GR", "EP", "IR"]
    assert list(found.SequenceVariant) == ["SK", "SP"]
    assert (found.RepetitionTime, found.FlipAngle, found.EchoTrainLength) == (519.5, 90, 7)
    assert float(found.EchoTime) == pytest.approx(23.05562400817871, rel=1e-9)
    assert (found.InversionTime, found.NumberOfAverages, found.ImagedNucleus) == (900, 2, "1H")
    assert (found.InPlanePhaseEncodingDirection, found.PercentSampling) == ("COL", 80)
    assert float(found.ImagingFrequency) == 127.819968
    enhanced_only = [
        t for t in found.keys() if t.group in (8, 0x18) and 0x9000 <= t.element < 0xA000
    ]
    assert enhanced_only == [
        tag_for_keyword("DerivationCodeSequence")
    ]  # the one that classic images have too


def test_no_inversion_time_without_inversion(tmp_path):
    source = enhanced_mr(tmp_path / "e.dcm", EchoPulseSequence="SPIN", InversionTime=0)
    ds = pydicom.dcmread(source)
    modifier = ds.SharedFunctionalGroupsSequence[0].MRModifierSequence[0]
    modifier.InversionRecovery = "NO"
    ds.save_as(source)
    found = first_of(source, tmp_path / "out")
    assert list(found.ScanningSequence) == ["SE", "EP"]
    assert "InversionTime" not in found


def test_an_enhanced_ct_image_as_a_classic_one(tmp_path):
    found = first_of(enhanced_ct(tmp_path / "e.dcm"), tmp_path / "out")
    assert found.SOPClassUID == CTImageStorage
    assert (found.KVP, found.ConvolutionKernel, found.AcquisitionNumber) == (120, "B30f", 3)
    assert (found.WindowCenter, found.WindowWidth) == (40, 400)


@pytest.mark.parametrize("kind", ["MR", "CT", "enhanced MR", "enhanced CT", "mosaic", "anonymous"])
def test_nothing_is_missing_or_wrong(axial_series, samples, tmp_path, kind):
    """By dciodvfy of David Clunie's dicom3tools, where it is installed."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    ways = {
        "MR": lambda: axial_series("mr", PIXELS),
        "CT": lambda: axial_series("ct", PIXELS, Modality="CT", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"]),
        "enhanced MR": lambda: enhanced_mr(tmp_path / "mr.dcm"),
        "enhanced CT": lambda: enhanced_ct(tmp_path / "ct.dcm"),
        "mosaic": lambda: samples / "dicom_mosaic",
    }  # fmt: skip
    data = PIXELS.astype(np.float32) * np.float32(1.1)
    volume = Volume(data, np.eye(4), "MR") if kind == "anonymous" else dicom.read(ways[kind]())
    out = dicom_write.write(volume, tmp_path / "out", description="dds")
    for file in sorted(out.iterdir()):
        done = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]
        assert not errors


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID"])
def test_a_source_that_cannot_be_referred_to(axial_series, tmp_path, keyword):
    folder = axial_series("s", PIXELS)
    for file in folder.iterdir():
        ds = pydicom.dcmread(file)
        del ds[keyword]
        pydicom.dcmwrite(file, ds)
    volume = dicom.read(folder)
    bare = Volume(volume.data, volume.affine)
    with pytest.raises(InputError, match=f"{keyword} is missing"):
        identity_from(bare, volume)
    with pytest.raises(InputError, match=f"{keyword} is missing"):
        dicom_write.write(volume, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def spoil(folder, before, after):
    """Replace bytes of the same length in every file of a folder."""
    assert len(before) == len(after)
    for file in folder.iterdir():
        raw = file.read_bytes()
        assert before in raw
        file.write_bytes(raw.replace(before, after))


def test_an_odd_series_number_does_not_matter(axial_series, tmp_path):
    folder = axial_series("s", PIXELS, SeriesNumber=77)
    spoil(folder, b"IS\x02\x0077", b"IS\x02\x007x")
    volume = dicom.read(folder)
    identity_from(Volume(volume.data, volume.affine), volume)
    out = dicom_write.write(volume, tmp_path / "out")
    assert pydicom.dcmread(out / "0001.dcm").SeriesNumber == 1000


@pytest.mark.parametrize("k", [0, 2])
def test_a_tag_that_cannot_be_copied_is_named(axial_series, tmp_path, k):
    volume = dicom.read(axial_series("s", PIXELS))
    volume.header.slices[k].add_new("AcquisitionMatrix", "US", [70000, 0, 0, 8])
    if k == 0:  # one header is tried before the work
        with pytest.raises(InputError, match="AcquisitionMatrix cannot be copied"):
            identity_from(Volume(volume.data, volume.affine), volume)
    with pytest.raises(InputError, match="AcquisitionMatrix cannot be copied"):
        dicom_write.write(volume, tmp_path / "out")
    assert not (tmp_path / "out").exists()
