"""The MRD server against ISMRMRD's own serializer: images, places, refusals, and clients that break."""

from __future__ import annotations

import io
import json
import shutil
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest
import torch
from ismrmrd.serialization import ConfigFile, ConfigText, ProtocolSerializer
from mrd_client import Client, header_and_readouts, reconstructed

from restore.datasets.mri.mrd.mrd_images import read_images
from restore.pipelines.run_recon import ReconJob, plan, run
from restore.serving.mrd_server import configurations
from restore.serving.mrd_server.connection import Gone, Limits, OverLimit
from restore.serving.mrd_server.messages import Kind, ProtocolError, read_message
from restore.serving.mrd_server.reconstruction import reconstruct_spooled
from restore.serving.mrd_server.server import MRDServer

CPU = torch.device("cpu")
SCAN = Path(__file__).parents[2] / "data" / "ismrmrd_shepp_logan.h5"
"""Two repetitions of a slice, written by ismrmrd_generate_cartesian_shepp_logan."""

ROUNDED = 1e-6
"""Of the values: float32 both times, the same computation."""


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def server(log: list[str]) -> Iterator[MRDServer]:
    limits = Limits(bytes=1 << 20, idle_s=30.0, total_s=120.0, connections=2)
    with MRDServer("127.0.0.1", 0, CPU, log.append, limits=limits) as listening:
        thread = threading.Thread(target=listening.serve)
        thread.start()
        yield listening
        listening.end()
        thread.join()


@pytest.fixture(scope="module")
def sent() -> tuple[Any, list[Any]]:
    return header_and_readouts(SCAN)


def by_file(tmp_path: Path, select: str, sampler: str) -> tuple[np.ndarray, np.ndarray]:
    """What `restore recon` makes of the same scan as a file."""
    out = tmp_path / f"{select}.mrd"
    run(plan(ReconJob(SCAN, out, sampler, select=select)), CPU)
    heads, planes = read_images(out)
    return heads[0], planes[0]


def test_images_and_places_are_those_of_the_file(
    server: MRDServer, sent: Any, tmp_path: Path, log: list[str]
) -> None:
    """Each repetition is an image of its own, with the counters and times of its readouts."""
    header, readouts = sent
    images, texts = reconstructed(server.address, "restore_cgsense", header, readouts)
    assert [image.getHead().repetition for image in images] == [0, 1]
    for number, image in enumerate(images):
        head, plane = by_file(tmp_path, f"repetition={number}", "cgsense")
        np.testing.assert_allclose(image.data, plane, atol=ROUNDED * plane.max())
        got = image.getHead()
        for name in (
            "position",
            "read_dir",
            "phase_dir",
            "slice_dir",
            "field_of_view",
            "matrix_size",
        ):
            assert list(getattr(got, name)) == pytest.approx(list(head[name]))
        assert got.image_index == number + 1
        assert image.meta["ImageComment"] == "restore cgsense"
        assert list(map(float, image.meta["ImageRowDir"])) == pytest.approx(list(got.read_dir))
    assert any("oversampling removed" in text for text in texts)
    assert all(text.startswith("WARNING ") for text in texts)
    deadline = time.monotonic() + 30
    while not log and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "restore_cgsense: " in log[0]
    assert f"{len(readouts)} readouts in, 2 images out" in log[0]


def test_waveforms_pass_and_short_images_come(sent: Any, log: list[str]) -> None:
    """Images in 12 bits tell their factor."""
    header, readouts = sent
    wave = ismrmrd.Waveform.from_array(np.arange(12, dtype=np.uint32).reshape(3, 4))
    with MRDServer("127.0.0.1", 0, CPU, log.append, values="short") as listening:
        thread = threading.Thread(target=listening.serve, args=(1,))
        thread.start()
        images, _ = reconstructed(
            listening.address, "restore_zerofilled", header, [wave, *readouts]
        )
        thread.join()
    assert images[0].data.dtype == np.int16
    assert images[0].data.max() == 4095
    assert float(images[0].meta["RescaleSlope"]) > 0
    assert "1 waveforms not used" in log[0]


