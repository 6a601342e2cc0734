"""`restore report` and `restore recon --report`: what they write, and that nothing is lost where they fail."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from restore.bench import results, store
from restore.datasets.sidecar import read_sidecar

PATIENT = "Doe^Jane"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The smallest benchmark: one volume, one method."""
    folder = tmp_path / "RUN"
    image, place = np.random.default_rng(0).random((2, 20, 18)), store.Place("MR")
    store.save(store.image_path(folder, "", store.REFERENCE, "a.h5"), image, place)
    store.save(store.image_path(folder, "4x", "tv", "a.h5"), image * 0.9, place)
    row = results.Row("k", "made-up", "a.h5", "4x", "tv", "done", psnr=20.0, data_range=1.0)
    results.append(results.results_path(folder), row)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the charts empty: drawing them is most of the time."""
    monkeypatch.setattr("restore.report.render.draw", lambda chart: {"light": "", "dark": ""})


def test_report_of_a_run(run, verb, tmp_path, undrawn):
    result = verb("report", run)
    assert result.exit_code == 0, result.stderr
    assert f"{run / 'report' / 'index.html'}: 1 settings, 1 pages of volumes" in result.stdout
    assert "run.json is missing" in result.stderr
    assert verb("report", run, "--pages", 0, "-o", tmp_path / "short").exit_code == 0
    assert not (tmp_path / "short" / "pages").exists()


def test_report_refuses_what_is_not_its_own(run, verb, tmp_path):
    (run / "report").mkdir()
    (run / "report" / "mine.txt").write_text("mine")
    result = verb("report", run)
    assert (result.exit_code, "no report of this program" in result.stderr) == (5, True)
    assert [p.name for p in (run / "report").iterdir()] == ["mine.txt"]
    assert verb("report", tmp_path / "nothing").exit_code == 3


@pytest.mark.parametrize(("kind", "sampler"), [("mri", "split"), ("ct", "dds")])
def test_report_of_a_reconstruction(kind, sampler, scans, verb, tmp_path):
    out = tmp_path / f"{kind}.nii.gz"
    command = ["recon", scans / f"{kind}.h5", "-o", out, "--steps", 3, "--samples", 2, "--report"]
    command += ["--sampler", sampler]
    result = verb(*command)
    assert result.exit_code == 0, result.stderr
    folder = tmp_path / f"{kind}_report"
    text = (folder / "index.html").read_text("utf-8")
    names = re.findall(r"<figcaption><b>(.+?)</b>", text)
    first = {"mri": "input: zerofilled", "ct": "input: fbp"}[kind]
    assert names == [first, sampler, "reference"] * 3
    assert "Slice 1<" in text
    assert "Slice 7<" in text
    assert text.count("standard deviation</p>") == 3
    assert "data range" in text
    assert "Data misfit during the run" in text
    assert read_sidecar(out)["prior"]["sha256"] in text
    assert text.count("interval, half-width (0.9 for pixels") == 3
    assert "Coverage of the intervals" in text  # the scan carries its truth
    assert "Error against predicted deviation" in text
    assert len(list((folder / "volumes").rglob("v*.js"))) == 5
    assert str(tmp_path) not in text
    (folder / "index.html").unlink()
    again = verb(*command)
    assert "already done" in again.stdout
    assert (folder / "index.html").read_text("utf-8") == text


def test_reports_tell_nothing_of_the_patient(scans, verb, tmp_path, undrawn):
    """Names that stand in the attributes of a measurement come into no file of its report."""
    scan, out = tmp_path / "scan.h5", tmp_path / "out.nii"
    scan.write_bytes((scans / "mri.h5").read_bytes())
    with h5py.File(scan, "a") as file:
        file.attrs["patient_id"] = PATIENT
        file.attrs["PatientName"] = PATIENT
    result = verb("recon", scan, "-o", out, "--sampler", "cgsense", "--report")
    assert result.exit_code == 0, result.stderr
    files = [p for p in (tmp_path / "out_report").rglob("*") if p.is_file()]
    assert len(files) > 20
    assert not [p for p in files if PATIENT.encode() in p.read_bytes()]


def test_a_taken_name_is_refused_before_the_work(scans, verb, tmp_path):
    (tmp_path / "out_report").mkdir()
    (tmp_path / "out_report" / "mine.txt").write_text("mine")
    out = tmp_path / "out.nii"
    result = verb("recon", scans / "mri.h5", "-o", out, "--sampler", "zerofilled", "--report")
    assert result.exit_code == 5
    assert not out.exists()


def test_a_failed_report_leaves_the_result(scans, verb, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("restore.report.render.write_pictures", full)
    out = tmp_path / "out.nii"
    result = verb("recon", scans / "mri.h5", "-o", out, "--sampler", "zerofilled", "--report")
    assert result.exit_code == 5
    assert "3 slices by zerofilled" in result.stdout
    assert "No space" in result.stderr
    assert read_sidecar(out)["status"] == "done"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "out.nii"]
