"""Random numbers of a sampler: one CPU generator per item, seeded from (seed, item id), or one noise for all items.

Results therefore do not depend on batch size, slice order, worker count or device. No global generator is touched.
Lowest layer.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


class Draws:
    """Standard normal noise for a batch of items.

    seed: any integer, 0 included. ids: one name per item, such as "sample 0/slice 12"; the same name gives
    the same noise in any company.
    """

    def __init__(self, seed: int, ids: Sequence[str]) -> None:
        self.seed, self.ids = seed, tuple(ids)
        self._r, self._axis = 0.0, -1
        self._generators = [
            torch.Generator().manual_seed(_item_seed(seed, name)) for name in self.ids
        ]

    def along_slices(self, r: float, axis: int) -> Draws:
        """The same draws with slices that follow each other correlated by r in -1..1: e_0 = z_0, e_i = r e_(i-1) +
        sqrt(1 - r^2) z_i, an autoregressive chain from the first slice on, in which every slice is N(0, 1) exactly.

        axis: of the slices, counted from the last: the dimension in front of an item, or one of it. A volume has to be
        drawn whole. r = 0: these draws.
        """
        if r == 0:
            return self
        twin = copy.copy(self)
        twin._r, twin._axis = r, axis
        return twin

    @property
    def seeds(self) -> tuple[int, ...]:
        """A whole number of 63 bits for each item, for generators of other libraries, whatever was drawn before."""
        return tuple(_item_seed(self.seed, name) for name in self.ids)

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        """N(0, 1) of x's shape, dtype and device; complex: re and im N(0, 1) each. Items are all but the last
        `item_ndim` dimensions. Drawn in single precision, so that float32 and float64 runs see the same noise."""
        shape = x.shape[x.ndim - item_ndim :]
        dtype = torch.complex64 if x.is_complex() else torch.float32
        items = [_normal(shape, dtype, g) for g in self._generators]
        noise = torch.stack(items).reshape(x.shape)
        if self._r:
            _follow(noise.movedim(self._axis, 0), self._r)
        return noise.to(device=x.device, dtype=x.dtype)


class LaidDraws(Draws):
    """One noise for all items, whatever they are called: every call draws one square field, which is laid over the
    image from its first pixel on, side by side, each time with a sign of its own, and cut at the borders.

    seed: of the fields, one after the other from one generator. tile: their side in pixels. An image of another size
    sees more or less of the same fields, and so does every item of a batch. The sign of the field in row i and column
    j is r(i) r(j), r the sequence of Rudin and Shapiro: neither the noise nor an error that follows it repeats at any
    distance, and a field with the sign turned is as good a noise as itself.
    """

    def __init__(self, seed: int, ids: Sequence[str], tile: int) -> None:
        super().__init__(seed, ())
        self.ids, self.tile = tuple(ids), tile
        self._generator = torch.Generator().manual_seed(_item_seed(seed, "start"))

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        """As of `Draws`, the same for every item, whose last two dimensions are those of the image. Raises ValueError
        for items that are no images."""
        if item_ndim < 2:
            raise ValueError(f"a field of noise is laid over images, not items of {item_ndim} axes")
        shape = x.shape[x.ndim - item_ndim :]
        dtype = torch.complex64 if x.is_complex() else torch.float32
        field = _normal(torch.Size((*shape[:-2], self.tile, self.tile)), dtype, self._generator)
        whole = field.repeat(*[1] * (item_ndim - 2), *(-(-n // self.tile) for n in shape[-2:]))
        down, across = (self._signs(n) for n in shape[-2:])
        laid = whole[..., : shape[-2], : shape[-1]] * down[:, None] * across
        return laid.to(device=x.device, dtype=x.dtype).expand(x.shape).contiguous()

    def _signs(self, n: int) -> Tensor:
        """Of n pixels along an axis, (n,): those of the fields they lie in.

        r(k) = (-1)^(how often 11 stands in k, written in binary), whose correlations vanish: Rudin, "Some theorems on
        Fourier coefficients", Proceedings of the AMS, 1959.
        """
        fields = range(-(-n // self.tile))
        signs = torch.tensor([1.0 - 2 * ((k & k >> 1).bit_count() % 2) for k in fields])
        return signs.repeat_interleave(self.tile)[:n]


def _follow(z: Tensor, r: float) -> None:
    """Independent slices (slices, ...) as a chain, each correlated with the one before it by r, in place."""
    for before, own in itertools.pairwise(z):
        own.mul_((1 - r**2) ** 0.5).add_(before, alpha=r)


def _normal(shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    if not dtype.is_complex:
        return torch.randn(shape, dtype=dtype, generator=generator)
    return torch.view_as_complex(torch.randn((*shape, 2), generator=generator))


def _item_seed(seed: int, name: str) -> int:
    digest = hashlib.sha256(_bytes(f"{seed}/{name}")).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # 63 bits: what torch accepts as a positive seed


def _bytes(name: str) -> bytes:
    """A name as it stands on the disk, whatever the locale: names of files may be no UTF-8."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")
