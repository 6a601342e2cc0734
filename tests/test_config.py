"""Settings from text: typed, checked, with suggestions."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import numpy as np
import pytest

from restore.config import arithmetic, did_you_mean, from_settings, parse_assignments
from restore.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Example:
    """One field of every kind."""

    kinds: ClassVar[int] = 7
    steps: int = 3
    weight: float = 1.0
    fast: bool = False
    name: str = "x"
    mode: Literal["a", "b"] = "a"
    limit: float | None = None
    rule: Literal["none", "some"] | None = None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"steps": "5"}, {"steps": 5}),
        ({"weight": "1e-3"}, {"weight": 1e-3}),
        ({"weight": 2}, {"weight": 2.0}),
        ({"weight": np.float64(2.5)}, {"weight": 2.5}),
        ({"fast": "yes"}, {"fast": True}),
        ({"fast": "False"}, {"fast": False}),
        ({"fast": True}, {"fast": True}),
        ({"name": "none such"}, {"name": "none such"}),
        ({"mode": "b"}, {"mode": "b"}),
        ({"limit": "0.5"}, {"limit": 0.5}),
        ({"limit": 3}, {"limit": 3.0}),
        ({"limit": "none"}, {"limit": None}),
        ({"limit": None}, {"limit": None}),
        ({"rule": "none"}, {"rule": "none"}),
        ({"rule": None}, {"rule": None}),
    ],
)
def test_values_get_their_type(given, expected):
    made = from_settings(Example, given)
    assert made == Example(**expected)
    for name, value in expected.items():
        assert isinstance(getattr(made, name), type(value))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"step": 1}, "no setting 'step', did you mean 'steps'"),
        ({"kinds": 1}, "no setting 'kinds'"),
        ({"qqqq": 1}, "it has: fast, limit, mode"),
        ({"steps": "many"}, "Example.steps must be of type int, got 'many'"),
        ({"steps": "2.5"}, "Example.steps"),
        ({"steps": 2.5}, "Example.steps"),
        ({"steps": True}, "Example.steps"),
        ({"steps": None}, "Example.steps"),
        ({"weight": "heavy"}, "Example.weight must be of type float"),
        ({"weight": True}, "Example.weight"),
        ({"weight": [1.0]}, "Example.weight"),
        ({"fast": "perhaps"}, "Example.fast"),
        ({"fast": 1}, "Example.fast"),
        ({"mode": "c"}, "Example.mode must be one of 'a', 'b', got 'c'"),
        ({"rule": "other"}, "one of 'none', 'some'"),
    ],
)
def test_wrong_values_are_named(given, words):
    with pytest.raises(ConfigError) as caught:
        from_settings(Example, given)
    assert words in str(caught.value)


def test_assignments():
    assert parse_assignments(["gamma=3", " eta = 0.5 ", "name=a=b"]) == {
        "gamma": "3",
        "eta": "0.5",
        "name": "a=b",
    }
    for bad in ("gamma", "=3", " =3"):
        with pytest.raises(ConfigError, match="name=value"):
            parse_assignments([bad])


def test_suggestions():
    assert did_you_mean("cgsens", ["dds", "cgsense"]) == ", did you mean 'cgsense'?"
    assert did_you_mean("zzz", ["dds", "cgsense"]) == ""


def test_formulas_of_settings():
    names = {"n_steps": 7, "again": True, "share": 0.5}
    for formula, value in {
        "0": 0,
        "n_steps": 7,
        "2 * n_steps": 14,
        "n_steps * (1 + again) - 3 // 2": 13,
    }.items():
        assert arithmetic(formula, names) == value
    for formula in (
        "steps",
        "share",
        "n_steps ** 2",
        "__import__('os')",
        "n_steps.real",
        "-n_steps",
    ):
        with pytest.raises(ConfigError, match="is not a formula"):
            arithmetic(formula, names)
