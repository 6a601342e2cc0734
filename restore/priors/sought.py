"""The contract of structured noise with few unknowns, which is sought in the picture before any chain.

Kept by `veil` and `off_bins`; used by `restore.samplers.toolbox.seeking`. Touches no files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor


class Sought(ABC):
    """Noise u(theta) of a measurement y, with theta (*batch, *planes, unknowns), and pictures z(y - u).

    `name`, `caution`: for notes, what it is and what finding it rests on. `stride`: of the search's first steps, in
    units of theta. `any_brightness`: whether priors serve whose pictures may have any brightness. `lowest`, `highest`:
    levels at which the picture's prior is asked; `noisy`: the picture has the measurement's noise, as it was measured.
    `start_count`: how many starts there are. `odds`: nats by which it must explain a measurement better than none.
    """

    name: ClassVar[str]
    caution: ClassVar[str]
    stride: ClassVar[float]
    any_brightness: ClassVar[bool] = True
    lowest: ClassVar[float]
    highest: ClassVar[float]
    noisy: ClassVar[bool] = False
    start_count: ClassVar[int] = 1
    odds: ClassVar[float]

    @abstractmethod
    def starts(self, y: Tensor) -> list[Tensor]:
        """Where the search may begin: the best is taken, measurement by measurement."""

    @abstractmethod
    def field(self, theta: Tensor) -> Tensor:
        """u, in the measurement's unit intensities."""

    @abstractmethod
    def picture(self, y: Tensor) -> Tensor:
        """z of a measurement."""

    @abstractmethod
    def pulled(self, theta: Tensor, gradient: Tensor) -> Tensor:
        """The gradient for theta of a function of the picture z(y - u) whose gradient for z is given, like z."""

    @abstractmethod
    def penalty(self, theta: Tensor) -> Tensor:
        """-log p(theta) above that of no noise, number by number: like theta."""

    @abstractmethod
    def slope(self, theta: Tensor) -> Tensor:
        """The gradient of the penalties' sum."""
