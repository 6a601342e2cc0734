"""Perlin noise: smooth random fields whose patches have one size, for maps of noise levels.

Perlin, "Improving noise", SIGGRAPH 2002, in two dimensions with random unit gradients. Called by
`restore.training.region`; draws from the generator that it is given, touches no files.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def perlin_noise(side: int, cell: float, generator: torch.Generator) -> Tensor:
    """A field (side, side), float32, of mean about zero and within +-0.71; cell: of its lattice, in pixels, above 0.

    The lattice begins at a random place of a cell. At its points the field is zero and rises by the gradient drawn
    there; between them four gradients are mixed by 6 t^5 - 15 t^4 + 10 t^3. Values further apart than two cells are
    independent.
    """
    start = torch.rand(2, generator=generator)
    place = start[:, None] + torch.arange(side) / cell  # (2, side): rows, columns
    corner = place.floor().long()
    within = place - corner
    count = int(corner.max()) + 2
    angle = 2 * math.pi * torch.rand(count, count, generator=generator)
    gradients = torch.stack([angle.cos(), angle.sin()])
    rise = within**3 * (within * (6 * within - 15) + 10)
    total = torch.zeros(side, side)
    for down in (0, 1):
        for right in (0, 1):
            g = gradients[:, corner[0][:, None] + down, corner[1][None] + right]
            slope = g[0] * (within[0] - down)[:, None] + g[1] * (within[1] - right)[None]
            weight_down = rise[0] if down else 1 - rise[0]
            weight_right = rise[1] if right else 1 - rise[1]
            total += weight_down[:, None] * weight_right[None] * slope
    return total
