"""How much particles disagree about what a line would measure: the two adaptive policies.

Used by `choosing`; functions of tensors alone. Both depend on the particles only by the squared distances between
their predictions, d_ij^2 = ||A_l x_i - A_l x_j||^2 for line l:

- `spread_of` ("variance"): the mean of d_ij^2 / 2 over pairs: the trace of the particles' covariance of the line;
- `entropy_of` ("ads"): the entropy of a mixture of Gaussians of deviation s about the particles, up to a constant,
  estimated by pairwise distances, -mean_i log mean_j exp(-d_ij^2 / (2 s^2)).

Nolan, Stevens, van Nierop, van Sloun, "Active diffusion subsampling", 2024 (arXiv 2406.14388): particles of a diffusion
posterior, and the entropy of that mixture as what the next line is chosen by. The estimate is that of Kolchinsky,
Tracey, "Estimating mixture entropy with pairwise distances", Entropy 2017.
Differs from the paper: s^2 is the noise's variance and the mean of d^2 over lines and pairs. With the noise
alone the entropy is log K for every line as soon as K particles lie further apart than the noise, and chooses nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distances(predicted: Tensor) -> Tensor:
    """d_ij^2 of every line and item: (K, items, numbers, lines) -> (lines, items, K, K), zero on the diagonal."""
    centred = predicted - predicted.mean(0)  # small numbers, which subtract exactly enough
    of_lines = centred.permute(3, 1, 0, 2)
    gram = of_lines @ of_lines.mT
    own = gram.diagonal(dim1=-2, dim2=-1)
    apart = own.unsqueeze(-1) + own.unsqueeze(-2) - 2 * gram
    return apart.clamp(min=0) * (1 - torch.eye(len(predicted), dtype=apart.dtype))


def spread_of(distances: Tensor, noise_variance: float = 0.0) -> Tensor:
    """The variance of each line, summed over its numbers and the items: (lines, items, K, K) -> (lines,).

    Unbiased over particles. noise_variance: not used, it is that of every line.
    """
    k = distances.shape[-1]
    return distances.sum((-3, -2, -1)) / (2 * k * (k - 1))


def entropy_of(distances: Tensor, noise_variance: float = 0.0) -> Tensor:
    """The entropy of each line's mixture above that of one Gaussian, summed over items: -> (lines,), 0 to log K each.

    noise_variance: of a real number measured, in the units of the distances.
    """
    k = distances.shape[-1]
    typical = distances.sum((0, -2, -1), keepdim=True) / (len(distances) * k * (k - 1))
    width = (noise_variance + typical).clamp(min=torch.finfo(distances.dtype).tiny)
    return -torch.exp(-distances / (2 * width)).mean(-1).log().mean(-1).sum(-1)


ADAPTIVE = {"ads": entropy_of, "variance": spread_of}
"""Policies that look at what was measured."""
