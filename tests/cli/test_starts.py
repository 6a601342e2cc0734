"""`restore bench starts` from photographs to a table, the table in `restore image` and `recon`, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from restore.datasets.picture.images import write_image
from restore.datasets.sidecar import read_sidecar
from restore.datasets.simulate.phantom import head_phantom
from restore.starts import bundled_starts, read_starts

RUN = ["--sampler", "dds", "--steps", 2, "--device", "cpu"]
SEARCH = ["--tasks", "superres", "--noise", "0.02", "--crop", 48, "--candidates", 3, "--tile", 8]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small grey pictures."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in (1, 2):
        picture = head_phantom((3, 48, 48), seed=seed).data[1]
        write_image((picture / picture.max())[None], folder / f"head{seed}.png")
    return folder


@pytest.fixture(scope="module")
def table(photos: Path, verb, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nobody may change it."""
    out = tmp_path_factory.mktemp("table") / "starts.json"
    done = verb("bench", "starts", "images", photos, "-o", out, *SEARCH, *RUN)
    assert done.exit_code == 0, done.stderr
    assert "1 new; use it with --start" in done.stdout
    return out


def test_a_table_says_how_its_start_was_chosen(table: Path):
    (entry,) = read_starts(table)
    assert (entry.kind, entry.task, entry.method.sampler) == ("image", "superres", "dds")
    assert entry.start.tile == 8
    assert entry.found["candidates"] == 3
    assert entry.found["volumes"] == ["head1.png superres-0.02", "head2.png superres-0.02"]
    assert entry.found["psnr"] >= entry.found["mean_psnr"]
    assert entry.found["deviation"] > 0


def test_pictures_have_the_start_of_the_table_whatever_the_seed(
    photos: Path, table: Path, verb, tmp_path: Path, monkeypatch
):
    out, other, again = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    how = ("--task", "superres", "--factor", 2, "--noise", 0.02, *RUN, "--start", table)
    for target, seed in ((out, 1), (other, 2)):
        done = verb("image", photos / "head1.png", "-o", target, *how, "--seed", seed)
        assert done.exit_code == 0, done.stderr
    assert out.read_bytes() == other.read_bytes()
    record = read_sidecar(out)
    (entry,) = read_starts(table)
    assert record["start"]["noise"] == record["run"]["start"] == entry.start.text
    assert record["start"]["candidates"] == 3
    monkeypatch.chdir(photos)
    repeated = verb("image", "--config", tmp_path / "a.json", "-o", again)
    assert repeated.exit_code == 0, repeated.stderr
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (["--task", "deblur", "--kernel", "gaussian:1"], "holds no start for dds on deblur"),
        (["--task", "superres", "--samples", 2], "the same image 2 times"),
        (["--task", "superres", "--quality", "best", "--sampler", "auto"], "takes dds|4 samples|settings"),
    ],
)  # fmt: skip
def test_what_the_table_does_not_serve_is_refused(
    photos: Path, table: Path, verb, tmp_path: Path, how, said
):
    out = tmp_path / "o.png"
    done = verb("image", photos / "head1.png", "-o", out, "--noise", 0.02, *RUN, "--start", table, *how)  # fmt: skip
    assert done.exit_code != 0
    assert any(word in done.stderr.replace("\n", " ") for word in said.split("|")), done.stderr
    assert not out.exists()


def test_a_search_refuses_what_draws_nothing(photos: Path, verb, tmp_path: Path):
    out = tmp_path / "starts.json"
    how = ("bench", "starts", "images", photos, "-o", out, *SEARCH, "--steps", 2)
    nothing = verb(*how, "--sampler", "diffpir", "--set", "renoise=false")
    assert "diffpir draws no noise with these settings" in nothing.stderr.replace("\n", " ")
    assert "takes no chosen start" in verb(*how, "--sampler", "split").stderr
    assert not out.exists()


def test_scans_take_a_start_and_repeat_it(scans: Path, verb, tmp_path: Path, monkeypatch):
    out, again = tmp_path / "o.nii.gz", tmp_path / "p.nii.gz"
    how = ("recon", scans / "ct.h5", "-o", out, *RUN)
    done = verb(*how, "--start", "3:8", "--seed", 4)
    assert done.exit_code == 0, done.stderr
    record = read_sidecar(out)
    assert record["start"] == {"noise": "3:8"}
    assert record["run"]["start"] == "3:8"
    monkeypatch.chdir(scans)
    assert verb("recon", "--config", tmp_path / "o.json", "-o", again).exit_code == 0
    assert again.read_bytes() == out.read_bytes()
    drawn = verb(*how, "--overwrite")
    assert drawn.exit_code == 0, drawn.stderr
    assert "start" not in read_sidecar(out)
    assert again.read_bytes() != out.read_bytes()
    missing = verb(*how, "--start", "best-of", "--overwrite")
    assert "`restore bench starts ct-sparse-view VOLUMES" in missing.stderr.replace("\n", " ")


def test_chosen_starts_are_listed(verb):
    listed = json.loads(verb("list", "starts", "--json").stdout)
    assert len(listed) == len(read_starts(bundled_starts()))
    assert {"sampler", "prior", "for", "start", "of", "images"} <= set(listed[0])
