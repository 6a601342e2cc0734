"""NIfTI: values and geometry against nibabel, and what every damaged file must lead to."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest

from restore.datasets.open import read
from restore.datasets.volume import nifti, nifti_write
from restore.datasets.volume.volume import Volume, align_to
from restore.errors import ConfigError, InputError, OutputError

SINGLE = 1e-5  # the header keeps numbers in float32, 6e-8 of each
DOUBLE = 1e-12  # float64: one product

AFFINE = np.array([[-1.5, 0.2, 0, 30], [0.1, 1.4, 0.3, -20], [0, -0.2, 2.5, 7], [0, 0, 0, 1.0]])
AFFINE_RIGID = np.array([[0, -2.0, 0, 1], [1.5, 0, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]])
SHAPE = (6, 5, 4)  # x, y, z


def values(dtype=np.float32, shape=SHAPE) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=shape) * 100).astype(dtype)


def saved(path: Path, data: np.ndarray, affine=AFFINE, edit=None, kind=nibabel.Nifti1Image) -> Path:
    """Save by nibabel, then let `edit` change the raw header of the file."""
    nibabel.save(kind(data, affine), path)
    if edit is not None:
        packed = path.name.endswith(".gz")
        content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        header = nibabel.Nifti1Header(content[:348], check=False)
        edit(header)
        content = header.binaryblock + content[348:]
        path.write_bytes(gzip.compress(content) if packed else content)
    return path


def fields(header, **changes):
    for name, value in changes.items():
        header[name] = value


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64, ">i2"])
def test_values_and_affine_are_those_of_nibabel(tmp_path, name, dtype):
    path = saved(tmp_path / name, np.abs(values(dtype)))
    volume = nifti.read(path)
    reference = nibabel.load(path)
    np.testing.assert_array_equal(volume.data, np.asarray(reference.dataobj).T)
    np.testing.assert_array_equal(volume.affine, reference.affine)
    assert volume.data.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert volume.source == path


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_big_endian_and_version_2(tmp_path, kind):
    header = kind(values(), AFFINE).header.as_byteswapped(">")
    path = tmp_path / "big.nii"
    nibabel.save(kind(values(), AFFINE, header), path)
    np.testing.assert_array_equal(nifti.read(path).data, values().T)
    out = nifti_write.write(nifti.read(path), tmp_path / "out.nii")
    assert type(nibabel.load(out)) is kind
    np.testing.assert_array_equal(nibabel.load(out).get_fdata(), values())


def test_slope_is_applied_in_double(tmp_path):
    stored = values(np.int16)
    path = saved(
        tmp_path / "a.nii", stored, edit=lambda h: fields(h, scl_slope=0.053, scl_inter=-7)
    )
    expected = stored.T * float(np.float32(0.053)) - 7
    np.testing.assert_array_equal(nifti.read(path).data, expected.astype(np.float32))


def test_large_integers_are_not_rounded(tmp_path):
    stored = np.full(SHAPE, 2**24 + 1, np.int32)
    assert (nifti.read(saved(tmp_path / "a.nii", stored)).data == 2**24 + 1).all()


def test_written_float_is_bit_exact_under_an_integer_source(tmp_path):
    """A result may not be rounded to the source's integers (fault 9)."""
    volume = nifti.read(saved(tmp_path / "a.nii", values(np.int16)))
    result = volume.with_data(volume.data * np.float32(0.37) + np.float32(0.01))
    back = nibabel.load(nifti_write.write(result, tmp_path / "b.nii.gz"))
    assert back.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(back.dataobj).T, result.data)


@pytest.mark.parametrize("codes", [(1, 1), (4, 0), (0, 1), (3, 2), (0, 0)])
def test_both_matrices_and_codes_come_back_to_the_bit(tmp_path, codes):
    def edit(header):
        header.set_sform(AFFINE, code=codes[0])
        header.set_qform(np.diag([1.5, 1.4, 2.5, 1]) @ AFFINE, code=codes[1], strip_shears=True)
        fields(header, xyzt_units=10, intent_code=1001, descrip=b"Jane Doe", aux_file=b"Doe.hdr")

    path = saved(tmp_path / "a.nii", values(), edit=edit)
    volume = nifti.read(path)
    out = nifti_write.write(volume, tmp_path / "b.nii", description="restore dds")
    before, after = nibabel.load(path).header, nibabel.load(out).header
    for name in before.keys():
        if name not in ("descrip", "aux_file", "scl_slope", "scl_inter"):
            np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    assert b"Doe" not in out.read_bytes()
    assert after["descrip"] == b"restore dds"


