"""Several volumes in one DICOM series: listed when none is chosen, read when one is. Series made with pydicom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from restore.datasets.open import read
from restore.datasets.volume import nifti_write
from restore.errors import ConfigError, InputError

SLICES = 3


def plain(image: Dataset, series: str, number: int) -> None:
    """Set what every image here has in common."""
    image.SeriesInstanceUID = image.StudyInstanceUID = series
    image.Modality, image.InstanceNumber = "MR", number + 1
    image.Rows = image.Columns = 4
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation, image.SamplesPerPixel = 15, 0, 1
    image.PhotometricInterpretation = "MONOCHROME2"


def written(folder: Path, count: int, **tags) -> Path:
    """`count` volumes of three slices; the k-th holds 100 k + slice. tags: values of each volume."""
    folder.mkdir()
    series = generate_uid()
    for number in range(count * SLICES):
        k, z = number % count, number // count  # all volumes of a slice, then the next slice
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = MRImageStorage
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        plain(image, series, number)
        image.PixelSpacing, image.SliceThickness = [2, 2], 5
        image.ImageOrientationPatient, image.ImagePositionPatient = (
            [1, 0, 0, 0, 1, 0],
            [0, 0, 5 * z],
        )
        image.PixelData = np.full((4, 4), 100 * k + z, np.uint16).tobytes()
        for tag, values in tags.items():
            setattr(image, tag, values[k])
        image.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return folder


CASES = {
    "echoes": ({"EchoTime": [4.6, 2.3]}, "echo time in ms", [1, 0], "2.3"),
    "times": ({"TemporalPositionIdentifier": [1, 2]}, "time point", [0, 1], "1"),
    "weightings": ({"DiffusionBValue": [0.0, 1000.0]}, "b-value", [0, 1], "1000"),
    "inversions": ({"InversionTime": [900, 50]}, "inversion time in ms", [1, 0], "50"),
    "flip angles": ({"FlipAngle": [5, 20]}, "flip angle in degrees", [0, 1], "5"),
    "frames of PET": ({"FrameReferenceTime": [60e3, 5e3]}, "frame time in ms", [1, 0], "5000"),
    "phases": ({"NominalPercentageOfCardiacPhase": [75, 40]}, "percent of the", [1, 0], "40"),
    "acquisitions": ({"AcquisitionNumber": [7, 8]}, "acquisition", [0, 1], "7"),
    "numbers alone": ({}, "the order of instance numbers", [0, 1], "number 1"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_is_chosen_of_several(case: str, tmp_path: Path):
    tags, what, order, named = CASES[case]
    folder = written(tmp_path / "series", 2, **tags)
    with pytest.raises(InputError, match="2 volumes in one series") as refused:
        read(folder)
    assert what in str(refused.value)
    assert named in str(refused.value)
    assert "--volume 0 to 1" in str(refused.value)
    for index, k in enumerate(order):
        volume = read(folder, index=index)
        np.testing.assert_array_equal(volume.data[:, 0, 0], 100 * k + np.arange(SLICES))
        assert any(f"volume {index} of 2" in note for note in volume.notes)
    with pytest.raises(InputError, match="there is no volume 2"):
        read(folder, index=2)


def test_echoes_at_several_times_are_told_by_their_numbers(tmp_path: Path):
    folder = written(tmp_path / "series", 4, EchoTime=[1, 2, 1, 2], AcquisitionNumber=[1, 1, 2, 2])
    np.testing.assert_array_equal(read(folder, index=3).data[:, 0, 0], 300 + np.arange(SLICES))


def test_one_volume_needs_no_choice(tmp_path: Path):
    folder = written(tmp_path / "series", 1)
    np.testing.assert_array_equal(read(folder).data, read(folder, index=0).data)
    with pytest.raises(InputError, match="there is no volume 1"):
        read(folder, index=1)


def group(**tags) -> list[Dataset]:
    """A functional group."""
    item = Dataset()
    for tag, value in tags.items():
        setattr(item, tag, value)
    return [item]


def frame(k: int, z: int, echo: float = 0, b: float = -1, direction=None, time: int = 0, kind="M"):
    """Functional groups of a frame in place z; -1 and None leave the tag out."""
    groups = Dataset()
    groups.PlanePositionSequence = group(ImagePositionPatient=[0, 0, 5 * z])
    groups.MREchoSequence = group(EffectiveEchoTime=float(echo))
    groups.MRImageFrameTypeSequence = group(FrameType=["ORIGINAL", "PRIMARY", kind, "NONE"])
    if time:
        groups.FrameContentSequence = group(TemporalPositionIndex=time)
    if b >= 0:
        groups.MRDiffusionSequence = group(DiffusionBValue=float(b))
    if direction is not None:
        gradient = group(DiffusionGradientOrientation=[float(d) for d in direction])
        groups.MRDiffusionSequence[0].DiffusionGradientDirectionSequence = gradient
    return groups


def enhanced(file: Path, frames: list[tuple[Dataset, int]], number: int = 0) -> Path:
    """One multi-frame file; of each frame its groups and its value."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = EnhancedMRImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    plain(image, "1.2.3", number)
    shared = Dataset()
    shared.PixelMeasuresSequence = group(PixelSpacing=[2, 2], SliceThickness=5)
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [groups for groups, _ in frames]
    image.NumberOfFrames = len(frames)
    image.PixelData = b"".join(np.full((4, 4), value, np.uint16).tobytes() for _, value in frames)
    file.parent.mkdir(exist_ok=True)
    image.save_as(file, enforce_file_format=True)
    return file


