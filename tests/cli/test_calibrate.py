"""`restore calibrate` from volumes to a table, the table in `restore recon` and `image`, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from restore.conformal import AGREED, LEVELS
from restore.datasets.open import read, read_image, write
from restore.datasets.picture.images import write_image
from restore.datasets.sidecar import read_sidecar
from restore.datasets.simulate.phantom import head_phantom
from restore.errors import ConfigError, InputError, NotFoundError
from restore.method import Method
from restore.pipelines.factors import bundled_table, read_table
from restore.priors.store import bundled, read_card
from restore.registry import load_sampler
from restore.samplers.base import Planned

FAST = ["--sampler", "dds", "--steps", 2, "--samples", 2, "--device", "cpu"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny MR volumes and a photograph."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "mr").mkdir()
    (folder / "photos").mkdir()
    for seed in (1, 2):
        write(head_phantom((3, 40, 80), seed=seed), folder / "mr" / f"head{seed}.nii.gz")
    picture = head_phantom((3, 48, 48), seed=3).data[1]
    write_image((picture / picture.max())[None], folder / "photos" / "grey.png")
    return folder


@pytest.fixture(scope="module")
def table(data: Path, verb, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of MRI and of pictures, made by two calls; nobody may change it."""
    out = tmp_path_factory.mktemp("table") / "table.json"
    mri = ["calibrate", "mri", data / "mr", "--acceleration", "4", "--coils", 4, "--slices", "1:2"]
    images = f"calibrate images {data}/photos --tasks superres --noise 0.02 --crop 48".split()
    for command in (mri, images):
        result = verb(*command, *FAST, "-o", out)
        assert result.exit_code == 0, result.stderr
    assert "1 new of 2 entries" in result.stdout
    return out


def test_a_table_says_what_it_was_measured_on(table: Path):
    mri, picture = read_table(table)
    assert mri.measured_on["volumes"] == ["head1.nii.gz", "head2.nii.gz"]
    assert mri.measured_on["images"] == 2
    assert mri.measured.difficulty["coils"] == "several"
    assert mri.measured.difficulty["acceleration"] == pytest.approx(4, rel=0.1)
    assert list(mri.factors) == [2]
    for by_unit in (*mri.factors.values(), *picture.factors.values()):
        for factors in by_unit.values():
            assert list(factors) == list(LEVELS)
            assert list(factors.values()) == sorted(factors.values())  # wider for a higher level
    assert picture.held_out == {}
    assert 0 <= mri.held_out["pixel"][0.9][0] <= mri.held_out["pixel"][0.9][1] <= 1


def test_a_factor_is_used_where_everything_matches(data: Path, table: Path, verb, tmp_path):
    scan, out = tmp_path / "scan.h5", tmp_path / "out.nii"
    simulate = [
        "simulate",
        "mri",
        data / "mr" / "head1.nii.gz",
        "-o",
        scan,
        "--coils",
        4,
        "--slices",
        "1:2",
    ]
    assert verb(*simulate).exit_code == 0
    command = ["recon", scan, "-o", out, *FAST[:-2], "--calibration", table, "--overwrite"]
    result = verb(*command, "--level", 0.8)
    assert result.exit_code == 0, result.stderr
    assert "nominal" not in result.stderr
    told = read_sidecar(out)["interval"]
    assert told["calibrated"] is True
    assert "head1.nii.gz, head2.nii.gz" in told["factor_is"]
    assert told["factor"] == read_table(table)[0].factors[2]["pixel"][0.8]
    std, width = read(tmp_path / "out_std.nii"), read(tmp_path / "out_interval.nii")
    seen = std.data > AGREED * np.ptp(read(out).data)
    # Single precision of two files: 1e-7.
    np.testing.assert_allclose(width.data[seen], told["factor"] * std.data[seen], rtol=1e-5)
    again = verb("recon", "--config", tmp_path / "out.json", "-o", tmp_path / "again.nii")
    assert again.exit_code == 0, again.stderr
    assert (tmp_path / "again_interval.nii").read_bytes() == (
        tmp_path / "out_interval.nii"
    ).read_bytes()

    for more, said in (
        (["--set", "eta=0.5"], "none for these settings of dds"),
        (["--level", 0.7], "it has the levels 0.5, 0.68, 0.8, 0.9, 0.95"),
        (["--noise-std", 1e-5], "none for noise of"),
    ):
        result = verb(*command, *more)
        assert result.exit_code == 0, result.stderr
        assert (
            "is nominal, not calibrated: the table table.json has no factor for this run (it has"
            in result.stderr
        )
        assert said in result.stderr
        assert read_sidecar(out)["interval"]["calibrated"] is False


