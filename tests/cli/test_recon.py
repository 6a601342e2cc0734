"""`restore recon`, from scan files to volumes: place, units, records, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
import torch

import restore
from restore.datasets.open import open_scan, read
from restore.datasets.sidecar import read_sidecar
from restore.pipelines.evaluate import evaluate_volume

DENOISING = (
    "dds",
    "reddiff",
    "diffpir",
    "flowchef",
    "dps",
    "pigdm",
    "exact",
    "stsl",
    "diffusionmbir",
)
FEW = {"tv": 15, "wavelet": 15} | dict.fromkeys(DENOISING, 3)
MRI_SAMPLERS = ("zerofilled", "cgsense", "wavelet", "tv", *DENOISING)
CT_SAMPLERS = ("fbp", "wavelet", "tv", *DENOISING)
MEASURED = (1, 4, 7)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def few(sampler: str) -> list[object]:
    return ["--sampler", sampler, *(["--steps", FEW[sampler]] if sampler in FEW else [])]


@pytest.fixture(scope="module")
def made(scans, verb, tmp_path_factory):
    """Every reconstruction of the two scans: (kind, sampler) -> file."""
    folder = tmp_path_factory.mktemp("made")
    files = {}
    for kind, samplers in (("mri", MRI_SAMPLERS), ("ct", CT_SAMPLERS)):
        for sampler in samplers:
            files[kind, sampler] = folder / f"{kind}_{sampler}.nii.gz"
            result = verb("recon", scans / f"{kind}.h5", "-o", files[kind, sampler], *few(sampler))
            assert result.exit_code == 0, result.stderr
            assert f"{files[kind, sampler]}: 3 slices by {sampler}" in result.stdout
    return files


EVERY = [("mri", s) for s in MRI_SAMPLERS] + [("ct", s) for s in CT_SAMPLERS]


@pytest.mark.parametrize(("kind", "sampler"), EVERY)
def test_every_sampler_puts_its_result_where_the_slices_were(made, scans, kind, sampler):
    source = nibabel.load(scans / ("mr.nii.gz" if kind == "mri" else "ct.nii.gz"))
    out = nibabel.load(made[kind, sampler])
    assert out.shape == (30, 36, 3)
    assert out.get_data_dtype() == np.float32
    for k, index in enumerate(MEASURED):
        voxel = np.array([[0, 0, k, 1], [29, 0, k, 1], [0, 35, k, 1]])
        there = voxel + np.array([0, 0, index - k, 0])
        np.testing.assert_allclose(out.affine @ voxel.T, source.affine @ there.T, atol=1e-4)
    for code in ("sform_code", "qform_code"):
        assert out.header[code] == source.header[code]
    np.testing.assert_allclose(out.get_qform(), out.affine, atol=1e-4)


@pytest.mark.parametrize(("kind", "sampler"), EVERY)
def test_every_sampler_gives_the_units_of_the_source(made, scans, kind, sampler):
    modality = {"mri": "MR", "ct": "CT"}[kind]
    truth = read(scans / ("mr.nii.gz" if kind == "mri" else "ct.nii.gz"), modality=modality)
    out = read(made[kind, sampler])
    figures = evaluate_volume(out, truth)
    assert figures.slices == MEASURED
    assert figures.psnr > 15
    x, y = out.data.ravel().astype(float), truth.data[list(MEASURED)].ravel().astype(float)
    slope, offset = np.polyfit(y, x, 1)
    assert slope == pytest.approx(1, abs=0.15)
    assert abs(offset) < 0.1 * np.ptp(y)


def test_dds_is_better_than_the_image_it_starts_from(made, scans, verb, tmp_path):
    truth = read(scans / "mr.nii.gz", modality="MR")
    out = tmp_path / "dds.nii.gz"
    assert verb("recon", scans / "mri.h5", "-o", out, "--steps", 12).exit_code == 0
    zero_filled = evaluate_volume(read(made["mri", "zerofilled"]), truth)
    dds = evaluate_volume(read(out), truth)
    assert dds.psnr > zero_filled.psnr + 5
    assert dds.ssim > zero_filled.ssim


def test_air_and_brain_in_hu(made):
    for sampler in CT_SAMPLERS:
        data = read(made["ct", sampler]).data
        assert np.median(data[:, :4, :4]) == pytest.approx(-1000, abs=60)
        assert np.median(data[0, 20:28, 15:23]) == pytest.approx(35, abs=60)


def test_the_record_says_how_and_nothing_about_whom(made, scans, tmp_path):
    record = read_sidecar(made["mri", "dds"])
    assert record["status"] == "done"
    assert record["sources"][0]["File"] == "mri.h5"
    assert len(record["sources"][0]["SHA256"]) == 64
    assert record["outputs"] == ["mri_dds.nii.gz"]
    assert record["sampler"]["n_steps"] == 3
    assert record["prior"]["name"] == "medical"
    assert len(record["prior"]["sha256"]) == 64
    assert record["options"]["seed"] == 0
    assert record["maps"] == "file"
    assert record["environment"]["Device"] == "cpu"
    assert [s for chunk in record["chunks"] for s in chunk["slices"]] == [
        f"slice {i}" for i in MEASURED
    ]
    assert all(0 < chunk["misfit"] < 50 for chunk in record["chunks"])
    text = json.dumps(record)
    assert str(scans) not in text
    assert str(made["mri", "dds"].parent) not in text
    assert "/" not in text.replace("1/mm", "")


def test_finished_work_is_not_done_again(made, scans, verb):
    out = made["mri", "dds"]
    before = out.stat().st_mtime_ns
    command = ["recon", scans / "mri.h5", "-o", out, "--sampler", "dds", "--steps"]
    result = verb(*command, 3)
    assert result.exit_code == 0
    assert "already done" in result.stdout
    result = verb(*command, 4)
    assert result.exit_code == 5
    assert "not the result of this job" in result.stderr
    assert out.stat().st_mtime_ns == before


def test_overwrite_does_it_again(scans, verb, tmp_path):
    out = tmp_path / "out.nii"
    command = ["recon", scans / "mri.h5", "-o", out, "--sampler"]
    assert verb(*command, "zerofilled").exit_code == 0
    first = read(out).data
    assert verb(*command, "cgsense", "--overwrite").exit_code == 0
    assert not np.array_equal(first, read(out).data)
    assert read_sidecar(out)["sampler"]["name"] == "cgsense"
    assert names(tmp_path) == ["out.json", "out.nii"]


def test_two_samples_give_mean_deviation_and_interval(scans, verb, tmp_path):
    for kind, sampler in (("mri", "auto"), ("ct", "dds")):
        out, std = tmp_path / f"{kind}.nii.gz", tmp_path / f"{kind}_std.nii.gz"
        command = ["recon", scans / f"{kind}.h5", "-o", out, "--steps", 3, "--samples", 2]
        command += ["--sampler", sampler]
        result = verb(*command, "--json")
        assert result.exit_code == 0, result.stderr
        interval = tmp_path / f"{kind}_interval.nii.gz"
        record = json.loads(result.stdout)
        assert record["outputs"] == [out.name, std.name, interval.name]
        assert "interval of 0.9 is nominal, not calibrated" in result.stderr
        assert record["interval"]["factor"] == pytest.approx(7.7327, abs=1e-3)  # t of 1, (3/2)^1/2
        mean, deviation, width = read(out), read(std), read(interval)
        agreed = deviation.data < np.ptp(mean.data) / 512
        # Single precision of three files: 6e-8 of values up to 3e3 HU, and of the mean's range.
        np.testing.assert_allclose(width.data[~agreed], 7.7327 * deviation.data[~agreed], rtol=1e-4)
        assert width.data.min() > 0
        np.testing.assert_array_equal(mean.affine, deviation.affine)
        assert deviation.data.shape == mean.data.shape
        assert 0 < deviation.data.mean() < 0.1 * np.ptp(mean.data)
        assert deviation.data.min() >= 0
        assert "already done" in verb(*command).stdout
        std.unlink()
        assert verb(*command).exit_code == 5


def test_a_deviation_that_belongs_to_something_else_is_kept(scans, verb, tmp_path):
    precious = tmp_path / "out_std.nii.gz"
    precious.write_text("precious")
    command = ["recon", scans / "mri.h5", "-o", tmp_path / "out.nii.gz", "--steps", 2]
    result = verb(*command, "--samples", 2)
    assert result.exit_code == 5
    assert names(tmp_path) == ["out_std.nii.gz"]
    assert precious.read_text() == "precious"


def test_the_seed_alone_decides_the_noise(made, scans, verb, tmp_path):
    command = ["recon", scans / "mri.h5", "--steps", 3]
    for name, seed in (("a", 0), ("b", 1)):
        assert verb(*command, "-o", tmp_path / f"{name}.nii.gz", "--seed", seed).exit_code == 0
    default = read(made["mri", "dds"]).data
    np.testing.assert_array_equal(read(tmp_path / "a.nii.gz").data, default)
    assert not np.array_equal(read(tmp_path / "b.nii.gz").data, default)


def test_a_dicom_folder_that_lies_where_the_slices_were(made, scans, verb, tmp_path):
    for kind, sampler in (("mri", "cgsense"), ("ct", "fbp")):
        out = tmp_path / kind
        result = verb("recon", scans / f"{kind}.h5", "-o", out, "--sampler", sampler)
        assert result.exit_code == 0, result.stderr
        assert names(out) == ["0001.dcm", "0002.dcm", "0003.dcm"]
        series, nifti = read(out), read(made[kind, sampler])
        assert series.modality == {"mri": "MR", "ct": "CT"}[kind]
        np.testing.assert_allclose(series.affine, nifti.affine, atol=1e-4)
        step = float(pydicom.dcmread(out / "0001.dcm").RescaleSlope)
        np.testing.assert_allclose(series.data, nifti.data, atol=0.51 * step)
        assert read_sidecar(out)["outputs"] == [kind]
        again = verb("recon", scans / f"{kind}.h5", "-o", out, "--sampler", sampler)
        assert "already done" in again.stdout


@pytest.fixture
def patient(scans, tmp_path) -> Path:
    """The MR volume as a DICOM series with a name on it."""
    folder = tmp_path / "patient"
    restore.write(read(scans / "mr.nii.gz", modality="MR"), folder)
    for file in folder.iterdir():
        image = pydicom.dcmread(file)
        image.PatientName, image.PatientID = "Doe^Jane", "4711"
        image.save_as(file)
    return folder


def test_identity_of_a_dicom_series(patient, verb, tmp_path):
    scan, out = tmp_path / "scan.h5", tmp_path / "out"
    options = ["--coils", 2, "--acceleration", 2, "--center-fraction", 0.2, "--slices", "1:8:3"]
    assert verb("simulate", "mri", patient, "-o", scan, *options).exit_code == 0
    command = ["recon", scan, "--sampler", "zerofilled"]
    result = verb(*command, "-o", out, "--like", patient)
    assert result.exit_code == 0, result.stderr
    for k, index in enumerate(MEASURED):
        new = pydicom.dcmread(out / f"{k + 1:04d}.dcm")
        old = pydicom.dcmread(patient / f"{index + 1:04d}.dcm")
        assert (new.PatientName, new.PatientID) == ("Doe^Jane", "4711")
        for tag in ("StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient"):
            assert new[tag].value == old[tag].value
        assert new.SeriesInstanceUID != old.SeriesInstanceUID
        reference = new.SourceImageSequence[0].ReferencedSOPInstanceUID
        assert reference == old.SOPInstanceUID
    record = json.dumps(read_sidecar(out)) + scan.read_bytes().decode("latin-1")
    assert "Doe" not in record
    assert "4711" not in record
    nifti = tmp_path / "out.nii.gz"
    assert verb(*command, "-o", nifti).exit_code == 0
    assert nibabel.load(nifti).header["sform_code"] == 1
    np.testing.assert_allclose(read(nifti).affine, read(out).affine, atol=1e-4)


def test_identity_of_a_series_that_lies_elsewhere(patient, scans, verb, tmp_path):
    for file in patient.iterdir():
        image = pydicom.dcmread(file)
        image.ImagePositionPatient[0] += 2
        image.save_as(file)
    before = names(tmp_path)
    command = ["recon", scans / "mri.h5", "--sampler", "zerofilled", "--like"]
    result = verb(*command, patient, "-o", tmp_path / "out")
    assert result.exit_code == 4
    assert "shifted" in result.stderr
    assert verb(*command, scans / "mr.nii.gz", "-o", tmp_path / "out").exit_code == 2
    assert verb(*command, patient, "-o", tmp_path / "out.nii.gz").exit_code == 2
    assert names(tmp_path) == before


def test_maps_by_espirit_and_phase_kept(made, scans, verb, tmp_path):
    truth = read(scans / "mr.nii.gz", modality="MR")
    for name, option in (("espirit", ["--maps", "espirit"]), ("phase", ["--keep-phase"])):
        out = tmp_path / f"{name}.nii.gz"
        assert verb("recon", scans / "mri.h5", "-o", out, "--steps", 3, *option).exit_code == 0
        assert not np.array_equal(read(out).data, read(made["mri", "dds"]).data)
        assert evaluate_volume(read(out), truth).psnr > 20
    assert read_sidecar(tmp_path / "espirit.nii.gz")["maps"] == "espirit"
    assert read_sidecar(tmp_path / "phase.nii.gz")["options"]["remove_phase"] is False


def test_settings_by_name(scans, verb, tmp_path):
    out = tmp_path / "out.nii.gz"
    options = ["--preset", "published", "--set", "n_steps=2", "--set", "gamma=2.5"]
    result = verb("recon", scans / "mri.h5", "-o", out, *options, "--noise-std", 7)
    assert result.exit_code == 0, result.stderr
    record = read_sidecar(out)
    assert record["sampler"]["gamma"] == 2.5
    assert record["sampler"]["schedule"] == "vp"
    assert record["sampler"]["preset"] == "published"
    assert record["noise_std"] == 7


def test_dry_run_does_nothing(scans, verb, tmp_path):
    result = verb("recon", scans / "ct.h5", "-o", tmp_path / "out.nii.gz", "--dry-run")
    assert result.exit_code == 0
    assert "3 slices of ct.h5" in result.stdout
    assert names(tmp_path) == []


def test_a_volume_and_an_echo_of_the_series_named_by_like(patient, verb, tmp_path):
    """The series holds two echoes; the second goes into the result, and the record repeats that."""
    for file in list(patient.iterdir()):
        image = pydicom.dcmread(file)
        for number, time in ((1, 2.5), (2, 5)):
            image.EchoTime, image.SOPInstanceUID = time, f"{image.SOPInstanceUID}.{number}"
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            image.save_as(file.with_name(f"{number}{file.name}"))
        file.unlink()
    scan, out = tmp_path / "scan.h5", tmp_path / "out"
    simulate = ["simulate", "mri", patient, "-o", scan, "--coils", 2, "--slices", "1:8:3"]
    assert verb(*simulate).exit_code == 4
    assert verb(*simulate, "--echo", 2).exit_code == 0
    command = ["recon", scan, "--sampler", "zerofilled"]
    result = verb(*command, "-o", out, "--like", patient)
    assert result.exit_code == 4
    assert "--volume 0 to 1, or --echo 1 to 2" in result.stderr
    result = verb(*command, "-o", out, "--like", patient, "--echo", 2)
    assert result.exit_code == 0, result.stderr
    assert pydicom.dcmread(out / "0001.dcm").EchoTime == 5
    again = verb("recon", "--config", tmp_path / "out.json", "-o", tmp_path / "again")
    assert again.exit_code == 0, again.stderr
    assert pydicom.dcmread(tmp_path / "again" / "0001.dcm").EchoTime == 5
    result = verb(*command, "-o", tmp_path / "n.nii", "--volume", 1)
    assert result.exit_code == 2
    assert "--volume: chooses from the series of --like" in result.stderr


def kspace_array(path: Path, scans: Path) -> Path:
    np.save(path, open_scan(scans / "mri.h5").kspace[:1])
    return path


def test_kspace_as_an_array(scans, verb, tmp_path):
    source, out = kspace_array(tmp_path / "k.npy", scans), tmp_path / "out.nii.gz"
    result = verb("recon", source, "-o", out, "--sampler", "cgsense")
    assert result.exit_code == 0, result.stderr
    assert read(out).data.shape == (1, 36, 30)
    assert read_sidecar(out)["maps"] == "espirit"


def spoilt(source: Path, path: Path, key: str) -> Path:
    """A copy of a scan with one measured sample that is not a number."""
    shutil.copy(source, path)
    with h5py.File(path, "a") as file:
        place = np.unravel_index(np.argmax(np.abs(file[key][1])), file[key].shape[1:])
        file[key][(1, *place)] = np.nan
    return path


@pytest.mark.parametrize(("kind", "key"), [("mri", "kspace"), ("ct", "sinogram")])
def test_nan_is_refused_unless_repaired(scans, verb, tmp_path, kind, key):
    bad = spoilt(scans / f"{kind}.h5", tmp_path / "bad.h5", key)
    command = ["recon", bad, "-o", tmp_path / "out.nii.gz", *few("tv")]
    result = verb(*command)
    assert result.exit_code == 4
    assert "1 samples are NaN or infinite (slice 1" in result.stderr
    assert "repair" in result.stderr
    assert names(tmp_path) == ["bad.h5"]
    result = verb(*command, "--repair", "zero")
    assert result.exit_code == 0, result.stderr
    done = {"mri": "set to zero", "ct": "bridged from their neighbours"}[kind]
    assert done in result.stderr
    assert any(done in note for note in read_sidecar(tmp_path / "out.nii.gz")["notes"])


def refused(result, code: int, *words: str) -> None:
    """One sentence on stderr, nothing on stdout, the right code."""
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("restore: error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def test_scans_that_cannot_be_read(scans, verb, tmp_path):
    out = tmp_path / "out.nii.gz"
    refused(verb("recon", tmp_path / "none.h5", "-o", out), 3, "none.h5: no such file")
    text = tmp_path / "text.h5"
    text.write_text("hello, this is no scan\n")
    refused(verb("recon", text, "-o", out), 4, "text.h5: ", "a text file")
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes((scans / "mr.nii.gz").read_bytes()[:-5000])
    for command in (["recon", cut], ["simulate", "mri", cut]):
        refused(verb(*command, "-o", out), 4, "damaged", "again")
    half = tmp_path / "half.h5"
    half.write_bytes((scans / "mri.h5").read_bytes()[:20000])
    refused(verb("recon", half, "-o", out), 4, "damaged HDF5")
    assert names(tmp_path) == ["cut.nii.gz", "half.h5", "text.h5"]


def test_a_series_with_a_missing_slice(patient, verb, tmp_path):
    (patient / "0004.dcm").unlink()
    for command in (["recon"], ["simulate", "mri"]):
        result = verb(*command, patient, "-o", tmp_path / "out.h5")
        refused(result, 4, "missing slice: 1 between 0003.dcm and 0005.dcm", "export")
    assert names(tmp_path) == ["patient"]


def test_a_volume_is_no_scan(patient, scans, verb, tmp_path):
    for volume in (scans / "mr.nii.gz", patient):
        refused(verb("recon", volume, "-o", tmp_path / "out.nii.gz"), 4, "restore simulate mri")


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("mri", ["--sampler", "ddss"], ["no sampler 'ddss'", "did you mean 'dds'?"]),
        ("mri", ["--preset", "publishd"], ["did you mean 'published'?"]),
        ("mri", ["--set", "n_step=3"], ["did you mean 'n_steps'?"]),
        ("mri", ["--set", "n_steps=few"], ["must be of type int, got 'few'"]),
        ("mri", ["--set", "n_steps"], ["name=value"]),
        ("mri", ["--set", "eta=7"], ["eta must lie in 0..1"]),
        ("mri", ["--sampler", "fbp"], ["fbp serves CT", "not k-space in mri.h5", "zerofilled"]),
        ("mri", ["--sampler", "bicubic"], ["bicubic serves super-resolution", "not k-space"]),
        ("ct", ["--sampler", "zerofilled"], ["serves MRI", "not a sinogram in ct.h5; use ", "fbp"]),
        ("ct", ["--sampler", "ddrm"], ["a singular value decomposition", "not a sinogram"]),
        ("ct", ["--keep-phase"], ["remove_phase=False means nothing for a CT scan"]),
        (
            "mri",
            ["--sampler", "ddrm"],
            ["with a singular value decomposition", "use cgls, cgsense, dds"],
        ),
        ("mri", ["--sampler", "resshift"], ["needs a conditional prior", "such as dds"]),
        ("ct", ["--sampler", "mrs", "--prior", "natural-restore"], ["not for a sinogram in ct.h5"]),
        ("ct", ["--prior", "natural-restore"], ["dds needs a denoiser prior"]),
        ("mri", ["--maps", "walsh"], ["maps must be one of 'auto', 'file', 'espirit'"]),
        ("mri", ["--repair", "one"], ["unknown repair 'one'"]),
        ("mri", ["--device", "abacus"], ["unknown device 'abacus'"]),
        ("mri", ["--prior", "natural", "--steps", "2"], ["use prior 'medical'"]),
    ],
)
def test_settings_that_cannot_work(scans, verb, tmp_path, kind, options, words):
    result = verb("recon", scans / f"{kind}.h5", "-o", tmp_path / "out.nii.gz", *options)
    refused(result, 2, *words)
    assert names(tmp_path) == []


def test_a_prior_that_is_not_there(scans, verb, tmp_path):
    command = ["recon", scans / "mri.h5", "-o", tmp_path / "out.nii.gz", "--prior", "medicine"]
    refused(verb(*command), 6, "no prior 'medicine'", "medical")


def test_a_device_that_is_not_there(scans, verb, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    command = ["recon", scans / "mri.h5", "-o", tmp_path / "out.nii.gz", "--device", "cuda"]
    refused(verb(*command), 9, "use --device cpu")
    assert names(tmp_path) == []


def test_outputs_that_cannot_be(scans, verb, tmp_path):
    scan = tmp_path / "scan.h5"
    shutil.copy(scans / "mri.h5", scan)
    command = ["recon", scan, "--sampler", "zerofilled", "-o"]
    refused(verb(*command, tmp_path / "no" / "out.nii.gz"), 5, "there is no such folder")
    refused(verb(*command, scan, "--overwrite"), 5, "output and input are the same")
    refused(verb(*command, tmp_path / "out.png"), 2, ".nii.gz")
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("precious")
    refused(verb(*command, other), 5, "not the result of this job")
    refused(verb(*command, other, "--overwrite"), 5, "letter.txt")
    assert names(tmp_path) == ["other", "scan.h5"]
    assert names(other) == ["letter.txt"]


def test_a_disk_that_fills_up_leaves_no_result(scans, verb, tmp_path, monkeypatch):
    """The mean is written, its deviation does not fit: neither appears, and the slices wait for the same command."""
    from restore.errors import OutputError
    from restore.pipelines import results

    write = results.write

    def fails(volume, path, *, description="", **options):
        if "std" in description:
            raise OutputError(f"{path}: no space left on device")
        return write(volume, path, description=description, **options)

    out = tmp_path / "out.nii.gz"
    command = [
        "recon",
        scans / "ct.h5",
        "-o",
        out,
        "--steps",
        2,
        "--samples",
        2,
        "--sampler",
        "dds",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(results, "write", fails)
        result = verb(*command)
    assert result.exit_code == 5
    assert "no space left" in result.stderr
    assert "the same command goes on with it" in result.stderr
    (kept,) = names(tmp_path)
    assert kept.startswith(".restore-work-")
    assert verb(*command).exit_code == 0
    assert names(tmp_path) == ["out.json", "out.nii.gz", "out_interval.nii.gz", "out_std.nii.gz"]


def test_a_note_is_said_once(scans, verb, tmp_path):
    """The plan and the run both see that noise of opposite signs has no total variation to cancel in."""
    told = ("--set", "z_noise=-0.5", "--steps", 1)
    done = verb("recon", scans / "mri.h5", "-o", tmp_path / "out.nii.gz", *told)
    assert done.exit_code == 0, done.stderr
    assert " ".join(done.stderr.split()).count("drives them apart") == 1
