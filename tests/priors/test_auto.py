"""The table of `--prior auto`: every name is bundled, of its kind, and found for its subject."""

from __future__ import annotations

import pytest

from restore.priors import auto
from restore.priors.auto import automatic, table
from restore.priors.choosing import name_of
from restore.priors.demand import Demand
from restore.priors.store import bundled, kind_of


def test_every_name_is_a_bundled_prior_of_its_kind():
    for kind, section in table().items():
        for subject, name in section.items():
            assert name in bundled(), f"{kind} {subject}"
            assert kind_of(name) == kind


def test_a_section_without_default_serves_what_it_names_alone():
    assert automatic(("conditional",), "mri") == ""
    assert automatic(("conditional", "denoiser"), "mri") == table()["denoiser"]["default"]
    assert automatic(("flow",), "colour") == ""


@pytest.mark.parametrize(
    ("demand", "name"),
    [
        (Demand("dds", ("denoiser",), "mri", item_shape=(8, 8), is_complex=True), "brain-mr"),
        (Demand("dds", ("denoiser",), "ct", item_shape=(8, 8)), "medical"),
        (Demand("dds", ("denoiser",), "image", item_shape=(8, 8)), "medical"),
        (Demand("dds", ("denoiser",), "image", item_shape=(8, 8), is_complex=True), "medical"),
        (Demand("dds", ("denoiser",), "image", item_shape=(3, 8, 8)), "natural"),
        (Demand("mrs", ("conditional",), "image", item_shape=(8, 8)), "natural-restore"),
    ],
)
def test_a_specialist_is_one_line(monkeypatch, demand, name):
    lines = {"denoiser": {**table()["denoiser"], "mri": "brain-mr"}}
    lines["denoiser"].pop("ct", None)
    monkeypatch.setattr(auto, "table", lambda: {**table(), **lines})
    assert name_of("auto", demand) == name
