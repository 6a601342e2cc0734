"""Files for the leaderboard: one float32 data set, finite magnitudes, the right name."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from restore.datasets.mri.cropping import center_crop
from restore.datasets.mri.fastmri_files.fastmri_submission import submission_name, write_submission
from restore.errors import ConfigError, OutputError, ShapeError


def test_the_file_holds_one_float32_volume(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((3, 7, 5))
    write_submission(tmp_path / "a.h5", image)
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file) == ["reconstruction"]
        assert file["reconstruction"].dtype == np.float32
        np.testing.assert_array_equal(file["reconstruction"][()], image.astype(np.float32))
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (np.ones((4, 4)), ShapeError, "expected"),
        (np.ones((0, 4, 4)), ShapeError, "expected"),
        (np.ones((2, 4, 4), complex), OutputError, "magnitude"),
        (np.full((2, 4, 4), np.nan), OutputError, "32 pixels"),
        (np.stack([np.ones((4, 4)), -np.eye(4)]), OutputError, "first in slice 1"),
        (np.full((1, 4, 4), 1e300), OutputError, "16 pixels"),
    ],
)
def test_what_is_no_submission(tmp_path: Path, image, error, words: str) -> None:
    with pytest.raises(error, match=words):
        write_submission(tmp_path / "a.h5", image)
    assert not list(tmp_path.iterdir())


def test_names() -> None:
    assert submission_name("file1000001.h5") == submission_name("file1000001") == "file1000001.h5"
    assert submission_name("file1000001.h5", knee_v2=True) == "file1000001_v2.h5"
    assert submission_name("file1000001_v2.h5", knee_v2=True) == "file1000001_v2.h5"
    for name in ("", ".h5", "..", "../file.h5", "a/b.h5", "a\\b.h5"):
        with pytest.raises(ConfigError, match="bare name"):
            submission_name(name)


@pytest.mark.parametrize(("size", "start"), [((6, 8), (1, 2)), ((5, 7), (1, 2)), ((4, 4), (2, 4))])
def test_crop_starts_where_fastmri_does(size: tuple[int, int], start: tuple[int, int]) -> None:
    image = np.arange(2 * 8 * 12).reshape(2, 8, 12)
    top, left = start
    expected = image[:, top : top + size[0], left : left + size[1]]
    np.testing.assert_array_equal(center_crop(image, size), expected)
    with pytest.raises(ShapeError, match="cannot cut"):
        center_crop(image, (9, 4))
