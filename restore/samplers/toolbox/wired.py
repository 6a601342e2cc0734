"""Two-way coupled steps: each keeps the state before it beside the new one, so that the way back can be computed.

(x, v) -> ((1 - c) f(x) + c v, x), with the inverse (x', v') -> (v', (x' - (1 - c) f(v')) / c): the wires of Chen and
others, "Invertible diffusion models for compressed sensing", IEEE TPAMI 2025, after the dual residual streams of Zhao
and others (Dr2Net, CVPR 2024). x goes back without arithmetic, v with the rounding of x' divided by c. Called by the
sampler `fewstep`, and by the training that goes back over its steps. Pure functions.
"""

from __future__ import annotations

from torch import Tensor


def coupled(fx: Tensor, v: Tensor, mix: float | Tensor) -> Tensor:
    """(1 - c) f(x) + c v: the next state. fx, v: of one shape; mix: c in 0..1."""
    return fx + mix * (v - fx)


def separated(after: Tensor, fx: Tensor, mix: float | Tensor) -> Tensor:
    """v of `coupled(fx, v, mix)` = after; mix above 0."""
    return fx + (after - fx) / mix


def moved(x: Tensor, x0: Tensor, xh: Tensor, carry: float | Tensor) -> Tensor:
    """f(x) = xh + s'/s (x - x0): DDIM's step without fresh noise from the estimate xh that fits the data.

    x: the state at the level s; x0: what the network made of it; carry: s'/s, 0 for the last step. Song, Meng, Ermon,
    "Denoising diffusion implicit models", ICLR 2021, equation 12 in x = x0 + s n.
    """
    return xh + carry * (x - x0)
