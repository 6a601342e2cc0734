"""Kernels from files and somebody's own: what is read, normalised and refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.datasets.picture.kernel_files import read_kernel
from restore.errors import ConfigError, InputError, NotFoundError
from restore.operators.image.kernels import given_kernel


def test_tables_and_arrays(tmp_path):
    values = np.array([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]])
    np.save(tmp_path / "k.npy", values.astype(">f4"))
    (tmp_path / "k.csv").write_text("0,1,0\n1;4;1\n\n0 1 0\n")
    for name in ("k.npy", "k.csv"):
        assert np.array_equal(read_kernel(tmp_path / name), values)
    kernel, notes = given_kernel(values)
    torch.testing.assert_close(kernel, torch.from_numpy(values / 8).float())
    assert notes == ["the kernel's values sum to 8: divided by that"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("k.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': (((  "),
        ("k.npy", b""),
        ("k.txt", b"1 2\n3\n"),
        ("k.txt", b"one two\n"),
        ("k.txt", b""),
        ("k.txt", b"\xff\xfe\x00"),
        ("k.mat", b"1"),
        ("missing.npy", None),
    ],
)
def test_what_is_no_kernel_file_is_refused_by_name(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(NotFoundError if content is None else InputError, match=name):
        read_kernel(tmp_path / name)


def test_a_kernel_whose_mass_is_elsewhere_is_said():
    kernel = np.zeros((7, 7))
    kernel[3, 5] = 1
    assert "+0 rows and +2 columns beside its centre" in given_kernel(kernel)[1][0]
    assert not given_kernel(kernel.T[::-1].T + kernel.T[::-1].T[:, ::-1])[1][1:]


def test_objects_and_cubes_are_refused(tmp_path):
    np.save(tmp_path / "k.npy", np.ones((2, 2, 2)))
    with pytest.raises(InputError, match="expected a real array"):
        read_kernel(tmp_path / "k.npy")
    np.save(tmp_path / "k.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(InputError, match="no readable kernel"):
        read_kernel(tmp_path / "k.npy")


def test_own_kernels():
    kernel, notes = given_kernel(torch.full((4, 3), 25.0))
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    assert any("row 2, column 1" in n for n in notes)
    assert any("sum to 300" in n for n in notes)
    assert given_kernel(np.full((3, 3), 1 / 9))[1] == []
    for wrong in (
        np.zeros((3, 3)),
        -np.ones((3, 3)),
        np.full((3, 3), np.nan),
        np.ones(3),
        np.ones((1, 1001)),
    ):
        with pytest.raises(ConfigError, match="kernel"):
            given_kernel(wrong)
