"""Damaged files for every reader: a result or a RestoreError comes out, soon, and nothing is left behind."""

from __future__ import annotations

from fuzz.runner import campaign
from fuzz.targets import TARGETS

MUTANTS = 5
"""For each reader; `make fuzz` goes on for as long as it is told."""


def test_nothing_but_a_restore_error_leaves_a_reader() -> None:
    """The planted faults show that what is wrong would be found."""
    names = [target.name for target in TARGETS]
    findings = campaign(
        [*names, "planted-fault", "planted-crash"], seed=0, first=0, mutants=MUTANTS
    )
    planted = [f for f in findings if "planted" in f]
    assert [f for f in findings if f not in planted] == []
    assert sum("KeyError" in f for f in planted) > MUTANTS // 2
    assert any(f.startswith("exit 9") for f in planted)
