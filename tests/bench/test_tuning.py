from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from restore.bench.method import Method, parse_methods
from restore.bench.record import read_records
from restore.bench.results import Row, append, load
from restore.bench.runner import RunOptions, Told
from restore.bench.tuning import (
    _next_values,
    _OneSetting,
    _scores,
    default_grid,
    parse_grids,
    read_tuned,
    tune,
)
from restore.errors import ConfigError, InputError

CPU = RunOptions(torch.device("cpu"))


def test_the_best_value_is_chosen_and_kept_with_its_trials(toy, tmp_path):
    run = tmp_path / "tuned"
    grids = parse_grids(["tv.n_steps=1,2,12"], ("tv",))
    chosen = tune(toy, grids, run, CPU, Told())
    means = {
        value: np.mean([r.psnr for r in load(run) if r.method == f"tv-n_steps-{value}"])
        for value in ("1", "2", "12")
    }
    best = max(means, key=lambda v: means[v])
    assert [(c.method, c.setting, c.name, c.value) for c in chosen] == [
        ("tv", "plain", "n_steps", best)
    ]
    assert dict(chosen[0].tried) == pytest.approx(means)
    values, volumes = read_tuned(run, "toy")
    assert values == {"tv": {"plain": {"n_steps": best}}}
    assert volumes == {"v0.txt", "v1.txt", "v2.txt"}
    method = parse_methods("tv", tuned=values)[0]
    assert method.sampler_for("plain", object).n_steps == int(best)
    assert method.sampler_for("other", object).n_steps == 60


def test_the_search_closes_in_on_a_peak_between_and_beyond():
    assert _next_values({"0.001": 1.0, "0.01": 3.0, "0.1": 2.0}) == ["0.00316", "0.0316"]
    assert _next_values({"0.001": 3.0, "0.01": 2.0}) == ["0.0001", "0.00316"]
    assert _next_values({"1": 1.0, "4": 2.0}) == ["2", "16"]


def test_samplers_suggest_what_to_tune():
    for name in ("cgsense", "wavelet", "tv"):
        assert default_grid(name).setting == "weight"
        for value in default_grid(name).values:
            assert Method(name, name, settings={"weight": value}).sampler_for(
                "", object
            ).weight == float(value)
    with pytest.raises(ConfigError, match=r"--grid zerofilled\.SETTING"):
        default_grid("zerofilled")


@pytest.mark.parametrize("text", ["weight=1", "tv.weight", "tv.weight=", "dds.n_steps=3"])
def test_grids_that_make_no_sense(text):
    with pytest.raises(ConfigError, match="--grid takes"):
        parse_grids([text], ("tv",))


def test_foreign_files_are_not_taken_for_tuned_values(tmp_path):
    path = tmp_path / "tuned.json"
    path.write_text('{"format": 1}')
    with pytest.raises(InputError, match="restore bench tune"):
        read_tuned(path, "toy")
    path.write_text(
        json.dumps(
            {"format": 1, "kind": "tuned settings", "protocol": "ct", "volumes": [], "chosen": []}
        )
    )
    with pytest.raises(InputError, match="tuned under ct"):
        read_tuned(path, "toy")
    entry = {"method": "tv", "setting": "plain", "name": None, "value": "1"}
    record = {
        "format": 1,
        "kind": "tuned settings",
        "protocol": "toy",
        "volumes": [],
        "chosen": [entry],
    }
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="no texts in 'chosen'"):
        read_tuned(path, "toy")


def test_methods_as_people_write_them():
    methods = parse_methods(
        "dds,fast=dds:preset=published:n_steps=8:eta=0,tv", assignments=["tv.weight=2e-3"]
    )
    assert [m.preset for m in methods] == ["tuned", "published", "tuned"]
    assert methods[1].sampler_for("4x", object).schedule == "vp"
    assert [(m.name, m.sampler, dict(m.settings)) for m in methods] == [
        ("dds", "dds", {}), ("fast", "dds", {"n_steps": "8", "eta": "0"}), ("tv", "tv", {"weight": "2e-3"}),
    ]  # fmt: skip
    for text, words in (("ddz", "did you mean"), ("dds,dds", "two methods"), ("", "no method"), ("dds:n", "NAME=VALUE"),
                        ("../x=dds", "cannot name"), ("input=dds", "cannot name")):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            parse_methods(text)


def test_a_tuning_run_averages_as_its_protocol_does(toy, tmp_path, monkeypatch):
    """Its record and its choice: a volume of many slices counts as often as it has slices."""
    monkeypatch.setattr(type(toy), "average_over", "slices", raising=False)
    monkeypatch.setattr(type(toy), "headline", ("psnr",), raising=False)
    run = tmp_path / "tuned"
    tune(toy, parse_grids(["tv.n_steps=2"], ("tv",)), run, CPU, Told())
    (record,) = read_records(run)
    assert (record["average_over"], record["headline"]) == ("slices", ["psnr"])

    rows = [Row(f"{v}{i}", "toy", v, "plain", f"m{i}", "done", psnr=p, slices=n)
            for v, n, psnr in (("short", 1, (40, 20)), ("long", 9, (20, 30))) for i, p in enumerate(psnr)]  # fmt: skip
    for one in rows:
        append(tmp_path / "results.csv", one)
    values = {"m0": "1", "m1": "2"}
    for average_over, means in (("slices", (22, 29)), ("volumes", (30, 25))):
        monkeypatch.setattr(type(toy), "average_over", average_over)
        one = _OneSetting(toy, toy.settings()[0])
        found = _scores(tmp_path, one, values, {"short", "long"})
        assert found == pytest.approx(dict(zip("12", means, strict=True)))


def test_a_method_may_have_a_prior_of_its_own():
    """Methods of several kinds of prior stand in one table."""
    found = parse_methods("cgsense,dds,varnet:prior=mine.safetensors", prior="medical")
    assert [m.prior for m in found] == ["medical", "medical", "mine.safetensors"]
    assert found[2].settings == {}
