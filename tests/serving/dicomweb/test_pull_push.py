"""Studies out of an archive and into it: whole, resumed, refused in sentences, with credentials where they belong."""

from __future__ import annotations

import re
import shlex
import shutil
import ssl
import subprocess
from pathlib import Path

import pydicom
import pytest

from restore.cli import app
from restore.serving.dicomweb.archive import Archive
from restore.serving.dicomweb.pulling import pull

STUDY, SERIES = "1.2.840.99.1", "1.2.840.99.1.7"


@pytest.fixture
def verb():
    from typer.testing import CliRunner

    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_a_study_is_pulled_into_a_folder_a_series(shelf, study, make_image, tmp_path, verb):
    other = make_image(0, series="1.2.8")
    shelf.put([*study, other])
    done = verb("pull", STUDY, "--from", shelf.url, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "5 images, 5 fetched now" in done.output
    files = sorted(
        f.relative_to(tmp_path / "out").as_posix() for f in (tmp_path / "out").rglob("*.dcm")
    )
    assert files == sorted(
        [f"{SERIES}/{i.SOPInstanceUID}.dcm" for i in study] + [f"1.2.8/{other.SOPInstanceUID}.dcm"]
    )
    for image in study:
        found = pydicom.dcmread(tmp_path / "out" / SERIES / f"{image.SOPInstanceUID}.dcm")
        assert found.PixelData == image.PixelData
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".restore-")]
    again = verb("pull", STUDY, "--from", shelf.url, "-o", tmp_path / "out")
    assert "5 images, 0 fetched now" in again.output


@pytest.mark.parametrize("offsets", [True, False])
def test_a_series_is_pulled_whether_or_not_the_archive_gives_pages(
    shelf, study, tmp_path, verb, offsets
):
    shelf.put(study)
    shelf.offsets = offsets
    assert verb("pull", SERIES, "--from", shelf.url, "-o", tmp_path / "out").exit_code == 0
    assert len(list((tmp_path / "out").glob("*.dcm"))) == len(study)


def test_an_interrupted_pull_shows_nothing_and_goes_on(shelf, study, tmp_path):
    shelf.put(study)
    archive, out = Archive(shelf.url), tmp_path / "out"

    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(archive, SERIES, out, interrupt)
    assert not out.exists()
    gone = shelf.images.pop(str(study[0].SOPInstanceUID))  # the archive changes meanwhile
    assert pull(archive, SERIES, out, lambda done, total: None) == (3, 2)
    assert {f.stem for f in out.glob("*.dcm")} == set(shelf.images)
    assert gone.SOPInstanceUID not in shelf.images
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".restore-")]


