"""fastMRI's masks bit by bit, from a table that the package itself made.

The table: pip install --no-deps fastmri==0.3.0, then
python benchmarks/record_fastmri_masks.py tests/datasets/fastmri_masks.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restore.datasets.mri.fastmri_files.fastmri_masks import (
    KINDS,
    center_fraction_for,
    fastmri_mask,
    masked_kspace,
)
from restore.errors import ConfigError

NAME = "file1000001.h5"
TABLE: dict[str, Any] = json.loads((Path(__file__).parent / "fastmri_masks.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_every_recorded_mask_is_met_bit_by_bit(kind: str) -> None:
    compared = 0
    for acceleration, widths in TABLE["masks"][kind].items():
        fraction = center_fraction_for(int(acceleration))
        for width, (low, *texts) in widths.items():
            for name, text in zip(TABLE["names"], texts, strict=True):
                mask, found = fastmri_mask(kind, int(width), int(acceleration), fraction, name)
                bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[: int(width)]
                np.testing.assert_array_equal(mask, bits, f"{kind} {acceleration} {width} {name}")
                assert (found, mask.dtype) == (low, bool)
                compared += 1
    assert compared == 3 * 6 * 5


def test_the_table_has_all_kinds() -> None:
    assert set(TABLE["masks"]) == set(KINDS)
    assert TABLE["package"] == "fastmri 0.3.0"


def test_central_fractions_of_the_challenges() -> None:
    assert {r: center_fraction_for(r) for r in (4, 8)} == {4: 0.08, 8: 0.04}
    with pytest.raises(ConfigError, match="at least 1"):
        center_fraction_for(0)


def test_padding_is_taken_out_after_the_draw() -> None:
    full, low = fastmri_mask("random", 320, 4, 0.08, NAME)
    cut, same = fastmri_mask("random", 320, 4, 0.08, NAME, padding=(28, 292))
    inside = (np.arange(320) >= 28) & (np.arange(320) < 292)
    np.testing.assert_array_equal(cut, full & inside)
    assert (full & ~inside).any()
    assert low == same == 26
    wide, _ = fastmri_mask("random", 320, 4, 0.08, NAME, padding=(-3, 400))
    np.testing.assert_array_equal(wide, full)


def test_the_global_generator_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    fastmri_mask("random", 64, 4, 0.08, NAME)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "spiral"}, "unknown fastMRI mask 'spiral'"),
        ({"acceleration": 4.5}, "whole number"),
        ({"acceleration": float("nan")}, "whole number"),
        ({"center_fraction": 1.5}, r"\[0, 1\]"),
        ({"center_fraction": 1.0}, "lower the center fraction"),
        ({"kind": "equispaced_fraction", "center_fraction": 0.25}, "lower the center fraction"),
        ({"kind": "magic_fraction", "center_fraction": 0.5}, "lower the center fraction"),
        ({"file_name": "multicoil_val/" + NAME}, "bare file name"),
        ({"file_name": ""}, "bare file name"),
        ({"width": 0}, "lower the center fraction"),
        ({"padding": (0, 0)}, "no column"),
    ],
)
def test_settings_that_cannot_work(change: dict[str, Any], words: str) -> None:
    settings: dict[str, Any] = {
        "kind": "random", "width": 64, "acceleration": 4, "center_fraction": 0.08, "file_name": NAME,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=words):
        fastmri_mask(**settings | change)


@pytest.mark.parametrize("kind", [np.complex64, np.complex128])
def test_zeros_of_masked_kspace_have_no_sign(kind: type) -> None:
    parts = np.random.default_rng(0).normal(size=(2, 3, 8, 16))
    kspace = (parts[0] + 1j * parts[1]).astype(kind)
    kspace[0, 0, 1] = complex(-0.0, -0.0)
    mask = np.arange(16) % 4 == 1
    found = masked_kspace(kspace, mask)
    np.testing.assert_array_equal(found, kspace * mask)
    assert found.dtype == kind
    zero = found == 0
    assert not np.signbit(found.real[zero]).any()
    assert not np.signbit(found.imag[zero]).any()
    assert np.signbit((kspace * mask).real[zero]).any()
    kspace[..., 0] = np.nan
    assert not masked_kspace(kspace, mask)[..., 0].any()
