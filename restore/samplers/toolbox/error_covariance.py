"""The covariance R of the clean image around a denoiser's answer: diagonal in Fourier, and matched to what data show.

Called by samplers that draw. `Root` applies R^1/2; `Matched` finds by what factors R is too small or too large, by band
of the spatial frequency, from residuals that a run computes anyway. Draws nothing; touches nothing but its factors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.priors.error_spectrum import HIGHEST, frequency

BANDS = 8
"""Bands of equal width of |f|, up to that of the diagonal; in an image of 128 x 128 pixels the first has 200 values."""
DOUBT = 3.0
"""Standard errors of the noise's power by which R must stand out for half of a step."""
WHOLE = 1 / 8
"""The part of a band's power that must be its own for it to be taken as seen: random lines of 8x MRI leave that."""
FASTEST, FURTHEST = 4.0, 32.0
"""Factors by which a step may change a band, and all steps together: an image unlike those of the training has more
error at high frequency."""


class Root:
    """B = R^1/2 for R diagonal in the 2-D DFT, of re and im alike.

    power: R, (..., H, W), symmetric under frequency reversal. like: an image, for type and device.
    """

    def __init__(self, power: Tensor, like: Tensor) -> None:
        real = like.real.dtype if like.is_complex() else like.dtype
        self.gain = power.to(like.device, real) ** 0.5

    def __call__(self, x: Tensor) -> Tensor:
        """B x. x: (..., H, W)."""
        out = torch.fft.ifft2(torch.fft.fft2(x) * self.gain)
        return out if x.is_complex() else out.real


class Matched:
    """Factors of R by item and band under which residuals have the size that R foretells.

    y - A d has the covariance A R A^H + W^-1 if x0 = d + N(0, R), also along a chain that draws rightly: d then comes
    from a state that (x0, y) is as likely with as the true one. After each level the power of B A^H W (y - A d) in a
    band is compared with what draws of R and of the noise made of it, and the factor of the next level follows.
    Where noise hides R the factors stay. A band of which next to nothing was measured shows what leaks into it from
    others (the noise tells how much A^H W A keeps of a band, D: its own part is (R D)^2): it follows the band below.

    The adaptive inflation of ensemble filters (Anderson, "An adaptive covariance inflation error correction algorithm
    for ensemble filters", Tellus A 2007; Desroziers and others, QJRMS 2005), by frequency in place of by one number.
    """

    def __init__(self, like: Tensor, item_ndim: int) -> None:
        """like: an image (*batch, *item), for shape and device."""
        shape = like.shape[-2:]
        place = (frequency(shape) / HIGHEST * BANDS).long().clamp(max=BANDS - 1)
        self.channels, self.index, self.shape = (
            item_ndim - 2,
            place.flatten().to(like.device),
            shape,
        )
        self.count = torch.bincount(self.index, minlength=BANDS).clamp(min=1)
        self.factors: Tensor | float = 1.0

    def __call__(self, power: Tensor, most: float) -> Tensor:
        """R of a level: the error spectrum (..., H, W) times the factors, at most `most`."""
        known = self.factors
        grid = self.on_grid(known) if isinstance(known, Tensor) else known
        return (power.to(self.index.device) * grid).clamp(max=most)

    def follow(self, found: Tensor, spread: Tensor, noise: Tensor) -> None:
        """Learn from images like the result: B A^H W (y - A d), and draws of its parts by R and by the noise."""
        a, r, n = (self.bands(v) for v in (found, spread, noise))
        tiny = torch.finfo(r.dtype).tiny
        own = n**2 / (2 if noise.is_complex() else 1) / r.clamp(min=tiny)
        seen = (own / WHOLE).clamp(max=1)
        hidden = DOUBT * n * (2 / self.count) ** 0.5
        step = ((a - n).clamp(min=0) + hidden + tiny) / (r + hidden + tiny)
        before = torch.ones_like(step) * self.factors
        moved = (before * step.clamp(1 / FASTEST, FASTEST)).clamp(1 / FURTHEST, FURTHEST).log()
        known = [before[..., 0].log()]
        for band in range(BANDS):
            known.append(torch.lerp(known[-1], moved[..., band], seen[..., band]))
        self.factors = torch.stack(known[1:], dim=-1).exp()

    def bands(self, x: Tensor) -> Tensor:
        """The mean power of an image in each band of its unitary DFT. Returns (*batch, BANDS)."""
        power = torch.fft.fft2(x, norm="ortho").abs().square()
        power = (power.mean(-3) if self.channels else power).flatten(-2)
        total = power.new_zeros(*power.shape[:-1], BANDS)
        return total.index_add_(-1, self.index, power) / self.count

    def on_grid(self, values: Tensor) -> Tensor:
        """Values of bands (*batch, BANDS) on the grid of the DFT, as (*batch, H, W) or (*batch, 1, H, W)."""
        grid = values[..., self.index].unflatten(-1, self.shape)
        return grid.unsqueeze(-3) if self.channels else grid
