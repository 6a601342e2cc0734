"""Training in two processes over gloo: the result of one, one that writes, an end in a sentence when one is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed
from training_in_two import STOP, trained, whole_and_in_parts

from restore.datasets.picture.images import write_image
from restore.errors import ConfigError, LostWorkerError
from restore.training import loop, workers
from restore.training.workers import ALONE, Workers, joined

HELPER = Path(__file__).parents[1] / "training_in_two.py"
ORDER = 2e-5
"""float32: gradients of 4 crops are summed in two halves; Muon makes directions of full length of them, so that a
rounding of 1e-7 grows over 6 steps at a rate of 0.02. 8e-7 seen."""

Second = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def second(monkeypatch) -> Iterator[Second]:
    """Makes this process the first of two and starts the other with what it is told."""
    monkeypatch.setattr(
        workers, "PATIENCE", timedelta(minutes=5)
    )  # imports take a minute on a busy machine
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in (common | {"RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    begun: list[subprocess.Popen[str]] = []

    def start(*told: object) -> subprocess.Popen[str]:
        environment = {**os.environ, **common, "RANK": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        begun.append(subprocess.Popen(
            [sys.executable, str(HELPER), *map(str, told)], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ))  # fmt: skip
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def test_two_processes_give_what_one_gives_and_the_first_alone_writes(
    tmp_path, second, monkeypatch
):
    """Complex crops; the state is continued to the bit."""
    monkeypatch.setattr(loop, "SAVE_EVERY_S", loop.SAVE_EVERY_S)  # put back what the helper changes
    (tmp_path / "one").mkdir()
    alone = trained(tmp_path / "one" / "s.safetensors", ALONE).network.state_dict()
    other = second(tmp_path, -1)
    with joined("cpu") as here:
        assert here == Workers(0, 2)
        whole, parts = (p.network.state_dict() for p in whole_and_in_parts(tmp_path, here))
    assert other.wait(300) == 0, other.stderr.read()
    for name, value in alone.items():
        assert torch.equal(whole[name], parts[name]), name
        assert float((whole[name] - value).abs().max()) < ORDER, name
    files = sorted(p.name for p in tmp_path.iterdir() if p.is_file())
    assert files == ["parts.safetensors", "whole.safetensors"]


def test_a_lost_process_ends_the_other_in_a_sentence(tmp_path, second, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", loop.SAVE_EVERY_S)
    # An exchange that had begun when the other went may wait that long before the transport lets go of it.
    monkeypatch.setattr(workers, "PATIENCE", timedelta(seconds=20))
    second(tmp_path, STOP)
    words = r"process 0 of 2: another one has ended"
    left = list(workers._LEFT)
    with pytest.raises(LostWorkerError, match=words), joined("cpu") as here:
        trained(tmp_path / "lost.safetensors", here)
    assert (tmp_path / "lost.safetensors").is_file()
    # The network holds it too, and Python may collect that at any time: seen to wait for ever.
    (group,) = workers._LEFT[len(left) :]
    assert isinstance(group, distributed.ProcessGroup), "it has a holder to the end of the process"


def test_batches_that_cannot_be_shared_out_and_half_an_environment_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"batch of 12 .* 5 processes; give --batch 15"):
        Workers(0, 5).check(12)
    Workers(0, 4).check(12)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="start with torchrun"), joined("cpu"):
        pass


def test_shares_make_up_the_batch():
    whole = torch.arange(12)
    parts = [Workers(rank, 3).share(whole)[0] for rank in range(3)]
    assert torch.equal(torch.cat(parts), whole)
    assert Workers(1, 2, 1).device("cuda") == "cuda:1"
    assert Workers(1, 2, 1).device("cpu") == "cpu"


@pytest.mark.slow
def test_the_command_under_torchrun(tmp_path):
    """The whole verb, by torch's own launcher."""
    (tmp_path / "images").mkdir()
    for k in range(3):
        write_image(np.random.default_rng(k).random((1, 32, 32)), tmp_path / "images" / f"{k}.png")
    options = ("--steps", "4", "--minutes", "1000", "--batch", "4", "--crop", "16", "--widths", "8,8", "--blocks",
               "1,1", "--precision", "float32")  # fmt: skip
    for name, launcher in (
        ("one", ()),
        ("two", ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")),
    ):
        out = tmp_path / f"{name}.safetensors"
        done = subprocess.run(
            [sys.executable, "-m", *launcher, "restore.cli", "train", "denoiser", "images", "-o", str(out), *options],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(out.name) == 1
    one, two = (load_file(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=2e-3)  # kept in half precision
