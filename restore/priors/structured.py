"""Kinds of structured noise by name: what people write as `second_prior`, made for the measurements of one operator.

Called by `restore.samplers.joint`. Every kind here is analytic: its denoiser is a closed formula, or
it is sought before the chain. A weight file is a learnt one, of pictures of the noise itself; it is read here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from restore.config import did_you_mean
from restore.errors import ConfigError
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Identity
from restore.operators.mri.fourier import fftc, ifftc
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.base import Denoiser
from restore.priors.demand import Demand
from restore.priors.group_sparse import GroupSparse
from restore.priors.image_prior import ImagePrior
from restore.priors.kept import loaded
from restore.priors.matching import check
from restore.priors.networks import copied_to, in_eval_mode
from restore.priors.off_bins import OffBins
from restore.priors.second import FromFunction, SecondUnknown
from restore.priors.sought import Sought
from restore.priors.traits import card_traits
from restore.priors.veil import Veil


@dataclasses.dataclass(frozen=True)
class Numbers:
    """std: deviation of the noise where it is, as it looks in the image, in unit intensities. rate: the share of places
    that are hit. width: over which it varies, a share of the height. None: the kind's own."""

    std: float | None = None
    rate: float | None = None
    width: float | None = None


@dataclasses.dataclass(frozen=True)
class Structure:
    """A kind of structured noise. what: in words. kinds: of operators whose measurements have it. make: for an
    operator, with std and what else it has, rate or width. usual: these numbers where nobody says."""

    what: str
    kinds: tuple[str, ...]
    make: Callable[..., SecondUnknown]
    usual: Numbers
    sought: type[Sought] | None = None


def check_name(name: str, kind: str, numbers: Numbers) -> None:
    """Refuse, before there are data, a kind of structured noise that does not exist, that measurements of this kind do
    not have ("": not known
    yet), or that has no such numbers; a weight file that is no denoiser. Raises ConfigError, WeightsError."""
    given = {k: v for k, v in dataclasses.asdict(numbers).items() if v is not None}
    if is_file(name):
        found = card_traits(name)
        if found.kind != "denoiser":
            raise ConfigError(
                f"second_prior: '{name}' is a {found.kind} prior, expected a denoiser"
            )
        if given:
            raise ConfigError(
                f"second_prior: '{name}' is learnt and has no {', '.join(given)}; leave out second_{next(iter(given))}"
            )
        return
    if name not in STRUCTURES:
        raise ConfigError(
            f"second_prior: no structured noise '{name}'{did_you_mean(name, STRUCTURES)}; there are: "
            f"{', '.join(STRUCTURES)}, or a weight file NAME.safetensors"
        )
    found_kind = STRUCTURES[name]
    if kind and kind not in found_kind.kinds:
        fit_in = [n for n, s in STRUCTURES.items() if kind in s.kinds]
        raise ConfigError(
            f"second_prior: '{name}' is of measurements of the kind {' or '.join(found_kind.kinds)}, and this one is "
            f"'{kind}'; use {' or '.join(fit_in)}"
        )
    for number in given:
        if getattr(found_kind.usual, number) is None:
            raise ConfigError(f"second_prior: '{name}' has no {number}; leave out second_{number}")


def is_file(name: str) -> bool:
    """Whether a name is that of a weight file."""
    return Path(name).suffix == ".safetensors"


def second_unknown(
    name: str, operator: LinearOperator, numbers: Numbers, levels: tuple[float, float]
) -> SecondUnknown:
    """The structured noise of an operator's measurements: u has their shape, and B is the identity.

    numbers: what replaces the kind's own. levels: the lowest and the highest noise at which it will be asked. Raises
    ConfigError and WeightsError as `check_name`, and for measurements in which this noise has not its form.
    """
    check_name(name, operator.kind, numbers)
    if is_file(name):
        return _learnt(name, operator, levels)
    kind = STRUCTURES[name]
    own = {k: v for k, v in dataclasses.asdict(kind.usual).items() if v is not None}
    told = {k: v for k, v in dataclasses.asdict(numbers).items() if v is not None}
    return kind.make(operator, *(own | told).values())


def _herringbone(operator: LinearOperator, std: float, rate: float) -> SecondUnknown:
    """A spike of k-space is a wave over the whole image."""
    encoding = _cartesian(operator, "herringbone")
    pixels = math.prod(encoding.in_shape[encoding.slice_ndim :])
    coils = -1 - encoding.image_ndim
    sparse = GroupSparse(std * pixels**0.5, rate, (coils,), _taken(operator))
    return SecondUnknown(_as_measured(operator), sparse, "herringbone")


