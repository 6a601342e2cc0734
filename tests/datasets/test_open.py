"""`read` and `write` by content and by name, and what they refuse."""

from __future__ import annotations

import gzip
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.open import read, write
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import head_phantom
from restore.datasets.volume.volume import Volume, align_to
from restore.errors import ConfigError, InputError, NotFoundError, OutputError

SINGLE = 5e-4  # NIfTI keeps an affine in float32: 4e-5 of 700 mm

AFFINE = np.array([[-1.0, 0, 0, 9], [0, 2, 0, -8], [0, 0, 3, 7], [0, 0, 0, 1]])


@pytest.fixture
def volume() -> Volume:
    return Volume(np.arange(24, dtype=np.float32).reshape(2, 3, 4), AFFINE, "MR")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "series"])
def test_round_trip_by_name(tmp_path, volume, name):
    path = write(volume, tmp_path / name, description="dds")
    assert path == tmp_path / name
    back = read(path)
    np.testing.assert_array_equal(align_to(volume, back).data, volume.data)
    assert back.source == path


def test_what_exists_is_kept_unless_told(tmp_path, volume):
    for name in ("x.nii", "series"):
        write(volume, tmp_path / name)
        with pytest.raises(OutputError, match="exists already"):
            write(volume, tmp_path / name)
        write(volume.with_data(volume.data + 1), tmp_path / name, overwrite=True)
        assert read(tmp_path / name).data.max() == 24


def test_the_source_is_never_written_over(tmp_path, volume):
    for name in ("x.nii", "series"):
        source = read(write(volume, tmp_path / name))
        with pytest.raises(OutputError, match="is the source"):
            write(source, tmp_path / name, overwrite=True)
        link = tmp_path / f"link-{name}"
        link.symlink_to(tmp_path / name)
        with pytest.raises(OutputError, match="is the source"):
            write(source, link, overwrite=True)
    os.link(tmp_path / "x.nii", tmp_path / "hard.nii")
    with pytest.raises(OutputError, match="is the source"):
        write(read(tmp_path / "x.nii"), tmp_path / "hard.nii", overwrite=True)
    series = read(tmp_path / "series")
    with pytest.raises(OutputError, match="within or around"):
        write(series, tmp_path / "series" / "result")
    with pytest.raises(OutputError, match="within or around"):
        write(read(tmp_path / "series" / "0001.dcm"), tmp_path / "series", overwrite=True)
    assert len(list((tmp_path / "series").iterdir())) == 2


def test_names_that_cannot_be_written(tmp_path, volume):
    for name in ("x.png", "x.dcm", "x.mgz", "x.nii.bz2"):
        with pytest.raises(ConfigError, match="written as"):
            write(volume, tmp_path / name)
    with pytest.raises(OutputError, match="no such folder"):
        write(volume, tmp_path / "missing" / "x.nii")


def test_content_decides_not_the_name(tmp_path, volume):
    plain = write(volume, tmp_path / "x.nii")
    plain.rename(tmp_path / "y.nii.gz")
    np.testing.assert_array_equal(read(tmp_path / "y.nii.gz").data, volume.data)
    slice_file = write(volume, tmp_path / "series") / "0001.dcm"
    slice_file.rename(tmp_path / "z.nii")
    assert read(tmp_path / "z.nii").n_slices == 1


def jpeg() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (40, 40)).save(stream, "JPEG")
    return stream.getvalue()


IMPOSTORS = {
    "JPEG picture": jpeg(),
    "PNG picture": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(50),
    "ZIP archive": b"PK\x03\x04" + bytes(50),
    "web page": b"<!doctype html><title>404 Not Found</title>",
    "text file": b"hello world\n",
    "unknown kind": bytes(range(1, 200)),
    "gzip archive of a text file": gzip.compress(b"hello world\n"),
    "Analyze": (348).to_bytes(4, "little") + bytes(500),
    "empty": b"",
    "ended early": gzip.compress(os.urandom(2000))[:9],
}


@pytest.mark.parametrize("what", IMPOSTORS)
@pytest.mark.parametrize("name", ["x.nii.gz", "x.dcm"])
def test_impostors_are_named(tmp_path, what, name):
    (tmp_path / name).write_bytes(IMPOSTORS[what])
    with pytest.raises(InputError, match=what):
        read(tmp_path / name)


def test_missing_path(tmp_path):
    with pytest.raises(NotFoundError):
        read(tmp_path / "x.nii")


def test_options_of_the_other_format(tmp_path, volume):
    nifti, series = write(volume, tmp_path / "x.nii"), write(volume, tmp_path / "s")
    with pytest.raises(ConfigError, match="series"):
        read(nifti, series="1")
    for option in ({"modality": "CT"}, {"repair": "zero"}):
        with pytest.raises(ConfigError, match="NIfTI"):
            read(series, **option)
    assert read(nifti, modality="CT").units == "HU"
    with pytest.raises(ConfigError, match="repair"):
        read(nifti, repair="interpolate")


def test_real_series_to_nifti_and_back_by_position(samples, tmp_path):
    volume = read(samples / "dicom_mr").select(slice(1, 6, 2))
    back = read(write(volume, tmp_path / "x.nii"))
    assert isinstance(back.source, Path)
    np.testing.assert_allclose(back.affine, volume.affine, atol=SINGLE)
    whole = read(samples / "dicom_mr")
    np.testing.assert_array_equal(align_to(back, whole).data, volume.data)


def test_the_scripts_of_the_page_on_scan_files_run(tmp_path, monkeypatch, capsys):
    """The Python blocks of docs/scan-files.md: arrays by name, water's polynomial, and a small scan by steps."""
    page = Path(__file__).resolve().parents[2] / "docs" / "scan-files.md"
    scripts = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    scan = simulate_mri(head_phantom((3, 32, 28)), coils=3, acceleration=2, center_fraction=0.3)
    write_fastmri(scan, "scan.h5")
    for code in scripts:
        exec(compile(code, str(page), "exec"), {})  # noqa: S102 (our own page)
    arrays, hardening, scan_said = capsys.readouterr().out.splitlines()
    assert arrays == "k-space in scan.npz"
    assert hardening.startswith("--beam-hardening 0.9")
    assert scan_said == "k-space in scan.h5 (3, 3, 32, 28) (1, 2, 32, 28)"