TOLD = {
    "echoes": ([{"echo": 9}, {"echo": 3}], "echo time in ms", [1, 0]),
    "times": ([{"time": 2}, {"time": 1}], "time point", [1, 0]),
    "weightings": ([{"b": 1000}, {"b": 0}], "b-value", [1, 0]),
    "kinds": ([{"kind": "P"}, {"kind": "M"}], "image type", [1, 0]),
    "directions": (
        [
            {"b": 0},
            {"b": 9, "direction": [1, 0, 0]},
            {"b": 9, "direction": [0, 0, 1]},
            {"b": 5, "direction": [1, 0, 0]},
        ],
        "b-value and gradient direction",
        [0, 3, 2, 1],
    ),
    "echoes at times": (
        [{"echo": e, "time": t} for e in (9, 3) for t in (1, 2)],
        "time point and echo time in ms",
        [2, 0, 3, 1],
    ),
}


@pytest.mark.parametrize("files", ["one", "one a volume", "one a slice", "odd and even frames"])
@pytest.mark.parametrize("case", TOLD)
def test_frames_of_one_or_several_files(case: str, files: str, tmp_path: Path):
    volumes, what, order = TOLD[case]
    # The frames of a slice lie together, and their order differs from slice to slice.
    frames = [
        (z, k, (frame(k, z, **volumes[k]), 100 * k + z))
        for z in range(SLICES)
        for k in np.roll(np.arange(len(volumes)), z)
    ]
    part = {
        "one": lambda n, z, k: 0, "one a volume": lambda n, z, k: int(k), "one a slice": lambda n, z, k: z,
        "odd and even frames": lambda n, z, k: n % 2,
    }[files]  # fmt: skip
    numbers = [part(n, z, k) for n, (z, k, _) in enumerate(frames)]
    for number in set(numbers):
        held = [f for at, (*_, f) in zip(numbers, frames, strict=True) if at == number]
        enhanced(tmp_path / "series" / f"{number}.dcm", held, 7 - number)
    with pytest.raises(
        InputError, match=f"{len(volumes)} volumes in one series, told apart by {what} "
    ):
        read(tmp_path / "series")
    for index, k in enumerate(order):
        volume = read(tmp_path / "series", index=index)
        np.testing.assert_array_equal(volume.data[:, 0, 0], 100 * k + np.arange(SLICES))
        np.testing.assert_allclose(volume.spacing_mm, (2, 2, 5))


def test_one_volume_cut_into_several_multi_frame_files(tmp_path: Path):
    for number in range(3):
        frames = [(frame(0, z), z) for z in (2 * number, 2 * number + 1)]
        enhanced(tmp_path / "series" / f"{number}.dcm", frames[::-1], number)
    volume = read(tmp_path / "series")
    np.testing.assert_array_equal(volume.data[:, 1, 1], np.arange(6))
    assert len(volume.header.slices) == 6


def test_multi_frame_and_single_frame_files_in_one_series(tmp_path: Path):
    folder = written(tmp_path / "series", 1)
    file = enhanced(folder / "frames.dcm", [(frame(0, z), z) for z in range(SLICES)])
    for other in folder.glob("0*.dcm"):
        image = pydicom.dcmread(other)
        image.SeriesInstanceUID = "1.2.3"
        image.save_as(other)
    with pytest.raises(InputError, match="1 of 4 files of the series hold several frames"):
        read(folder)
    assert read(file).n_slices == SLICES


def test_an_echo_is_chosen(tmp_path: Path):
    """Counted from 1 in the order of echo times, as scanners and dcm2niix do."""
    folder = written(tmp_path / "series", 3, EchoTime=[7.5, 2.5, 5], EchoNumbers=[3, 1, 2])
    with pytest.raises(InputError, match="--volume 0 to 2, or --echo 1 to 3"):
        read(folder)
    for echo, k in ((1, 1), (2, 2), (3, 0)):
        volume = read(folder, echo=echo)
        np.testing.assert_array_equal(volume.data[:, 0, 0], 100 * k + np.arange(SLICES))
        assert any(f"echo {echo} of 3: echo time in ms" in note for note in volume.notes)
    with pytest.raises(InputError, match=r"no echo 4 of 3.*1: 2.5; 2: 5; 3: 7.5"):
        read(folder, echo=4)
    with pytest.raises(InputError, match="no echo 0"):
        read(folder, echo=0)