def _zipper(operator: LinearOperator, std: float, rate: float) -> SecondUnknown:
    """A tone is a row of the image; readouts lie along the axis before the last."""
    encoding, there = _cartesian(operator, "zipper"), _taken(operator)
    if encoding.image_ndim != 2 or bool((there != there[..., :1, :]).any()):
        raise ConfigError(
            f"{operator}: a zipper is told by whole readouts along the rows, and samples of them are missing; use "
            "second_prior=herringbone, or a mask of whole columns"
        )
    sparse = GroupSparse(
        std, rate, (-3, -1), there,
        transform=lambda u: ifftc(u.mT, 1).mT, inverse=lambda c: fftc(c.mT, 1).mT,
    )  # fmt: skip
    return SecondUnknown(_as_measured(operator), sparse, "zipper")


def _stripes(operator: LinearOperator, std: float) -> SecondUnknown:
    """A bin of the detector that errs alike in all views."""
    if operator.measured_ndim != 2:
        raise ConfigError(
            f"{operator}: second_prior=stripes is of sinograms (views, bins), and a measurement is {operator.out_shape}"
        )
    return SecondUnknown(_as_measured(operator), OffBins(operator, std), "stripes")


def _haze(operator: LinearOperator, std: float, width: float) -> SecondUnknown:
    if "identity" not in operator.abilities or len(operator.out_shape) < 2:
        raise ConfigError(
            f"{operator}: haze is told by the brightness of pictures (H, W) as they are; take it off by --task denoise "
            "first, then do what else there is"
        )
    return SecondUnknown(_as_measured(operator), Veil(operator.out_shape[-2:], std, width), "haze")


def _learnt(name: str, operator: LinearOperator, levels: tuple[float, float]) -> SecondUnknown:
    """A denoiser of pictures of the noise as it is measured."""
    item = operator.out_shape[len(operator.out_shape) - operator.measured_ndim :]
    asked = Demand(
        "joint", ("denoiser",), operator.kind, operator=f"the structured noise of {operator}", item_shape=item,
        is_complex=operator.is_complex, levels=levels,
    )  # fmt: skip
    check(card_traits(name), asked)
    model = copied_to(loaded(name), operator.device)
    if not isinstance(model, Denoiser):
        raise ConfigError(f"second_prior: '{name}' is no denoiser")
    prior = ImagePrior(model, item, operator.is_complex)

    def denoised(u: Tensor, sigma: float) -> Tensor:
        with in_eval_mode(model):
            return prior(u, sigma)

    return SecondUnknown(_as_measured(operator), FromFunction(denoised), name)


def _cartesian(operator: LinearOperator, name: str) -> MultiCoilMRI:
    if isinstance(operator, MultiCoilMRI):
        return operator
    raise ConfigError(
        f"{operator}: second_prior={name} is of Cartesian k-space, complex images and one set of coil maps; leave out "
        "--maps-sets, --partial-fourier and --field-map, or take another sampler than joint"
    )


def _taken(operator: LinearOperator) -> Tensor:
    """1 where a measurement has numbers, 0 elsewhere: out_shape."""
    every = torch.ones(operator.out_shape, dtype=operator.dtype, device=operator.device)
    return operator.project(every).abs()


def _as_measured(operator: LinearOperator) -> Identity:
    """B for noise that is added to the measurement as it is."""
    slices = len(operator.out_shape) - operator.measured_ndim
    like = torch.empty(0, dtype=operator.dtype, device=operator.device)
    return Identity(operator.out_shape, operator.is_complex, slices, like)


STRUCTURES = {
    "herringbone": Structure(
        "spikes: single samples of k-space, in all coils", ("mri",), _herringbone, Numbers(0.1, rate=1e-3)
    ),
    "zipper": Structure(
        "tones: single frequencies of the readout, in all lines and coils", ("mri",), _zipper, Numbers(0.5, rate=0.01)
    ),
    "stripes": Structure(
        "bins of the detector that err alike in all views", ("ct",), _stripes, Numbers(0.01), OffBins
    ),
    "haze": Structure(
        "a veil that falls off with depth", ("image",), _haze, Numbers(0.2, width=0.15), Veil
    ),
}  # fmt: skip
