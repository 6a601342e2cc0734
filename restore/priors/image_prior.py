"""From images as operators see them to images as networks see them, and back.

The only place where complex images meet real networks and where slices are cut into chunks that fit in memory. Used by
samplers through `ImagePrior`; touches no files.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from restore.errors import ConfigError, OutOfMemory, is_out_of_memory
from restore.precision import autocast
from restore.priors.base import Denoiser, check_level
from restore.priors.tiles import tiled

PIXELS_PER_CALL = (
    2**20
)  # network inputs of one call: about 1 GB of activations for the bundled U-Net


class ImagePrior:
    """A denoiser for items of `item_shape`, real or complex, in any number.

    item_shape: (H, W) or (C, H, W). A one-channel prior treats the channels of an item one by one; a colour prior
    needs three. planes: of items that are volumes (D, H, W), the axes across which the planes lie that the network
    sees, one after the other with the number of the turn. Complex items go through re and im (`complex_mode`).
    precision: inside the network; planes and what surrounds the network (`EDMDenoiser`'s scaling) keep theirs, as
    autocast leaves sums alone. `evaluations` counts network calls per item. Made by `choosing.fit` for a pair that
    `matching.check` has passed.
    """

    def __init__(
        self,
        prior: Denoiser,
        item_shape: tuple[int, ...],
        complex_: bool,
        precision: torch.dtype = torch.float32,
        *,
        planes: tuple[int, ...] = (0,),
    ) -> None:
        self.prior, self.item_shape, self.complex_ = prior, item_shape, complex_
        self.precision, self.planes = precision, planes
        self.evaluations, self._turn = 0, 0
        self._chunk = PIXELS_PER_CALL
        self._channels = prior.channels or (item_shape[0] if len(item_shape) == 3 else 1)

    def __call__(self, x: Tensor, sigma: float | Tensor, *, turn: int = 0) -> Tensor:
        """E[x0 | x = x0 + sigma n]. x: (*batch, *item_shape), unit intensities; sigma: of a region prior also one a
        pixel, broadcastable to x.

        Below the noise range of the prior it is asked at the range's lower end. Raises ConfigError for a level at
        which it cannot be asked (`base.check_level`), and for levels that differ between channels seen at once.
        turn: which planes of a volume the network sees, by number modulo their axes; the whole part: in which of eight
        orientations a `turnable` prior sees the image, by number modulo 8; the answer is turned back. A network is not
        quite the same in all of them, and going round averages that out over the steps of a chain: Terris, Moreau,
        Pustelnik, Tachella, "Equivariant plug-and-play image reconstruction", CVPR 2024.
        """
        self.evaluations += 1
        known = (self.prior.sigma_min, self.prior.sigma_max)
        for level in _ends(sigma):
            check_level(level, known, self.prior.intensity, self.prior.name)
        sigma = _at_least(sigma, self.prior.sigma_min, x)
        turn, axis = divmod(turn, len(self.planes))
        self._turn = turn % 8 if self.prior.turnable else 0
        if self.planes[axis] == 0:
            return self._image(x, sigma)
        across = self.planes[axis] - 3
        if isinstance(sigma, Tensor):
            sigma = sigma.movedim(across, -3)
        return self._image(x.movedim(across, -3), sigma).movedim(-3, across)

    def _image(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Real or complex, the network's planes last."""
        if not x.is_complex():
            return self._real(x, sigma)
        if self.prior.complex_mode == "magnitude":
            magnitude = x.abs()
            return self._real(magnitude, sigma) * torch.polar(torch.ones_like(magnitude), x.angle())
        if self.prior.complex_mode == "channels":
            planes = torch.view_as_real(x).reshape(-1, *x.shape[-2:], 2).movedim(-1, 1)
            if isinstance(sigma, Tensor):
                sigma = sigma.reshape(-1, 1, *x.shape[-2:])
            out = self._chunked(planes, sigma).movedim(1, -1).contiguous()
            return torch.view_as_complex(out).reshape(x.shape)
        both = self._real(torch.stack([x.real, x.imag]), sigma)
        return torch.complex(both[0], both[1])

    def error_power(self, sigma: float) -> Tensor | None:
        """The power of the answer's error by frequency, (H, W) or (C, H, W), of re and of im alike; see `Denoiser`."""
        known = self.prior.error_power(max(sigma, self.prior.sigma_min), self.item_shape)
        return known[0] if known is not None and known.ndim > len(self.item_shape) else known

    def image_law(self) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the Gaussian that images are like, see `Denoiser`; both broadcast to item_shape.

        Complex ones may have any phase: around zero, re and im alike. Raises ConfigError where it is not known.
        """
        law = self.prior.image_law(self.item_shape, centred=not self.complex_)
        mean, covariance = (v[0] if v.ndim > len(self.item_shape) else v for v in law)
        return (torch.zeros_like(mean) if self.complex_ else mean), covariance

    def _real(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        shape = (-1, self._channels, *x.shape[-2:])
        if isinstance(sigma, Tensor):
            sigma = sigma.expand(x.shape).reshape(shape)
        return self._chunked(x.reshape(shape), sigma).reshape(x.shape)

    def _chunked(self, planes: Tensor, sigma: float | Tensor) -> Tensor:
        """Through the network in chunks; where memory runs out, in smaller ones."""
        turn, parts = self._turn, [planes]
        if isinstance(sigma, Tensor):
            parts.append(self._shared(sigma))

        def network(p: Tensor, s: float | Tensor = sigma) -> tuple[Tensor, ...]:
            with autocast(self.precision, p.device):
                return (self.prior(p, s).to(p.dtype),)

        out, self._chunk = chunked(
            tiled(network, self.prior.tiling, self.evaluations) if self.prior.local else network,
            [_turned(p, turn) for p in parts],
            self._chunk,
            f"one image of {tuple(planes.shape[1:])} on {planes.device}",
        )
        return _turned_back(out[0], turn)

    def _shared(self, levels: Tensor) -> Tensor:
        """The levels of planes (N, C, H, W) as (N, 1, H, W). Raises ConfigError where channels differ."""
        if bool((levels != levels[:, :1]).any()):
            raise ConfigError(
                f"the prior '{self.prior.name}' is told one level for all {self._channels} channels of a pixel, and "
                "mask or noise differ between them; use dds, or a one-channel prior"
            )
        return levels[:, :1]


def _ends(sigma: float | Tensor) -> tuple[float, ...]:
    """The lowest and the highest level."""
    return (float(sigma.min()), float(sigma.max())) if isinstance(sigma, Tensor) else (sigma,)


def _at_least(sigma: float | Tensor, least: float, x: Tensor) -> float | Tensor:
    """No level below `least`; of a map, as one of x's shape."""
    if isinstance(sigma, Tensor):
        return sigma.clamp(min=least).expand(x.shape)
    return max(sigma, least)


def chunked(
    network: Callable[..., tuple[Tensor, ...]], planes: list[Tensor], pixels: int, what: str
) -> tuple[tuple[Tensor, ...], int]:
    """Planes (N, C, H, W) through a network, as many at once as have `pixels` pixels; halved where memory runs out.

    what: one item in words, for the error. Returns the outputs and the pixels that fitted. Raises OutOfMemory.
    """
    size = max(1, pixels // (planes[0].shape[-1] * planes[0].shape[-2]))
    try:
        parts = [network(*p) for p in zip(*(p.split(size) for p in planes), strict=True)]
        return tuple(torch.cat(o) for o in zip(*parts, strict=True)), pixels
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if min(size, len(planes[0])) <= 1:
            raise OutOfMemory(
                f"{what} does not fit through the network; use a device with more memory or a smaller image"
            ) from error
    if planes[0].is_cuda:
        torch.cuda.empty_cache()
    area = planes[0].shape[-1] * planes[0].shape[-2]
    return chunked(network, planes, min(size, len(planes[0])) * area // 2, what)


def _turned(x: Tensor, turn: int) -> Tensor:
    """One of the eight orientations of planes (N, C, H, W): quarter turns, the last four mirrored."""
    if not turn:
        return x
    x = torch.rot90(x, turn % 4, (-2, -1))
    return (x.flip(-1) if turn >= 4 else x).contiguous()


def _turned_back(x: Tensor, turn: int) -> Tensor:
    """Undo `_turned`."""
    if not turn:
        return x
    x = x.flip(-1) if turn >= 4 else x
    return torch.rot90(x, -(turn % 4), (-2, -1)).contiguous()
