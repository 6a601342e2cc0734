from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from restore.bench import results, store
from restore.bench.method import parse_methods
from restore.bench.record import read_record
from restore.bench.results import load
from restore.bench.runner import RunOptions, Told, run_benchmark
from restore.errors import ConfigError, OutputError

CPU = RunOptions(torch.device("cpu"))
QUIET = Told()
METHODS = parse_methods("zerofilled,tv:n_steps=4")


def test_every_pair_becomes_a_row_with_its_conditions(toy, tmp_path):
    run = tmp_path / "run"
    summary = run_benchmark(toy, METHODS, run, CPU, QUIET)
    rows = load(run)
    assert (summary.made, summary.failed, summary.found) == (6, 0, 0)
    assert {(r.volume, r.method) for r in rows} == {
        (f"v{i}.txt", m) for i in range(3) for m in ("zerofilled", "tv")
    }
    for row in rows:
        assert row.status == "done"
        assert row.psnr > 5
        assert row.data_range == 1.0
        assert row.data_range_rule == "full scale"
        assert (row.target, row.mask, row.noise_rule) == (
            "the clean image",
            "two of three columns",
            "noiseless",
        )
        assert row.seconds >= 0
        assert row.peak_memory_mb > 10
        assert row.evaluations == 0
    tv = next(r for r in rows if r.method == "tv")
    assert len(tv.curve) == 4
    assert tv.curve[-1][1] == pytest.approx(tv.misfit)
    assert tv.settings["n_steps"] == 4


def test_images_reference_and_first_look_are_kept(toy, tmp_path):
    run = tmp_path / "run"
    run_benchmark(toy, METHODS, run, dataclasses.replace(CPU, keep=1), QUIET)
    truth = store.load(store.image_path(run, "", store.REFERENCE, "v0.txt")).image
    look = store.load(store.image_path(run, "plain", store.INPUT, "v0.txt")).image
    made = store.load(store.image_path(run, "plain", "zerofilled", "v0.txt")).image
    assert np.array_equal(look, made)
    assert np.array_equal(look[..., 1], truth[..., 1])
    assert not store.image_path(run, "plain", "tv", "v1.txt").exists()


def test_second_call_makes_only_what_is_missing(toy, tmp_path):
    run = tmp_path / "run"
    run_benchmark(toy, METHODS[:1], run, CPU, QUIET)
    toy.opened.clear()
    again = run_benchmark(toy, METHODS[:1], run, CPU, QUIET)
    assert (again.made, again.found) == (0, 3)
    assert not toy.opened  # nothing is measured for rows that are there
    more = run_benchmark(toy, METHODS, run, CPU, QUIET)
    assert (more.made, more.found) == (3, 3)
    assert len(read_record(run / "run.json")["calls"]) == 3


def test_interrupted_run_continues_with_the_same_figures(toy, tmp_path):
    class Stop(Exception):
        pass

    def stop_at_third(row, done, total):
        if done == 3:
            raise Stop

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_benchmark(toy, METHODS, whole, CPU, QUIET)
    with pytest.raises(Stop):
        run_benchmark(toy, METHODS, cut, CPU, Told(row=stop_at_third))
    assert len(load(cut)) == 3
    summary = run_benchmark(toy, METHODS, cut, CPU, QUIET)
    assert (summary.made, summary.found) == (3, 3)
    figures = [
        {(r.volume, r.method): (r.psnr, r.ssim, r.nmse, r.key) for r in load(p)}
        for p in (whole, cut)
    ]
    assert figures[0] == figures[1]


def test_a_changed_setting_or_volume_is_another_row(toy, tmp_path):
    run = tmp_path / "run"
    run_benchmark(toy, METHODS, run, CPU, QUIET)
    assert run_benchmark(toy, parse_methods("tv:n_steps=5"), run, CPU, QUIET).made == 3
    assert run_benchmark(toy, METHODS[:1], run, dataclasses.replace(CPU, seed=1), QUIET).made == 3
    (toy.folder / "v0.txt").write_text("9")
    assert run_benchmark(toy, METHODS[:1], run, CPU, QUIET).made == 1


def test_a_damaged_volume_fails_alone_and_is_tried_again(toy, tmp_path):
    (toy.folder / "v1.txt").write_text("no number")
    run = tmp_path / "run"
    summary = run_benchmark(toy, METHODS, run, CPU, QUIET)
    assert (summary.made, summary.failed) == (6, 2)
    failed = [r for r in load(run) if r.status == "failed"]
    assert {r.volume for r in failed} == {"v1.txt"}
    assert all(
        "v1.txt: holds no number" in r.reason and str(tmp_path) not in r.reason for r in failed
    )
    (toy.folder / "v1.txt").write_text("1")
    again = run_benchmark(toy, METHODS, run, CPU, QUIET)
    assert (again.made, again.failed, again.found) == (2, 0, 4)


