"""fastMRI volumes that contradict themselves: read, refused in a row, or noted where readers of the figures see it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from people_kspace import MAPS, NOISY, SHAPE, STD, centred_fft, columns, header, noise, phantom

from restore.bench.fastmri import FastMRIVolume
from restore.bench.method import parse_methods
from restore.bench.runner import RunOptions, Summary, Told, run_benchmark
from restore.datasets.mri.cropping import center_crop
from restore.datasets.mri.fastmri_files.fastmri_check import check_file
from restore.errors import ConfigError

FULL = np.stack([NOISY, NOISY]).astype(np.complex64)
AXES = (-2, -1)
COILS = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(FULL, axes=AXES), norm="ortho"), axes=AXES)
RSS = np.sqrt((np.abs(COILS) ** 2).sum(axis=1)).astype(np.float32)


def volume(root: Path, attributes: dict[str, Any] | None = None, **items: Any) -> Path:
    path = root / "multicoil_val" / "file_brain_AXT2_1.h5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        for name, value in ({"kspace": FULL, "ismrmrd_header": header()} | items).items():
            file[name] = value
        file.attrs.update({"acquisition": "AXT2"} | (attributes or {}))
    return path


def bench(root: Path, *rates: int) -> tuple[Summary, list[str]]:
    said: list[str] = []
    methods = parse_methods("cgsense", preset="tuned", prior="auto", assignments=())
    options = RunOptions(torch.device("cpu"), 1, 0, None, 0)
    protocol = FastMRIVolume(root, rates or (4,))
    return run_benchmark(protocol, methods, root / "run", options, Told(note=said.append)), said


def row(root: Path) -> dict[str, str]:
    with (root / "run" / "results.csv").open(newline="") as stream:
        return next(csv.DictReader(stream))


def test_a_test_file_with_a_mask_for_every_slice(tmp_path: Path) -> None:
    masks = np.stack([columns(SHAPE[1], 4, 34, 46, offset) for offset in range(2)])
    kspace = FULL * masks[:, None, None]
    volume(tmp_path, {"acceleration": 4}, kspace=kspace, mask=masks, reconstruction_rss=RSS)
    summary, _ = bench(tmp_path)
    assert (summary.made, summary.failed) == (1, 0)
    # The target holds noise too; zero-filled 30.4.
    assert float(row(tmp_path)["psnr"]) > 35


@pytest.mark.parametrize(
    ("target", "words"),
    [(3 * RSS, "3 times it, and 0% of it"), (RSS[:, ::-1], "0.961 times it, and 28% of it")],
    ids=["scaled", "turned over"],
)
def test_a_target_that_is_not_of_its_kspace_is_noted(
    tmp_path: Path, target: Any, words: str
) -> None:
    volume(tmp_path, reconstruction_rss=target)
    _, said = bench(tmp_path)
    assert [n for n in said if f"the target is not what its k-space shows: {words}" in n]
    assert words in str(json.loads(row(tmp_path)["conditions"])["notes"])


def test_the_target_of_a_larger_matrix_is_its_own(tmp_path: Path) -> None:
    shape = (128, 80)
    kspace = centred_fft(np.repeat(MAPS[:, :1], 128, 1) * phantom(shape))
    kspace = (kspace + noise(kspace.shape, STD)).astype(np.complex64)[None]
    images = np.fft.ifft2(np.fft.ifftshift(kspace, axes=AXES), norm="ortho")
    rss = np.sqrt((np.abs(np.fft.fftshift(images, axes=AXES)) ** 2).sum(1)).astype(np.float32)
    volume(tmp_path, kspace=kspace, reconstruction_rss=center_crop(rss, (64, 80)))
    assert not [n for n in bench(tmp_path)[1] if "target" in n]


def test_no_volume_of_the_acceleration(tmp_path: Path) -> None:
    mask = columns(SHAPE[1], 4, 34, 46)
    volume(tmp_path, {"acceleration": 4}, kspace=FULL * mask, mask=mask)
    with pytest.raises(ConfigError, match="none of the 1 volumes takes part in the settings 8x"):
        bench(tmp_path, 8)


@pytest.mark.parametrize(
    ("kspace", "words"),
    [
        (np.fft.ifftshift(FULL, axes=AXES), "lies at the corner"),
        (np.moveaxis(FULL, 1, -1), "its axes are in another order"),
        (COILS, "transformed to an image there already"),
    ],
    ids=["corner", "coils last", "images"],
)
def test_the_check_of_a_folder_finds_kspace_that_is_none(
    tmp_path: Path, kspace: Any, words: str
) -> None:
    found = check_file(volume(tmp_path, kspace=kspace.astype(np.complex64)))
    assert any(words in problem for problem in found.problems)