def test_pictures_have_intervals_of_regions(data: Path, table: Path, verb, tmp_path):
    out = tmp_path / "out.tiff"
    command = [
        "image",
        data / "photos" / "grey.png",
        "-o",
        out,
        "--task",
        "superres",
        "--noise",
        0.02,
        "--simulate",
    ]
    result = verb(*command, *FAST[:-2], "--calibration", table, "--interval", "region")
    assert result.exit_code == 0, result.stderr
    told = read_sidecar(out)["interval"]
    assert told["calibrated"] is True
    assert told["of"] == "means over 8 x 8 pixels"
    width = read_image(tmp_path / "out_interval.tiff").data[0]
    assert (width[8:16, 16:24] == width[8, 16]).all()
    assert width[8, 16] > 0


def test_a_mean_by_another_sampler_is_part_of_the_match(data: Path, verb, tmp_path):
    """`split`, whose samples lie about a mean of dds."""
    table, out = tmp_path / "split.json", tmp_path / "photo.tiff"
    split = ["--sampler", "split", "--steps", 2, "--samples", 2, "--device", "cpu"]
    images = ["images", data / "photos", "--tasks", "superres", "--noise", 0.02, "--crop", 48]
    assert verb("calibrate", *images, *split, "-o", table).exit_code == 0
    assert read_table(table)[0].method.mean_by["sampler"] == "dds"
    photo = ["--task", "superres", "--noise", 0.02, "--simulate"]
    command = ["image", data / "photos" / "grey.png", "-o", out, *photo, *split]
    result = verb(*command, "--calibration", table)
    assert result.exit_code == 0, result.stderr
    assert "nominal" not in result.stderr
    assert read_sidecar(out)["interval"]["calibrated"] is True


def test_a_table_is_tried_on_other_data(data: Path, table: Path, verb, tmp_path):
    tried = tmp_path / "tried.json"
    command = [
        "calibrate",
        "mri",
        data / "mr" / "head2.nii.gz",
        "--acceleration",
        4,
        "--coils",
        4,
        "--slices",
        "1:2",
    ]
    result = verb(*command, *FAST, "--check", table, "-o", tried)
    assert result.exit_code == 0, result.stderr
    line = next(x for x in result.stdout.splitlines() if "pixel" in x)
    shares = [float(word) for word in line.split()[-len(LEVELS) :]]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1
    (mri, other_kind), (before, _) = read_table(tried), read_table(table)
    assert mri.factors == before.factors
    assert mri.tried["pixel"][0.9] == pytest.approx(
        (shares[3],) * 3, abs=1e-3
    )  # printed with three digits
    assert mri.tried_on["volumes"] == ["head2.nii.gz"]
    assert other_kind.tried == {}
    other = verb(*command, *FAST, "--set", "eta=0.5", "--check", table)
    assert other.exit_code == ConfigError.exit_code
    assert "the table serves it not: it has none for these settings of dds" in other.stderr


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:300], "not JSON"),
        (lambda text: "{}", "is no table of factors"),
        (lambda text: text.replace('"0.9": ', '"0.9": -', 1), "is damaged"),
        (lambda text: text.replace('"eta": ', '"eta": 7', 1), "not those of the fingerprint"),
        (lambda text: text.replace('"region": ', '"regions": ', 1), "is neither pixel nor region"),
        (lambda text: json.dumps(json.loads(text) | {"entries": []}), "without an entry"),
    ],
    ids=["cut", "another", "negative", "settings", "unit", "empty"],
)
def test_damaged_tables_are_refused_before_the_work(data, table, verb, tmp_path, damage, said):
    bad = tmp_path / "bad.json"
    bad.write_text(damage(table.read_text()))
    command = ["calibrate", "mri", data / "mr", *FAST, "--check", bad]
    result = verb(*command)
    assert result.exit_code == InputError.exit_code
    assert "bad.json" in result.stderr
    assert said in result.stderr


