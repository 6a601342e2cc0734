"""Options that follow a prior's name: read everywhere a prior is named, refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from restore.cli import app
from restore.errors import ConfigError, WeightsError
from restore.priors.network_options import NetworkOptions, split_options
from restore.priors.store import load_prior, read_card
from restore.priors.traits import card_traits


def test_a_name_and_its_options() -> None:
    assert split_options("natural") == ("natural", None)
    assert split_options("natural@reuse=1") == ("natural", None)
    assert split_options("a@b.safetensors") == ("a@b.safetensors", None)
    assert split_options(Path("x/net.safetensors@reuse=2,skips=1/0.9")) == (
        "x/net.safetensors",
        NetworkOptions(reuse=2, skips="1/0.9"),
    )


def test_a_prior_with_options_has_a_name_and_a_hash_of_its_own() -> None:
    plain, one, other = (read_card(n) for n in ("medical", "medical@reuse=2", "medical@reuse=3"))
    assert one["name"] == load_prior("medical@reuse=2").name == "medical@reuse=2"
    assert len({plain["sha256"], one["sha256"], other["sha256"]}) == 3
    assert card_traits("medical@reuse=2").name == "medical@reuse=2"


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("natural@reus=2", ConfigError, "no setting 'reus', did you mean 'reuse'"),
        ("natural@reuse=0", ConfigError, "reuse must lie in 1..16"),
        ("natural@skips=a", ConfigError, "skips must be numbers in 0..2"),
        ("natural@backbone=nan", ConfigError, "backbone must be finite"),
        ("natural@reuse=2,skips", ConfigError, "options are name=value, with commas between"),
        ("auto@reuse=2", ConfigError, "options follow a prior's own name"),
        ("natural-restore@reuse=2", ConfigError, "has no network that the options 'reuse=2' are for"),
        ("natural-latent@reuse=2", ConfigError, "has no network that the options 'reuse=2' are for"),
        ("nobody@reuse=2", WeightsError, "no prior 'nobody'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_the_card(
    name: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said.replace("(", r"\(")):
        read_card(name)


def test_a_record_with_options_repeats_its_run(verb_photo: Path) -> None:
    folder, run = verb_photo.parent, CliRunner()
    words = ["image", str(verb_photo), "--task", "deblur", "--kernel", "gaussian:1", "--noise", "0.02",
             "--prior", "natural@reuse=2", "--steps", "3", "--set", "eta=0"]  # fmt: skip
    first = run.invoke(app, [*words, "-o", str(folder / "out.png")])
    assert first.exit_code == 0, first.stderr
    record = json.loads((folder / "out.json").read_text())
    assert record["run"]["prior"] == record["prior"]["name"] == "natural@reuse=2"
    again = ["image", "--config", str(folder / "out.json"), "-o", str(folder / "again.png")]
    assert run.invoke(app, again).exit_code == 0
    assert (folder / "out.png").read_bytes() == (folder / "again.png").read_bytes()


@pytest.fixture
def verb_photo(tmp_path: Path) -> Path:
    import numpy as np

    from restore.datasets.picture.images import write_image

    path = tmp_path / "photo.png"
    write_image(np.random.default_rng(0).random((3, 16, 16)), path)
    return path
