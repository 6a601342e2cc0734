"""What DRUNet and FFDNet have in common: denoisers that are told the noise level as a map, in units of the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from restore.priors.base import Denoiser
from restore.priors.families.base import Case, beside, needed, outputs
from restore.priors.families.meaning import Meaning
from restore.priors.wrappers import FromDenoiser


def noise_unstated(channels: int, meaning: Meaning) -> list[str]:
    """Range of intensities and of noise; what becomes of complex images where there are one or two channels."""
    missing = needed(meaning, "range", "sigma_range")
    return missing + (needed(meaning, "complex_mode") if channels in (1, 2) else [])


def noise_mapped_denoiser(
    network: nn.Module, channels: int, meaning: Meaning, name: str
) -> Denoiser:
    """The denoiser of a network D(x, sigma), sigma (N,)."""
    assert meaning.range is not None  # noqa: S101  (for the type checker: see `noise_unstated`)
    assert meaning.sigma_range is not None  # noqa: S101
    low, high = meaning.sigma_range
    return FromDenoiser(
        network, sigma_min=low, sigma_max=high, sigma_as="vector", channels=channels, trained=meaning.range,
        complex_mode=meaning.complex_mode or "separate", name=name,  # type: ignore[arg-type]
    )  # fmt: skip


def noise_replay(network: nn.Module, arrays: Mapping[str, Tensor]) -> Iterator[Case]:
    """Stored outputs of images `x` and noise levels `sigma`, a number, one an image, or a map."""
    for output, reference in outputs(arrays).items():
        x, sigma = beside(arrays, output, "x"), beside(arrays, output, "sigma")
        if x is None or sigma is None or x.shape[2:] != reference.shape[2:]:
            continue
        level = sigma.to(x) if sigma.ndim == 4 else sigma.to(x).reshape(-1).expand(len(x))
        yield Case(output, reference, lambda x=x, s=level: network(x, s))  # type: ignore[misc]
