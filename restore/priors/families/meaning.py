"""What no file of weights says: the range of its images, the noise schedule, what the network predicts, complex images.

Stated by options of `restore models convert`, by a side-car file, or by the settings that lie beside the weights; kept
on the card. Nothing of it is guessed: a converted model whose meaning is incomplete can be checked against stored
outputs, and is refused as a prior with the option that is missing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor

from restore.bridges.base import HEADS
from restore.config import did_you_mean
from restore.errors import ConfigError
from restore.priors.base import ComplexMode
from restore.priors.families.bridge_schedules import bridge_levels, is_bridge_schedule

PREDICTIONS = ("eps", "v", *HEADS)
SCHEDULES = ("linear", "scaled_linear", "cosine")
EDM = "edm:"
"""Before the sigma_data of a network that is preconditioned as EDM's are, which has no chain of levels."""
_MOST_STEPS = 100_000


@dataclasses.dataclass(frozen=True)
class Meaning:
    """range: lowest and highest intensity of the training images. schedule: of a variance-preserving chain,
    "linear:1e-4:0.02:1000", "scaled_linear:0.00085:0.012:1000" (roots of beta evenly spaced), "cosine:1000" (Nichol and
    Dhariwal, 2021); of a chain to a degraded image (`bridge_schedules.py`); or "edm:0.5", EDM's preconditioning with
    that sigma_data. prediction: "eps", "x0", "v", or a head of conditional models. sigma_range: lowest and highest
    noise, in units of the training images. complex_mode: as `Denoiser.complex_mode`. label: the class that a
    class-conditional network is asked for. rescale_time: times are told as 1000 t / T. tasks: what a conditional
    network was trained on, as `Operator.task`. context: tensors that it is told beside the image, by name, such as the
    embedding of an empty prompt. None and "" where nothing is said.
    """

    range: tuple[float, float] | None = None
    schedule: str = ""
    prediction: str = ""
    sigma_range: tuple[float, float] | None = None
    complex_mode: str = ""
    label: int | None = None
    rescale_time: bool = False
    tasks: tuple[str, ...] = ()
    context: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        for name in ("range", "sigma_range"):
            pair = getattr(self, name)
            if pair is not None and not (
                len(pair) == 2 and -math.inf < pair[0] < pair[1] < math.inf
            ):
                raise ConfigError(f"{name} is {pair}, expected two numbers LOW:HIGH that rise")
        if self.sigma_range is not None and self.sigma_range[0] < 0:
            raise ConfigError(f"sigma_range is {self.sigma_range}: noise is not below 0")
        if self.prediction and self.prediction not in PREDICTIONS:
            near = did_you_mean(self.prediction, PREDICTIONS)
            words = ", ".join(PREDICTIONS)
            raise ConfigError(f"prediction is '{self.prediction}'{near}; there are {words}")
        if self.complex_mode and self.complex_mode not in get_args(ComplexMode):
            words = ", ".join(get_args(ComplexMode))
            raise ConfigError(f"complex_mode is '{self.complex_mode}', expected one of {words}")
        if self.schedule:
            if self.schedule.startswith(EDM):
                sigma_data(self.schedule)
            else:
                known = bridge_levels if is_bridge_schedule(self.schedule) else alphas_cumprod
                known(self.schedule)

    def over(self, other: Meaning) -> Meaning:
        """This meaning where it says something, the other one where it does not."""
        said = {
            k: v
            for k, v in self.record().items()
            if v is not None and v is not False and v not in ("", ())  # class 0 is said
        }
        return dataclasses.replace(other, **said, context=self.context or other.context)

    def record(self) -> dict[str, Any]:
        """For a card; the context's tensors lie with the weights."""
        return {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "context"
        }


def meaning_from(record: Mapping[str, Any]) -> Meaning:
    """What a card or side-car says. Raises ConfigError for unknown words and wrong values."""
    known = [f.name for f in dataclasses.fields(Meaning) if f.name != "context"]
    for name in record:
        if name not in known:
            near = did_you_mean(str(name), known)
            raise ConfigError(f"meaning: '{name}' is unknown{near}; there are {', '.join(known)}")
    values: dict[str, Any] = dict(record)
    try:
        for name in ("range", "sigma_range"):
            if values.get(name) is not None:
                values[name] = tuple(float(v) for v in values[name])
        if values.get("tasks") is not None:
            values["tasks"] = tuple(str(v) for v in values["tasks"])
        return Meaning(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"meaning: {error}") from error


def sigma_data(schedule: str) -> float:
    """The number behind "edm:". Raises ConfigError."""
    try:
        value = float(schedule.removeprefix(EDM))
    except ValueError as error:
        raise ConfigError(f"schedule '{schedule}': {error}") from error
    if not 0 < value < math.inf:
        raise ConfigError(f"schedule '{schedule}': expected edm:SIGMA_DATA, a number above 0")
    return value


def alphas_cumprod(schedule: str) -> Tensor:
    """The products of (1 - beta) of a schedule in words, (T,), float64. Raises ConfigError.

    "linear": betas evenly spaced (Ho and others, 2020); "scaled_linear": their roots are (Rombach and others, 2022);
    "cosine": cos^2 of time, betas at most 0.999 (Nichol and Dhariwal, 2021). linear and scaled_linear take their ends,
    all of them the number of steps. ":zsnr" behind it: rescaled so that the last level is noise alone, a product of 0
    (Lin and others, "Common diffusion noise schedules and sample steps are flawed", WACV 2024).
    """
    word, *numbers = schedule.removesuffix(":zsnr").split(":")
    if word not in SCHEDULES:
        near = did_you_mean(word, SCHEDULES)
        raise ConfigError(
            f"schedule '{schedule}': there is no '{word}'{near}; there are linear:START:END:STEPS, "
            "scaled_linear:START:END:STEPS, cosine:STEPS"
        )
    ends = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012)}.get(word)
    try:
        values = [float(n) for n in numbers]
    except ValueError as error:
        raise ConfigError(f"schedule '{schedule}': {error}") from error
    if ends is not None and len(values) >= 2:
        ends, values = (values[0], values[1]), values[2:]
    steps = values[0] if values else 1000.0
    if len(values) > 1 or not 2 <= steps <= _MOST_STEPS or steps != int(steps):
        raise ConfigError(f"schedule '{schedule}': expected {_FORMS[word]}, 2 steps or more")
    betas = _cosine(int(steps)) if ends is None else _between(word, ends, int(steps))
    if not bool(((betas > 0) & (betas < 1)).all()):
        raise ConfigError(f"schedule '{schedule}': betas must lie between 0 and 1")
    found = torch.cumprod(1 - betas, 0)
    if not schedule.endswith(":zsnr"):
        return found
    root = found.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


_FORMS = {
    "linear": "linear:START:END:STEPS",
    "scaled_linear": "scaled_linear:START:END:STEPS",
    "cosine": "cosine:STEPS",
}


def _between(word: str, ends: tuple[float, float], steps: int) -> Tensor:
    power = 2 if word == "scaled_linear" else 1
    low, high = (max(e, 0.0) ** (1 / power) for e in ends)
    return torch.linspace(low, high, steps, dtype=torch.float64) ** power


def _cosine(steps: int) -> Tensor:
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    bar = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - bar[1:] / bar[:-1]).clamp(max=0.999)
