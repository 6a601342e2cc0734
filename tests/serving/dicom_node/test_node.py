"""From peer to peer: a study comes, a series is made of it and goes on; and what becomes of others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dicom_node_peers import PATIENCE_S, QUICK, Halving, archive_on
from pydicom.uid import (
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from restore.errors import OutputError
from restore.serving.dicom_node.listener import load_network
from restore.serving.dicom_node.peers import Peer
from restore.serving.dicom_node.study import load_study


def test_a_study_comes_and_a_derived_series_goes_on(node_on, archive, study, tmp_path):
    with node_on() as running:
        echo = running.call()
        assert echo.send_c_echo().Status == 0
        echo.release()
        assert running.send(study) == [0] * len(study)
        running.until("done", "failed")
        said = " ".join(running.said)
    record = load_study(running.studies[0].folder)
    assert record.state == "done", record.text
    assert not (record.folder / "in").exists()
    made = sorted(archive.images, key=lambda image: image.InstanceNumber)
    assert len(made) == len(study)
    for source, image in zip(study, made, strict=True):
        for keyword in (
            "StudyInstanceUID",
            "FrameOfReferenceUID",
            "PatientID",
            "ImagePositionPatient",
        ):
            assert image[keyword].value == source[keyword].value
        assert image.SeriesInstanceUID not in ("", source.SeriesInstanceUID)
        assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert image.DerivationCodeSequence
        values = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        # The stored integers are off by half a step at most; the step itself is a text of 16 characters.
        rounding = 0.501 * float(image.RescaleSlope)
        np.testing.assert_allclose(values, source.pixel_array / 2, rtol=0, atol=rounding)
    for secret in ("Doe", "12345", study[0].StudyInstanceUID):
        assert secret not in said


@pytest.mark.parametrize(
    ("title", "called", "host"),
    [
        ("STRANGER", "RESTORE", "127.0.0.1"),
        ("PACS", "OTHER", "127.0.0.1"),
        ("PACS", "RESTORE", "192.0.2.1"),
    ],
    ids=["title", "called title", "address"],
)
def test_who_is_not_on_the_list_is_refused(node_on, title, called, host):
    with node_on(allow=(Peer("PACS", host),)) as running:
        association = running.call(title, called)
        assert not association.is_established
        assert not running.studies
    assert any("refused" in line or "closed" in line for line in running.said)


def test_a_title_may_call_from_its_own_host_alone(node_on):
    with node_on(allow=(Peer("PACS", "192.0.2.1"), Peer("CT1", "127.0.0.1"))) as running:
        assert running.call("PACS").is_rejected
        call = running.call("CT1")
        assert call.is_established
        call.release()


def vanish(association):
    """End a connection in the middle of an image, without a word."""
    association.dul.socket.send(b"\x04\x00" + (10_000).to_bytes(4, "big") + b"a part of it")
    association.dul.socket.close()


@pytest.mark.parametrize(
    "end", [lambda association: association.abort(), vanish], ids=["abort", "vanish"]
)
def test_a_peer_that_breaks_off_is_waited_for_and_its_study_kept(node_on, study, archive, end):
    with node_on() as running:
        association = running.call()
        for image in study[:2]:
            association.send_c_store(image)
        end(association)
        (record,) = running.until("failed")
        assert "broke off in the middle, after 2 images" in record.text
        assert len(list((record.folder / "in").rglob("*.dcm"))) == 2
    assert not archive.images
    with node_on(retry_failed=True) as running:
        running.until("done")
    assert len(archive.images) == 2


def test_a_peer_that_merely_falls_silent_broke_nothing_off(node_on, study):
    with node_on(limits=replace(QUICK, silence_s=0.2)) as running:
        association = running.call()
        association.send_c_store(study[0])
        (record,) = running.until("failed")
        assert "a single image" in record.text
        assert association.is_released or not association.is_established
    assert not any("broke off" in line for line in running.said)


def test_an_image_that_is_far_too_large_is_not_even_received(node_on, study):
    with node_on(limits=replace(QUICK, instance_bytes=100)) as running:
        association = running.call()
        answer = association.send_c_store(study[0])
        assert "Status" not in answer
        assert not running.studies
    assert any("more than twice the largest size" in line for line in running.said)


def test_data_sets_that_have_to_be_inflated_are_not_taken(node_on):
    network = load_network()
    entity = network.AE("PACS")
    entity.add_requested_context(MRImageStorage, DeflatedExplicitVRLittleEndian)
    entity.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    with node_on() as running:
        association = entity.associate("127.0.0.1", running.node.port, ae_title="RESTORE")
        taken = [context.transfer_syntax for context in association.accepted_contexts]
        association.release()
    assert taken == [[ExplicitVRLittleEndian]]


def test_the_rest_may_come_by_another_association(node_on, study, archive):
    with node_on(limits=replace(QUICK, patience_s=PATIENCE_S)) as running:
        association = running.call()
        association.send_c_store(study[0])
        association.abort()
        assert running.send(study) == [0] * len(study)
        (record,) = running.until("done", "failed")
    assert record.state == "done", record.text
    assert len(archive.images) == len(study)


def test_what_is_no_volume_is_named_and_the_rest_is_done(node_on, study, archive, make_image):
    localizer = [
        make_image(k, series="1.2.1", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        for k in range(3)
    ]
    alone = [make_image(0, series="1.2.2")]
    report = [
        make_image(
            0,
            series="1.2.3",
            SOPClassUID=BasicTextSRStorage,
            Rows=None,
            PixelData=None,
            Modality="SR",
        )
    ]
    shot = [make_image(0, series="1.2.4", ImagePositionPatient=None, SamplesPerPixel=3)]
    with node_on() as running:
        assert set(running.send([*localizer, *alone, *report, *shot, *study])) == {0}
        (record,) = running.until("done", "failed")
    assert record.state == "done", record.text
    texts = " ".join(s.text for s in record.of_state("skipped"))
    for words in ("localizers", "a single image", "Basic Text SR", "colour pictures"):
        assert words in texts
    assert len(archive.images) == len(study)


def test_a_mixed_series_fails_in_a_sentence_and_is_kept(node_on, study, archive, make_image):
    turned = make_image(9, ImageOrientationPatient=[0, 1, 0, 0, 0, 1])
    with node_on() as running:
        running.send([*study, turned])
        (record,) = running.until("done", "failed")
    assert record.state == "failed"
    assert "mixed orientation" in record.text
    assert len(list((record.folder / "in").rglob("*.dcm"))) == len(study) + 1
    assert not archive.images


def test_our_own_series_is_not_processed_again(node_on, study, archive):
    with node_on() as running:
        running.send(study)
        running.until("done")
        made = list(archive.images)
        running.send(made)
        (record,) = running.until("failed")
        assert "has made is not processed again" in record.text
    assert len(archive.images) == len(made)


def test_a_target_that_is_down_is_tried_again_then_the_series_is_kept_and_sent_later(
    node_on, study, archive
):
    archive.stop()
    with node_on() as running:
        running.send(study)
        (record,) = running.until("failed", "done")
        assert "0 of 4 images were sent" in record.text
        assert "does not answer" in record.text
        assert sum("tried again" in line for line in running.said) == QUICK.tries - 1
    task = Halving()
    with archive_on(archive.port) as later, node_on(task, retry_failed=True) as running:
        running.until("done")
        assert len(later.images) == len(study)
    assert task.runs == 0


def test_a_half_sent_series_is_sent_on_where_it_stopped(node_on, study, archive):
    archive.statuses = [0, 0, 0xA700]
    with node_on() as running:
        running.send(study)
        running.until("done")
        assert any("2 of 4 images were sent" in line for line in running.said)
    assert (
        len({image.SOPInstanceUID for image in archive.images}) == len(archive.images) == len(study)
    )


def test_a_target_that_does_not_know_us_is_named(node_on, study, archive):
    with node_on(target=Peer("OTHER", "127.0.0.1", archive.port)) as running:
        running.send(study)
        (record,) = running.until("failed")
    assert "refused the association (Called AE title not recognised)" in record.text


def test_a_fault_of_the_task_is_told_and_other_series_go_on(node_on, study, archive, make_image):
    other = [make_image(k, series="1.2.9") for k in range(3)]
    with node_on(Halving(7)) as running:
        running.send([*study, *other])
        (record,) = running.until("failed", "done")
    assert record.state == "failed"
    assert "1 derived series sent, 0 series skipped, 1 failed: it would not do" in record.text
    assert len(archive.images) in (len(study), len(other))


def test_a_full_disk_of_the_task_is_waited_for(node_on, study, archive):
    task = Halving(5)
    with node_on(task) as running:
        running.send(study)
        running.until("done")
    assert task.runs == 2


def test_a_restart_goes_on_with_what_was_coming_in(node_on, study, archive):
    """Headers that tell the number of images have the node wait for the rest, and not much longer."""
    limits = replace(QUICK, quiet_s=1.0, patience_s=PATIENCE_S)
    for image in study:
        image.NumberOfStudyRelatedInstances = len(study)
    with node_on(limits=limits) as running:
        running.send(study[:2])
        running.until("receiving")
    with node_on(limits=limits) as running:
        running.send(study[2:])
        running.until("done")
    assert len(archive.images) == len(study)


def test_a_spool_has_one_node_at_a_time(node_on):
    with node_on(), pytest.raises(OutputError, match="another process is at work"):
        with node_on():
            pass