def test_what_makes_no_table_is_refused(data: Path, table: Path, verb, tmp_path):
    start = ["calibrate", "mri", data / "mr", "--slices", "1:2", "--acceleration", "4"]
    out = tmp_path / "t.json"
    for more, said in (
        ([*FAST[:4], "--samples", 1, "-o", out], "a calibration needs 2 samples or more, got 1"),
        (FAST, "give -o TABLE to write a table, or --check TABLE"),
        (["--sampler", "zerofilled", "-o", out], "all samples agree everywhere"),
        (["--sampler", "dss", "-o", out], "no sampler 'dss'"),
    ):
        result = verb(*start, *more)
        assert result.exit_code in (ConfigError.exit_code, InputError.exit_code), result.stderr
        assert said in result.stderr
    assert not out.exists()


def test_options_of_intervals_need_samples(data: Path, verb, tmp_path):
    command = ["image", data / "photos" / "grey.png", "-o", tmp_path / "o.png", "--task", "denoise"]
    for more, said in (
        (["--level", 0.5], "--level: an interval needs several samples"),
        (["--samples", 2, "--level", 90], "less than or equal to 0.999"),
        (["--samples", 2, "--interval", "voxel"], "'pixel'"),
        (["--samples", 2, "--calibration", tmp_path / "none.json"], "there is no such table"),
        (["--quality", "best", "--samples", 2], "give one of the two"),
        (["--quality", "best", "--sampler", "tweedie"], "leave --sampler and --preset out"),
        (["--quality", "better"], "it is standard or best"),
    ):
        result = verb(*command, *more)
        assert result.exit_code in (ConfigError.exit_code, NotFoundError.exit_code), more
        assert said in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_best_quality_is_the_mean_of_four(data: Path, verb, tmp_path):
    photo = shutil.copy(data / "photos" / "grey.png", tmp_path)
    picture = f"image {photo} --task superres --noise 0.02 --simulate --steps 2".split()
    best, four = tmp_path / "best.tiff", tmp_path / "four.tiff"
    result = verb(*picture, "-o", best, "--quality", "best")
    assert result.exit_code == 0, result.stderr
    assert verb(*picture, "-o", four, "--sampler", "dds", "--samples", 4).exit_code == 0
    np.testing.assert_array_equal(read_image(best).data, read_image(four).data)
    record = read_sidecar(best)
    assert record["quality"] == "best: the mean of 4 samples of dds"
    assert record["outputs"] == ["best.tiff", "best_degraded.tiff"]
    again = verb("image", "--config", tmp_path / "best.json", "-o", tmp_path / "again.tiff")
    assert again.exit_code == 0, again.stderr
    assert (tmp_path / "again.tiff").read_bytes() == best.read_bytes()


def test_the_bundled_factors_are_for_the_bundled_weights_and_the_presets_as_they_are():
    """A setting that is added to sampler or preset makes them void: measure them anew, or say that it stands."""
    names = {read_card(name)["sha256"]: name for name in bundled()}
    entries = read_table(bundled_table())
    assert {(e.measured.kind, e.measured.task) for e in entries} == {
        ("mri", ""), ("ct", ""), ("image", "superres"), ("image", "inpaint"),
    }  # fmt: skip
    for one in entries:
        operator = Planned(one.measured.kind, one.measured.task)
        sampler = load_sampler(one.method.sampler).configured("tuned", operator, {})
        name, weights = names[one.method.weights], one.method.weights
        assert one.method == Method.of(sampler, operator, name, weights)