def test_a_full_disk_ends_the_run_and_makes_no_row(toy, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OutputError("the disk is full")

    monkeypatch.setattr(store, "save", full)
    with pytest.raises(OutputError, match="disk is full"):
        run_benchmark(toy, METHODS, tmp_path / "run", CPU, QUIET)
    assert not (tmp_path / "run" / "results.csv").exists()


def test_parts_share_a_folder_and_make_the_whole(toy, tmp_path):
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    run_benchmark(toy, METHODS, whole, CPU, QUIET)
    for k in (1, 2):
        run_benchmark(toy, METHODS, shared, dataclasses.replace(CPU, part=(k, 2)), QUIET)
    assert sorted(p.name for p in shared.glob("results*")) == [
        "results-1-of-2.csv",
        "results-2-of-2.csv",
    ]
    assert {(r.key, r.psnr) for r in load(whole)} == {(r.key, r.psnr) for r in load(shared)}


def test_unfit_methods_are_left_out_with_a_remark_or_refused(toy, tmp_path):
    said = []
    with pytest.raises(ConfigError, match="fbp serves no setting of this run"):
        run_benchmark(
            toy, parse_methods("zerofilled,fbp"), tmp_path / "run", CPU, Told(note=said.append)
        )
    (remark,) = said
    assert remark.startswith(
        "fbp is left out under plain: fbp serves CT with filtered backprojection, not Inpainting"
    )
    assert {r.method for r in load(tmp_path / "run")} == {"zerofilled"}


def test_slips_are_found_before_any_work(toy, tmp_path):
    with pytest.raises(ConfigError, match="no setting 'weigth'"):
        run_benchmark(toy, parse_methods("tv:weigth=1"), tmp_path / "run", CPU, QUIET)
    with pytest.raises(OutputError, match="no such folder"):
        run_benchmark(toy, METHODS, tmp_path / "none" / "run", CPU, QUIET)
    assert not (tmp_path / "run").exists()


def test_settings_without_a_case_make_no_row(toy, tmp_path):
    toy.names = ("plain", "absent")
    assert run_benchmark(toy, METHODS, tmp_path / "run", CPU, QUIET).made == 6


def test_another_protocol_does_not_share_the_folder(toy, tmp_path):
    run = tmp_path / "run"
    run_benchmark(toy, METHODS, run, CPU, QUIET)
    record = (run / "run.json").read_text().replace('"toy"', '"other"')
    (run / "run.json").write_text(record)
    with pytest.raises(ConfigError, match="holds a run of other"):
        run_benchmark(toy, METHODS, run, CPU, QUIET)


def test_samples_are_calibrated(toy, tmp_path):
    run = tmp_path / "run"
    options = dataclasses.replace(CPU, samples=3, keep=1)
    run_benchmark(toy, parse_methods("dds:n_steps=3:sigma_start=0.5:eta=1"), run, options, QUIET)
    row = load(run)[0]
    assert row.coverage_nominal == 0.5
    assert 0 <= row.coverage <= 1
    assert len(row.calibration["predicted"]) == 10
    assert row.evaluations == 9
    assert row.prior.startswith("medical ")
    stored = store.load(store.image_path(run, "plain", "dds", "v0.txt"))
    assert stored.std is not None
    assert stored.std.max() > 0


def test_a_crash_while_writing_costs_one_row(toy, tmp_path):
    run = tmp_path / "run"
    run_benchmark(toy, METHODS, run, CPU, QUIET)
    path = run / "results.csv"
    whole = path.read_bytes()
    for cut in (3, 40, 200):
        path.write_bytes(whole[:-cut])
        assert len(load(run)) == 5
        summary = run_benchmark(toy, METHODS, run, CPU, QUIET)
        assert (summary.made, summary.found) == (1, 5)
        assert len(load(run)) == 6
    shutil.rmtree(run)


def test_results_of_a_run_survive_text_of_every_kind(tmp_path):
    row = results.Row(
        key="k", protocol="p", volume='a "quoted", name\nwith <script>', setting="s", method="m", status="failed",
        reason="é, \"x\"\r\nline", psnr=float("inf"), curve=[[1.0, float("nan")]], noise_std=1e-300,
    )  # fmt: skip
    results.append(tmp_path / "results.csv", row)
    back = load(tmp_path)[0]
    assert (back.volume, back.reason, back.psnr, back.noise_std) == (
        row.volume,
        row.reason,
        row.psnr,
        1e-300,
    )
    assert back.curve == [[1.0, None]]