@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (4, 0), (0, 0)])
def test_selected_slices_are_written_where_they_lie(tmp_path, codes):
    def edit(header):
        rigid = np.diag([2.0, 3.0, 4.0, 1.0])
        header.set_sform(rigid, code=codes[0])
        header.set_qform(rigid, code=codes[1])

    volume = nifti.read(saved(tmp_path / "a.nii", values(), edit=edit))
    part = volume.select(slice(1, None, 2))
    back = nifti.read(nifti_write.write(part, tmp_path / "b.nii"))
    np.testing.assert_allclose(back.affine, part.affine, atol=SINGLE)
    np.testing.assert_array_equal(align_to(back, volume).data, part.data)


def test_gzip_output_is_deterministic(tmp_path):
    volume = Volume(values().T.copy(), AFFINE)
    a = nifti_write.write(volume, tmp_path / "a.nii.gz").read_bytes()
    assert a == nifti_write.write(volume, tmp_path / "b.nii.gz").read_bytes()


def test_complex_stays_complex(tmp_path):
    data = values() + 1j * values(shape=SHAPE)[::-1]
    path = saved(tmp_path / "c.nii", data.astype(np.complex64))
    volume = nifti.read(path)
    assert volume.data.dtype == np.complex64
    back = nifti.read(nifti_write.write(volume, tmp_path / "d.nii"))
    np.testing.assert_array_equal(back.data, volume.data)


def test_series_of_volumes(tmp_path):
    series = values(shape=(*SHAPE, 3))
    path = saved(tmp_path / "s.nii.gz", series)
    with pytest.raises(InputError, match=r"--volume 0 to 2 \(index=0"):
        nifti.read(path)
    for k in range(3):
        np.testing.assert_array_equal(nifti.read(path, index=k).data, series[..., k].T)
    with pytest.raises(ConfigError, match="index=3"):
        nifti.read(path, index=3)
    single = nifti.read(saved(tmp_path / "one.nii", series[..., :1]))
    np.testing.assert_array_equal(single.data, series[..., 0].T)


def test_colour_and_five_dimensions_are_refused(tmp_path):
    rgb = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(InputError, match="colour"):
        nifti.read(saved(tmp_path / "rgb.nii", rgb))
    with pytest.raises(InputError, match="5 dimensions"):
        nifti.read(saved(tmp_path / "five.nii", values(shape=(3, 3, 3, 2, 2))))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.99])
def test_truncated_file(tmp_path, name, keep):
    path = saved(tmp_path / name, values(shape=(20, 20, 20)))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match=r"ended early|damaged"):
        nifti.read(path)


def test_empty_file(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        nifti.read(tmp_path / "a.nii")


def test_gzip_checksum_is_read(tmp_path):
    path = saved(tmp_path / "a.nii.gz", values())
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="checksum"):
        nifti.read(path)


def test_header_that_asks_for_more_than_the_file_or_the_memory(tmp_path, monkeypatch):
    path = saved(
        tmp_path / "a.nii.gz", values(), edit=lambda h: fields(h, dim=[3, *[32767] * 3, 1, 1, 1, 1])
    )
    with pytest.raises(InputError, match="asks for"):
        nifti.read(path)
    monkeypatch.setenv("RESTORE_MAX_MEMORY_GB", "0.000001")
    with pytest.raises(InputError, match="RESTORE_MAX_MEMORY_GB"):
        nifti.read(saved(tmp_path / "b.nii", values()))


def test_compressed_data_without_end(tmp_path):
    content = gzip.decompress(saved(tmp_path / "a.nii.gz", values()).read_bytes())
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(content + bytes(64 << 20), compresslevel=1))
    with pytest.raises(InputError, match="far more data"):
        nifti.read(path)


@pytest.mark.parametrize("dim", [[3, 16, 0, 8], [3, -5, 4, 4], [0, 1, 1, 1], [9, 4, 4, 4]])
def test_impossible_dimensions(tmp_path, dim):
    path = saved(tmp_path / "a.nii", values(), edit=lambda h: fields(h, dim=[*dim, 1, 1, 1, 1]))
    with pytest.raises(InputError, match="dimensions"):
        nifti.read(path)


