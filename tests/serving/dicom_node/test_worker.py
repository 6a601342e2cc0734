"""What becomes of a complete study in the worker's hands, and what it refuses to hand on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from dicom_node_peers import QUICK, Halving

from restore.errors import InputError, OutputError
from restore.serving.dicom_node.screening import check_derived
from restore.serving.dicom_node.spool import Spool
from restore.serving.dicom_node.study import SeriesRecord, load_study, mark_of
from restore.serving.dicom_node.task import STOPPED, CommandTask, Outcome
from restore.serving.dicom_node.worker import Worker


@pytest.fixture
def complete(tmp_path, study):
    """Make a spool with a complete study of some of the images, and a worker over it."""

    def make(task, images=study, stopping=lambda: False, spool=None):
        spool = spool or Spool(tmp_path / "spool")
        spool.folder.mkdir(exist_ok=True)
        record = spool.new(mark_of(study[0].StudyInstanceUID), "PACS", 0.0)
        series = SeriesRecord(mark_of(study[0].SeriesInstanceUID))
        record.series[series.mark] = series
        record.source(series).mkdir(parents=True)
        for image in images:
            image.save_as(
                record.source(series) / f"{mark_of(image.SOPInstanceUID)}.dcm",
                enforce_file_format=True,
            )
        series.instances = [mark_of(image.SOPInstanceUID) for image in images]
        series.images, record.state = len(images), "complete"
        record.save()
        said = []

        def finish(one, now):
            one.state = "failed"

        return Worker(spool, task, QUICK, said.append, stopping, finish), record, series

    return make


def test_a_made_series_goes_to_the_sender(complete):
    worker, record, series = complete(Halving())
    assert worker.step(0.0)
    assert (record.state, series.state) == ("sending", "made")
    assert load_study(record.folder) == record
    assert not worker.step(0.0)


def test_a_task_that_was_stopped_is_begun_again(complete):
    worker, record, series = complete(Halving(STOPPED))
    worker.step(0.0)
    assert (record.state, series.state) == ("complete", "waiting")
    worker.step(0.0)
    assert series.state == "made"


def test_a_full_disk_is_waited_for_until_the_tries_are_used_up(complete):
    worker, record, series = complete(Halving(5, 5, 5))
    now = 0.0
    for tried in range(1, QUICK.tries):
        assert worker.step(now)
        assert (record.state, record.tries) == ("complete", tried)
        assert not worker.step(now)  # not before its time
        now = record.due
    worker.step(now)
    assert series.state == "failed"


def test_images_that_come_late_are_no_series_of_their_own(complete, study):
    worker, first, _ = complete(Halving(), study[:3])
    worker.step(0.0)
    worker, record, series = complete(Halving(), study[3:], spool=worker.spool)
    worker.step(0.0)
    assert series.state == "failed"
    assert "came after the series had been taken for complete with 3" in series.text
    first.state = "done"
    worker, record, series = complete(
        Halving(), study, spool=worker.spool
    )  # the whole again is welcome
    record.series[series.mark].images = len(study)
    worker.step(0.0)
    assert series.state == "made"


def test_a_damaged_series_is_the_tasks_to_refuse(complete):
    """It fails, where a series that is no volume is merely left out."""
    worker, record, series = complete(Halving())
    for file in record.source(series).iterdir():
        file.write_bytes(file.read_bytes()[:700])
    worker.step(0.0)
    assert series.state == "failed"
    assert "export it again" in series.text


def test_no_room_for_a_record_puts_the_study_back(complete, monkeypatch):
    worker, record, series = complete(Halving())

    def full(*_):
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(type(record), "_write", full)
        assert worker.step(0.0)
    assert (record.state, series.state, record.due > 0) == ("complete", "waiting", True)
    worker.step(record.due)
    assert series.state == "made"


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [("StudyInstanceUID", "1.2", "another StudyInstanceUID"), ("PatientID", "2", "another PatientID"),
     ("SourceImageSequence", None, "does not name"), ("SeriesInstanceUID", "", "UID of its source")],
    ids=["study", "patient", "sources", "series"],
)  # fmt: skip
def test_a_result_that_does_not_belong_to_its_source_is_not_sent(
    tmp_path, study_folder, study, tag, value, words
):
    Halving().run(study_folder, tmp_path / "out")
    check_derived(study_folder, tmp_path / "out")
    file = next((tmp_path / "out").iterdir())
    import pydicom

    image = pydicom.dcmread(file)
    setattr(image, tag, [] if value is None else value or study[0].SeriesInstanceUID)
    image.save_as(file)
    with pytest.raises(InputError, match=words):
        check_derived(study_folder, tmp_path / "out")


def test_a_task_that_makes_something_else_fails(complete, study_folder):
    class Copying(Halving):
        def run(self, source: Path, out: Path) -> Outcome:
            out.mkdir(parents=True)
            (out / "1.dcm").write_bytes(next(study_folder.iterdir()).read_bytes())
            return Outcome(0)

    worker, record, series = complete(Copying())
    worker.step(0.0)
    assert series.state == "failed"
    assert "nothing of it is sent" in series.text
    assert not record.derived(series).exists()


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Let a shell script stand for the command line."""

    def stand_in(script: str) -> None:
        file = tmp_path / "program"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(file))

    return stand_in


def test_a_command_is_given_its_words_and_its_sentence_is_kept(program, tmp_path):
    said = 'echo "restore: note: x" >&2; echo "restore: error: $4: no volume" >&2'
    program(f'echo "$@" > {tmp_path}/words; {said}; exit 4')
    outcome = CommandTask("volume denoise", "volume", ("--task", "denoise", "a b;c")).run(
        Path("in"), Path("out")
    )
    assert outcome == Outcome(4, "the series: no volume")
    words = (tmp_path / "words").read_text().split()
    assert words == "-m restore.cli volume in -o out --overwrite --task denoise a b;c".split()


def test_a_command_that_is_killed_is_told_as_such(program):
    program("kill -9 $$")
    assert "SIGKILL" in CommandTask("x", "volume", ()).run(Path("in"), Path("out")).text


def test_a_stopped_task_runs_nothing_more(program):
    program("exit 0")
    task = CommandTask("x", "volume", ())
    task.stop()
    assert task.run(Path("in"), Path("out")).code == STOPPED
