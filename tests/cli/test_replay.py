"""A run repeated from its record: the same voxels, its files found and compared, what is typed said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import typer

from restore import precision
from restore.cli import app
from restore.datasets.mri.files.cfl import write_cfl
from restore.datasets.open import read, write
from restore.datasets.picture.images import write_image
from restore.datasets.sidecar import read_sidecar
from restore.datasets.simulate.phantom import head_phantom

FEW = ("--steps", 3)
RECON = [
    "{scans}/ct.h5",
    "-o",
    "{here}/o.nii.gz",
    "--sampler",
    "dds",
    *FEW,
    "--noise-std",
    0.05,
    "--repair",
    "zero",
]
IMAGE = [
    "{here}/photo.png",
    "-o",
    "{here}/o.png",
    "--task",
    "deblur",
    "--kernel",
    "gaussian:1",
    *FEW,
]
OPTIONAL = {
    "recon": {
        "frames",
        "frame-time",
        "second-prior",
        "start",
        "like",
        "series",
        "volume",
        "echo",
        "kspace-order",
        "select",
        "axes",
        "trajectory",
        "pattern",
        "coils-virtual",
        "calibration",
        "adapt",
        "projections",
        "field-map",
        "readout-times",
        "detector-pixel",
        "grid",
        "units",
        "mu-water",
        "center",
        "outliers",
        "rings",
        "beam-hardening",
        "time-limit",
    },
    "image": {"mask", "noise", "calibration", "time-limit", "second-prior", "start"},
}
"""What a run may do without; others show below that the record holds the files."""


@pytest.fixture
def raw(scans, tmp_path) -> Path:
    """A folder of one's own with the scans in it, so that they may be changed."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("mri.h5", "ct.h5"):
        shutil.copy(scans / name, folder)
    return folder


@pytest.fixture
def made(raw, verb, tmp_path) -> Path:
    """A result in a folder of its own."""
    (tmp_path / "results").mkdir()
    out = tmp_path / "results" / "first.nii.gz"
    run = [
        "recon",
        raw / "ct.h5",
        "-o",
        out,
        *FEW,
        "--seed",
        9,
        "--set",
        "gamma=2.5",
        "--sampler",
        "dds",
        "--samples",
        2,
    ]
    result = verb(*run, "--noise-std", 0.05)
    assert result.exit_code == 0, result.stderr
    return out


def replayed(verb, record: Path, out: Path, *more: object):
    return verb("recon", *more, "--config", record.with_name("first.json"), "-o", out)


def test_the_record_repeats_the_run_to_the_bit(made, verb, tmp_path):
    out = tmp_path / "again.nii.gz"
    result = replayed(verb, made, out)
    assert result.exit_code == 0, result.stderr
    said = [line for line in result.stderr.splitlines() if "note" in line]
    # What was said the first time is said again: no factor for this setting, a noise level that is not the scan's.
    told = ("is nominal, not calibrated", "the noise of a ray through air is stated")
    assert [line for line in said if not any(known in line for known in told)] == []
    assert out.read_bytes() == made.read_bytes()
    for what in ("std", "interval"):
        beside = made.with_name(f"first_{what}.nii.gz")
        assert (tmp_path / f"again_{what}.nii.gz").read_bytes() == beside.read_bytes()
    first, second = read_sidecar(made), read_sidecar(out)
    assert first["run"] == second["run"]
    assert first["sampler"] == second["sampler"]


def test_a_replay_computes_in_the_precision_that_auto_became(raw, verb, tmp_path, monkeypatch):
    out, again = tmp_path / "first.nii.gz", tmp_path / "again.nii.gz"
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: True)
    assert verb("recon", raw / "ct.h5", "-o", out, *FEW, "--noise-std", 0.05).exit_code == 0
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: False)
    result = replayed(verb, out, again)
    assert result.exit_code == 0, result.stderr
    assert "note: this processor only emulates bfloat16" in result.stderr
    assert again.read_bytes() == out.read_bytes()
    told = [read_sidecar(path)["precision"] for path in (out, again)]
    assert [(t["asked"], t["used"]) for t in told] == [
        ("auto", "bfloat16"),
        ("bfloat16", "bfloat16"),
    ]
    assert "another one chooses otherwise" in told[0]["remark"]
    result = verb("recon", raw / "ct.h5", "-o", out, *FEW, "--noise-std", 0.05)
    assert "already done" in result.stdout  # the same command, by whatever processor


