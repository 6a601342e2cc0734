"""The node, pull and push against Debian's Orthanc and DCMTK: store, process, find, retrieve, compare."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restore.datasets.open import read
from restore.serving.dicom_node.peers import Peer

pytestmark = pytest.mark.services

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PATIENCE_S = 120.0
STUDY = "1.2.840.99.1"


def missing() -> str:
    """What is not installed of what these tests need, in words."""
    for program in ("Orthanc", "storescu", "echoscu", "findscu", "movescu"):
        if shutil.which(program) is None:
            return f"{program} is not installed (make programs)"
    return (
        "" if PLUGIN.is_file() else "the package orthanc-dicomweb is not installed (make programs)"
    )


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass
class Orthanc:
    http: int
    dicom: int
    node: int
    mover: int

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.http}{path}", data, timeout=60
        ) as answer:
            return json.loads(answer.read())


def until(question: Any, what: str) -> Any:
    """The first true answer."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            found = question()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"never: {what}")


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    if missing():
        pytest.skip(missing())
    archive = Orthanc(*(free_port() for _ in range(4)))
    settings = {
        "Name": "test", "StorageDirectory": str(tmp_path / "store"), "IndexDirectory": str(tmp_path / "store"),
        "Plugins": [str(PLUGIN)], "HttpPort": archive.http, "DicomPort": archive.dicom, "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "DicomModalities": {
            "node": ["RESTORE", "127.0.0.1", archive.node], "mover": ["MOVER", "127.0.0.1", archive.mover],
        },
    }  # fmt: skip
    file = tmp_path / "orthanc.json"
    file.write_text(json.dumps(settings))
    with (tmp_path / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(["Orthanc", str(file)], stdout=log, stderr=log)
        try:
            until(lambda: archive.ask("/system"), "Orthanc answers")
            yield archive
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run(*command: object) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    return done.stdout + done.stderr


def restore(*words: object) -> str:
    return run(sys.executable, "-m", "restore.cli", *words)


def series_of(archive: Orthanc) -> list[dict[str, Any]]:
    return [archive.ask(f"/series/{uid}") for uid in archive.ask("/series")]


def settled(archive: Orthanc, series: int, images: int) -> bool:
    found = series_of(archive)
    return len(found) == series and all(len(s["Instances"]) == images for s in found)


def derived_uid(archive: Orthanc, source: str) -> str:
    uids = [s["MainDicomTags"]["SeriesInstanceUID"] for s in series_of(archive)]
    (uid,) = [u for u in uids if u != source]
    return str(uid)


def test_from_an_archive_through_a_task_and_back(orthanc, node_on, study, study_folder, tmp_path):
    run("storescu", "-aec", "ORTHANC", "127.0.0.1", orthanc.dicom, *sorted(study_folder.iterdir()))
    with node_on(
        port=orthanc.node, allow=(Peer("ORTHANC", "127.0.0.1"), Peer("ECHO", "127.0.0.1")),
        target=Peer("ORTHANC", "127.0.0.1", orthanc.dicom),
    ) as running:  # fmt: skip
        run("echoscu", "-aet", "ECHO", "-aec", "RESTORE", "127.0.0.1", orthanc.node)
        stranger = subprocess.run(
            ["echoscu", "-aet", "STRANGER", "-aec", "RESTORE", "127.0.0.1", str(orthanc.node)],
            capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert stranger.returncode != 0
        assert "Calling AE Title Not Recognized" in stranger.stderr
        orthanc.ask("/modalities/node/store", orthanc.ask("/studies"))
        running.until("done")
        until(lambda: settled(orthanc, 2, len(study)), "the derived series is in the archive")
    found = run(
        "findscu", "-S", "-aet", "MOVER", "-aec", "ORTHANC", "127.0.0.1", orthanc.dicom,
        "-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={STUDY}", "-k", "SeriesInstanceUID",
    )  # fmt: skip
    uid = derived_uid(orthanc, study[0].SeriesInstanceUID)
    assert uid in found
    moved = tmp_path / "moved"
    moved.mkdir()
    run(
        "movescu", "-S", "-aet", "MOVER", "-aem", "MOVER", "-aec", "ORTHANC", "+P", orthanc.mover, "-od", moved,
        "127.0.0.1", orthanc.dicom, "-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={STUDY}",
        "-k", f"SeriesInstanceUID={uid}",
    )  # fmt: skip
    restore("pull", uid, "--from", orthanc.web, "-o", tmp_path / "pulled")
    source = read(study_folder)
    for folder in (moved, tmp_path / "pulled"):
        result = read(folder)
        np.testing.assert_allclose(
            result.affine, source.affine, atol=1e-9
        )  # the same texts of numbers
        # The stored integers are off by half a step at most; float32 rounds 24 bits of the largest value more.
        step = float(result.header.slices[0].RescaleSlope)
        rounding = 0.5 * step + 2**-23 * source.data.max()
        np.testing.assert_allclose(result.data, source.data / 2, rtol=0, atol=rounding)
        assert [h.SOPInstanceUID for h in source.header.slices] == [
            h.SourceImageSequence[0].ReferencedSOPInstanceUID for h in result.header.slices
        ]
        assert {h.FrameOfReferenceUID for h in result.header.slices} == {
            study[0].FrameOfReferenceUID
        }


@contextmanager
def served(archive: Orthanc, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A node as people start it, ended at the end if it still runs; and the file of what it says."""
    command = (
        sys.executable, "-m", "restore.cli", "serve", "dicom", "--port", archive.node, "--allow", "ORTHANC@127.0.0.1",
        "--task", "volume denoise --noise-level 4 --steps 2 --device cpu",
        "--send-to", f"ORTHANC@127.0.0.1:{archive.dicom}",
        "--spool", folder / "spool", "--quiet", "1", "--pause", "1",
    )  # fmt: skip
    said = folder / "said.txt"
    with (
        said.open("ab") as log,
        subprocess.Popen(list(map(str, command)), stdout=log, stderr=log) as node,
    ):
        try:
            yield node, said
        finally:
            if node.poll() is None:
                node.terminate()
                assert node.wait(PATIENCE_S) == 0, said.read_text()


def test_the_command_line_denoises_what_an_archive_sends(orthanc, study, study_folder, tmp_path):
    """What comes back is what `restore volume` makes of the same files, also where the node was killed at work."""
    task = ("volume", "--task", "denoise", "--noise-level", "4", "--steps", "2", "--device", "cpu")
    restore("push", study_folder, "--to", orthanc.web)
    with served(orthanc, tmp_path) as (node, said):
        until(lambda: "listens" in said.read_text(), "the node listens")
        orthanc.ask("/modalities/node/store", orthanc.ask("/studies"))
        until(lambda: "volume denoise on 4 images" in said.read_text(), "the task is begun")
        node.kill()
        node.wait()
    assert len(series_of(orthanc)) == 1
    with served(orthanc, tmp_path) as (_, said):
        until(
            lambda: "done: 1 derived series sent" in said.read_text(), "the derived series is sent"
        )
    assert settled(orthanc, 2, len(study))
    assert "Doe" not in said.read_text()
    assert study[0].StudyInstanceUID not in said.read_text()
    uid = derived_uid(orthanc, study[0].SeriesInstanceUID)
    restore("pull", uid, "--from", orthanc.web, "-o", tmp_path / "pulled")
    restore(task[0], study_folder, "-o", tmp_path / "direct", *task[1:])
    sent, direct = read(tmp_path / "pulled"), read(tmp_path / "direct")
    np.testing.assert_array_equal(sent.affine, direct.affine)
    np.testing.assert_array_equal(sent.data, direct.data)  # the same command: the same bits
    assert np.abs(sent.data - read(study_folder).data).max() > 0


def test_push_and_pull_are_each_others_inverse(orthanc, study, study_folder, tmp_path):
    assert "4 images, 4 sent now" in restore("push", study_folder, "--to", orthanc.web)
    assert "4 images, 0 sent now, 4 were there" in restore(
        "push", study_folder, "--to", orthanc.web
    )
    restore("pull", STUDY, "--from", orthanc.web, "-o", tmp_path / "out")
    again = restore("pull", STUDY, "--from", orthanc.web, "-o", tmp_path / "out")
    assert "0 fetched now" in again
    np.testing.assert_array_equal(read(tmp_path / "out").data, read(study_folder).data)
