"""What measurements a model was trained on, and how the one at hand differs.

The training of cascades draws from an `Acquisition`, cards hold it, `matching` compares it with what is `seen_in` a
problem. Touches no files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from restore.config import check_settings, setting
from restore.datasets.mri.pattern.masks import make_mask
from restore.errors import ConfigError
from restore.problem import Problem

CENTRE = 0.32
"""Share of the lines in the fully sampled centre, times the acceleration: 8 % at 4, 4 % at 8, as fastMRI's masks."""
ALIKE = 0.15
"""Share by which accelerations, and noise above the trained range, may differ without a word."""
PATTERNS = {
    "random": "random lines", "gaussian1d": "random lines", "equispaced": "evenly spaced lines",
    "equispaced-fraction": "evenly spaced lines", "random2d": "points", "poisson2d": "points",
}  # fmt: skip
"""What of a mask the measured samples tell, by its name."""
OTHER = "off a grid"


@dataclasses.dataclass(frozen=True)
class Acquisition:
    """Simulated acquisitions: every image gets one of each at random.

    accelerations: nominal. masks: names of `datasets.mri.pattern.masks`, with `CENTRE` in the middle. coils: numbers of
    birdcage coils. noise: the range of the standard deviation per real channel, in unit intensities, drawn even in its
    logarithm. Raises ConfigError.
    """

    accelerations: tuple[float, ...] = (4.0,)
    masks: tuple[str, ...] = ("random",)
    coils: tuple[int, ...] = (8,)
    noise: tuple[float, float] = (0.002, 0.02)
    center: float = setting(
        CENTRE, "share of lines in the centre, times the acceleration", between=(0, 1)
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if not (self.accelerations and self.masks and self.coils):
            raise ConfigError(
                f"{self}: expected an acceleration, a mask and a number of coils at least"
            )
        low, high = self.noise
        if not 0 < low <= high < 1:
            raise ConfigError(
                f"noise {low:g},{high:g}: expected a range within 0..1, the lower end above 0"
            )
        if not all(1 <= n <= 64 for n in self.coils):
            raise ConfigError(f"coils {self.coils}: expected numbers of 1 to 64")
        for name in self.masks:
            for acceleration in self.accelerations:
                make_mask(name, (32, 64), acceleration, self.center / acceleration, 0)

    @classmethod
    def from_card(cls, entry: Mapping[str, Any]) -> Acquisition:
        """As `dataclasses.asdict` wrote it. Raises ConfigError, TypeError, ValueError, KeyError."""
        low, high = map(float, entry["noise"])
        return cls(
            tuple(map(float, entry["accelerations"])), tuple(map(str, entry["masks"])),
            tuple(map(int, entry["coils"])), (low, high), float(entry["center"]),
        )  # fmt: skip

    def __str__(self) -> str:
        times = ", ".join(f"{a:g}x" for a in self.accelerations)
        coils = ", ".join(map(str, self.coils))
        return f"{times} with {' or '.join(self.masks)} masks, {coils} coils"

    @property
    def patterns(self) -> tuple[str, ...]:
        """What its masks show."""
        return tuple(dict.fromkeys(PATTERNS[name] for name in self.masks))

    @property
    def has_points(self) -> bool:
        """Whether a mask of it is no set of lines."""
        return "points" in self.patterns

    def factors(self) -> list[float]:
        """Samples of an image over samples measured, of each mask at each acceleration: combs, with the centre on top,
        are less fast than their name."""
        return [self._factor(mask, a) for mask in self.masks for a in self.accelerations]

    def _factor(self, mask: str, acceleration: float) -> float:
        if not mask.startswith("equispaced"):
            return acceleration
        return 1 / float(
            make_mask(mask, (1, 256), acceleration, self.center / acceleration, 0).mean()
        )


@dataclasses.dataclass(frozen=True)
class Seen:
    """How a problem was measured. factor: samples of an image over samples measured a coil; pattern: in the words of
    `PATTERNS`, or OTHER; noise: the largest level in unit intensities, None where it is unknown."""

    factor: float
    pattern: str
    coils: int
    noise: float | None = None


def seen_in(problem: Problem) -> Seen:
    """What the samples of an MRI problem tell; of several slices, those of the first."""
    operator, (height, width) = problem.operator, problem.item_shape[-2:]
    precision = problem.precision
    noise = None if precision is None else float(torch.as_tensor(precision).min() ** -0.5)
    sampled = operator.project(torch.ones_like(problem.y)) != 0
    out = tuple(operator.out_shape)
    if not operator.is_complex:  # re and im of every sample
        sampled, out = sampled[..., 0], out[:-1]
    if len(out) >= 3 and out[-2:] == (height, width):
        first = sampled.reshape(-1, height, width)[0].cpu()
        pattern, coils, samples = _pattern(first), out[-3], int(first.sum())
    else:
        coils = out[operator.slice_ndim]
        pattern, samples = OTHER, int(sampled.sum()) // (problem.items * coils)
    return Seen(height * width / samples if samples else math.inf, pattern, coils, noise)


def _pattern(measured: Tensor) -> str:
    """Of a plane (H, W), True where it was measured: lines along either side, evenly spaced or not, or points."""
    rows, columns = measured.any(1), measured.any(0)
    if not bool((measured == rows[:, None] & columns).all()):
        return "points"
    across = columns if bool(rows.all()) else rows
    gaps = across.nonzero().flatten().diff()
    outer = gaps[gaps > 1]  # the centre is whole
    even = not len(outer) or int(outer.max() - outer.min()) <= 1
    return "evenly spaced lines" if even else "random lines"


def notes_on(
    name: str, trained: Acquisition | None, subjects: str, seen: Seen | None
) -> tuple[str, ...]:
    """What a user must know of a model that learnt one way of measuring, and of a measurement (None: not known yet).

    subjects: what the model was trained on, in words.
    """
    if trained is None:
        return (f"the prior '{name}' does not say on which acquisitions it was trained",)
    known = subjects or "images that its card does not name"
    said = (
        f"the prior '{name}' was trained for {trained}, simulated from {known}: for other anatomy or contrast no "
        "figure holds, and whether this is such is for you to know",
    )
    return said + (() if seen is None else differences(trained, seen))


def differences(trained: Acquisition, seen: Seen) -> tuple[str, ...]:
    """What to say of a measurement that is another than a model was trained on."""
    facts = []
    if not any(abs(seen.factor / f - 1) <= ALIKE for f in trained.factors()):
        facts.append(f"it is {seen.factor:.3g}x")
    if seen.pattern not in trained.patterns:
        facts.append(f"its samples are {seen.pattern}")
    if seen.coils < min(trained.coils):
        facts.append(f"it has {seen.coils} coil{'s' * (seen.coils > 1)}")
    if seen.noise is not None and seen.noise > trained.noise[1] * (1 + ALIKE):
        high = trained.noise[1]
        facts.append(f"its noise is {seen.noise:.2g} of full intensity, beyond {high:.2g}")
    if not facts:
        return ()
    return (
        f"this measurement is unlike those of the training: {', '.join(facts)}. An unrolled network loses there; dds "
        "serves any acquisition",
    )