def test_the_record_holds_every_setting_and_no_folder(made):
    """A preset may change in a later version; the values of this run may not."""
    record = read_sidecar(made)
    settings = record["run"]["set"]
    assert settings.items() <= record["sampler"].items()
    assert len(settings) > 10
    assert (settings["gamma"], settings["n_steps"], record["run"]["seed"]) == (2.5, 3, 9)
    assert record["sources"][0].keys() == {"File", "SHA256", "Option"}
    text = made.with_name("first.json").read_text(encoding="utf-8")
    assert str(made.parent) not in text
    assert "raw/" not in text
    assert "/raw" not in text


@pytest.mark.parametrize("sampler", ["fbp", "tv", "dps"])
def test_methods_of_every_sort_repeat(raw, verb, tmp_path, sampler):
    steps = () if sampler == "fbp" else FEW
    out = tmp_path / "first.nii.gz"
    assert verb("recon", raw / "ct.h5", "-o", out, "--sampler", sampler, *steps).exit_code == 0
    result = replayed(verb, out, tmp_path / "again.nii.gz")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "again.nii.gz").read_bytes() == out.read_bytes()


def test_a_series_whose_identity_is_taken_belongs_to_the_record(scans, raw, verb, tmp_path):
    series = write(read(scans / "ct.nii.gz", modality="CT"), tmp_path / "series")
    run = ["recon", raw / "ct.h5", "-o", tmp_path / "first", "--sampler", "fbp", "--like", series]
    result = verb(*run)
    assert result.exit_code == 0, result.stderr
    options = [s["Option"] for s in read_sidecar(tmp_path / "first")["sources"]]
    assert options == ["scan", "like"]
    result = verb("recon", "--config", tmp_path / "first.json", "-o", tmp_path / "again")
    assert result.exit_code == 0, result.stderr


def test_without_a_name_it_goes_where_it_went_and_never_over_it(made, verb):
    record = made.with_name("first.json")
    result = verb("recon", "--config", record)
    assert result.exit_code == 5
    assert "first.nii.gz: exists already; name another with -o" in result.stderr
    content = made.read_bytes()
    copy = made.with_name("copy.json")
    copy.write_bytes(record.read_bytes())
    for what in ("", "_std", "_interval"):
        made.with_name(f"first{what}.nii.gz").unlink()
    assert verb("recon", "--config", copy).exit_code == 0
    assert made.read_bytes() == content


def test_a_changed_input_is_refused_and_a_typed_one_noted(made, raw, verb, tmp_path):
    with h5py.File(raw / "ct.h5", "r+") as f:
        name = next(k for k, v in f.items() if isinstance(v, h5py.Dataset) and v.ndim == 3)
        f[name][0, 0, 0] += 1e-3
    result = replayed(verb, made, tmp_path / "again.nii.gz")
    assert result.exit_code == 4
    assert "ct.h5: is not the file that first.json was made from" in result.stderr
    assert not (tmp_path / "again.nii.gz").exists()
    result = replayed(verb, made, tmp_path / "again.nii.gz", raw / "ct.h5")
    assert result.exit_code == 0, result.stderr
    assert "note: ct.h5 is not the scan that first.json was made from" in result.stderr


def test_an_input_that_moved_far_is_asked_for(made, raw, verb, tmp_path):
    far = tmp_path / "a" / "b" / "c"
    far.mkdir(parents=True)
    (raw / "ct.h5").rename(far / "renamed.h5")
    result = replayed(verb, made, tmp_path / "again.nii.gz")
    assert result.exit_code == 3
    assert "was made from ct.h5" in result.stderr
    result = replayed(verb, made, tmp_path / "again.nii.gz", far / "renamed.h5")
    assert (result.exit_code, "is not the" in result.stderr) == (0, False)
    assert (tmp_path / "again.nii.gz").read_bytes() == made.read_bytes()


def test_of_two_files_of_that_name_the_recorded_one_is_taken(made, raw, verb, tmp_path):
    shutil.copy(raw / "mri.h5", made.parent / "ct.h5")  # nearer, but another
    result = replayed(verb, made, tmp_path / "again.nii.gz")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "again.nii.gz").read_bytes() == made.read_bytes()


def test_other_weights_are_refused(made, verb, tmp_path):
    record = made.with_name("first.json")
    content = json.loads(record.read_text(encoding="utf-8"))
    content["prior"]["sha256"] = "0" * 64
    record.write_text(json.dumps(content), encoding="utf-8")
    result = replayed(verb, made, tmp_path / "again.nii.gz")
    assert result.exit_code == 6
    assert "medical: other weights than those of first.json" in result.stderr
    result = replayed(verb, made, tmp_path / "again.nii.gz", "--prior", "medical")
    assert result.exit_code == 0, result.stderr
    assert "note: medical is not the prior of first.json" in result.stderr


