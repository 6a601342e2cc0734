"""Published networks of ResShift, RDDM and IR-SDE chains as conditional models.

A network is told its own times and sees the state scaled as it was trained; where its schedule is known, a chain with
other levels is refused, since nothing else would show it.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from restore.bridges.base import HEADS, Head, Level
from restore.config import did_you_mean
from restore.errors import ConfigError
from restore.priors.base import pad_sides
from restore.priors.conditional import ConditionalModel
from restore.priors.families.bridge_schedules import Known, bridge_levels
from restore.priors.families.meaning import Meaning

_SAME = 1e-2
"""Difference of a or c at one time that counts as another schedule: schedules of published codes differ by 0.03 and
more; float32 sums and the two conventions of the first time by less than 1e-3."""


class BridgeNetwork(ConditionalModel):
    """A network, its head, the range of its images, and the levels that it was trained at where they are known."""

    def __init__(
        self,
        network: nn.Module,
        *,
        channels: int,
        head: Head,
        bridge: str,
        meaning: Meaning,
        name: str,
        multiple: int = 1,
    ) -> None:
        assert meaning.range is not None  # noqa: S101  (for the type checker: families ask for it)
        self.network, self.channels, self.head, self.bridge = network, channels, head, bridge
        self.intensity, self.tasks, self.name = meaning.range, meaning.tasks, name
        self.multiple = multiple
        self.known: Known | None = bridge_levels(meaning.schedule) if meaning.schedule else None

    def __call__(self, x: Tensor, level: Level, degraded: Tensor) -> tuple[Tensor, ...]:
        """The head's tensors. x, degraded: (N, channels, H, W). Raises ConfigError at a level that is not its own."""
        check_known(self.known, level, self.name)
        dtype = next(self.network.parameters()).dtype
        grown = [pad_sides(p, self.multiple).to(dtype) for p in (x * level.scale, degraded)]
        answers = self._answers(grown[0], level, grown[1])
        return tuple(o[..., : x.shape[-2], : x.shape[-1]].to(x.dtype) for o in answers)

    @abstractmethod
    def _answers(self, x: Tensor, level: Level, degraded: Tensor) -> tuple[Tensor, ...]:
        """What the network says, in its own precision."""


def check_known(known: Known | None, level: Level, name: str) -> None:
    """Raise ConfigError for a level that is not one of a network's own, where those are known."""
    if known is None:
        return
    own = known.level(level.t)
    if own is not None and max(abs(own.a - level.a), abs(own.c - level.c)) <= _SAME:
        return
    theirs = "no such time" if own is None else f"a = {own.a:.4f} and c = {own.c:.4f}"
    raise ConfigError(
        f"prior '{name}' was trained with {known.words}, where time {level.t:g} has {theirs}; the sampler is at "
        f"a = {level.a:.4f} and c = {level.c:.4f}. Set {known.settings}"
    )


def times_of(x: Tensor, t: float) -> Tensor:
    """One time an image, (N,), in the precision of x."""
    return torch.full((x.shape[0],), t, dtype=x.dtype, device=x.device)


def head_of(word: str, known: tuple[str, ...]) -> Head:
    """A word of `Meaning.prediction` as a head of bridges. Raises ConfigError for one that is not among `known`."""
    word = {"eps": "noise"}.get(word, word)
    for head in HEADS:
        if head == word and head in known:
            return head  # type: ignore[return-value]
    raise ConfigError(
        f"prediction is '{word}'{did_you_mean(word, known)}; this family knows {', '.join(known)}"
    )
