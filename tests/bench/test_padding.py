"""Padding outside the field of view by one rule: one score from `eval` and `bench ct`, the tag in what is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from restore.bench.ct import CTSparseView
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.volume import dicom, dicom_write
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError
from restore.metrics import psnr, ssim
from restore.pipelines.evaluate import evaluate_volume


def round_field(path: Path, padding_hu: int, tag: bool, n: int = 24) -> np.ndarray:
    """A CT series whose corners hold padding; returns where it was measured."""
    y, x = np.indices((n, n)) - (n - 1) / 2
    measured = np.hypot(x, y) <= n / 2
    path.mkdir()
    for k in range(8):
        hu = np.where(np.hypot(x, y) < n / 3, 40 + 20 * k, -1000)
        stored = np.where(measured, hu, padding_hu).astype(np.int16) + 1024
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CTImageStorage, f"1.2.{k + 1}", "CT"
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.SeriesNumber = "1.2.3", "1.2", 3
        ds.Rows = ds.Columns = n
        ds.PixelSpacing, ds.ImageOrientationPatient = [1, 1], [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient, ds.SliceThickness = [0, 0, 2 * k], 2
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
        if tag:
            ds.add_new("PixelPaddingValue", "SS", padding_hu + 1024)
        ds.PixelData = stored.tobytes()
        ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(path / f"{k}.dcm", enforce_file_format=True)
    return measured


CASES = [(-3024, True), (-3024, False), (-2000, False), (3000, True)]


@pytest.mark.parametrize(("padding_hu", "tag"), CASES)
def test_both_verbs_score_what_was_measured(tmp_path, padding_hu, tag):
    measured = round_field(tmp_path / "ct", padding_hu, tag)
    volume = dicom.read(tmp_path / "ct")
    noise = np.random.default_rng(0).normal(0, 30, volume.data.shape)
    image = (np.where(measured, volume.data, -1000) + noise).astype(np.float32)
    protocol = CTSparseView(tmp_path / "ct", views=(30,))
    figures = protocol.open("ct", protocol.settings()[0], tmp_path).scoring(image)
    found = evaluate_volume(Volume(image, volume.affine, "CT", "HU"), volume)
    inside = np.broadcast_to(measured, image.shape)
    error = (image.astype(np.float64) - volume.data)[inside]
    expected = 10 * np.log10(np.ptp(volume.data[inside]) ** 2 / np.mean(error**2))
    # Images of float32: rounding of 1e-7 of 1000 HU, in errors of 30 HU.
    assert found.psnr == pytest.approx(expected, abs=1e-4)
    assert figures.psnr == pytest.approx(expected, abs=1e-4)
    assert figures.ssim == pytest.approx(found.ssim, abs=1e-5)
    assert figures.nmse == pytest.approx(found.nmse, rel=1e-5)
    assert figures.data_range == found.data_range == np.ptp(volume.data[inside])
    assert any("padding and were not compared" in note for note in found.notes)


@pytest.mark.parametrize(("padding_hu", "tag"), CASES)
def test_padding_is_measured_as_air(tmp_path, padding_hu, tag):
    measured = round_field(tmp_path / "ct", padding_hu, tag)
    volume = dicom.read(tmp_path / "ct")
    air = volume.with_data(np.where(measured, volume.data, -1000).astype(np.float32))
    same = [simulate_ct(v, views=8, seed=1).sinogram[3] for v in (volume, air)]
    np.testing.assert_array_equal(*same)


@pytest.mark.parametrize("padding_hu", [-3024, 3000])
def test_tag_and_value_are_written(tmp_path, padding_hu):
    measured = round_field(tmp_path / "ct", padding_hu, tag=True)
    volume = dicom.read(tmp_path / "ct")
    inside = np.broadcast_to(measured, volume.data.shape)
    for name, data in {
        "whole": volume.data,
        "steps": np.where(inside, volume.data * np.float32(0.9123), volume.data),
    }.items():
        out = dicom_write.write(volume.with_data(data), tmp_path / name)
        back, first = dicom.read(out), pydicom.dcmread(out / "0001.dcm")
        np.testing.assert_array_equal(first.pixel_array == first.PixelPaddingValue, ~measured)
        slope = float(first.RescaleSlope)
        assert back.padding == pytest.approx((padding_hu, padding_hu), abs=slope)
        low = float(first.WindowCenter) - float(first.WindowWidth) / 2
        high = float(first.WindowCenter) + float(first.WindowWidth) / 2
        assert -1100 < low < high < 300
    gone = dicom_write.write(volume.with_data(np.clip(volume.data, -1000, 200)), tmp_path / "gone")
    assert "PixelPaddingValue" not in pydicom.dcmread(gone / "0001.dcm")


def test_nothing_but_padding(tmp_path):
    round_field(tmp_path / "ct", -3024, tag=True)
    volume = dicom.read(tmp_path / "ct")
    empty = volume.with_data(np.full_like(volume.data, -3024))
    with pytest.raises(ConfigError, match="padding only"):
        evaluate_volume(dataclasses.replace(empty, padding=None), empty)


def test_figures_of_a_part():
    draw = np.random.default_rng(3).random
    x, y, where = draw((3, 20, 20)), draw((3, 20, 20)), draw((3, 20, 20)) > 0.4
    expected = 10 * np.log10(4 / np.mean((x - y)[where] ** 2))
    assert psnr(x, y, data_range=2, where=where) == pytest.approx(expected, abs=1e-12)
    every = np.ones_like(where)
    # The same windows averaged in another order: a few roundings of doubles.
    same = ssim(x, y, data_range=1)
    assert ssim(x, y, data_range=1, where=every) == pytest.approx(same, abs=1e-12)
    left = every.copy()
    left[0], left[1:, :, 10:] = False, False
    part = ssim(x[1:, :, :13], y[1:, :, :13], data_range=1, where=left[1:, :, :13])
    assert ssim(x, y, data_range=1, where=left) == pytest.approx(part, abs=1e-12)