def test_other_versions_are_named(made, verb, tmp_path):
    record = made.with_name("first.json")
    content = json.loads(record.read_text(encoding="utf-8"))
    content["environment"]["Packages"]["torch"] = "1.0"
    record.write_text(json.dumps(content), encoding="utf-8")
    result = replayed(verb, made, tmp_path / "again.nii.gz")
    assert result.exit_code == 0
    assert "note: made with torch 1.0, now" in result.stderr


def test_another_sampler_brings_its_own_settings(made, verb, tmp_path):
    out = tmp_path / "again.nii.gz"
    result = replayed(verb, made, out, "--sampler", "tv", *FEW, "--samples", 1)
    assert result.exit_code == 0, result.stderr
    assert "note: --sampler was given: settings of first.json left out" in result.stderr
    assert read_sidecar(out)["sampler"]["name"] == "tv"


def test_records_of_other_things_are_refused(made, raw, verb, tmp_path):
    result = verb("image", "--config", made.with_name("first.json"), "-o", tmp_path / "o.png")
    assert result.exit_code == 2
    assert "is for the verb 'recon', not for 'restore image'" in result.stderr
    old = tmp_path / "old.json"
    content = read_sidecar(made)
    del content["run"]
    old.write_text(json.dumps(content), encoding="utf-8")
    result = verb("recon", raw / "ct.h5", "-o", tmp_path / "o.nii.gz", "--config", old)
    assert result.exit_code == 4
    assert "does not hold the options of its run" in result.stderr


