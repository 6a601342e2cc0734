"""Muon for convolution kernels, Adam for the rest: the optimiser of `restore train`.

Source: K. Jordan and others, "Muon: an optimizer for hidden layers in neural networks" (2024): momentum whose matrix is
replaced by its nearest orthogonal one (Newton-Schulz iteration), so that every direction of a kernel learns at
the same pace. Two CPU minutes of training the bundled denoiser end 0.7 to 1.0 dB of validation PSNR above Adam's two
minutes, and half of the time suffices to pass them (benchmarks/training_minutes.py, with a table in PERFORMANCE.md).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(gradient: Tensor, steps: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Nearest semi-orthogonal matrix of a kernel (out, in, ...) seen as (out, in * ...), by a quintic iteration.

    dtype: in which the iteration computes; the answer has the gradient's own. In bfloat16, as in the source, singular
    values land as near to 1 as in float32, since the iteration corrects its own rounding.
    """
    matrix = gradient.flatten(1).to(dtype)
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + torch.finfo(x.dtype).tiny)
    for _ in range(steps):
        gram = x @ x.T
        # The coefficients trade exact convergence for speed: singular values land near 1, which is enough.
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.T if tall else x).reshape_as(gradient).to(gradient.dtype)


class MuonAdam(torch.optim.Optimizer):
    """Muon on the given kernels, Adam on all other parameters, with one learning-rate factor for both.

    `factor` (0 to 1) is set by the training loop at every step: the schedule. dtype: of the orthogonalisation.
    """

    def __init__(
        self,
        kernels: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        *,
        lr_muon: float = 0.02,
        lr_adam: float = 1e-3,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        groups = [
            {"params": list(kernels), "lr": lr_muon, "muon": True},
            {"params": list(others), "lr": lr_adam, "muon": False},
        ]
        super().__init__(groups, {"momentum": momentum, "betas": (0.9, 0.99), "eps": 1e-8})
        self.factor, self.dtype = 1.0, dtype

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            update = self._muon if group["muon"] else self._adam
            for p in group["params"]:
                if p.grad is not None:
                    update(p, self.state[p], group)

    def _muon(self, p: nn.Parameter, state: dict, group: dict) -> None:
        velocity = state.setdefault("velocity", torch.zeros_like(p))
        velocity.mul_(group["momentum"]).add_(p.grad)
        nesterov = p.grad + group["momentum"] * velocity
        direction = orthogonalise(nesterov, dtype=self.dtype)
        aspect = max(1.0, p.shape[0] / p[0].numel()) ** 0.5
        p.add_(direction, alpha=-group["lr"] * self.factor * aspect)

    def _adam(self, p: nn.Parameter, state: dict, group: dict) -> None:
        if not state:
            state.update(step=torch.zeros(()), mean=torch.zeros_like(p), square=torch.zeros_like(p))
        (b1, b2), g = group["betas"], p.grad
        state["step"] += 1
        state["mean"].lerp_(g, 1 - b1)
        state["square"].mul_(b2).addcmul_(g, g, value=1 - b2)
        n = float(state["step"])
        scale = group["lr"] * self.factor * (1 - b2**n) ** 0.5 / (1 - b1**n)
        p.addcdiv_(state["mean"], state["square"].sqrt().add_(group["eps"]), value=-scale)


def split_parameters(
    network: nn.Module,
    adam_names: tuple[str, ...] = ("enter", "leave"),
    dtype: torch.dtype = torch.float32,
) -> MuonAdam:
    """The optimiser for a network: inner convolution kernels to Muon, first, last and small tensors to Adam."""
    kernels: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, p in network.named_parameters():
        inner = p.ndim == 4 and not name.startswith(adam_names)
        (kernels if inner else others).append(p)
    return MuonAdam(kernels, others, dtype=dtype)
