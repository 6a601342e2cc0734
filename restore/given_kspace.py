"""K-space that a script brings, held against its operator: what cannot be right is said.

Called by `restore.solve` for Cartesian k-space; looks at the first slices of the measurement, touches nothing.
The readers
of files refuse what is only noted here: in a script the caller knows his operator.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from restore.datasets.mri.checks.axes import check_axes
from restore.datasets.mri.checks.kspace_order import order_of
from restore.datasets.mri.receivers.noise_estimation import kspace_noise_std
from restore.datasets.stack import LazyStack
from restore.errors import InputError
from restore.noise import Gaussian, Noise
from restore.operators.contract import Operator

LOOKED_AT = 3
"""Slices."""

LEFT_OUT, CLAIMED = 0.001, 0.01
"""Of the samples that are not zero, those outside the mask; of the mask's samples, those that are zero."""

TOO_LOUD, TOO_QUIET = 3.0, 30.0
"""As for files: times the level that the corners show (`restore.datasets.mri.scan`)."""


def is_cartesian(operator: Operator) -> bool:
    """Whether measurements of an operator are planes of k-space of its image's size."""
    out = tuple(operator.out_shape)
    return operator.kind == "mri" and len(out) >= 3 and out[-2:] == tuple(operator.in_shape[-2:])


def doubts_of_kspace(y: Tensor, operator: Operator, noise: Noise | None) -> list[str]:
    """Notes on complex k-space (*batch, *operator.out_shape) that is not what its operator models.

    Samples outside the mask, zeros inside it, a zero frequency or an image elsewhere than in the middle, axes
    in another
    order, a level of the noise (None: not told) that the corners contradict.
    """
    slices = y.detach().reshape(-1, *y.shape[-3:])[:LOOKED_AT].resolve_conj().cpu().numpy()
    seen = operator.project(y).detach().reshape(-1, *y.shape[-3:])[:LOOKED_AT]
    kept = seen.resolve_conj().cpu().numpy()
    notes = _of_mask(slices, kept, operator, y)
    stack = LazyStack(kept.shape, lambda i: kept[i].astype(np.complex64))
    where = Path("the measurement")
    try:
        check_axes(stack, where, notes)
        order_of(stack, "", where, notes)
    except InputError as error:
        notes.append(
            f"{error.why}; the operator wants (coils, H, W) with the zero frequency and the image at n // 2"
        )
    return [*notes, *_of_noise(kept, noise)]


def _of_mask(slices: np.ndarray, kept: np.ndarray, operator: Operator, y: Tensor) -> list[str]:
    ones = operator.project(y.new_ones(y.shape)).detach().reshape(-1, *y.shape[-3:])[:LOOKED_AT]
    mask = (ones.resolve_conj().cpu().numpy() != 0).any(axis=1)
    there = ((slices != 0) & np.isfinite(slices)).any(axis=1)
    filled = mask & there.any(axis=(1, 2), keepdims=True)
    outside = float((there & ~mask).sum()) / max(1, int(there.sum()))
    zeros = float((filled & ~(kept != 0).any(axis=1)).sum()) / max(1, int(filled.sum()))
    notes = []
    if outside > LEFT_OUT:
        notes.append(
            f"{outside:.1%} of the samples that are not zero lie outside the mask: left out"
        )
    if zeros > CLAIMED:
        notes.append(
            f"{zeros:.1%} of the samples of the mask are zero in every coil: if they were not measured, "
            "take them out of "
            "the mask"
        )
    return notes


def _of_noise(kept: np.ndarray, noise: Noise | None) -> list[str]:
    stated = noise.std if isinstance(noise, Gaussian) else None
    everywhere = np.ones(kept.shape[-1], bool)  # what is zero is left out
    levels = [level for k in kept if (level := kspace_noise_std(k, everywhere))]
    if not isinstance(stated, float) or not levels:
        return []
    found = float(np.median(levels))
    if found / TOO_QUIET <= stated <= TOO_LOUD * found:
        return []
    return [
        f"the noise is stated as {stated:.3g}, and the corners of k-space show {found:.3g}: look at the "
        "level and its unit"
    ]