@pytest.mark.parametrize(
    ("simulate", "task"),
    [
        (False, "inpaint"), (False, "denoise"), (True, "inpaint"), (True, "denoise"), (False, "deblur"),
        pytest.param(True, "deblur", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_photograph_repeats_too(verb, tmp_path, task, simulate):
    head = head_phantom((8, 96, 96)).data[:3, 28:68, 28:68] / 1200
    write_image(0.2 + 0.7 * head, tmp_path / "photo.png")
    known = np.random.default_rng(0).random((40, 40)) < 0.6
    write_image(known.astype(np.float32)[None], tmp_path / "mask.png")
    extra = {
        "inpaint": ["--mask", tmp_path / "mask.png", *FEW],
        "deblur": ["--kernel", "gaussian:1.2", "--samples", 2, "--preset", "posterior", *FEW],
        "denoise": ["--noise", 0.1],
    }[task]
    first, again = tmp_path / "first.png", tmp_path / "out" / "again.png"
    again.parent.mkdir()
    run = ["image", tmp_path / "photo.png", "--task", task, *extra, *["--simulate"] * simulate]
    result = verb(*run, "-o", first)
    assert result.exit_code == 0, result.stderr
    result = verb("image", "--config", tmp_path / "first.json", "-o", again)
    assert result.exit_code == 0, result.stderr
    names = read_sidecar(again)["outputs"]
    assert len(names) == 1 + simulate + 2 * (task == "deblur")
    for name in names:
        twin = first.with_name(name.replace("again", "first"))
        assert (again.parent / name).read_bytes() == twin.read_bytes(), name
    assert read_sidecar(first)["run"] == read_sidecar(again)["run"]


@pytest.mark.parametrize(
    "options",
    [["--task", "inpaint", "--mask", "alpha"], ["--task", "superres", "--factor", 2, "--luma"]],
    ids=["alpha", "luma"],
)
def test_what_a_photograph_says_itself_repeats(verb, tmp_path, options):
    """A mask that is the photograph's transparency is no file of the record; lightness alone is an option."""
    head = head_phantom((8, 96, 96)).data[:3, 16:48, 16:48] / 1200
    known = (np.random.default_rng(1).random((1, 32, 32)) < 0.9).astype(np.float32)
    write_image(head * known, tmp_path / "photo.png", alpha=known)
    run = ["image", tmp_path / "photo.png", *options, *FEW, "-o", tmp_path / "first.png"]
    result = verb(*run)
    assert result.exit_code == 0, result.stderr
    result = verb("image", "--config", tmp_path / "first.json", "-o", tmp_path / "again.png")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "first.png").read_bytes()


def test_a_prior_of_ones_own_is_a_file_of_the_record(raw, verb, tmp_path):
    """Its name in the card says nothing of where it lies: it is found as the scan is."""
    import restore.priors.store as store

    weights = tmp_path / "of_the_replay.safetensors"
    for source in (store.bundled()["medical"], store.bundled()["medical"].with_suffix(".json")):
        shutil.copy(source, weights.with_suffix(source.suffix))
    out = tmp_path / "first.nii.gz"
    assert verb("recon", raw / "ct.h5", "-o", out, "--prior", weights, *FEW).exit_code == 0
    assert [s["File"] for s in read_sidecar(out)["sources"]] == [
        "ct.h5",
        "of_the_replay.safetensors",
    ]
    again = tmp_path / "again.nii.gz"
    result = replayed(verb, out, again)
    assert result.exit_code == 0, result.stderr
    assert again.read_bytes() == out.read_bytes()
    weights.unlink()
    result = replayed(verb, out, tmp_path / "third.nii.gz")
    assert result.exit_code == 3
    assert "was made from of_the_replay.safetensors" in result.stderr


SHAPE_NOTHING = {"out", "overwrite", "report", "dry-run", "json", "config", "steps", "help"}
SHAPE_NOTHING |= {"part", "participant-label", "session-label", "bids"}  # which of many inputs
SHAPE_NOTHING |= {
    "engine",
    "address",
    "split-image",
    "xml",
}  # where it is computed; what options there are
"""Options that do not shape the result; --steps stands among the settings."""


@pytest.mark.parametrize(("words", "made_by"), [("recon", RECON), ("image", IMAGE)])
def test_no_option_is_forgotten_in_the_record(scans, verb, tmp_path, words, made_by):
    """A new option belongs into the record, or into the set above: else a repeated run would differ in silence."""
    write_image(np.full((1, 32, 32), 0.5, np.float32), tmp_path / "photo.png")
    arguments = [str(a).format(scans=scans, here=tmp_path) for a in made_by]
    result = verb(words, *arguments)
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    told = set(record["run"]) | {s["Option"] for s in record["sources"]}
    command = typer.main.get_command(app).commands[words]
    names = {
        p.name if p.param_type_name == "argument" else max(p.opts, key=len).lstrip("-")
        for p in command.params
    }
    given_here = {a.lstrip("-") for a in arguments if a.startswith("--")}
    assert names - told - SHAPE_NOTHING - OPTIONAL[words] == set()
    assert given_here - SHAPE_NOTHING <= told


@pytest.fixture
def frames(tmp_path) -> Path:
    """A YAML beside a folder of TIFF projections."""
    folder = tmp_path / "raw"
    (folder / "views").mkdir(parents=True)
    for view in range(8):
        page = np.full((2, 12), 0.1, np.float32)
        page[:, 3 + view % 2 : 9] = 1
        tifffile.imwrite(folder / "views" / f"v{view}.tif", page)
    told = "kind: parallel\nprojections: views\nvalues: line_integrals\narc_deg: 180\ndet_spacing_mm: 1\n"
    (folder / "scan.yaml").write_text(told)
    return folder / "scan.yaml"


@pytest.fixture
def pair(tmp_path) -> Path:
    """K-space as BART's two files."""
    (tmp_path / "raw").mkdir()
    values = np.random.default_rng(0).standard_normal((2, 16, 12)).astype(np.complex64)
    part = values.transpose(1, 2, 0)[:, :, None]
    write_cfl(tmp_path / "raw" / "k.cfl", {0: 16, 1: 12, 3: 2}, [part])
    return tmp_path / "raw" / "k.cfl"


@pytest.mark.parametrize(
    ("kind", "changed", "sampler"),
    [("frames", "views/v3.tif", "fbp"), ("pair", "k.hdr", "zerofilled")],
)
def test_files_that_no_option_names_are_compared_too(
    kind, changed, sampler, verb, tmp_path, request
):
    scan, out = request.getfixturevalue(kind), tmp_path / "first.nii.gz"
    done = verb("recon", scan, "-o", out, "--sampler", sampler)
    assert done.exit_code == 0, done.stderr
    again = tmp_path / "again.nii.gz"
    assert replayed(verb, out, again).exit_code == 0
    assert again.read_bytes() == out.read_bytes()
    file = scan.parent / changed
    if file.suffix == ".tif":
        tifffile.imwrite(file, tifffile.imread(file) + 0.5)
    else:
        file.write_text(file.read_text() + "# Note\nanother\n")
    other = tmp_path / "other.nii.gz"
    refused = replayed(verb, out, other)
    assert refused.exit_code == 4
    assert f"{scan.name}: files read beside it" in refused.stderr
    assert not other.exists()
    used = replayed(verb, out, other, scan)
    assert used.exit_code == 0, used.stderr
    assert "are not those that first.json was made from" in used.stderr
