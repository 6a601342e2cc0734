"""`restore image FOLDER -o OUT`: every picture, resumable, a bad file aside, a contact sheet; OUT as a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from restore.datasets.sidecar import read_sidecar

DENOISE = ["--task", "denoise", "--noise", 0.1, "--sampler", "nlm"]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder with a PNG, a 16-bit TIFF in a subfolder, a JPEG with the PNG's stem, and a file that is no picture."""
    folder = tmp_path / "album"
    (folder / "more").mkdir(parents=True)
    ramp = np.linspace(40, 200, 24 * 32).reshape(24, 32, 1) + np.array([0, 20, 40])
    noisy = (
        (ramp + np.random.default_rng(0).normal(0, 25, ramp.shape)).clip(0, 255).astype(np.uint8)
    )
    Image.fromarray(noisy).save(folder / "a.png")
    Image.fromarray(noisy[..., 0]).save(folder / "a.jpg")
    tifffile.imwrite(folder / "more" / "b.tif", noisy.astype(np.uint16) * 257, photometric="rgb")
    (folder / "notes.txt").write_text("none of these")
    return folder


def stamps(folder: Path) -> dict[str, int]:
    return {
        str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()
    }


def test_a_folder_is_restored_file_by_file_and_the_same_command_does_nothing_more(
    album, verb, tmp_path
):
    out = tmp_path / "out"
    first = verb("image", album, "-o", out, *DENOISE)
    assert first.exit_code == 0, first.stderr
    assert "notes" not in first.stdout
    assert "left out: 1 of" in first.stderr
    written = stamps(out)
    assert {"a.png", "a.jpg", "more/b.tif", "contact_sheet.png"} <= set(written)
    assert not [name for name in written if "unfinished" in name]
    assert tifffile.imread(out / "more" / "b.tif").dtype == np.uint16
    again = verb("image", album, "-o", out, *DENOISE)
    assert again.exit_code == 0
    assert again.stderr.count("done before") == 3
    assert stamps(out) == written


def test_the_contact_sheet_shows_before_and_after(album, verb, tmp_path):
    verb("image", album, "-o", tmp_path / "out", *DENOISE)
    sheet = np.asarray(Image.open(tmp_path / "out" / "contact_sheet.png")).astype(float)
    before, after = sheet[35:185, 10:210], sheet[35:185, 220:420]  # 200 x 150 of 32 x 24 pixels

    def roughness(pixels: np.ndarray) -> float:
        return float(np.abs(np.diff(pixels[::6, ::6], axis=1)).mean())

    assert roughness(after) < 0.7 * roughness(before)
    assert abs(before.mean() - after.mean()) < 5  # the same picture: grey levels of 255


def test_a_changed_result_option_or_source_is_done_again_where_that_is_allowed(
    album, verb, tmp_path
):
    out = tmp_path / "out"
    verb("image", album, "-o", out, *DENOISE)
    right = (out / "a.png").read_bytes()
    (out / "a.png").write_bytes(right[:-20])
    refused = verb("image", album, "-o", out, *DENOISE)
    assert refused.exit_code == 8
    assert "a.png: exists already" in refused.stderr
    assert verb("image", album, "-o", out, *DENOISE, "--overwrite").stderr.count("done before") == 2
    assert (out / "a.png").read_bytes() == right
    other = verb("image", album, "-o", out, *DENOISE, "--seed", 1, "--overwrite")
    assert other.exit_code == 0
    assert "done before" not in other.stderr


def test_what_a_killed_call_left_is_moved_or_done_again(album, verb, tmp_path, monkeypatch):
    """Killed between the moves of picture and record, of one picture and of a folder."""
    replace = Path.replace

    def killed(self, target):
        if self.name == "record.json":
            raise KeyboardInterrupt
        return replace(self, target)

    for source, out, made in (
        (album, tmp_path / "out", tmp_path / "out" / "a.png"),
        (album / "a.png", tmp_path / "b.png", tmp_path / "b.png"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed)
            assert verb("image", source, "-o", out, *DENOISE).exit_code == 130
        result = verb("image", source, "-o", out, *DENOISE)
        assert result.exit_code == 0, result.stderr
        assert read_sidecar(made)["outputs"] == [made.name]
        assert not list(made.parent.glob(".*"))


def test_a_foreign_file_put_there_after_a_kill_stays(album, verb, tmp_path, monkeypatch):
    replace, out = Path.replace, tmp_path / "b.png"

    def killed(self, target):
        if self.name == "record.json":
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        assert verb("image", album / "a.png", "-o", out, *DENOISE).exit_code == 130
    out.write_bytes(b"somebody else's")
    again = verb("image", album / "a.png", "-o", out, *DENOISE)
    assert again.exit_code == 5
    assert "exists already" in again.stderr
    assert out.read_bytes() == b"somebody else's"


def test_one_bad_file_does_not_stop_the_rest_and_is_named_at_the_end(album, verb, tmp_path):
    (album / "aa.png").write_bytes((album / "a.png").read_bytes()[:200])
    result = verb("image", album, "-o", tmp_path / "out", *DENOISE)
    assert result.exit_code == 8
    assert "1 of 4 inputs failed: aa.png" in result.stderr
    assert (tmp_path / "out" / "more" / "b.tif").exists()


def test_settings_that_serve_no_picture_stop_at_once(album, verb, tmp_path):
    result = verb("image", album, "-o", tmp_path / "out", "--task", "denoise", "--sampler", "ddss")
    assert result.exit_code == 2
    assert "ddss" in result.stderr
    assert verb("image", album, "-o", album, *DENOISE).exit_code == 5
    (tmp_path / "empty").mkdir()
    assert verb("image", tmp_path / "empty", "-o", tmp_path / "out", *DENOISE).exit_code == 4


def test_masks_of_a_folder_by_name(album, verb, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    known = np.full((24, 32), 255, np.uint8)
    known[10:14, 10:14] = 0
    Image.fromarray(known).save(masks / "a.png")
    inpaint = ["--task", "inpaint", "--mask", masks, "--sampler", "biharmonic"]
    result = verb("image", album, "-o", tmp_path / "out", *inpaint)
    assert result.exit_code == 8
    assert "holds no mask of the name b" in result.stderr
    assert (tmp_path / "out" / "a.png").exists()


def test_out_as_a_folder_takes_the_name_and_a_pipe_is_refused(album, verb, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    assert verb("image", album / "a.png", "-o", out, *DENOISE).exit_code == 0
    assert (out / "a.png").exists()
    assert (out / "a.json").exists()
    again = verb("image", album / "a.png", "-o", out, *DENOISE)
    assert again.exit_code == 0
    assert "already done" in again.stdout
    other = verb("image", album / "a.png", "-o", out, *DENOISE, "--seed", 1)
    assert other.exit_code == 5
    assert "a.png: exists already" in other.stderr
    assert verb("image", "-", "-o", out / "b.png", *DENOISE).exit_code == 2
    assert "pipe" in verb("image", album / "a.png", "-o", "-", *DENOISE).stderr
