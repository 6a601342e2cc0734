"""NRRD and MetaImage volumes written here by hand with numpy: values, places, encodings, refusals."""

from __future__ import annotations

import bz2
import gzip
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from restore.datasets.open import read
from restore.errors import InputError

DATA = (np.arange(2 * 3 * 4) * 7 - 60).reshape(2, 3, 4)  # (z, y, x)
TURN = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # columns: directions of x, y, z
PITCH = np.array([0.5, 0.75, 3.0])
ORIGIN = np.array([10.0, -20.0, 30.0])
NRRD_TYPES = {
    "i2": "short",
    "u1": "uchar",
    "i4": "int",
    "f4": "float",
    "f8": "double",
    "i1": "int8",
}


def nrrd(
    path: Path, dtype: str = "<i2", packing: str = "raw", data=DATA, **changes: str | None
) -> Path:
    values = data.astype(dtype)
    columns = TURN * PITCH
    fields = {
        "type": NRRD_TYPES[dtype[1:]],
        "dimension": str(values.ndim),
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, values.shape[::-1])),
        "space directions": " ".join(f"({a},{b},{c})" for a, b, c in columns.T)
        + " none" * (data.ndim - 3),
        "kinds": " ".join(["domain"] * 3 + ["list"] * (data.ndim - 3)),
        "endian": "big" if dtype[0] == ">" else "little",
        "encoding": packing,
        "space origin": "({},{},{})".format(*ORIGIN),
    } | {k.replace("_", " "): v for k, v in changes.items()}
    raw = values.tobytes()
    pack = {
        "raw": bytes,
        "gzip": gzip.compress,
        "bzip2": bz2.compress,
        "ascii": lambda _: " ".join(map(str, values.ravel())).encode(),
    }
    head = "NRRD0004\n# made by hand\n" + "".join(f"{k}: {v}\n" for k, v in fields.items() if v)
    packed = pack[packing](raw)
    if "data file" in fields:
        (path.parent / str(fields["data file"])).write_bytes(packed)
        packed = b""
    path.write_bytes(head.encode() + b"key:=value\n\n" + packed)
    return path


def mha(path: Path, dtype: str = "<i2", data=DATA, **changes: str | None) -> Path:
    values = data.astype(dtype)
    n = values.ndim
    axes = np.eye(n)
    axes[:3, :3] = TURN.T  # the direction of the first axis first
    kinds = {
        "i2": "MET_SHORT",
        "u1": "MET_UCHAR",
        "i4": "MET_INT",
        "f4": "MET_FLOAT",
        "f8": "MET_DOUBLE",
        "i1": "MET_CHAR",
    }
    fields = {
        "ObjectType": "Image", "NDims": str(n), "BinaryData": "True",
        "BinaryDataByteOrderMSB": str(dtype[0] == ">"),
        "CompressedData": "False", "TransformMatrix": " ".join(map(str, axes.ravel())),
        "Offset": " ".join(map(str, [*ORIGIN, *[0] * (n - 3)])),
        "ElementSpacing": " ".join(map(str, [*PITCH, *[1] * (n - 3)])),
        "DimSize": " ".join(map(str, values.shape[::-1])), "ElementType": kinds[dtype[1:]],
        "ElementDataFile": "LOCAL",
    } | changes  # fmt: skip
    packed = values.tobytes()
    if fields["CompressedData"] == "True":
        packed = zlib.compress(packed)
    if fields["ElementDataFile"] not in ("LOCAL", "gone.raw", "../up.raw"):
        (path.parent / fields["ElementDataFile"]).write_bytes(packed)
        packed = b""
    fields["ElementDataFile"] = fields.pop("ElementDataFile")  # always the last
    head = "".join(f"{k} = {v}\n" for k, v in fields.items() if v)
    path.write_bytes(head.encode() + packed)
    return path


