"""Settings from text: typed, checked, with suggestions."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import numpy as np
import pytest

from restore.config import (
    LARGEST_COUNT,
    Range,
    check_settings,
    did_you_mean,
    from_settings,
    parse_assignments,
    setting,
    settings_of,
    shared,
)
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
    size: int | Literal["auto"] = "auto"


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
        ({"size": "auto"}, {"size": "auto"}),
        ({"size": "12"}, {"size": 12}),
        ({"size": 12}, {"size": 12}),
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
        ({"steps": "many"}, "Example: steps must be of type int, got 'many'"),
        ({"steps": "2.5"}, "Example: steps"),
        ({"steps": 2.5}, "Example: steps"),
        ({"steps": True}, "Example: steps"),
        ({"steps": None}, "Example: steps"),
        ({"weight": "heavy"}, "Example: weight must be of type float"),
        ({"weight": True}, "Example: weight"),
        ({"weight": [1.0]}, "Example: weight"),
        ({"fast": "perhaps"}, "Example: fast"),
        ({"fast": 1}, "Example: fast"),
        ({"mode": "c"}, "Example: mode must be one of 'a', 'b', got 'c'"),
        ({"rule": "other"}, "one of 'none', 'some'"),
        ({"size": "many"}, "size must be of type int or 'auto', got 'many'"),
        ({"size": 2.5}, "size must be of type int or 'auto', got 2.5"),
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


@dataclasses.dataclass(frozen=True)
class Declared:
    """Ranges of every form, and fields that are nobody's setting."""

    n_steps: int = setting(30, "network evaluations", at_least=1)
    times: int = setting(5, "times of the schedule", between=(1, 1000))
    far: int = setting(1, "a count of another size", at_least=0, at_most=10**9)
    share: float = setting(1.0, "share", between=(0, 1))
    beta: float = setting(0.9, "decay", at_least=0, below=1)
    gamma: float | None = setting(None, "weight", above=0)
    rule: Literal["karras", "ve", "vp"] = setting("karras", "grid")
    plain: float = 0.0
    fast: bool = False
    shape: tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        check_settings(self)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n_steps": 0}, "Declared: n_steps must lie in 1..100000, got 0"),
        ({"n_steps": 10**9}, "1..100000, got 1000000000"),
        ({"n_steps": 2.0}, "of type int, got 2.0"),
        ({"n_steps": "30"}, "of type int, got '30'"),
        ({"n_steps": None}, "of type int, got None"),
        ({"times": 1001}, "times must lie in 1..1000, got 1001"),
        ({"far": 10**9 + 1}, "0..1000000000"),
        ({"share": 1.5}, "share must lie in 0..1, got 1.5"),
        ({"share": -1e-9}, "share must lie in 0..1"),
        ({"share": float("nan")}, "share must be finite, got nan"),
        ({"share": np.float32("inf")}, "share must be finite"),
        ({"share": True}, "of type float, got True"),
        ({"beta": 1}, "beta must be at least 0 and below 1, got 1.0"),
        ({"gamma": 0}, "gamma must be above 0, got 0.0"),
        ({"rule": "karas"}, "one of 'karras', 've', 'vp', got 'karas', did you mean 'karras'?"),
        ({"rule": None}, "one of"),
        ({"rule": ["karras"]}, "one of"),
        ({"plain": float("inf")}, "plain must be finite"),
        ({"fast": 1}, "of type bool"),
    ],
)
def test_a_script_hears_what_a_command_line_hears(given, words):
    with pytest.raises(ConfigError) as caught:
        Declared(**given)
    assert words in str(caught.value)


def test_numbers_of_other_libraries_become_ours():
    made = Declared(n_steps=np.int64(7), share=np.float32(0.5), beta=0, gamma=2)
    assert made == Declared(n_steps=7, share=0.5, beta=0.0, gamma=2.0)
    kinds = [type(v) for v in (made.n_steps, made.share, made.beta, made.gamma)]
    assert kinds == [int, float, float, float]
    assert (
        Declared(gamma=None, shape=(3,)).gamma is None
    )  # None where allowed; other types are not settings


def test_settings_say_what_they_are():
    records = {r["name"]: r for r in settings_of(Declared)}
    assert "shape" not in records
    assert records["n_steps"] == {
        "name": "n_steps", "type": "int", "default": 30, "words": [], "none": False,
        "range": f"1..{LARGEST_COUNT}", "what": "network evaluations",
    }  # fmt: skip
    assert records["rule"]["words"] == ["karras", "ve", "vp"]
    assert (records["rule"]["type"], records["share"]["range"]) == ("word", "0..1")
    assert (records["gamma"]["none"], records["gamma"]["range"]) == (True, "above 0")


def test_a_declaration_can_be_shared():
    @dataclasses.dataclass(frozen=True)
    class Other:
        share: float = shared(Declared, "share")
        beta: float = shared(Declared, "beta", default=0.5)

        def __post_init__(self) -> None:
            check_settings(self)

    assert Other() == Other(share=1.0, beta=0.5)
    for wrong in ({"share": 2}, {"beta": 1}):
        with pytest.raises(ConfigError, match="Other: "):
            Other(**wrong)


def test_a_setting_of_a_type_that_cannot_be_checked_is_a_mistake_of_its_author():
    @dataclasses.dataclass(frozen=True)
    class Wrong:
        sizes: tuple[int, ...] = setting((1,), "sizes")

    with pytest.raises(TypeError, match="no type of settings"):
        settings_of(Wrong)


def test_whole_numbers_beyond_every_float_have_a_range_too():
    assert Range("", at_most=5).fault(10**400) == "must be at most 5"
    assert Range("", at_least=5).fault(-(10**400)) == "must be at least 5"
