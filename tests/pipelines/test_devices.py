"""The device that is asked for is the one that is used, or a sentence says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from restore.cli import app
from restore.errors import ConfigError, DeviceError
from restore.pipelines.devices import choose_device
from restore.pipelines.train_setup import TrainJob


@pytest.fixture
def cards(monkeypatch):
    """Pretend that the machine has so many CUDA devices."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("name", "count", "chosen"),
    [
        ("auto", 0, "cpu"), ("auto", 2, "cuda:0"), ("cpu", 2, "cpu"), ("cuda", 1, "cuda:0"),
        ("cuda:0", 1, "cuda:0"), ("cuda:1", 2, "cuda:1"), ("cuda:10", 11, "cuda:10"),
    ],
)  # fmt: skip
def test_the_device_of_a_name(cards, name, count, chosen):
    cards(count)
    assert choose_device(name) == torch.device(chosen)


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [
        ("cuda", 0, "sees no CUDA device; use --device cpu"),
        ("cuda:1", 1, "'cuda:1' was asked for, but there is cuda:0 alone"),
        ("cuda:2", 2, "'cuda:2' was asked for, but there is cuda:0 to cuda:1"),
        ("cuda:256", 2, "'cuda:256'"),  # torch itself makes cuda:0 of it
        ("cuda:300", 64, "'cuda:300'"),  # and cuda:44 of this
    ],
)  # fmt: skip
def test_devices_that_are_not_there_are_refused(cards, name, count, words):
    cards(count)
    with pytest.raises(DeviceError) as caught:
        choose_device(name)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "name", ["", "gpu", "cuda:", "cuda:-1", "cuda:1.5", "cuda:one", "CUDA", "mps", "cpu:1", "auto:0", "meta", "0"]
)  # fmt: skip
def test_names_of_no_device_are_refused(cards, name):
    cards(2)
    with pytest.raises(ConfigError, match=f"unknown device '{name}'.*cuda:N"):
        choose_device(name)


def test_a_slip_is_recognised(cards):
    cards(1)
    with pytest.raises(ConfigError, match="did you mean 'cuda'"):
        choose_device("CUDA:0")


def test_training_is_told_the_second_device(cards, monkeypatch, tmp_path):
    seen: list[str] = []

    def job(told: TrainJob, *rest: object) -> Path:
        seen.append(told.device)
        return told.out

    cards(2)
    monkeypatch.setattr("restore.pipelines.train_job.train_denoiser_job", job)
    arguments = ["train", "denoiser", str(tmp_path), "-o", str(tmp_path / "p.safetensors")]
    result = CliRunner().invoke(app, [*arguments, "--device", "cuda:1", "--precision", "float32"])
    assert (result.exit_code, seen) == (0, ["cuda:1"])
