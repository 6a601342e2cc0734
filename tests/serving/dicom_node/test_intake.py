"""What is kept and what refused, and when a study is complete: without a network."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from dicom_node_peers import QUICK

from restore.errors import OutputError
from restore.serving.dicom_node.intake import NO_ROOM, NOT_UNDERSTOOD, TAKEN, Intake
from restore.serving.dicom_node.limits import Limits
from restore.serving.dicom_node.spool import Spool
from restore.serving.dicom_node.study import StudyRecord, mark_of

CALL = "one association"
LIMITS = Limits(quiet_s=60, patience_s=600, free_bytes=0)


def encoded(image) -> bytes:
    buffer = BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def taking(tmp_path):
    """Make an intake over the spool of the test, and the list of what it says."""

    def make(limits=LIMITS):
        said = []
        spool = Spool(tmp_path / "spool")
        with spool.opened():
            intake = Intake(spool, limits, said.append)
            intake.recover(0.0)
        return intake, said

    return make


def bring(intake, images, now=0.0, whole=True):
    statuses = [intake.keep(CALL, "PACS", encoded(image), now) for image in images]
    intake.hang_up(CALL, whole, now)
    return statuses


def state_at(intake, now):
    intake.settle(now)
    return intake.spool.studies[-1].state


def test_quiet_makes_a_study_complete(taking, study):
    intake, _ = taking()
    assert bring(intake, study) == [TAKEN] * len(study)
    assert state_at(intake, 59.0) == "receiving"
    assert state_at(intake, 61.0) == "complete"
    (series,) = intake.spool.studies[0].series.values()
    assert series.images == len(study)
    assert mark_of(study[0].SOPInstanceUID) in series.instances


def test_numbers_in_the_headers_are_waited_for(taking, study):
    for image in study:
        image.NumberOfStudyRelatedInstances = image.NumberOfSeriesRelatedInstances = len(study)
    intake, _ = taking()
    bring(intake, study[:3])
    assert state_at(intake, 599.0) == "receiving"
    bring(intake, study[3:], 599.0)
    assert state_at(intake, 606.0) == "complete"  # all there: a tenth of the quiet time will do


def test_a_study_that_never_completes_fails_with_what_is_missing(taking, study):
    study[0].NumberOfSeriesRelatedInstances = 9
    intake, said = taking()
    bring(intake, study)
    assert state_at(intake, 601.0) == "failed"
    assert "4 of 9 images came" in intake.spool.studies[0].text
    assert "4 of 9" in said[-1]


def test_an_open_association_keeps_a_study_open(taking, study):
    intake, _ = taking()
    intake.keep(CALL, "PACS", encoded(study[0]), 0.0)
    assert state_at(intake, 10_000.0) == "receiving"
    intake.hang_up(CALL, True, 10_000.0)
    assert state_at(intake, 10_000.0) == "complete"


def test_a_full_disk_refuses_and_the_study_waits_for_what_was_refused(taking, study, monkeypatch):
    intake, said = taking()
    bring(intake, study[:2])
    free = intake.spool.free_bytes
    monkeypatch.setattr(intake.spool, "free_bytes", lambda: 10)
    assert bring(intake, study[2:]) == [NO_ROOM] * 2
    assert any("make room" in line for line in said)
    assert state_at(intake, 100.0) == "receiving"
    monkeypatch.setattr(intake.spool, "free_bytes", free)
    assert bring(intake, study[2:], 100.0) == [TAKEN] * 2
    assert state_at(intake, 161.0) == "complete"


def test_a_disk_that_fails_in_the_middle_of_a_file_leaves_no_half_image(taking, study, monkeypatch):
    intake, _ = taking()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("restore.datasets.atomic.flush", full)
        assert bring(intake, study) == [NO_ROOM] * len(study)
    assert not [
        f
        for f in intake.spool.folder.rglob("*")
        if f.suffix == ".dcm" or f.name.startswith(".restore-8")
    ]
    assert bring(intake, study) == [TAKEN] * len(study)


def test_a_study_whose_record_cannot_be_written_is_complete_later(taking, study, monkeypatch):
    """Nobody is handed a study of which the disk does not know that it is complete."""
    intake, said = taking()
    bring(intake, study)

    def full(*_):
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(StudyRecord, "_write", full)
        assert state_at(intake, 61.0) == "receiving"
    assert "could not be written" in said[-1]
    assert state_at(intake, 62.0) == "complete"


@pytest.mark.parametrize(
    ("limits", "words"),
    [({"instance_bytes": 600}, "over the limit"), ({"study_bytes": 2000}, "more than 0.002 MB"),
     ({"study_images": 2}, "more than 2 images")],
    ids=["image", "bytes", "number"],
)  # fmt: skip
def test_what_is_too_large_is_refused_and_its_study_fails(taking, study, limits, words):
    intake, said = taking(replace(LIMITS, **limits))
    assert NO_ROOM in bring(intake, study)
    assert state_at(intake, 61.0) == "failed"
    assert words in intake.spool.studies[0].text
    assert sum(words in line for line in said) == 2


def test_too_many_studies_at_a_time_are_refused(taking, make_image):
    intake, _ = taking(replace(LIMITS, studies=2))
    images = [make_image(0, StudyInstanceUID=f"1.2.{k}") for k in range(3)]
    assert bring(intake, images) == [TAKEN, TAKEN, NO_ROOM]


@pytest.mark.parametrize(
    "spoilt", [b"", b"no DICOM at all" * 40, None], ids=["nothing", "text", "no UID"]
)
def test_what_is_no_image_is_refused(taking, study, spoilt):
    intake, said = taking()
    del study[0].SeriesInstanceUID
    assert (
        intake.keep(CALL, "PACS", encoded(study[0]) if spoilt is None else spoilt, 0.0)
        == NOT_UNDERSTOOD
    )
    assert not intake.spool.studies
    assert "no DICOM data set" in said[-1]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_uid_never_becomes_a_path(taking, study):
    intake, _ = taking()
    study[0].SOPInstanceUID = "../../escape"
    assert bring(intake, study[:1]) == [NOT_UNDERSTOOD]
    study[1].SOPInstanceUID = "1.2/3"
    assert bring(intake, study[1:2]) == [NOT_UNDERSTOOD]


def test_an_image_that_comes_twice_counts_once(taking, study):
    intake, _ = taking()
    bring(intake, [*study, *study])
    assert state_at(intake, 61.0) == "complete"
    assert intake.spool.studies[0].images == len(study)


def test_a_restart_finds_what_had_come_and_that_it_was_cut(taking, study):
    intake, _ = taking()
    intake.keep(CALL, "PACS", encoded(study[0]), 0.0)  # and the process ends
    again, said = taking()
    assert "1 images lie there" in said[-1]
    assert state_at(again, 61.0) == "receiving"
    bring(again, study[1:], 61.0)
    assert state_at(again, 122.0) == "complete"
    assert again.spool.studies[0].images == len(study)


def test_nothing_of_a_patient_is_in_the_spool_but_in_the_images(taking, study):
    intake, said = taking()
    bring(intake, study)
    intake.settle(61.0)
    files = [f for f in intake.spool.folder.rglob("*") if f.is_file() and f.suffix != ".dcm"]
    told = " ".join(
        [*said, *(f.read_text() for f in files), *map(str, intake.spool.folder.rglob("*"))]
    )
    assert files
    for secret in ("Doe", "12345", study[0].StudyInstanceUID, study[0].SOPInstanceUID):
        assert secret not in told
    assert intake.spool.folder.stat().st_mode & 0o077 == 0


def test_the_pause_between_tries_doubles_up_to_a_limit():
    assert [QUICK.pause_after(n) for n in (1, 2, 3)] == [0.05, 0.1, 0.1]
