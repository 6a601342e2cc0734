"""A picture whose result does not fit into memory is refused before any work, with what it would need."""

from __future__ import annotations

import pytest
import torch

from restore.errors import OutOfMemory
from restore.pipelines.degrade import Degradation
from restore.pipelines.photograph import check_memory, restore_image


def test_a_result_of_nineteen_gigabytes_is_refused_before_the_operator_is_made(monkeypatch):
    monkeypatch.setenv("RESTORE_MAX_MEMORY_GB", "16")
    grow = Degradation("superres", factor=1000)
    monkeypatch.setattr(Degradation, "operator", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(
        OutOfMemory, match=r"31000 x 33000 pixels needs about .* GB .*smaller factor"
    ) as found:
        restore_image(torch.rand(3, 33, 31), grow, sampler="bicubic")
    assert found.value.exit_code == 7


def test_the_estimate_grows_with_samples_and_lets_a_photograph_of_24_megapixels_pass(monkeypatch):
    monkeypatch.setenv("RESTORE_MAX_MEMORY_GB", "8")
    check_memory((3, 4000, 6000), 1)
    with pytest.raises(OutOfMemory):
        check_memory((3, 4000, 6000), 10)
    with pytest.raises(OutOfMemory):
        check_memory((3, 4000, 6000), 1, "particles", "auto", {"particles": 20})


def test_priors_of_codes_see_the_whole_picture_and_gradients_take_memory(monkeypatch):
    monkeypatch.setenv("RESTORE_MAX_MEMORY_GB", "8")
    check_memory((3, 1000, 1500), 1, "stsl", "natural-latent")
    with pytest.raises(OutOfMemory, match="'natural-latent' sees pictures whole"):
        check_memory((3, 2000, 3000), 1, "stsl", "natural-latent")
    with pytest.raises(OutOfMemory, match="stsl follows gradients through the network"):
        check_memory((3, 2000, 3000), 1, "stsl")
    check_memory((3, 2000, 3000), 1, "dds")
    with pytest.raises(OutOfMemory, match="'natural-latent' sees pictures whole"):
        restore_image(
            torch.zeros(3, 2000, 3000),
            Degradation("denoise"),
            noise=0.1,
            sampler="stsl",
            prior="natural-latent",
        )
