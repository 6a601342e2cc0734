"""`restore.operators.check`: does an operator, one's own for instance, keep what the contract promises?

Called by users and by the contract tests; runs the laws of `restore.operators.laws`, which say what is tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from restore.errors import ConfigError
from restore.operators.contract import Operator
from restore.operators.laws import LAWS
from restore.operators.trial import Trial


@dataclasses.dataclass(frozen=True)
class Report:
    """What `check` found. operator: its repr. laws: name -> largest relative error seen, of those that were tried.
    failures: a sentence each, "law: what is wrong"; none for a sound operator.
    """

    operator: str
    laws: dict[str, float]
    failures: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def __str__(self) -> str:
        failed = {sentence.partition(":")[0] for sentence in self.failures}
        lines = [
            f"  {name:<11} {'FAILED' if name in failed else 'ok':<7} {LAWS[name].promise} (error {error:.0e})"
            for name, error in self.laws.items()
        ]
        return "\n".join([self.operator, *lines, *(f"  {s}" for s in self.failures)])


def check(
    operator: Operator,
    *,
    laws: Iterable[str] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    strict: bool = True,
) -> Report:
    """Try an operator on random images, on every device of this machine, and report.

    laws: names of what to try (keys of `restore.operators.laws.LAWS`), everything by default. tolerance: relative error
    that counts as rounding, by default 1e-4 in single precision and 1e-9 in double; give 1e-4 for an operator that
    computes in single precision whatever it is asked for. seed: of the random images.

    The time is that of some fifty products; matrices are looked at only where they are small. Raises ConfigError with
    all failures as sentences, or returns them in the report where `strict` is False; ConfigError for unknown laws and
    for what is no operator.

    >>> print(check(Identity((8, 8))))
    """
    if not isinstance(operator, Operator):
        raise ConfigError(
            f"check: got a {type(operator).__name__}, expected an instance of LinearOperator or "
            "NonlinearOperator"
        )
    names = list(LAWS) if laws is None else list(laws)
    unknown = [name for name in names if name not in LAWS]
    if unknown:
        raise ConfigError(f"check: no law '{unknown[0]}'; there are {', '.join(LAWS)}")
    errors: dict[str, float] = {}
    failures: list[str] = []
    for name in names:
        if not LAWS[name].concerns(operator):
            continue
        trial = Trial(operator, tolerance, seed)
        trial.run(LAWS[name].attempt)
        errors[name] = trial.error
        failures += [f"{name}: {sentence}" for sentence in trial.failures]
    report = Report(_name(operator), errors, tuple(failures))
    if strict and failures:
        listed = "\n".join(f"- {sentence}" for sentence in failures)
        raise ConfigError(f"{report.operator} breaks the contract of operators:\n{listed}")
    return report


def _name(operator: Operator) -> str:
    try:
        return repr(operator)
    except Exception as error:  # a shape that cannot be said is a finding of the law "shapes"
        return f"{type(operator).__name__} (its shapes raise {type(error).__name__})"
