"""deepinv's DPS, DiffPIR and DDRM on our operators and with our networks, for `compare.py`.

Needs the peers' environment (README.md). `restore_with(name, case, steps)` gives the image of one case, or None where
deepinv has no such method for its operator. What its codes (0.5.0) need to be compared at all, all in their favour:

- DPS with its defaults does not use the data: the norm's gradient enters the score with a weight of beta_t, a hundred
  to a thousand times too small (correlation with the data 0.009 where the posterior's is 0.97). It runs with
  guidance="annealed", for which a weight of 1 is right.
- DPS and DiffPIR cut images to the range they work in, which halves complex ones (re and im lie below 0 as often as
  above). Complex images are handed over as (x + 1) / 2, with the measurement of that and the network to match.
- DPS steps as if the operator's norm were one: that of CT is divided by its norm.
- DiffPIR and DDRM take seed=0 for no seed: the global generator is seeded instead. DDRM writes into its y: it gets a
  copy. DDRM divides its noise by sqrt(2), a convention of complex data, and is left so.
- DDRM has a decomposition for inpainting, circular blur and denoising alone.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch
from cases import Case
from torch import Tensor

from restore.operators.image.blur import Blur
from restore.operators.image.inpainting import Inpainting
from restore.priors.store import load_denoiser

NAMES = ("deepinv DDRM", "deepinv DiffPIR", "deepinv DPS")


def there() -> bool:
    """Whether deepinv can be imported."""
    return importlib.util.find_spec("deepinv") is not None


def restore_with(name: str, case: Case, steps: int) -> tuple[Tensor, int] | None:
    """The image (in the units of the measurement) and the network calls made; None: not for this operator."""
    import deepinv

    bridge = _Bridge(deepinv, case)
    torch.manual_seed(0)
    if name == "deepinv DDRM":
        physics = _decomposed(deepinv, case)
        if physics is None:
            return None
        model = deepinv.sampling.DDRM(bridge.network, sigmas=np.linspace(1, 0, steps))
        return bridge.image(model(bridge.data.clone(), physics)), bridge.network.calls
    if name == "deepinv DiffPIR":
        model = deepinv.sampling.DiffPIR(
            bridge.network, deepinv.optim.data_fidelity.L2(), sigma=bridge.std, max_iter=steps
        )
    else:
        model = deepinv.sampling.DPS(
            bridge.network, num_steps=steps + 1, guidance="annealed",
            rng=torch.Generator().manual_seed(0), dtype=torch.float32,
        )  # fmt: skip
    with torch.no_grad():
        return bridge.image(model(bridge.data, bridge.physics)), bridge.network.calls


class _Bridge:
    """Images as (1, C, H, W), re and im as two channels, in unit intensities; complex ones as (x + 1) / 2."""

    def __init__(self, deepinv: Any, case: Case) -> None:
        self.case, self.complex = case, case.operator.is_complex
        self.gain, self.offset = (2.0, -1.0) if self.complex else (1.0, 0.0)
        self.norm = float(case.operator.norm()) if case.operator.kind == "ct" else 1.0  # type: ignore[attr-defined]
        self.std = case.std / self.norm
        self.network = _network(deepinv, self, "natural" if case.photograph else "medical")
        self.physics = _physics(deepinv, self)
        y = case.y / case.scaling.scale / self.norm
        if self.complex:
            ones = torch.complex(*[torch.ones(case.operator.in_shape)] * 2)
            y = y - self.offset * case.operator(ones) / self.norm
        self.data = self.packed(y)

    def packed(self, z: Tensor) -> Tensor:
        if self.complex:
            return torch.view_as_real(z).movedim(-1, 1).contiguous()
        if self.case.photograph:
            return z if z.ndim == 4 else z[None]
        return z[:, None]

    def unpacked(self, z: Tensor) -> Tensor:
        if self.complex:
            return torch.view_as_complex(z.movedim(1, -1).contiguous().float())
        return z.float() if self.case.photograph else z[:, 0].float()

    def image(self, found: Tensor) -> Tensor:
        """An answer in the units of the measurement."""
        x = self.unpacked(self.gain * found + self.offset) * self.case.scaling.scale
        return x[0].detach()


def _network(deepinv: Any, bridge: _Bridge, name: str) -> Any:
    inner = load_denoiser(name)

    class Network(deepinv.models.Denoiser):
        calls = 0

        def forward(self, x: Tensor, sigma: Any, **_: Any) -> Tensor:
            self.calls += 1
            s = bridge.gain * float(torch.as_tensor(sigma).flatten()[0])
            image = (bridge.gain * x + bridge.offset).float()
            clean = inner(image.reshape(-1, inner.channels, *x.shape[-2:]), s).reshape(x.shape)
            return ((clean - bridge.offset) / bridge.gain).to(x.dtype)

    return Network()


def _physics(deepinv: Any, bridge: _Bridge) -> Any:
    operator: Any = bridge.case.operator
    gain = bridge.gain / bridge.norm

    class Physics(deepinv.physics.LinearPhysics):
        def A(self, x: Tensor, **_: Any) -> Tensor:
            return bridge.packed(operator(bridge.unpacked(x)) * gain).to(x.dtype)

        def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
            return bridge.packed(operator.adjoint(bridge.unpacked(y)) * gain).to(y.dtype)

    return Physics(noise_model=deepinv.physics.GaussianNoise(bridge.std))


def _decomposed(deepinv: Any, case: Case) -> Any:
    """deepinv's own operator, where it has a singular value decomposition."""
    operator, noise = case.operator, deepinv.physics.GaussianNoise(case.std)
    shape = tuple(operator.in_shape)
    if isinstance(operator, Inpainting):
        mask = operator.mask.expand(shape)
        return deepinv.physics.Inpainting(shape, mask=mask, noise_model=noise)
    if isinstance(operator, Blur) and operator.boundary == "circular":
        return deepinv.physics.BlurFFT(shape, filter=operator.kernel[None, None], noise_model=noise)
    if "identity" in operator.abilities:
        physics = deepinv.physics.Inpainting(shape, mask=torch.ones(shape), noise_model=noise)
        return physics
    return None
