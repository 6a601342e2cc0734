"""Slices as people write them."""

from __future__ import annotations

import pytest

from restore.datasets.slices import parse_slices, slices_within
from restore.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20:44:6", slice(20, 44, 6)),
        ("10:20", slice(10, 20)),
        ("5", slice(5, 6)),
        ("0", slice(0, 1)),
        ("-1", slice(-1, None)),
        ("-2", slice(-2, -1)),
        (":", slice(None)),
        ("::2", slice(None, None, 2)),
        ("44:20:-6", slice(44, 20, -6)),
        (" 3 : 9 ", slice(3, 9)),
        ("-4:", slice(-4, None)),
    ],
)
def test_slices_as_people_write_them(text, expected):
    assert parse_slices(text) == expected


@pytest.mark.parametrize(
    "text", ["", " ", "a", "1:b", "1:2:3:4", "1.5", "1e3", "0x1", "1:2:0", "1" * 30, "1_0"]
)
def test_slices_nobody_can_mean(text):
    with pytest.raises(ConfigError, match="slices"):
        parse_slices(text)


def test_slices_within_a_volume():
    assert list(slices_within(slice(7, 100, 2), 10)) == [7, 9]
    with pytest.raises(ConfigError, match="slices 12:13 pick nothing: the volume has slices 0 to"):
        slices_within(slice(12, 13), 10)
    with pytest.raises(ConfigError, match="slices 2:9:-1 pick nothing: x has"):
        slices_within(slice(2, 9, -1), 10, "x")
