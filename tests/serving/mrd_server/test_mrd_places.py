"""The MRD server as people start it: the page's client, the verb against data of ISMRMRD's generator, the container."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from mrd_client import header_and_readouts, reconstructed
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.hdf5_stack import joined
from restore.serving.mrd_server.configurations import DEFAULT, KNOWN
from restore.serving.mrd_server.server import MRDServer
from restore.serving.this_machine import is_loopback
from restore.version import __version__

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "mrd-server.md").read_text(encoding="utf-8")
SAME_PHANTOM = 0.97
"""Correlation with the phantom: half the lines at this noise leave 0.003; turned over or transposed it is below 0.7."""

GENERATOR = "ismrmrd_generate_cartesian_shepp_logan"


def test_the_client_on_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "tests/data/ismrmrd_shepp_logan.h5", tmp_path / "scan.h5")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with MRDServer("127.0.0.1", 0, torch.device("cpu"), lambda line: None) as server:
        thread = threading.Thread(target=server.serve, args=(1,))
        thread.start()
        told = code.replace("9002", str(server.address[1]))
        exec(compile(told, "mrd-server.md", "exec"), {})  # noqa: S102
        thread.join()
    said = capsys.readouterr().out
    assert "slice 0 repetition 1 (1, 1, 24, 24) at [" in said


def test_the_page_and_the_label_offer_the_names_of_the_list() -> None:
    label = json.loads((ROOT / "docker" / "OpenReconLabel.json").read_text(encoding="utf-8"))
    (choice,) = label["parameters"]
    assert [value["id"] for value in choice["values"]] == list(KNOWN)
    assert (choice["id"], choice["type"], choice["default"]) == ("config", "choice", DEFAULT)
    assert label["general"]["version"] == __version__
    assert label["reconstruction"]["emitter"] == "raw"
    assert label["reconstruction"]["port"] == 9002
    assert all(f"`{name}`" in PAGE for name in KNOWN)


def test_the_container_is_pinned_and_runs_without_rights() -> None:
    lines = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    said = [line.split(maxsplit=1) for line in lines if re.match(r"[A-Z]+ ", line)]
    assert re.fullmatch(r"PYTHON=3\.\d+\.\d+-slim-\w+", said[0][1])
    words = [word for word, _ in said]
    assert words.index("USER") < words.index("CMD")
    arguments = json.loads(dict(said)["CMD"])
    found = CliRunner().invoke(app, [*arguments[:2], "--help"])
    assert found.exit_code == 0
    assert all(option in found.stdout for option in arguments if option.startswith("--"))


def test_usage_is_refused_in_words() -> None:
    run = CliRunner().invoke
    wrong = run(app, ["serve", "mrd", "--images", "double"])
    assert (wrong.exit_code, "float or short" in wrong.stderr) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = run(app, ["serve", "mrd", "--port", str(port), "--device", "cpu"])
    assert busy.exit_code == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in busy.stderr


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("pacs", False)],  # noqa: S104
)
def test_a_host_that_others_reach_is_known(host: str, alone: bool) -> None:
    assert is_loopback(host) == alone


@pytest.mark.services
def test_the_generators_scan_comes_back_as_the_phantom(tmp_path: Path) -> None:
    """The verb in a process of its own, eight noisy coils at 2x: the image is the generator's phantom."""
    program = shutil.which(GENERATOR)
    if program is None:
        pytest.skip(f"needs {GENERATOR} (Debian: apt install ismrmrd-tools)")
    scan = tmp_path / "scan.h5"
    subprocess.run(
        [program, "-m", "64", "-c", "8", "-a", "2", "-w", "20", "-n", "0.01", "-C", "-o", scan], check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    (command,) = re.findall(r"```sh\nrestore (.*?)\n```", PAGE)
    words = [sys.executable, "-m", "restore.cli", *command.replace("9002", "0").split()]
    with subprocess.Popen([*words, "--device", "cpu"], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = server.stderr.readline()
        port = int(re.search(r"listening on 127\.0\.0\.1, port (\d+)", said)[1])
        images, texts = reconstructed(("127.0.0.1", port), "restore", *header_and_readouts(scan))
        log = server.stderr.read()
    assert server.returncode == 0, log
    assert len(images) == 2, texts  # the lines of either half are a repetition of their own
    with h5py.File(scan) as file:
        phantom = np.abs(joined(file["dataset/phantom"][()])).squeeze()
    for image in images:
        found = image.data.squeeze()
        assert found.shape == phantom.shape
        assert np.corrcoef(found.ravel(), phantom.ravel())[0, 1] > SAME_PHANTOM
