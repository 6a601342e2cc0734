"""Weights by a recipe instead of a file: the same on every machine, and no layer of them is zero.

Published initialisations zero the last layers of blocks, where a wrong branch goes unseen. Kernels and matrices are
uniform with variance 1/fan-in, gains 1 and everything else 0, up to 0.2. Drawn from the raw bits of PCG64, which no
version of NumPy changes, seeded by the tensor's name.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

_GAINS = (".g", "running_var")


def drawn(name: str, shape: tuple[int, ...], width: float = 1.0, middle: float = 0.0) -> Tensor:
    """Uniform in middle +- width, float64."""
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape, dtype=int)))
    unit = (np.atleast_1d(bits) >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1
    return torch.from_numpy(middle + width * unit).reshape(shape)


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """What the recipe gives for a parameter or a floating buffer of this name and shape."""
    long = [n for n in shape if n > 1]
    if len(long) > 1 or (len(shape) in (2, 4) and shape[0] > 1):
        return drawn(name, shape, (3 / max(int(np.prod(shape[1:])), 1)) ** 0.5)
    gain = name.endswith(_GAINS) or (name.endswith("weight") and len(shape) == 1)
    return drawn(name, shape, 0.2, 1.0 if gain else 0.0)


def filled(build: Callable[[], nn.Module]) -> nn.Module:
    """A network in float64 with weights by the recipe; masks and what is in whole numbers stay as built."""
    with torch.device("meta"):
        network = build()
    shapes = network.state_dict()
    kept = {n for n, t in shapes.items() if not t.is_floating_point() or n.endswith("attn_mask")}
    with torch.random.fork_rng(devices=[]):  # layers draw as they are built
        built = build().state_dict() if kept else {}
    state = {n: built[n] if n in kept else weight(n, tuple(t.shape)) for n, t in shapes.items()}
    network.load_state_dict(state, assign=True)
    return network.double().eval().requires_grad_(False)
