"""RED-diff's levels and the weight of its prior at them, against the table of the specification."""

from __future__ import annotations

import dataclasses

import pytest

from restore.operators.diagonal import Identity
from restore.samplers.reddiff import REDdiff

PRINTED = 1e-3  # the table prints four to five digits
LAST_DIGIT = 5e-6  # six digits after the point are printed
LEVELS = 1e-5  # six and nine digits are printed

# f at the levels of the table in the specification: rho and, of it, sqrt, ln(1 + rho), rho^(2/3)
TABLE = [
    (0, 0.010001, 0.100003, 0.009951, 0.046417),
    (10, 0.046885, 0.216531, 0.045820, 0.130025),
    (100, 0.342260, 0.585030, 0.294355, 0.489295),
    (250, 0.958034, 0.978792, 0.671941, 0.971823),
    (500, 3.442967, 1.855523, 1.491322, 2.280107),
    (750, 17.378601, 4.168765, 2.911187, 6.709290),
    (999, 157.407281, 12.546206, 5.065169, 29.152997),
]
PUBLISHED = REDdiff.configured("published", Identity, {})


@pytest.mark.parametrize("row", TABLE)
def test_weights(row):
    t, rho, root, log, power = row
    wanted = {"linear": rho, "sqrt": root, "square": rho**2, "log": log, "power2over3": power}
    wanted |= {"trunc_linear": min(rho, 1.0), "const": 1.0}
    sigma = PUBLISHED.levels()[999 - t].sigma
    assert sigma == pytest.approx(rho, rel=PRINTED, abs=LAST_DIGIT)
    for weight, value in wanted.items():
        sampler = dataclasses.replace(PUBLISHED, weight=weight, lam=0.5)
        assert sampler.weight_at(sigma) == pytest.approx(0.5 * value, rel=PRINTED)


@pytest.mark.parametrize(
    ("asked", "times"), [(1000, range(1000)), (100, range(0, 1000, 10)), (300, range(0, 1000, 3))]
)
def test_published_grid(asked, times):
    levels = [v.sigma for v in REDdiff(n_steps=asked, schedule="vp").levels()]
    every = [v.sigma for v in REDdiff(n_steps=1000, schedule="vp").levels()][::-1]
    assert levels == [every[t] for t in reversed(times)]


def test_continuous_grid():
    levels = [v.sigma for v in REDdiff(n_steps=1000, schedule="continuous").levels()]
    assert levels[0] == pytest.approx(152.167, rel=LEVELS)
    assert levels[-1] == pytest.approx(0.0104859928, rel=LEVELS)
