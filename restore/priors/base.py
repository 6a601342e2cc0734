"""The denoiser contract: `prior(x, sigma)` is the posterior mean of x0 given x = x0 + sigma n.

Samplers see nothing else of a prior. Wrappers for the field's parametrisations stand in `wrappers.py`, the bundled
network in `edm.py`, exact ones for tests in `analytic.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from restore.errors import ConfigError
from restore.priors.networks import copied_to
from restore.priors.tiles import USUAL, Tiling

ComplexMode = Literal["separate", "channels", "magnitude"]

ROUNDING = 1e-3
"""Share by which a noise range may be left: levels that passed through float32, or were printed with four digits in a
paper, differ by less."""
DROWNED = 10.0
"""Noise of so many times the intensity range leaves nothing of an image: a denoiser that is valid up to there answers
with about the mean image at any higher level too."""
FAINT = 0.02
"""Noise of this share of the intensity range, 5 grey levels of 8 bits, is about what fine detail is worth: a denoiser
that is valid from there may be asked there instead of lower."""


class Denoiser(ABC):
    """A prior, seen through its minimum-mean-square-error denoiser (Tweedie's formula).

    `channels`: channels of the images it was trained on, 0 for any number. `sigma_min`, `sigma_max`: noise range it
    is valid in, in units of its own images. `intensity`: what range the images had (stated, never enforced: nothing is
    clipped).
    `complex_mode`: how complex images pass through it: re and im one after the other ("separate"), as two
    channels ("channels"), or the magnitude alone with the phase kept ("magnitude"). `turnable`: images were
    trained in all eight orientations, so that a sampler may show them turned. `foreign`: somebody else's code, which
    the front door tries before the work. `local`: a pixel of the answer depends on a neighbourhood, so that images
    too large for memory may be shown in tiles, and `tiling` how (`restore.priors.tiles`). `knows_error`: `error_power`
    has an answer; `knows_images`: `image_law` has one.
    `scaling`: by what rules intensities became [0, 1] in training, for "MR", "CT" and "picture" (`restore.scaling`);
    empty where nobody says.
    `kind` "region": each pixel may have noise of a level of its own, none included (`restore.priors.region`).
    `halves`: its network was measured to answer as well in half precision (`priors.network_precision`).
    """

    kind: ClassVar[str] = "denoiser"
    channels: int = 1
    sigma_min: float = 0.0
    sigma_max: float = float("inf")
    intensity: tuple[float, float] = (0.0, 1.0)
    complex_mode: ComplexMode = "separate"
    turnable: bool = False
    foreign: bool = True
    local: bool = True
    halves: bool = False
    tiling: Tiling = USUAL
    name: str = ""
    scaling: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """E[x0 | x]. x: (N, channels, H, W) real; sigma: a number or (N,), of a region prior also (N, 1, H, W).

        Returns the shape of x.
        """

    @property
    def knows_error(self) -> bool:
        """Whether `error_power` is known."""
        return False

    def error_power(self, sigma: float, shape: tuple[int, ...]) -> Tensor | None:
        """The mean power of D(x, sigma) - x0 at every frequency of the 2-D DFT of planes (H, W), the last two of shape.

        In squared intensities a pixel, (H, W) or (C, H, W), real; None where it is not known (`priors.error_spectrum`).
        """
        return None

    @property
    def knows_images(self) -> bool:
        """Whether `image_law` is known."""
        return False

    def image_law(self, shape: tuple[int, ...], *, centred: bool = True) -> tuple[Tensor, Tensor]:
        """The Gaussian that its images are like: the mean, and the covariance at every frequency of the 2-D DFT.

        Of planes (H, W), the last two of shape: both broadcast to (C, H, W), real. centred: around the mean, else
        around zero (`priors.image_spectrum`). Raises ConfigError where it is not known.
        """
        raise ConfigError(
            f"the prior '{self.name}' does not know its images; run `restore train gaussian`"
        )

    def remarks(self) -> tuple[str, ...]:
        """What a user must know of how it answered since this was asked last; mostly nothing."""
        return ()

    def to(self, target: torch.device | str | torch.dtype) -> Self:
        """The same prior on another device or in another precision: a copy, or itself where nothing changes."""
        return copied_to(self, target)


def per_item(sigma: float | Tensor, x: Tensor) -> Tensor:
    """`sigma` as a tensor of shape (N, 1, 1, ...) beside x (N, ...), in x's real precision."""
    real = x.real.dtype if x.is_complex() else x.dtype
    s = torch.as_tensor(sigma, dtype=real, device=x.device)
    return s.expand(x.shape[0]).reshape(-1, *[1] * (x.ndim - 1))


def per_pixel(sigma: float | Tensor, x: Tensor) -> Tensor:
    """`sigma` as (N, 1, H, W) beside x (N, C, H, W), in x's precision; a number, (N,) or such a map."""
    levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    levels = levels if levels.ndim == x.ndim else per_item(levels, x)
    return levels.expand(len(x), 1, *x.shape[-2:])


def check_level(
    sigma: float,
    sigma_range: tuple[float, float],
    intensity: tuple[float, float],
    name: str,
    asked: str = "",
    what: str = "images",
) -> None:
    """Raise ConfigError for a noise level at which a prior cannot be asked. what: images or codes have the noise.

    Above the range it can where the range ends so high that images are drowned (`DROWNED`); below it is asked at the
    range's lower end, where that is low enough (`FAINT`). asked: who asks for what, in words.
    """
    (low, high), width = sigma_range, intensity[1] - intensity[0]
    above = sigma > high * (1 + ROUNDING) and high < DROWNED * width
    below = sigma < low * (1 - ROUNDING) and low > FAINT * width
    if above or below:
        images = f"{what} of {intensity[0]:g}..{intensity[1]:g}"
        raise ConfigError(
            f"prior '{name}' is valid for noise of {low:.3g} to {high:.3g} in {images}, and "
            f"{asked or f'it was asked at {sigma:.3g}'}; set levels that it knows (sigma_start, sigma_end, sigma_max, "
            "sigma_min of the sampler), or take another prior"
        )


def pad_sides(x: Tensor, multiple: int) -> Tensor:
    """Grow the sides to a multiple: by reflection, or by repeating the edge where the image is too small."""
    right, below = -x.shape[-1] % multiple, -x.shape[-2] % multiple
    if not (right or below):
        return x
    small = right >= x.shape[-1] or below >= x.shape[-2]
    return F.pad(x, (0, right, 0, below), mode="replicate" if small else "reflect")
