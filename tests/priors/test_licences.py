"""What the bundled weights may be used for follows from what they learnt from, and is said wherever they are named."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from restore.priors.store import bundled, read_card

ROOT = Path(__file__).resolve().parents[2]
RESEARCH = "weights: research and education only"
BSDS = [name for name in bundled() if "BSDS" in json.dumps(read_card(name)["data"])]


def test_every_card_names_the_source_and_licence_of_each_training_set():
    for name in bundled():
        for entry in read_card(name)["data"]:
            assert re.search(
                r"research and education|MIT$|CC BY 4\.0$|with notice$|Apache-2\.0$|BSD-2-Clause$", entry["source"]
            ), (name, entry)  # fmt: skip


@pytest.mark.parametrize("name", BSDS)
def test_weights_of_research_data_are_for_research(name):
    card = read_card(name)
    of_the_weights, _, of_other_data = card["licence"].partition(";")
    assert of_the_weights.startswith(RESEARCH)
    assert "Apache" not in of_the_weights
    assert "weights" not in of_other_data.replace("first weights also", "")
    commands = card["command"] if isinstance(card["command"], list) else [card["command"]]
    assert not any("Apache-2.0 for the weights" in command for command in commands)


def test_the_list_of_priors_says_so(tmp_path):
    from typer.testing import CliRunner

    from restore.cli import app

    listed = CliRunner().invoke(app, ["list", "priors", "--json"])
    records = {r["name"]: r["licence"] for r in json.loads(listed.stdout)}
    assert set(BSDS) <= {name for name, licence in records.items() if licence.startswith(RESEARCH)}
    assert "research and education only" in CliRunner().invoke(app, ["list", "priors"]).stdout


def test_the_licence_file_and_the_wheel_name_both():
    page = ROOT / "restore" / "priors" / "weights" / "LICENCE.md"
    rows = dict(
        re.findall(r"^\| `([a-z0-9-]+)` \| ([^|]+) \|", page.read_text("utf-8"), re.MULTILINE)
    )
    assert set(rows) == set(bundled())
    assert all(rows[name] == "research and education only" for name in BSDS)
    assert all("research" not in rows[name] for name in set(rows) - set(BSDS))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] != "Apache-2.0"
    assert all((ROOT / file).is_file() for file in project["license-files"])
    assert str(page.relative_to(ROOT)) in project["license-files"]
    assert "Apache-2.0. The weights" not in (ROOT / "README.md").read_text("utf-8")
