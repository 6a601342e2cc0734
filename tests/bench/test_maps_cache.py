"""The cache of coil maps computes once, survives damage and leaves nothing when it is interrupted."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from restore.bench.maps_cache import cache_key, cached_maps, discard, maps_path, slice_maps
from restore.errors import OutputError
from restore.operators.mri.coil_maps import espirit

SHAPE = (3, 2, 5, 4)
KEY = cache_key(content="a", shape=SHAPE)


class Counted:
    """Maps known in closed form, and which slices were asked for."""

    def __init__(self, fails_at: int = -1) -> None:
        self.calls: list[int] = []
        self.fails_at = fails_at

    def __call__(self, index: int) -> np.ndarray:
        self.calls.append(index)
        if index == self.fails_at:
            raise KeyboardInterrupt
        return truth(index)


def truth(index: int) -> np.ndarray:
    rng = np.random.default_rng(index)
    return (rng.normal(size=SHAPE[1:]) + 1j * rng.normal(size=SHAPE[1:])).astype(np.complex64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return maps_path(tmp_path, "file1.h5", "4x")


def filled(path: Path, key: str = KEY) -> None:
    cached_maps(path, SHAPE, key, Counted())[0]


def test_nothing_is_computed_before_it_is_asked_for(path: Path) -> None:
    count = Counted()
    maps = cached_maps(path, SHAPE, KEY, count)
    assert maps.shape == SHAPE
    assert count.calls == []
    assert not path.parent.exists()


def test_every_slice_is_computed_once(path: Path) -> None:
    count = Counted()
    maps = cached_maps(path, SHAPE, KEY, count)
    for index in (2, 0, 1, 2):
        np.testing.assert_array_equal(maps[index], truth(index))
    assert count.calls == [0, 1, 2]
    assert maps[0].dtype == np.complex64
    assert list(path.parent.iterdir()) == [path]


def test_a_later_case_finds_them(path: Path) -> None:
    filled(path)
    count = Counted()
    np.testing.assert_array_equal(
        np.asarray(cached_maps(path, SHAPE, KEY, count)), [truth(i) for i in range(3)]
    )
    assert count.calls == []


@pytest.mark.parametrize("other", [{"content": "b", "shape": SHAPE}, {"content": "a", "shape": 3}])
def test_maps_of_something_else_are_not_taken(path: Path, other: dict) -> None:
    filled(path, cache_key(**other))
    count = Counted()
    cached_maps(path, SHAPE, KEY, count)[1]
    assert count.calls == [0, 1, 2]


def test_the_key_depends_on_how_espirit_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(espirit.__kwdefaults__, "kernel", 5)
    assert cache_key(content="a", shape=SHAPE) != KEY


def spoil_text(path: Path) -> None:
    path.write_text("not HDF5")


def spoil_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["maps"] = np.zeros((3, 2, 5, 5), np.complex64)
        file.attrs["key"] = KEY


def spoil_real(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["maps"] = np.zeros(SHAPE, np.float32)
        file.attrs["key"] = KEY


@pytest.mark.parametrize("spoil", [spoil_text, spoil_half, spoil_empty, spoil_foreign, spoil_real])
def test_a_damaged_or_foreign_file_is_made_anew(path: Path, spoil) -> None:
    filled(path)
    spoil(path)
    count = Counted()
    maps = cached_maps(path, SHAPE, KEY, count)
    np.testing.assert_array_equal(maps[1], truth(1))
    np.testing.assert_array_equal(maps[2], truth(2))
    assert count.calls == [0, 1, 2]


def test_a_slice_with_a_flipped_bit_is_computed_again(path: Path) -> None:
    filled(path)
    raw = bytearray(path.read_bytes())
    at = raw.find(truth(1).tobytes())
    assert at > 0
    raw[at + 9] ^= 1
    path.write_bytes(raw)
    count = Counted()
    maps = cached_maps(path, SHAPE, KEY, count)
    for index in range(3):
        np.testing.assert_array_equal(maps[index], truth(index))
    assert count.calls == [1]


def test_an_interruption_leaves_nothing(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        cached_maps(path, SHAPE, KEY, Counted(fails_at=1))[0]
    assert list(path.parent.iterdir()) == []
    filled(path)
    assert list(path.parent.iterdir()) == [path]


def test_a_case_whose_cache_was_removed_goes_on(path: Path) -> None:
    count = Counted()
    maps = cached_maps(path, SHAPE, KEY, count)
    maps[0]
    discard(path)
    discard(path)
    assert not path.exists()
    np.testing.assert_array_equal(maps[2], truth(2))
    assert count.calls == [0, 1, 2] * 2


def test_a_place_that_cannot_be_written_is_named(path: Path) -> None:
    path.parents[1].write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="maps"):
        cached_maps(path, SHAPE, KEY, Counted())[0]


def test_names_make_harmless_paths(tmp_path: Path) -> None:
    paths = {maps_path(tmp_path, name, "4x") for name in ("../../a.h5", "a\n.h5", "a.h5")}
    assert len(paths) == 3
    assert {p.parent for p in paths} == {tmp_path / "cache" / "maps"}


def test_the_maps_are_espirits() -> None:
    rng = np.random.default_rng(0)
    kspace = (rng.normal(size=(3, 12, 10)) + 1j * rng.normal(size=(3, 12, 10))).astype("c8")
    expected = espirit(torch.from_numpy(kspace), (12, 6))[0].numpy()
    np.testing.assert_array_equal(slice_maps(kspace, (12, 6)), expected)
