"""Bins of a CT detector that err alike in all views, as noise to be sought in the classical picture, as rings.

Used by `restore.priors.structured`; touches no files.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.base import LinearOperator
from restore.operators.ct.filtering import ramp_filtered
from restore.priors.sought import Sought

LEAST_VIEWS = 20
"""Of fewer the streaks are so strong that bins which are right would be moved to explain them."""
_ENDS = 2
"""Bins at either end that are taken for right: what is wrong there is the edge of the picture more often."""


class OffBins(Sought):
    """theta: by how much each bin is off, in units of `std`; few are, by much: theta is Cauchy, -log p = log(1 +
    theta^2).

    operator: of sinograms (views, bins). std: the ring that a bin half-way out makes in the picture, of the image's
    white. The pictures are filtered back-projections, streaks and all: levels below those are left out. Raises
    ConfigError for a deviation that is not above 0, and for fewer than LEAST_VIEWS views.
    """

    name: ClassVar[str] = "stripes"
    caution: ClassVar[str] = (
        "rings of the object itself, about the axis of rotation, would go with them"
    )
    stride: ClassVar[float] = 2.0
    lowest: ClassVar[float] = 0.05
    highest: ClassVar[float] = 1.0
    # Streaks are no images either, and bins explain some of them: 12 to 57 nats in three scans without stripes (60 and
    # 20 views); stripes of a fifth of the usual size, worth 0.6 dB, had 100.
    odds: ClassVar[float] = 80.0

    def __init__(self, operator: LinearOperator, std: float) -> None:
        if not 0 < std < math.inf:
            raise ConfigError(f"stripes: the deviation is {std:g}, expected a number above 0")
        self.operator = operator
        self.views, self.bins = operator.out_shape[-2:]
        if self.views < LEAST_VIEWS:
            raise ConfigError(
                f"{operator}: second_prior=stripes needs {LEAST_VIEWS} views at least, and there are {self.views}: the "
                "streaks of so few hide rings; take stripes out before (--rings sorting) and use dds"
            )
        self.inner = torch.zeros(self.bins)
        self.inner[_ENDS : self.bins - _ENDS] = 1
        like = torch.zeros(operator.out_shape, dtype=operator.dtype, device=operator.device)
        ring = like.clone()
        ring[..., self.bins // 4] = 1
        self.size = std / float(operator.pinv(ring).abs().max())
        # The adjoint of a filtered back-projection is a projection that is filtered, but for a factor.
        like[..., ::10] = self.size
        rings = operator.pinv(like)
        known = rings.square().sum() / self._rough(rings)[..., ::10].sum()
        self.factor = float(known) / self.size

    def starts(self, y: Tensor) -> list[Tensor]:
        """None is off."""
        return [y.new_zeros(*y.shape[:-2], 1, self.bins)]

    def field(self, theta: Tensor) -> Tensor:
        """The same in all views."""
        off = self.size * self.inner.to(theta) * theta
        return off.expand(*theta.shape[:-2], self.views, self.bins)

    def picture(self, y: Tensor) -> Tensor:
        """The filtered back-projection."""
        return self.operator.pinv(y)

    def pulled(self, theta: Tensor, gradient: Tensor) -> Tensor:
        """By the adjoint of back-projection and filter; what the picture's weights of views and rays are is left out:
        the direction is right to a cosine of 0.98 at 60 views."""
        return -self.size * self.factor * self.inner.to(gradient) * self._rough(gradient)

    def penalty(self, theta: Tensor) -> Tensor:
        """log(1 + theta^2)."""
        return torch.log1p(theta**2)

    def slope(self, theta: Tensor) -> Tensor:
        """2 theta / (1 + theta^2)."""
        return 2 * theta / (1 + theta**2)

    def _rough(self, picture: Tensor) -> Tensor:
        return ramp_filtered(self.operator(picture), 1.0, "ramp").sum(-2, keepdim=True)
