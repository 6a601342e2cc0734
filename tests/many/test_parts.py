"""Parts of a list: by K/N and by the environment of Slurm's array jobs."""

from __future__ import annotations

import pytest

from restore.errors import ConfigError
from restore.many.parts import Part, parse_part, part_of_array


def array(**told: int) -> dict[str, str]:
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in told.items()}


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
def test_parts_hold_every_entry_once_and_differ_by_one_at_most(n):
    entries = list(range(10))
    parts = [Part(k, n).of(entries) for k in range(1, n + 1)]
    assert sorted(e for part in parts for e in part) == entries
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2", "1/2/3", "", "²/3"])
def test_parts_that_are_none(text):
    with pytest.raises(ConfigError, match="K/N"):
        parse_part(text)


@pytest.mark.parametrize(
    ("told", "part"),
    [
        ({"ID": 0, "MIN": 0, "MAX": 3, "COUNT": 4, "STEP": 1}, Part(1, 4)),
        ({"ID": 3, "MIN": 1, "MAX": 4, "COUNT": 4}, Part(3, 4)),
        ({"ID": 9, "MIN": 1, "MAX": 9, "COUNT": 3, "STEP": 4}, Part(3, 3)),
        ({"ID": 5, "MIN": 5, "MAX": 5, "COUNT": 1, "STEP": 1}, Part(1, 1)),
        ({}, None),
    ],
)
def test_tasks_of_an_array(told, part):
    assert part_of_array(array(**told)) == part


@pytest.mark.parametrize(
    "told",
    [
        {"ID": 7, "MIN": 1, "MAX": 7, "COUNT": 3, "STEP": 1},  # --array=1,5,7
        {"ID": 5, "MIN": 1, "MAX": 9, "COUNT": 3, "STEP": 3},
        {"ID": 5},
    ],
)
def test_arrays_with_gaps_are_refused(told):
    with pytest.raises(ConfigError, match="give --part K/N"):
        part_of_array(array(**told))
