"""Which scale a calibration takes, what a trial adds to a table, and what is said with an interval of such an entry."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from restore.bench.calibrating import Scored, chosen_scale, with_trial
from restore.conformal import LEVELS, PLAIN, UNITS, Scale
from restore.errors import InputError
from restore.method import Method
from restore.pipelines.factors import (
    Circumstances,
    Entry,
    find,
    read_table,
    replaced,
    write_table,
)
from restore.pipelines.interval import IntervalOptions, interval_of
from restore.registry import load_sampler
from restore.samplers.base import Planned

METHOD = Method("medical", "abc", "split", {"n_steps": 20})
CT = Circumstances("ct", "", {"views": 60.0}, 0.01)
EDGES = Scale(0.5, 0.1)


def entry(**changes) -> Entry:
    """Factors that are the level times ten, of the scale EDGES for pixels."""
    by_level = {level: 10 * level for level in LEVELS}
    made = Entry(
        METHOD, CT, (0.005, 0.02), {4: {unit: dict(by_level) for unit in UNITS}},
        {unit: {level: (level, level) for level in LEVELS} for unit in UNITS}, {"volumes": ["a"], "images": 1},
        {"pixel": EDGES},
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def test_the_scale_is_the_one_under_which_volumes_are_alike():
    rng = np.random.default_rng(3)
    scores = [np.abs(rng.standard_normal(2000)) for _ in range(4)]
    apart = [{PLAIN: s * (1 + i), EDGES: s} for i, s in enumerate(scores)]
    assert chosen_scale(apart) == EDGES
    assert chosen_scale(apart[:2]) == PLAIN  # two volumes tell nothing
    assert chosen_scale([{PLAIN: s, EDGES: s * 1.001} for s in scores]) == PLAIN  # no gain worth it


@pytest.mark.parametrize(("lines", "factor"), [(4, None), (5, 5.0), (7, 5.0), (8, 2.0), (26, 2.0)])
def test_a_factor_is_for_no_fewer_lines_in_the_centre(lines, factor):
    """Of two entries the one with more lines that the scan has too, wherever in the table it stands."""

    def of(centre: int, factor: float) -> Entry:
        mri = Circumstances("mri", "", {"acceleration": 8.0, "centre": centre}, 0.005)
        return entry(measured=mri, noise=(0.001, 0.01), factors={4: {"pixel": {0.9: factor}}})

    table = replaced([of(5, 5.0), of(9, 3.0)], [of(8, 2.0)])  # 9 lines and 8: one is made again
    assert len(table) == 2
    run = dataclasses.replace(table[0].measured, difficulty={"acceleration": 8.1, "centre": lines})
    for order in (table, table[::-1]):
        found = find(order, METHOD, run, 4, "pixel", 0.9)
        assert found.factor == factor
        assert factor or "only 4 lines in the centre" in found.why


def test_a_trial_is_kept_with_the_entry_and_comes_back_from_the_file(tmp_path: Path):
    other = dataclasses.replace(CT, difficulty={"views": 30.0})
    entries = [entry(), entry(measured=other)]
    nine = np.linspace(0, 10, 1001)  # so that 10 * level covers the part level of them
    wide = {"pixel": {EDGES: nine}, "region": {PLAIN: nine / 2}}
    narrow = {"pixel": {EDGES: nine * 2}, "region": {PLAIN: nine / 2}}
    scored = [Scored(n, METHOD, CT, 4, s, 1) for n, s in (("x", wide), ("y", narrow))]
    first, second = with_trial(entries, scored)
    assert second == entries[1]
    # One of 1001 scores: 0.001.
    assert first.tried["pixel"][0.8] == pytest.approx((0.6, 0.4, 0.8), abs=0.002)
    assert first.tried_on["volumes"] == ["x", "y"]
    write_table(tmp_path / "t.json", [first, second])
    assert read_table(tmp_path / "t.json") == [first, second]
    old = (tmp_path / "t.json").read_text().replace('"format": 3', '"format": 1')
    (tmp_path / "old.json").write_text(old)
    assert read_table(tmp_path / "old.json")
    bad = old.replace('"pooled": 0.5', '"pooled": 1.5')
    (tmp_path / "bad.json").write_text(bad)
    with pytest.raises(InputError, match=r"the pooled share 1\.5"):
        read_table(tmp_path / "bad.json")


def test_a_factor_is_for_the_settings_that_gave_the_mean(tmp_path: Path):
    """The half-width lies around that mean: with other settings of its sampler the factor is for another error."""
    ct = Planned("ct")
    split = load_sampler("split").configured("tuned", ct, {})
    method = Method.of(split, ct, "medical", "abc")
    dds = load_sampler("dds").configured("tuned", ct, {})
    assert method.mean_by == {"sampler": "dds", "settings": dataclasses.asdict(dds)}
    assert Method.of(split, Planned("mri"), "medical", "abc").fingerprint != method.fingerprint
    alone = load_sampler("split").configured("tuned", ct, {"centre": "none"})
    assert Method.of(alone, ct).mean_by is None

    write_table(tmp_path / "t.json", [entry(method=method)])
    (read,) = read_table(tmp_path / "t.json")
    assert read.method == method
    assert find([read], method, CT, 4, "pixel", 0.9).factor == 9.0
    before = dataclasses.asdict(dds) | {"edge_error": 0.0}
    older = dataclasses.replace(method, mean_by={"sampler": "dds", "settings": before})
    unknown = dataclasses.replace(method, mean_by=None)  # as tables before format 3 have it
    for other in (older, unknown):
        found = find([entry(method=other)], method, CT, 4, "pixel", 0.9)
        assert found.factor is None
        assert found.why == "it has none for these settings of split with its mean by dds"
    changed = (tmp_path / "t.json").read_text().replace('"edge_error": 0.05', '"edge_error": 0.0')
    (tmp_path / "changed.json").write_text(changed)
    with pytest.raises(InputError, match="not those of the fingerprint"):
        read_table(tmp_path / "changed.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tried": {"pixel": {0.9: (0.88, 0.85, 0.93)}}}, ""),
        ({"tried": {"pixel": {0.9: (0.8, 0.7, 0.9)}}}, "held for 0.80 of them (0.70 to 0.90) on volumes"),
        ({"tried": {"pixel": {0.9: (0.88, 0.76, 0.99)}}}, "held for 0.76 to 0.99 of them on single volumes"),
        ({"held_out": {"pixel": {0.9: (0.7, 0.97)}}}, "held for 0.70 to 0.97 of them on single volumes"),
        (
            {"tried": {"pixel": {0.9: (0.9, 0.88, 0.92)}}, "held_out": {"pixel": {0.9: (0.75, 0.95)}}},
            "held for 0.75 to 0.95 of them on single volumes",
        ),
        ({"held_out": {}}, "was measured on one volume"),
    ],
    ids=["right", "mean off", "single off", "left out", "both", "one"],
)  # fmt: skip
def test_a_factor_that_was_seen_to_miss_says_so(tmp_path: Path, changes, said: str):
    write_table(tmp_path / "t.json", [entry(**changes)])
    samples = np.random.default_rng(0).standard_normal((4, 1, 16, 16))
    found = interval_of(samples, IntervalOptions(calibration=tmp_path / "t.json"), METHOD, CT)
    assert found.record["calibrated"] is True
    assert found.record["factor_of"] == "deviation, 0.5 of it pooled, 0.1 contrast"
    if not said:
        assert found.notes == ()
    else:
        (note,) = found.notes
        assert "the calibrated interval of 0.9 (CT, views 60, pixels)" in note
        assert said in note


@pytest.mark.parametrize(("lines", "notes"), [(16, 0), (17, 1)])
def test_a_factor_of_far_fewer_lines_says_that_it_may_be_too_wide(tmp_path: Path, lines, notes):
    mri = Circumstances("mri", "", {"acceleration": 8.0, "centre": 8}, 0.01)
    write_table(tmp_path / "t.json", [entry(measured=mri)])
    run = dataclasses.replace(mri, difficulty={"acceleration": 8.0, "centre": lines})
    samples = np.random.default_rng(0).standard_normal((4, 1, 16, 16))
    found = interval_of(samples, IntervalOptions(calibration=tmp_path / "t.json"), METHOD, run)
    assert len(found.notes) == notes
    assert all("8 lines" in note and "scan has 17" in note for note in found.notes)