@pytest.mark.parametrize("row", [[np.nan] * 4, [0, 0, 0, 5], [np.inf, 0, 0, 1]])
def test_affine_that_places_nothing(tmp_path, row):
    path = saved(tmp_path / "a.nii", values(), edit=lambda h: fields(h, srow_x=row))
    with pytest.raises(InputError, match="affine"):
        nifti.read(path)


def test_no_orientation_is_noted_and_kept(tmp_path):
    path = saved(tmp_path / "a.nii", values(), edit=lambda h: fields(h, sform_code=0, qform_code=0))
    volume = nifti.read(path)
    np.testing.assert_array_equal(volume.affine, nibabel.load(path).affine)
    assert any("guess" in note for note in volume.notes)
    header = nibabel.load(nifti_write.write(volume, tmp_path / "b.nii")).header
    assert (header["sform_code"], header["qform_code"]) == (0, 0)


@pytest.mark.parametrize("slope", [np.nan, np.inf])
def test_scaling_that_is_no_number_is_noted(tmp_path, slope):
    path = saved(tmp_path / "a.nii", values(), edit=lambda h: fields(h, scl_slope=slope))
    volume = nifti.read(path)
    np.testing.assert_array_equal(volume.data, values().T)
    assert any("scaling" in note for note in volume.notes)


def test_voxel_size_zero(tmp_path):
    def zero(header):
        header["pixdim"][3] = 0

    with_sform = nifti.read(saved(tmp_path / "a.nii", values(), edit=zero))
    assert with_sform.spacing_mm[2] == pytest.approx(np.linalg.norm(AFFINE[:, 2]), rel=SINGLE)
    assert any("voxel sizes" in note for note in with_sform.notes)

    def without(header):
        zero(header)
        fields(header, sform_code=0)

    with pytest.raises(InputError, match="voxel sizes"):
        nifti.read(saved(tmp_path / "b.nii", values(), np.diag([2.0, 2, 2, 1]), edit=without))


def test_units_of_metres_and_micrometres(tmp_path):
    for unit, scale in ((1, 1000), (3, 0.001), (2, 1)):
        path = saved(
            tmp_path / "a.nii", values(), edit=lambda h, unit=unit: fields(h, xyzt_units=unit)
        )
        volume = nifti.read(path)
        expected = nibabel.load(path).affine[:3] * scale
        np.testing.assert_allclose(volume.affine[:3], expected, rtol=DOUBLE)
        out = nibabel.load(nifti_write.write(volume.select([2]), tmp_path / "b.nii"))
        assert out.header["xyzt_units"] == unit
        np.testing.assert_allclose(
            out.affine[:3] * scale, volume.select([2]).affine[:3], rtol=SINGLE
        )


def test_values_that_are_not_finite(tmp_path):
    data = values()
    data[0, 0, 0] = np.nan
    path = saved(tmp_path / "a.nii", data)
    with pytest.raises(InputError, match="1 of 120 voxels"):
        nifti.read(path)
    repaired = nifti.read(path, repair="zero")
    assert repaired.data[0, 0, 0] == 0
    assert any("not finite" in note for note in repaired.notes)
    bad = repaired.with_data(np.full(repaired.data.shape, np.inf, np.float32))
    with pytest.raises(OutputError, match="120 of 120"):
        nifti_write.write(bad, tmp_path / "out.nii")
    assert not (tmp_path / "out.nii").exists()


def test_real_volume(samples):
    path = samples / "head_T1.nii.gz"
    reference = nibabel.load(path)
    volume = nifti.read(path, modality="MR")
    assert volume.data.shape == reference.shape[::-1]
    np.testing.assert_array_equal(volume.affine, reference.affine)
    np.testing.assert_array_equal(volume.data, reference.get_fdata().T.astype(np.float32))
    np.testing.assert_allclose(volume.spacing_mm, reference.header.get_zooms(), rtol=SINGLE)


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("given", [".hdr", ".img"])
def test_a_pair_of_header_and_voxels(tmp_path, given, packed):
    image = nibabel.Nifti1Pair(values().astype(np.int16), AFFINE)
    nibabel.save(image, tmp_path / f"a.img{packed}")
    volume = read(tmp_path / f"a{given}{packed}")
    np.testing.assert_array_equal(volume.data, values().astype(np.int16).T)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=SINGLE)
    back = nifti.read(nifti_write.write(volume, tmp_path / "b.nii"))
    np.testing.assert_array_equal(back.data, volume.data)
    (tmp_path / f"a.img{packed}").unlink()
    with pytest.raises(InputError, match=r"another file, of the same name and .img, which is not"):
        read(tmp_path / f"a.hdr{packed}")


