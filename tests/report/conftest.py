"""A small made-up benchmark, whole and with hostile names, and the report of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restore.bench import results, store
from restore.bench.record import FORMAT
from restore.datasets.simulate.phantom import head_phantom
from restore.report.from_run import study_of_run
from restore.report.render import write_report

SETTINGS = {"4x": 1.0, "8x": 1.7}
METHODS = {"zerofilled": (0.16, 0), "tv": (0.08, 0), "dds": (0.04, 40)}
"""Relative error and evaluations of each made-up method."""
AFFINE = ((-2.0, 0.0, 0.0, 70.0), (0.0, -2.2, 0.0, 80.0), (0.0, 0.0, 5.0, -10.0), (0.0, 0.0, 0.0, 1.0))  # fmt: skip


def smooth_noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Noise of unit deviation with a grain of two pixels."""
    white = rng.standard_normal(shape)
    grain = white + np.roll(white, 1, -1) + np.roll(white, 1, -2) + np.roll(white, (1, 1), (-1, -2))
    return grain / 2


def make_run(
    folder: Path, shape: tuple[int, int, int] = (4, 40, 36), volumes: tuple[str, ...] = ("a.h5", "b.h5"),
    methods: dict[str, tuple[float, int]] | None = None, failed: str = "out of memory",
) -> Path:  # fmt: skip
    """Rows and images of every volume, setting and method; dds with deviations, one row failed."""
    folder.mkdir(parents=True)
    place = store.Place("MR", "a.u.", AFFINE, tuple(range(10, 10 + shape[0])))
    for v, volume in enumerate(volumes):
        rng = np.random.default_rng(v)
        truth = head_phantom(shape, seed=v).data * 1e-3
        store.save(store.image_path(folder, "", store.REFERENCE, volume), truth, place)
        for setting, factor in SETTINGS.items():
            for m, (method, (error, calls)) in enumerate((methods or METHODS).items()):
                std = np.full(shape, error * factor * truth.max(), np.float32)
                image = truth + std * smooth_noise(shape, rng)
                path = store.image_path(folder, setting, method, volume)
                spread = std * (0.5 + truth / truth.max())
                store.save(path, image, place, spread if calls else None)
                if m == 0:
                    store.save(store.image_path(folder, setting, store.INPUT, volume), image, place)
                row = make_row(method, volume, setting, truth, image, calls, std)
                results.append(results.results_path(folder), row)
    bad = results.Row("bad", "made-up", volumes[-1], "8x", "broken", "failed", failed)
    results.append(results.results_path(folder), bad)
    record = {
        "format": FORMAT, "protocol": "made-up", "average_over": "volumes", "settings": list(SETTINGS), "headline": [],
        "environment": {"restore": "0", "Packages": {"torch": "2"}}, "calls": [{"options": {"root": "/data/x"}}],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def make_row(
    method: str, volume: str, setting: str, truth: Any, image: Any, calls: int, std: Any
) -> results.Row:
    mse, peak = float(np.mean((image - truth) ** 2)), float(truth.max())
    bins = [float(std.mean()) * k for k in (0.4, 0.8, 1.2)]
    return results.Row(
        key=f"{method}/{volume}/{setting}", protocol="made-up", volume=volume, setting=setting, method=method,
        status="done", sampler=method, psnr=float(10 * np.log10(peak**2 / mse)), ssim=0.9 - mse / peak**2,
        nmse=mse / float(np.mean(truth**2)), target="RSS", data_range=peak, data_range_rule="maximum", slices=4,
        mask="random", mask_seed="123", noise_std=0.01, noise_rule="from the file", misfit=1.03, misfit_rule="std",
        evaluations=calls, seconds=1.5, peak_memory_mb=321.0, device="cpu", prior="medical abc123" if calls else "",
        samples=4 if calls else 1, coverage=0.58 if calls else None, coverage_nominal=0.6 if calls else None,
        spread_ratio=1.1 if calls else None, ssim_variant="7 x 7", version="0",
        calibration={
            "predicted": bins, "error": [b * 1.1 for b in bins], "level": [0.5, 0.9], "covered": [0.44, 0.87],
        } if calls else {},
        curve=[[float(i), 9.0 / (i + 1)] for i in range(0, max(calls, 6), 5)],
    )  # fmt: skip


@pytest.fixture(scope="session")
def run_maker() -> Callable[..., Path]:
    return make_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark; nobody may change it."""
    return make_run(tmp_path_factory.mktemp("bench") / "RUN")


@pytest.fixture(scope="session")
def report(run: Path) -> Path:
    """The report of it; nobody may change it."""
    return write_report(study_of_run(run), run / "report").parent