def test_a_busy_archive_is_asked_again(shelf, study, tmp_path, verb):
    shelf.put(study)
    shelf.faults = [503, 500]
    assert verb("pull", SERIES, "--from", shelf.url, "-o", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize(
    ("faults", "code", "words"),
    [([401], 2, "RESTORE_DICOMWEB_USER"), ([400], 4, "answers 400"), ([503] * 4, 4, "answers 503"),
     ([302], 2, "sends on to another address"), ([404], 3, "404")],
    ids=["credentials", "refused", "busy", "redirected", "no service"],
)  # fmt: skip
def test_what_an_archive_refuses_is_a_sentence(shelf, study, tmp_path, verb, faults, code, words):
    shelf.put(study)
    shelf.faults = faults
    done = verb("pull", SERIES, "--from", shelf.url, "-o", tmp_path / "out")
    assert done.exit_code == code
    assert words in done.output
    assert "Doe" not in done.output
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_and_what_is_in_the_way(shelf, study, tmp_path, verb):
    shelf.put(study)
    assert verb("pull", "1.9.9", "--from", shelf.url, "-o", tmp_path / "out").exit_code == 3
    assert verb("pull", "../..", "--from", shelf.url, "-o", tmp_path / "out").exit_code == 2
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    assert verb("pull", SERIES, "--from", shelf.url, "-o", tmp_path / "out").exit_code == 5
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_folder_is_pushed_and_what_is_there_is_not_sent_again(shelf, study, study_folder, verb):
    (study_folder / "notes.txt").write_text("x")
    shelf.put(study[:1])
    done = verb("push", study_folder, "--to", shelf.url)
    assert done.exit_code == 0, done.output
    assert "4 images, 3 sent now, 1 were there" in done.output
    assert "1 file(s) that are no DICOM" in done.output
    assert {str(i.SOPInstanceUID) for i in study} == set(shelf.images)
    assert shelf.images[str(study[3].SOPInstanceUID)].PixelData == study[3].PixelData


def test_images_that_are_refused_are_listed_and_the_rest_is_sent(shelf, study, study_folder, verb):
    shelf.refused = {str(study[1].SOPInstanceUID)}
    done = verb("push", study_folder, "--to", shelf.url)
    assert done.exit_code == 8
    assert "1 of 4 images were not taken" in done.output
    assert "1.dcm: refused with reason 0x0110" in done.output
    assert len(shelf.images) == 3


def test_folders_without_a_series_are_refused(shelf, study_folder, tmp_path, verb):
    (tmp_path / "empty").mkdir()
    assert verb("push", tmp_path / "empty", "--to", shelf.url).exit_code == 4
    assert verb("push", tmp_path / "none", "--to", shelf.url).exit_code == 3
    other = pydicom.dcmread(study_folder / "0.dcm")
    other.InstanceNumber = 77
    other.save_as(study_folder / "copy.dcm")
    done = verb("push", study_folder, "--to", shelf.url)
    assert done.exit_code == 4
    assert "same SOPInstanceUID" in done.output
    assert not shelf.images


def test_credentials_come_from_the_environment(shelf, study, tmp_path, verb, monkeypatch):
    shelf.put(study)
    monkeypatch.setenv("RESTORE_DICOMWEB_TOKEN", "secret-token")
    verb("pull", SERIES, "--from", shelf.url, "-o", tmp_path / "a")
    assert set(shelf.heads) == {"Bearer secret-token"}
    monkeypatch.delenv("RESTORE_DICOMWEB_TOKEN")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    shelf.heads.clear()
    verb("pull", SERIES, "--from", shelf.url, "-o", tmp_path / "b")
    assert set(shelf.heads) == {"Basic bWU6bWluZQ=="}


@pytest.mark.parametrize(
    ("url", "environment", "words"),
    [("https://me:mine@host/dicom-web", {}, "holds credentials"), ("ftp://host/", {}, "expected the address"),
     ("host/dicom-web", {}, "expected the address"), ("http://host/x?y=1", {}, "without ?"),
     ("http://host/x", {"TOKEN": "t"}, "not sent unencrypted"), ("https://host", {"USER": "u"}, "one alone"),
     ("https://host", {"USER": "u", "PASSWORD": "p", "TOKEN": "t"}, "both set")],
)  # fmt: skip
def test_addresses_and_credentials_that_will_not_do(
    shelf, tmp_path, verb, monkeypatch, url, environment, words
):
    for name, value in environment.items():
        monkeypatch.setenv(f"RESTORE_DICOMWEB_{name}", value)
    done = verb("pull", SERIES, "--from", url, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert words in done.output
    assert "mine" not in done.output


def test_a_certificate_that_nobody_vouches_for_is_refused(
    shelf, study, tmp_path, verb, monkeypatch
):
    shelf.put(study)
    made = (
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "own.pem",
    )  # fmt: skip
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem", tmp_path / "key.pem")
    shelf.server.socket = context.wrap_socket(shelf.server.socket, server_side=True)
    url = shelf.url.replace("http:", "https:")
    done = verb("pull", SERIES, "--from", url, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "certificate cannot be verified" in done.output
    assert not shelf.asked
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "own.pem"))
    assert verb("pull", SERIES, "--from", url, "-o", tmp_path / "out").exit_code == 0


def test_nobody_there_is_a_sentence(shelf, tmp_path, verb):
    done = verb("pull", SERIES, "--from", "http://127.0.0.1:9", "-o", tmp_path / "out")
    assert done.exit_code == 3
    assert "nobody answers" in done.output


def test_the_commands_of_the_page_run(shelf, study, tmp_path, verb, monkeypatch):
    """Those of docs/dicom-node.md, with another address."""
    shelf.put(study)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).resolve().parents[3] / "docs" / "dicom-node.md").read_text(
        encoding="utf-8"
    )
    _, block = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    for line in block.splitlines():
        done = verb(*shlex.split(line.replace("https://pacs.example.org/dicom-web", shelf.url))[1:])
        assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "study").rglob("*.dcm"))) == len(study)
