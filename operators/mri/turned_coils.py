"""Fewer coils for A^H A of a slice: turned into one another place by place, the faint ones are left out.

Called by the Cartesian operator; imports only torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

FAINT = 32
"""Units of rounding, of the energy of the coils at a place, that may be left out: 4e-6 in single precision, where FFTs
there and back round to 2e-7."""


def without_faint(maps: Tensor, axis: int | None) -> Tensor:
    """Maps with the same sum over coils of S^H F^H M F S but for the faint part, of fewer coils where there is one.

    maps: complex (*slices, coils, H, W). axis: -1 or -2, that which F does not transform; None where it transforms
    both. At every place along the axis the coils may be turned by a unitary matrix of its own, since F and M do the
    same to all of them; without an axis, by one matrix a slice. Turned to their principal components (geometric coil
    compression, Zhang et al., MRM 69:571, 2013, of the maps and not of the samples), smooth maps need few. All places
    get as many as the one that needs most. Maps of which nothing is faint, or not finite, are given back.
    """
    places = maps.flatten(-2).unsqueeze(-3) if axis is None else maps.movedim(axis, -3)
    gram = (places @ places.mH).to("cpu", torch.complex128)
    if not gram.numel() or not gram.isfinite().all():
        return maps
    energy, basis = torch.linalg.eigh(gram)
    few = _needed(energy.flatten(0, -2), torch.finfo(maps.dtype).eps)
    if few == maps.shape[-3]:
        return maps
    turned = basis[..., -few:].mH.to(maps.device, maps.dtype) @ places
    turned = (
        turned.squeeze(-3).unflatten(-1, maps.shape[-2:])
        if axis is None
        else turned.movedim(-3, axis)
    )
    return turned.contiguous()


def _needed(energy: Tensor, eps: float) -> int:
    """How many of the principal components every place keeps. energy: (places, coils), ascending."""
    allowed = FAINT * eps * energy.sum(-1, keepdim=True)
    faint = (energy.cumsum(-1) <= allowed).sum(-1)
    return max(1, energy.shape[-1] - int(faint.min()))
