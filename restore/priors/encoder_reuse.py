"""The U-Net's encoder asked at some noise levels only: between them its features are used again.

Li, Hu, van de Weijer and others, "Faster Diffusion: rethinking the role of the encoder for diffusion model
inference", NeurIPS 2024: features of the encoder change little from level to level, those of the decoder much, so that
at "non-key" levels the decoder is given the features of the last key level and the embedding of its own.

Differs from the paper:
- key levels are not a list chosen for one schedule: every `every`-th call is one, and every call whose state has moved
  by more than `MOVED` of its noise. The features hold the noise that they were shown; where a sampler draws new noise,
  the decoder would take away what is no longer there (inpainting lost 3.7 dB so). Such chains get no reuse, and a note.
- no prior noise is injected at the end, and levels are not run in parallel.

Put around the network of a loaded denoiser by `priors.network_options`; holds features of one run and touches no files.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from restore.priors.unet import Features, UNet

MOVED = 0.5
"""Of its noise a state may have moved since its features were made. Along an ODE neighbouring levels are 0.1 to 0.4
apart at 20 to 100 levels, states with new noise 1.2 and more."""
MOST_KEPT = 16
"""Calls of a level (chunks of slices, re and im, tiles) whose features are kept; others are computed in full."""


@dataclasses.dataclass(eq=False)
class _Kept:
    """Features of one call of a level: the state that they were made of, and how often they have been used again."""

    state: Tensor
    features: Features
    uses: int = 0


class EncoderReuse(nn.Module):
    """A U-Net whose encoder's features serve `every` calls, where the state allows it.

    Called as the U-Net, network(x, noise) with x = c_in (x0 + sigma n) and noise = ln(sigma)/4 of `EDMDenoiser`, whose
    `sigma_data` it needs to know the state. Where gradients are followed, or a batch has several levels or a map of
    them, it is the U-Net. `calls` and `reused` count since `remarks`.
    """

    def __init__(self, network: UNet, every: int, sigma_data: float) -> None:
        super().__init__()
        self.network, self.every, self.sigma_data = network, every, sigma_data
        self.calls, self.reused = 0, 0
        self._level, self._place = float("inf"), 0
        self._kept: dict[int, _Kept] = {}

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """As of the U-Net."""
        self.calls += 1
        followed = torch.is_grad_enabled() and x.requires_grad
        if followed or noise.ndim > 1 or not bool((noise == noise[0]).all()):
            answer: Tensor = self.network(x, noise)
            return answer
        sigma = float((4 * noise[0].double()).exp())
        self._go_to(sigma)
        embedding = self.network.embedded(noise)
        state = x.float() * (sigma**2 + self.sigma_data**2) ** 0.5
        kept = self._kept.get(self._place)
        if kept is None or not self._serves(kept, state, sigma):
            kept = _Kept(state, self.network.encoded(x, embedding))
            if self._place < MOST_KEPT:
                self._kept[self._place] = kept
        else:
            kept.uses += 1
            self.reused += 1
        self._place += 1
        return self.network.decoded(kept.features, embedding)

    def remarks(self) -> tuple[str, ...]:
        """What has to be said of the calls since the last time, in a sentence; nothing where there were none."""
        calls, reused = self.calls, self.reused
        self.calls, self.reused, self._level, self._place = 0, 0, float("inf"), 0
        self._kept.clear()
        if not calls:
            return ()
        if reused:
            return (
                f"encoder features were used again in {reused} of {calls} network calls (reuse={self.every})",
            )
        return (
            f"encoder features were used again in none of {calls} network calls (reuse={self.every}): each state had "
            f"moved by more than {MOVED:g} of its noise, as where a sampler draws new noise at every level or follows "
            "gradients; leave reuse out, or take a chain without new noise (dds, diffpir: eta=0)",
        )

    def _go_to(self, sigma: float) -> None:
        """The calls of a level follow each other; at the next one they come in the same order."""
        if sigma != self._level:
            self._level, self._place = sigma, 0

    def _serves(self, kept: _Kept, state: Tensor, sigma: float) -> bool:
        """Whether kept features may stand for those of a state."""
        was = kept.state
        if kept.uses + 1 >= self.every or was.shape != state.shape or was.device != state.device:
            return False
        moved = torch.linalg.vector_norm(state - was) / state.numel() ** 0.5
        return float(moved) <= MOVED * sigma