@pytest.mark.parametrize("several_frames", [False, True])
def test_an_echo_and_a_time(several_frames: bool, tmp_path: Path):
    echoes, times = [9, 3, 9, 3], [1, 1, 2, 2]
    if several_frames:
        pairs = list(enumerate(zip(echoes, times, strict=True)))
        frames = [
            (frame(k, z, echo=e, time=t), 100 * k + z) for z in range(SLICES) for k, (e, t) in pairs
        ]
        folder = enhanced(tmp_path / "series.dcm", frames)
    else:
        folder = written(tmp_path / "series", 4, EchoTime=echoes, TemporalPositionIdentifier=times)
    with pytest.raises(InputError, match="--volume 0 to 3, or --echo 1 to 2 and --volume"):
        read(folder)
    with pytest.raises(InputError, match=r"2 volumes in one series, told apart by time point"):
        read(folder, echo=1)
    found = read(folder, echo=1, index=1).data[:, 0, 0]
    np.testing.assert_array_equal(found, 300 + np.arange(SLICES))


@pytest.mark.parametrize("wrong", ["1", 1.0, 0.5, True, [1]], ids=str)
@pytest.mark.parametrize("name", ["index", "echo"])
def test_a_choice_is_a_whole_number(name: str, wrong, tmp_path: Path):
    folder = written(tmp_path / "series", 2, EchoTime=[2, 4])
    with pytest.raises(ConfigError, match=f"{name}=.*expected a whole number"):
        read(folder, **{name: wrong})
    assert read(folder, **{name: np.int64(1)}).n_slices == SLICES


def test_an_echo_time_that_is_missing_is_shown_as_none(tmp_path: Path):
    with pytest.raises(InputError, match=r"0: none \(3 images\); 1: 4 \(3 images\)"):
        read(written(tmp_path / "series", 2, EchoTime=["", 4]))


def test_one_echo_needs_no_choice(tmp_path: Path):
    folder = written(tmp_path / "series", 1, EchoTime=[5])
    np.testing.assert_array_equal(read(folder).data, read(folder, echo=1).data)
    with pytest.raises(InputError, match=r"no echo 2 of 1 \(leave --echo out\)"):
        read(folder, echo=2)
    with pytest.raises(ConfigError, match="echo is for DICOM series"):
        read(nifti_write.write(read(folder), tmp_path / "v.nii"), echo=1)


def test_magnitude_and_phase_are_not_mixed(tmp_path: Path):
    """Told by the kind of image, though the instance numbers of every other slice are turned round."""
    kinds = [["ORIGINAL", "PRIMARY", "P"], ["ORIGINAL", "PRIMARY", "M"]]
    folder = written(tmp_path / "series", 2, ImageType=kinds)
    for file in sorted(folder.iterdir())[2:4]:
        image = pydicom.dcmread(file)
        image.InstanceNumber = 100 - image.InstanceNumber
        image.save_as(file)
    for index, k in ((0, 1), (1, 0)):
        found = read(folder, index=index).data[:, 0, 0]
        np.testing.assert_array_equal(found, 100 * k + np.arange(SLICES))


def test_an_incomplete_time_point(tmp_path: Path):
    folder = written(tmp_path / "series", 3, TemporalPositionIdentifier=[1, 2, 3])
    sorted(folder.iterdir())[-1].unlink()  # the last slice of the last time
    with pytest.raises(InputError, match=r"1: 2 \(3 images\); 2: 3 \(2 images\)"):
        read(folder)
    assert read(folder, index=1).n_slices == 3
    volume = read(folder, index=2)
    assert volume.n_slices == 2
    assert "this volume has images in 2 of the series' 3 places" in volume.notes


def test_an_order_that_would_mix_echoes_is_refused(tmp_path: Path):
    """Two images a place, echo times of every slice its own: nothing says which belong together."""
    folder = written(tmp_path / "series", 2)
    for k, file in enumerate(sorted(folder.iterdir())):
        image = pydicom.dcmread(file)
        image.EchoTime = k
        image.save_as(file)
    with pytest.raises(InputError, match="would mix values of EchoTime"):
        read(folder, index=0)


def test_images_a_hair_apart_lie_in_one_place(tmp_path: Path):
    folder = written(tmp_path / "series", 2, EchoTime=[2, 4])
    for file in sorted(folder.iterdir())[::2]:
        image = pydicom.dcmread(file)
        image.ImagePositionPatient = [0, 0, float(image.ImagePositionPatient[2]) + 0.004]
        image.save_as(file)
    assert read(folder, index=0).n_slices == SLICES