def expected_affine(flip=(-1, -1, 1)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.diag(flip) @ (TURN * PITCH)
    affine[:3, 3] = np.diag(flip) @ ORIGIN
    return affine


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", ">f8", "<i4", "<i1"])
@pytest.mark.parametrize("packing", ["raw", "gzip", "bzip2", "ascii"])
def test_nrrd(dtype: str, packing: str, tmp_path: Path):
    volume = read(nrrd(tmp_path / "v.nrrd", dtype, packing))
    np.testing.assert_array_equal(volume.data, DATA)
    assert volume.data.dtype == (
        np.float64 if dtype[1:] in ("f8", "i4") or packing == "ascii" else np.float32
    )
    np.testing.assert_array_equal(volume.affine, expected_affine())
    assert volume.notes == ()


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", ">f8", "<i4", "<i1"])
@pytest.mark.parametrize("compressed", ["False", "True"])
def test_metaimage(dtype: str, compressed: str, tmp_path: Path):
    volume = read(mha(tmp_path / "v.mha", dtype, CompressedData=compressed))
    np.testing.assert_array_equal(volume.data, DATA)
    np.testing.assert_array_equal(volume.affine, expected_affine())
    assert volume.notes == ()


def test_a_name_in_the_folder_of_the_header(tmp_path: Path):
    path = nrrd(tmp_path / "v.nhdr", data_file="./v.raw")
    np.testing.assert_array_equal(read(path).data, DATA)


def test_voxels_beside_the_header(tmp_path: Path):
    for path in (
        nrrd(tmp_path / "v.nhdr", data_file="v.raw"),
        mha(tmp_path / "v.mhd", ElementDataFile="m.raw"),
    ):
        np.testing.assert_array_equal(read(path).data, DATA)


@pytest.mark.parametrize(
    ("space", "flip", "noted"),
    [("RAS", (1, 1, 1), False), ("left-anterior-superior", (-1, 1, 1), False), ("scanner-xyz", (1, 1, 1), True)],
)  # fmt: skip
def test_spaces_of_nrrd(space: str, flip: tuple[int, ...], noted: bool, tmp_path: Path):
    volume = read(nrrd(tmp_path / "v.nrrd", space=space))
    np.testing.assert_array_equal(volume.affine, expected_affine(flip))
    assert bool(volume.notes) is noted


def test_geometry_that_is_missing_is_noted(tmp_path: Path):
    bare = nrrd(
        tmp_path / "v.nrrd",
        space=None,
        space_directions=None,
        space_origin=None,
        spacings="0.5 0.75 3",
    )
    np.testing.assert_array_equal(read(bare).spacing_mm, PITCH)
    assert "orientation and place are not in the header" in read(bare).notes[0]
    volume = read(mha(tmp_path / "v.mha", TransformMatrix=None))
    np.testing.assert_allclose(volume.affine[:3, :3], np.diag([-0.5, -0.75, 3]))
    assert "transformmatrix is not in the header" in volume.notes[0]


def test_a_series_needs_a_choice(tmp_path: Path):
    series = np.stack([DATA, DATA + 100])
    for path in (nrrd(tmp_path / "v.nrrd", data=series), mha(tmp_path / "v.mha", data=series)):
        with pytest.raises(InputError, match="--volume 0 to 1"):
            read(path)
        np.testing.assert_array_equal(read(path, index=1).data, DATA + 100)
        assert "volume 1 of 2" in read(path, index=1).notes
        with pytest.raises(InputError, match="no volume 2"):
            read(path, index=2)


@pytest.mark.parametrize(
    ("make", "changes", "says"),
    [
        (nrrd, {"kinds": "RGB-color domain domain"}, "several numbers a voxel"),
        (nrrd, {"endian": None}, "endian"),
        (nrrd, {"type": "block"}, "type 'block'"),
        (nrrd, {"sizes": "4 3 200"}, "ended early"),
        (nrrd, {"sizes": None}, "no field 'sizes'"),
        (nrrd, {"space_origin": "(1,2)"}, "expected 3"),
        (nrrd, {"byte_skip": "many"}, "'byte skip' is 'many'"),
        (nrrd, {"byte_skip": "1.5"}, "whole number"),
        (nrrd, {"byte_skip": "-1", "packing": "gzip"}, "from the end of the file"),
        (nrrd, {"line_skip": "2"}, "skipped lines"),
        (nrrd, {"space_directions": None, "spacings": "1 two 3"}, "'spacings' is 'two'"),
        (nrrd, {"sizes": "4 3 1", "packing": "ascii"}, "voxels for a shape"),
        (mha, {"HeaderSize": "some"}, "'headersize' is 'some'"),
        (mha, {"HeaderSize": "10"}, "HeaderSize is 10, which lies in its header"),
        (mha, {"ElementNumberOfChannels": "3"}, "3 numbers a voxel"),
        (mha, {"ElementDataFile": "gone.raw"}, "not there"),
        (mha, {"ElementDataFile": "../up.raw"}, "another folder"),
        (mha, {"DimSize": "4 3 200"}, "ended early"),
        (mha, {"ElementType": "MET_STRANGE"}, "MET_STRANGE"),
        (mha, {"Offset": "1 2"}, "2 numbers in 3 dimensions"),
    ],
)  # fmt: skip
def test_refusals(make, changes: dict, says: str, tmp_path: Path):
    with pytest.raises(InputError, match=says):
        read(make(tmp_path / "v.x", **changes))


def test_voxels_that_do_not_follow_the_header_at_once(tmp_path: Path):
    """Four bytes of something else first, by its number and counted from the end."""
    for skip in ("4", "-1"):
        path = nrrd(tmp_path / "v.nrrd", byte_skip=skip)
        head, _, voxels = path.read_bytes().partition(b"\n\n")
        path.write_bytes(head + b"\n\nJUNK" + voxels)
        np.testing.assert_array_equal(read(path).data, DATA)


def test_the_header_size_of_a_metaimage_counts_from_the_beginning_of_the_file(tmp_path: Path):
    """As ITK reads it, in a file of voxels alone and in one with the header."""
    path = mha(tmp_path / "v.mha", HeaderSize="1000")
    head = path.read_bytes().partition(b"LOCAL\n")
    path.write_bytes((head[0] + head[1]).ljust(1000, b"#") + head[2])
    np.testing.assert_array_equal(read(path).data, DATA)
    path = mha(tmp_path / "v.mhd", HeaderSize="4", ElementDataFile="v.raw")
    (tmp_path / "v.raw").write_bytes(b"JUNK" + (tmp_path / "v.raw").read_bytes())
    np.testing.assert_array_equal(read(path).data, DATA)


def test_a_space_with_time(tmp_path: Path):
    """Vectors of four numbers, as SimpleITK writes them."""
    vectors = [f"({a},{b},{c},0)" for a, b, c in (TURN * PITCH).T]
    path = nrrd(
        tmp_path / "v.nrrd", data=np.stack([DATA, DATA + 100]), space="left-posterior-superior-time",
        space_directions=" ".join([*vectors, "(0,0,0,1)"]), space_origin="(10,-20,30,5)", kinds=None,
    )  # fmt: skip
    volume = read(path, index=1)
    np.testing.assert_array_equal(volume.data, DATA + 100)
    np.testing.assert_array_equal(volume.affine, expected_affine())


def test_a_slice_in_time(tmp_path: Path):
    path = nrrd(
        tmp_path / "v.nrrd", kinds="domain domain time", space_directions=None, spacings="2 3 nan"
    )
    with pytest.raises(InputError, match="2 volumes in one file"):
        read(path)
    np.testing.assert_array_equal(read(path, index=1).data, DATA[1:])


def test_a_negative_spacing_turns_its_axis_round(tmp_path: Path):
    """As ITK reads it."""
    spacing = " ".join(map(str, PITCH * [-1, 1, 1]))
    expected = expected_affine() @ np.diag([-1, 1, 1, 1])
    np.testing.assert_allclose(
        read(mha(tmp_path / "v.mha", ElementSpacing=spacing)).affine, expected
    )


def test_values_that_are_not_those_stored_are_said(tmp_path: Path):
    path = mha(tmp_path / "v.mha", ElementToIntensityFunctionSlope="2")
    assert "ElementToIntensityFunction was not applied" in read(path).notes[0]
    path = nrrd(tmp_path / "v.nrrd", **{"old min": "0", "old max": "1"})
    assert "mapped from others" in read(path).notes[0]
    assert read(mha(tmp_path / "v.mha", Modality="MET_MOD_CT")).modality == "CT"


@pytest.mark.parametrize("space", [None, "scanner-xyz"])
def test_an_unknown_orientation_is_written_as_unknown(space: str | None, tmp_path: Path):
    from restore.datasets.volume import nifti_write
    from restore.datasets.volume.identity import geometry_record, header_of_source
    from restore.datasets.volume.volume import Unplaced

    changes = {"space": space} | ({} if space else {"space_directions": None, "spacings": "2 3 4"})
    for path in (
        nrrd(tmp_path / "v.nrrd", **changes),
        mha(tmp_path / "v.mha", TransformMatrix=None),
    ):
        volume = read(path)
        assert volume.notes
        header = nibabel.load(nifti_write.write(volume, tmp_path / "o.nii")).header
        assert (header["sform_code"], header["qform_code"]) == (0, 0)
        assert isinstance(header_of_source(geometry_record(volume), volume.affine), Unplaced)


def test_values_that_are_not_finite(tmp_path: Path):
    spoilt = DATA.astype(float)
    spoilt[0, 0, 0] = np.nan
    for path in (
        nrrd(tmp_path / "v.nrrd", "<f4", data=spoilt),
        mha(tmp_path / "v.mha", "<f4", data=spoilt),
    ):
        with pytest.raises(InputError, match="1 voxels are not finite"):
            read(path)
        assert read(path, repair="zero").data[0, 0, 0] == 0


def test_damaged_compression(tmp_path: Path):
    path = nrrd(tmp_path / "v.nrrd", packing="gzip")
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(InputError, match="damaged"):
        read(path)


def test_a_scan_is_simulated_of_one(tmp_path: Path):
    from typer.testing import CliRunner

    from restore.cli import app

    body = np.zeros((2, 32, 32))
    body[:, 8:24, 8:24] = 50
    path = nrrd(tmp_path / "v.nrrd", data=body)
    scan, out = tmp_path / "s.h5", tmp_path / "o.nii"
    for words in (
        ["simulate", "mri", path, "-o", scan, "--coils", 2, "--center-fraction", 0.25],
        ["recon", scan, "-o", out, "--sampler", "zerofilled"],
    ):
        result = CliRunner().invoke(app, [str(w) for w in words])
        assert result.exit_code == 0, result.stderr
    np.testing.assert_allclose(nibabel.load(out).affine, expected_affine(), atol=1e-5)  # float32
