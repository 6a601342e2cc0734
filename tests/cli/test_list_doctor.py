"""`restore list` and `restore doctor`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from restore.cli import app, doctor, listing
from restore.errors import WeightsError

runner = CliRunner()


def listed(kind: str) -> list[dict]:
    result = runner.invoke(app, ["list", kind, "--json"])
    assert result.exit_code == 0
    return json.loads(result.stdout)


@pytest.mark.parametrize("kind", ["operators", "samplers", "priors", "datasets"])
def test_the_table_shows_what_the_json_holds(kind):
    result = runner.invoke(app, ["list", kind])
    assert result.exit_code == 0
    assert all(record["name"] in result.stdout for record in listed(kind))


def test_every_operator_class_is_listed():
    from restore.operators.base import LinearOperator
    from restore.operators.nonlinear import NonlinearOperator

    folder = Path(inspect.getfile(LinearOperator)).parent
    found: dict[str, type] = {}
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        module = importlib.import_module(".".join(["restore.operators", *parts]))
        for name, value in inspect.getmembers(module, inspect.isclass):
            ours = value.__module__ == module.__name__ and not name.startswith("_")
            if ours and issubclass(value, LinearOperator | NonlinearOperator):
                found[name] = value
    families = {base.__name__ for value in found.values() for base in value.__mro__[1:]}
    combining = {"Adjoint", "Compose", "Scale", "Stack", "Sum", "BlockDiagonal"}
    assert {record["name"] for record in listed("operators")} == set(found) - combining - families


def test_samplers_say_what_the_classes_say():
    from restore.registry import load_sampler

    records = {record["name"]: record for record in listed("samplers")}
    assert {"dds", "zerofilled", "cgsense", "wavelet", "tv", "fbp"} <= set(records)
    for name, record in records.items():
        sampler = load_sampler(name)
        assert record["prior"] == (" or ".join(sampler.prior_kinds) or "none")
        tuned = sampler(**sampler.presets.get("tuned", {}))
        assert (record["evaluations"], record["gradients"]) == (tuned.cost(), sampler.gradients)
        assert 0 < len(record["cost"]) < 75
        assert record["presets"] == list(sampler.presets)
        assert [s["name"] for s in record["settings"]] == [
            f.name for f in dataclasses.fields(sampler)
        ]
        assert record["reference"] == sampler.reference
        assert record["serves"] == sampler.serves()
        assert record["what"]


def test_third_party_samplers_are_listed(monkeypatch):
    from restore import registry
    from restore.samplers.dds import DDS

    def missing() -> type:
        raise ModuleNotFoundError("No module named 'elsewhere'")

    entries = [
        SimpleNamespace(name="mine", value="package:Class", load=lambda: DDS),
        SimpleNamespace(name="broken", value="elsewhere:Class", load=missing),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    records = {record["name"]: record for record in listing.samplers()}
    assert records["mine"]["what"] == "from package:Class"
    assert records["mine"]["serves"] == "any linear operator"
    assert "No module named 'elsewhere'" in records["broken"]["what"]


def test_samplers_whose_package_is_missing_are_listed(monkeypatch):
    for name in ("sigpy", "sigpy.mri"):
        monkeypatch.setitem(sys.modules, name, None)
    record = next(r for r in listing.samplers() if r["name"] == "sigpy-jsense")
    assert (record["evaluations"], record["serves"]) == (0, "MRI on a Cartesian grid")


def test_one_sampler_is_listed_with_its_settings():
    result = runner.invoke(app, ["list", "samplers", "dds"])
    assert result.exit_code == 0
    for words in (
        "presets: tuned, tuned mri",
        "int 1..100000",
        "karras, ve, vp",
        "float above 0, or none",
    ):
        assert words in result.stdout
    found = runner.invoke(app, ["list", "samplers", "fbp", "--json"])
    assert json.loads(found.stdout)["settings"][0]["words"] == [
        "ramp",
        "hann",
        "shepp-logan",
        "cosine",
    ]
    for arguments, said in (
        (["samplers", "ddss"], "did you mean 'dds'"),
        (["priors", "x"], "only samplers"),
    ):
        refused = runner.invoke(app, ["list", *arguments])
        assert refused.exit_code != 0
        assert said in (refused.stderr or str(refused.exception))


def test_priors_come_from_their_cards(tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    card = {
        "network": {"channels": 3},
        "parameters": 10,
        "denoising_psnr_db": {"15": 31.0},
        "licence": "CC0",
        "date": "2026-01-01",
        "sigma_range": [0.002, 40],
    }
    (tmp_path / "weights" / "mine.json").write_text(json.dumps(card))
    monkeypatch.setattr(listing, "_folder", lambda name: tmp_path)
    assert listing.priors()[0]["channels"] == 3
    result = runner.invoke(app, ["list", "priors"])
    assert "15: 31.0" in result.stdout
    assert "0.002 to 40" in result.stdout


def test_no_priors(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "_folder", lambda name: tmp_path)
    assert runner.invoke(app, ["list", "priors"]).stdout == "no priors\n"


def test_public_sets_state_licence_and_source():
    for record in listed("datasets"):
        if record["kind"] == "public set":
            assert record["licence"]
            assert "https://" in record["obtain"]


def test_doctor_finds_the_core_working():
    result = runner.invoke(app, ["doctor", "--json"])
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert report["works"] is report["core"]["works"] is True
    assert report["core"]["versions"]["torch"]
    assert report["devices"]["auto"] in ("cpu", "cuda")
    assert report["devices"]["threads"] >= 1
    assert report["space"]["temporary_space_gb"] > 0
    assert {"torch", "tifffile", "pooch", "pyyaml"} <= set(report["core"]["versions"])
    assert {("astra-toolbox", "astra"), ("sigpy", "sigpy"), ("pylibjpeg", "")} <= {
        (entry["name"], entry["extra"]) for entry in report["optional"]
    }


def test_doctor_lists_what_the_metadata_says(monkeypatch):
    lines = [
        "torch>=2.10", "scikit-image >=0.22", 'astra-toolbox>=2.5; extra == "astra"',
        "deepinv (>=0.5) ; extra == 'deepinv'", 'pytest>=8; extra == "test"',
        'astra-toolbox>=2.5; (sys_platform == "linux" and platform_machine == "x86_64") and extra == "test"',
    ]  # fmt: skip
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: lines)
    assert doctor.dependencies() == (
        ["torch", "scikit-image"], [("astra-toolbox", "astra"), ("deepinv", "deepinv")],
    )  # fmt: skip


def test_doctor_knows_what_every_extra_is_for():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    declared = set(project["project"]["optional-dependencies"])
    assert set(doctor.EXTRAS) == declared - doctor.DEVELOPERS


def test_doctor_in_words():
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "core: works" in result.stdout
    assert "optional packages:" in result.stdout


def test_doctor_misses_a_package(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["torch", "no-such-distribution"])
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "core: not installed: no-such-distribution" in result.stdout


def test_doctor_finds_a_broken_torch(monkeypatch):
    monkeypatch.setattr(doctor, "_computation_problem", lambda: "torch cannot compute: broken")
    result = runner.invoke(app, ["doctor", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["core"]["problem"] == "torch cannot compute: broken"


def test_doctor_finds_a_damaged_prior(monkeypatch):
    def load(name: str) -> None:
        raise WeightsError(f"{name}: sha256 is wrong")

    monkeypatch.setattr("restore.priors.store.bundled", lambda: {"medical": Path("m.safetensors")})
    monkeypatch.setattr("restore.priors.store.load_prior", load)
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 6
    assert "medical: medical: sha256 is wrong" in result.stdout