@pytest.mark.slow
def test_several_samples_come_as_three_series(
    server: MRDServer, sent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean, deviation and interval, by a sampler that is quick."""
    quick = configurations.Configuration("restore_quick", "dds", "for this test", samples=2)
    monkeypatch.setitem(configurations.KNOWN, "restore_quick", quick)
    header, readouts = sent
    first = [r for r in readouts if r.idx.repetition == 0]
    images, _ = reconstructed(server.address, "restore_quick", header, first)
    assert [image.getHead().image_series_index for image in images] == [0, 1, 2]
    assert all(np.isfinite(image.data).all() and image.data.max() > 0 for image in images)


def test_the_name_in_the_json_behind_the_header_counts(server: MRDServer, sent: Any) -> None:
    header, readouts = sent
    told = json.dumps({"parameters": {"config": "restore_zerofilled", "strength": 3}})
    images, texts = reconstructed(server.address, "openrecon", header, readouts, told)
    assert images[0].meta["ImageComment"] == "restore zerofilled"
    assert any("strength" in text for text in texts)


@pytest.mark.parametrize(
    ("asked", "between", "words"),
    [
        ("os.system", (), "unknown configuration 'os.system'; known: restore,"),
        ("../../etc/passwd", (), "unknown configuration"),
        ("restore_cgsens", (), "did you mean"),
        ("openrecon", ('{"parameters": {"customconfig": "simplefft"}}',), "'simplefft'"),
        ("openrecon", ("{" * 100_000,), "is no JSON"),
        ("openrecon", ('{"parameters": {"config": ["restore"]}}',), "is no name"),
    ],
)
def test_only_names_of_the_list_are_taken(
    server: MRDServer, sent: Any, asked: str, between: tuple[Any, ...], words: str
) -> None:
    header, readouts = sent
    images, texts = reconstructed(server.address, asked, header, readouts, *between)
    assert images == []
    assert len(texts) == 1
    assert texts[0].startswith("ERROR   ")
    assert words in texts[0]


READOUT = struct.pack("<H", 1008)
HUGE = np.zeros((), np.dtype([("before", "V34"), ("samples", "<u2"), ("available", "<u2"), ("channels", "<u2"),
                              ("after", "V300")]))  # fmt: skip


def broken_streams(header: Any, readouts: list[Any]) -> dict[str, tuple[tuple[Any, ...], str]]:
    """What is sent, and a word of what is answered."""
    name = ConfigFile("restore_zerofilled")
    HUGE["samples"] = HUGE["channels"] = 65535
    image = ismrmrd.Image.from_array(np.ones((4, 4), np.float32))
    cut = ismrmrd.Acquisition.from_array(np.full((2, 48), np.nan, np.complex64))
    noise = [r for r in readouts if r.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)]
    return {
        "no message": ((b"GET / HTTP/1.1\r\n\r\n",), "is the peer an MRD client"),
        "no configuration": ((header,), "the first message is header"),
        "no header": ((name, *readouts[:2]), "the second message is acquisition"),
        "a text too long": ((name, struct.pack("<HI", 3, 1 << 31)), "at most"),
        "a readout too long": ((name, header, READOUT, HUGE.tobytes()), "at most"),
        "too much": ((name, header, *readouts * 60), "more than"),
        "images": ((name, header, image), "raw data alone"),
        "no readouts": ((name, header, b"\4\0"), "0 readouts came"),
        "noise alone": ((name, header, *noise, b"\4\0"), "none of an image"),
        "not finite": ((name, header, *readouts, cut, b"\4\0"), "NaN"),
        "no XML": ((name, struct.pack("<HI", 3, 5) + b"hello", *readouts, b"\4\0"), "header"),
        "no UTF-8": ((b"\1\0" + b"\xff" * 1024,), "no UTF-8"),
    }  # fmt: skip


BROKEN = tuple(broken_streams(ConfigText(""), []))


@pytest.mark.parametrize("which", BROKEN)
def test_what_cannot_be_used_is_answered_with_a_sentence(
    server: MRDServer, sent: Any, which: str
) -> None:
    """One that breaks does not stop the server: the next is served."""
    things, words = broken_streams(*sent)[which]
    client = Client(server.address)
    client.send(*things)
    images, texts = client.answer()
    client.close()
    assert images == []
    assert words in texts[-1]
    assert "/" not in texts[-1].replace("NaN or infinite", "").partition("restore-mrd")[2]
    after = Client(server.address)
    after.send(ConfigFile("restore"), b"\4\0")
    assert after.answer() == ([], [])
    after.close()


def test_damaged_streams_end_in_one_error_of_ours(sent: Any) -> None:
    """Bytes of a sound conversation, changed and cut by seed: each message is one, or a ProtocolError, or the end."""
    header, readouts = sent
    stream = io.BytesIO()
    with ProtocolSerializer(stream) as out:
        for thing in (ConfigFile("restore"), header, "{}", *readouts[:4]):
            out.serialize(thing)
    whole = stream.getvalue()
    rng = np.random.default_rng(5)
    ends = dict.fromkeys(("close", "refused", "cut"), 0)
    for _ in range(200):
        damaged = bytearray(
            whole[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else whole
        )
        for place in rng.integers(0, len(damaged), rng.integers(1, 20)):
            damaged[place] = rng.integers(0, 256)
        ends[read_to_the_end(io.BytesIO(bytes(damaged)))] += 1
    assert min(ends.values()) > 0, ends


def read_to_the_end(stream: io.BytesIO) -> str:
    """How a stream ended."""

    def read(count: int) -> bytes:
        found = stream.read(count)
        if len(found) < count:
            raise Gone("cut")
        return found

    try:
        while read_message(read).kind is not Kind.CLOSE:
            pass
    except (Gone, ProtocolError) as error:
        return "cut" if isinstance(error, Gone) else "refused"
    return "close"


def test_one_that_hangs_up_is_let_go(server: MRDServer, sent: Any, log: list[str]) -> None:
    """In the middle of a readout, and before the close: nothing is reconstructed, nothing stays."""
    header, readouts = sent
    client = Client(server.address)
    client.send(ConfigFile("restore"), header, *readouts[:3], READOUT, b"\0" * 100)
    client.socket.shutdown(socket.SHUT_WR)
    client.close()
    deadline = time.monotonic() + 60
    while not log and time.monotonic() < deadline:
        time.sleep(0.01)
    assert log == ["connection 1: given up: the peer closed the connection before its last message"]


def test_one_that_is_silent_ends_by_the_clock(sent: Any, log: list[str]) -> None:
    with MRDServer("127.0.0.1", 0, CPU, log.append, limits=Limits(idle_s=0.2)) as listening:
        thread = threading.Thread(target=listening.serve, args=(1,))
        thread.start()
        client = Client(listening.address)
        assert client.answer() == ([], ["ERROR   the peer sent nothing for 0.2 s"])
        client.close()
        thread.join()


def test_one_too_many_is_told_so(server: MRDServer) -> None:
    waiting = [Client(server.address) for _ in range(2)]
    for client in waiting:
        client.send(ConfigFile("restore"))
    late = Client(server.address)
    images, texts = late.answer()
    assert (images, texts) == ([], ["ERROR   2 connections are served: try later"])
    for client in (*waiting, late):
        client.close()


def test_work_ends_with_the_time_of_a_connection(tmp_path: Path) -> None:
    """After the step at which the time was over."""
    scan = tmp_path / "scan.h5"
    shutil.copy(SCAN, scan)

    def over() -> None:
        raise OverLimit("the connection took longer")

    with pytest.raises(OverLimit):
        reconstruct_spooled(scan, "", configurations.KNOWN["restore_tv"], CPU, over)
