"""`restore serve dicom`: options that will not do are refused before anything listens; a signal ends it in order."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dicom-node.md"
GIVEN = ("--allow", "PACS@127.0.0.1", "--send-to", "ORTHANC@127.0.0.1:4242", "--port", 0)


@pytest.fixture(autouse=True)
def _needs_pynetdicom():
    pytest.importorskip("pynetdicom")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("--task", "volume denoize", "volume denoise"), ("--task", "rm -rf /", "is no task"),
     ("--task", "volume inpaint", "is no task of a node"), ("--task", "volume denoise --stepz 3", "No such option"),
     ("--task", "volume denoise --steps many", "many"), ("--task", "volume denoise /etc/passwd", "got an input"),
     ("--task", "volume denoise -o /tmp/x", "the node's own"), ("--task", "volume denoise --out=x", "the node's own"),
     ("--task", "volume 'denoise", "No closing quotation"), ("--task", "volume denoise --help", "the node's own"),
     ("--allow", "PACS", "TITLE@HOST"), ("--send-to", "ORTHANC@host", "TITLE@HOST:PORT"),
     ("--aet", "A TITLE THAT IS TOO LONG", "1 to 16"), ("--allow", "PACS@no-such-host.invalid", "no address"),
     ("--host", "192.0.2.1", "cannot listen")],
)  # fmt: skip
def test_what_will_not_do_is_refused_before_anything_listens(verb, tmp_path, option, value, words):
    given = ("--task", "volume denoise", *GIVEN, "--spool", tmp_path / "spool")
    done = verb("serve", "dicom", *given, option, value)
    assert done.exit_code == 2, done.output
    assert words in done.output
    assert not [f for f in tmp_path.rglob("*") if f.is_file()]


def test_a_spool_that_is_not_one_is_refused(verb, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    done = verb("serve", "dicom", "--task", "volume denoise", *GIVEN, "--spool", tmp_path)
    assert done.exit_code == 4
    assert "no study of a node" in done.output
    assert (tmp_path / "mine" / "letter.txt").exists()


def test_the_node_of_the_page_listens_and_a_signal_ends_it_in_order(tmp_path: Path):
    """The command of docs/dicom-node.md, on a port that is free."""
    block = re.search(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    words = shlex.split(block[1].replace("--port 11112", "--port 0"))[1:]
    script = "from restore.cli import main; main()"
    command = [sys.executable, "-c", script, *words, "--spool", str(tmp_path / "spool")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "RESTORE listens on 127.0.0.1 port" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "stopped; 0 studies wait" in said
    assert not list((tmp_path / "spool").iterdir())