def test_voxels_behind_an_offset_of_a_pair(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(values().astype(np.int16), AFFINE), tmp_path / "a.img")
    head, voxels = (tmp_path / "a.hdr").read_bytes(), (tmp_path / "a.img").read_bytes()
    header = nibabel.Nifti1Header(head[:348], check=False)
    header["vox_offset"] = 16
    (tmp_path / "a.hdr").write_bytes(header.structarr.tobytes() + head[348:])
    (tmp_path / "a.img").write_bytes(b"x" * 16 + voxels)
    np.testing.assert_array_equal(nifti.read(tmp_path / "a.hdr").data, values().astype(np.int16).T)


@pytest.mark.parametrize("sign", [0.0, 5.0, np.nan])
def test_a_qform_without_the_sign_of_its_third_axis(tmp_path, sign):
    """The format takes it for +1, as nibabel's own repair does."""

    def edit(header):
        header.set_qform(AFFINE_RIGID, code=1)
        header.set_sform(None, code=0)
        header["pixdim"][0] = sign

    volume = nifti.read(saved(tmp_path / "a.nii", values(), edit=edit))
    np.testing.assert_allclose(volume.affine, AFFINE_RIGID, atol=SINGLE)
    assert any("third axis" in note for note in volume.notes)
    part = volume.select(slice(1, None))
    back = nifti.read(nifti_write.write(part, tmp_path / "b.nii"))
    np.testing.assert_allclose(back.affine, part.affine, atol=SINGLE)


def unturned(header):
    header.set_qform(AFFINE_RIGID, code=1)
    header.set_sform(None, code=0)
    header["quatern_b"] = header["quatern_c"] = 0.9


REFUSED = {
    "no rotation": (unturned, "its qform is no rotation"),
    "huge scaling": (lambda h: fields(h, scl_slope=1e38, scl_inter=0), "once scaled .scl_slope 1e"),
    "tiny scaling": (lambda h: fields(h, scl_slope=1e-44, scl_inter=0), "too small for float"),
    "no offset": (lambda h: fields(h, vox_offset=np.nan), "voxels begin at byte nan"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_field(tmp_path, case):
    edit, why = REFUSED[case]
    with pytest.raises(InputError, match=why):
        nifti.read(saved(tmp_path / "a.nii", values(), edit=edit))


NOTED = {
    "a statistic": ({"intent_code": 3}, "those of a statistic"),
    "labels": ({"intent_code": 1002}, "labels, not intensities"),
    "unit": ({"xyzt_units": 7}, "code without a meaning .7.: mm was taken"),
}


@pytest.mark.parametrize("case", NOTED)
def test_noted(tmp_path, case):
    changes, said = NOTED[case]
    path = saved(tmp_path / "a.nii", values(), edit=lambda header: fields(header, **changes))
    assert re.search(said, " ".join(nifti.read(path).notes))


FOREIGN = {
    "a.mgh": (b"\0\0\0\1" + b"\0" * 600, "FreeSurfer"),
    "a.mnc": (b"CDF\1" + b"\0" * 600, "MINC"),
    "a.par": (b"# === DATA DESCRIPTION FILE ===\n" * 30, "PAR/REC"),
    "a+orig.HEAD": (b"type = string-attribute\n" * 30, "AFNI"),
    "a.vtk": (b"# vtk DataFile Version 3.0\n" * 30, "VTK"),
    "a.hdr": (b"\x5c\1\0\0" + b"\0" * 344, "Analyze header"),
    "a.img": (b"\7\0\6\0" * 200, "Analyze volume"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_volumes_of_other_programs_are_named(tmp_path, name):
    content, called = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{called}.*convert it to NIfTI"):
        read(tmp_path / name)
