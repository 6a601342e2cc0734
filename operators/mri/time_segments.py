"""Spins that precess at other frequencies than the scanner's, by time segments: an encoding taken several times.

Called by the set-up of scans with a field map and by scripts; imports the operator contract alone.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator as of
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.conjugate_gradients import cg
from restore.operators.base import LinearOperator, lasting
from restore.operators.contract import check_stored
from restore.operators.diagonal import check_broadcast
from restore.operators.mri.multicoil import SENSE_DAMPING, SENSE_STEPS, MultiCoilMRI

_BINS = 256  # frequencies that stand for those of the map
_WORST = 0.01
"""Error of the interpolation, root mean square over the map, above which segments are too few."""
_TIMES_AT_ONCE = 4096  # whose waves of all bins are held together, 16 MB


@dataclasses.dataclass(frozen=True, eq=False)
class TimeSegments:
    """exp(-2 pi i f t) as the sum over l of weights[l](t) exp(-2 pi i f stops[l]), for the frequencies f of a map.

    stops: seconds, (segments,). weights: complex128 (segments, *times).
    """

    stops: tuple[float, ...]
    weights: Tensor


def segments_of(field_hz: Tensor, times_s: Tensor, segments: int | None = None) -> TimeSegments:
    """The segments of a map of frequencies above the scanner's, in Hz, and of the times of samples, in seconds.

    The weights are the least-squares interpolators over the histogram of the map (Sutton, Noll and Fessler, IEEE TMI
    22:178, 2003). segments: by default two a turn of the fastest spin against the slowest, and three. Raises
    ConfigError for values that are not finite or too few segments.
    """
    field, times = field_hz.double().cpu(), times_s.double().cpu()
    for what, values in (("field_hz", field), ("times_s", times)):
        if not values.numel() or not bool(torch.isfinite(values).all()):
            raise ConfigError(f"off_resonance: {what} is empty or not finite")
    span = float(times.max() - times.min())
    turns = float(field.max() - field.min()) * span
    count = segments or max(2, math.ceil(2 * turns) + 3)
    if count < 1:
        raise ConfigError(f"off_resonance: segments is {segments}, expected 1 or more")
    stops = torch.linspace(float(times.min()), float(times.max()), count, dtype=torch.float64)
    return TimeSegments(tuple(stops.tolist()), _interpolators(field, times, stops))


def off_resonance(
    encoding: LinearOperator, field_hz: Tensor, times_s: Tensor, *, segments: int | None = None
) -> OffResonance:
    """y(k, t) = sum over pixels of encoding with exp(-2 pi i field t), by `segments_of`.

    encoding: any MRI operator from x (*slices, *image) to y. field_hz: (*slices, *image) or (*image), the frequency
    above the scanner's; times_s: when each sample was taken, from the time at which spins were in phase on,
    broadcastable to y: (readouts, samples) or (samples,), for Cartesian k-space (H, W), (H, 1) or (W,).

    Raises ShapeError where map or times do not broadcast, ConfigError as `segments_of`.
    """
    check_broadcast("off_resonance", "field_hz", field_hz, encoding.in_shape)
    check_broadcast("off_resonance", "times_s", times_s, encoding.out_shape)
    found = segments_of(field_hz, times_s, segments)
    return OffResonance(encoding, field_hz.to(encoding.device), found.stops, found.weights)


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class OffResonance(LinearOperator):
    """y = sum over l of weights[l] encoding(exp(-2 pi i field stops[l]) x): what `off_resonance` makes.

    encoding: from x (*slices, *image) to y. field_hz: real, broadcastable to x, in Hz. stops: seconds. weights: complex
    (segments, *samples), the rest broadcastable to y. It costs as many times the encoding as it has segments. `gridded`
    counts samples as the encoding does; `pinv` is ten conjugate gradients of A^H W A + 1e-3 with those weights W.
    Raises ShapeError.
    """

    kind = "mri"

    encoding: LinearOperator
    field_hz: Tensor
    stops: tuple[float, ...]
    weights: Tensor

    def __post_init__(self) -> None:
        real, where = self.encoding.dtype, self.encoding.device
        for name, number in (("field_hz", real), ("weights", real.to_complex())):
            check_stored("OffResonance", name, getattr(self, name))
            object.__setattr__(self, name, getattr(self, name).to(where, number))
        check_broadcast("OffResonance", "field_hz", self.field_hz, self.in_shape)
        if len(self.weights) != len(self.stops):
            raise ShapeError(
                f"OffResonance: {len(self.weights)} weights for {len(self.stops)} stops"
            )
        check_broadcast("OffResonance", "weights of a segment", self.weights[0], self.out_shape)

    @classmethod
    def example(cls, generator: torch.Generator) -> OffResonance:
        """A tiny instance for tests: two slices of Cartesian k-space whose lines are taken one after the other."""
        encoding = MultiCoilMRI.example(generator)
        field = 40 * torch.randn(encoding.in_shape, generator=generator)
        return off_resonance(encoding, field, torch.linspace(-0.002, 0.002, encoding.out_shape[-1]))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """That of the encoding."""
        return self.encoding.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """That of the encoding."""
        return self.encoding.out_shape

    @property
    def slice_ndim(self) -> int:
        """That of the encoding."""
        return self.encoding.slice_ndim

    @property
    def is_complex(self) -> bool:
        """True."""
        return True

    @property
    def sums_components(self) -> bool:
        """As the encoding."""
        return self.encoding.sums_components

    def shown(self, x: Tensor) -> Tensor:
        """As the encoding."""
        return self.encoding.shown(x)

    def project(self, y: Tensor) -> Tensor:
        """As the encoding."""
        return self.encoding.project(y)

    def gridded(self, y: Tensor) -> Tensor:
        """A^H W y, W as the encoding weighs its samples. Raises ShapeError."""
        return self._gridded(self._measured(y))

    @lasting
    def _turns(self) -> Tensor:
        """exp(-2 pi i field stops), (segments, *field)."""
        stops = torch.tensor(self.stops, dtype=torch.float64, device=self.field_hz.device)
        angles = -2 * math.pi * stops.reshape(-1, *[1] * self.field_hz.ndim) * self.field_hz
        return torch.polar(torch.ones_like(angles), angles).to(self._number)

    def _apply(self, x: Tensor) -> Tensor:
        parts = (
            weight * self.encoding._apply(turn * x)
            for weight, turn in zip(self.weights, self._turns, strict=True)
        )
        return functools.reduce(of.add, parts)

    def _adjoint(self, y: Tensor) -> Tensor:
        parts = (
            turn.conj() * self.encoding._adjoint(weight.conj() * y)
            for weight, turn in zip(self.weights, self._turns, strict=True)
        )
        return functools.reduce(of.add, parts)

    def _gridded(self, y: Tensor) -> Tensor:
        parts = (
            turn.conj() * self.encoding.gridded(weight.conj() * y)
            for weight, turn in zip(self.weights, self._turns, strict=True)
        )
        return functools.reduce(of.add, parts)

    def _pinv(self, y: Tensor) -> Tensor:
        right = self._gridded(y)
        enough = 4 * torch.finfo(right.dtype).eps  # below it is rounding of the right side

        def system(x: Tensor) -> Tensor:
            return torch.add(self._gridded(self._apply(x)), x, alpha=SENSE_DAMPING)

        return cg(system, right, iters=SENSE_STEPS, tol=enough, item_ndim=self.item_ndim).x


def _interpolators(field: Tensor, times: Tensor, stops: Tensor) -> Tensor:
    """b_l(t), (segments, *times): exp(-2 pi i f t) = sum_l b_l(t) exp(-2 pi i f t_l) over the map's histogram."""
    low, high = float(field.min()), float(field.max())
    count = torch.histc(field.flatten(), _BINS, low, high) if high > low else torch.ones(1)
    count = count.double()
    width = (high - low) / len(count)
    frequencies = low + width * (torch.arange(len(count), dtype=torch.float64) + 0.5)
    root = (count / count.sum()).sqrt()

    def waves(t: Tensor) -> Tensor:
        size = root[:, None].expand(-1, len(t)).contiguous()
        return torch.polar(size, -2 * math.pi * frequencies[:, None] * t)

    given = waves(stops)
    # By the singular values: where spins hardly differ, segments are nearly the same.
    inverse = torch.linalg.pinv(given, rtol=1e-10)
    once, back = torch.unique(times, return_inverse=True)
    found, worst = [], 0.0
    for part in once.split(_TIMES_AT_ONCE):
        wanted = waves(part)
        found.append(inverse @ wanted)
        left = (given @ found[-1] - wanted).abs().square().sum(dim=0).sqrt()
        worst = max(worst, float(left.max()))
    if worst > _WORST:
        raise ConfigError(
            f"off_resonance: {len(stops)} segments leave an error of {worst:.2g} at the worst sample; use more"
        )
    return torch.cat(found, dim=1)[:, back]
