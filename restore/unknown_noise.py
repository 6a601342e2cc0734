"""The noise of a measurement where nobody has said how strong it is, and whether what was said fits.

One place for every sampler and verb.

Called by `restore.solve` and by the image pipeline; looks at the measurement and at what its operator says of itself,
touches nothing and draws nothing. Which estimate suits depends on what was measured: a picture's finest wavelets, the
corners of k-space, rays through air.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.datasets.ct.detector.noise_estimation import doubt_of_air, note_of_air, photons_of_air
from restore.datasets.mri.receivers.noise_estimation import kspace_noise_std
from restore.errors import ConfigError, ShapeError
from restore.noise import EdgeError, Exact, Gaussian, Noise, PostLogPoisson, PreLogPoisson
from restore.noise_estimation import LEAST_SIDE, doubt_of_size, white_noise_std
from restore.operators.contract import Operator
from restore.problem import Problem
from restore.unexplained import (
    EDGE_BINS,
    TOO_BAD,
    Unexplained,
    doubt_of_one_level,
    is_rays,
    worst_unexplained,
)

PICTURES = ("denoise", "inpaint", "deblur", "superres", "declip")
"""Tasks whose measurement is a picture, with noise that is finer than what it shows."""

OTHER_PICTURE, ANSWER_LEAVES = 3.0, 0.2
"""Deviations of the noise, and share of the measurement's norm. Bundled conditional priors leave 0.02 to
0.1 by themselves, a picture of something else 0.6 to 1."""

LARGEST_SHARE = 0.3
"""Of a measurement's own deviation: more than that, and a measurement of unknown kind is no picture with noise but
something rough, such as random projections."""

ALIKE = 1.1
"""Factor between the levels of several pictures up to which they have one level, their median."""

ROUNDING = 1e-6
"""Of a measurement's root mean square: weaker noise than that is the rounding of single precision, and is none."""

TOO_GOOD = 0.6
"""Misfit, in units of the noise, below which a result contradicts its level, as above `TOO_BAD`."""

LEFT_OF_EXACT = 0.005
"""Of an exact measurement, what the data steps of a single level leave at most: 0.003 of blur, 0.002 of k-space. Noise
of 0.005 of white leaves 0.008."""

FINE_TEXTURE = 0.05
"""What a photograph's own texture can pretend to be, in intensities of 0..1: the estimate of a lawn is 0.04."""

TWO_ROUNDINGS = 2 / 255 / 12**0.5
"""Of a picture of 8 bits, in intensities of 0..1: less than that stated takes no details away."""


@dataclasses.dataclass(frozen=True)
class EstimatedNoise:
    """noise: a model, or None where none can be told. note: a sentence that says what was done, and what to do."""

    noise: Noise | None
    note: str


def estimated_noise(y: Tensor, operator: Operator) -> EstimatedNoise:
    """The noise of y = A(x) + noise from y alone.

    y: (*batch, *operator.out_shape). k-space: from its corners; sinograms: from rays through air, as counts, else as
    pictures; pictures: `white_noise_std` of what was measured, over all channels, one level for each picture where they
    differ; counts: Poisson. Raises ShapeError for a measurement of another shape.
    """
    if operator.task == "counts":
        return EstimatedNoise(PreLogPoisson(), "the noise was not given: Poisson's, of counts")
    y = operator.project(y).detach()
    if operator.kind == "mri" and not operator.is_complex and y.shape[-1] == 2:
        y = torch.view_as_complex(y.contiguous())  # pairs, of images that are held real
    if operator.kind == "mri" and y.is_complex() and len(operator.out_shape) >= 3:
        return _told(_of_kspace(y), y, "the corners of k-space")
    if operator.kind == "ct":
        photons = photons_of_air(_sinograms(y))
        if photons is not None:
            return EstimatedNoise(PostLogPoisson(photons), note_of_air(photons))
    found = _told(_of_pictures(y, operator), y, "the measurement's finest details")
    if not isinstance(found.noise, Gaussian):
        return found
    doubt = doubt_of_size(*y.shape[-2:], whole=_known(y, operator) is None)
    return dataclasses.replace(found, note=f"{found.note}; {doubt}" if doubt else found.note)


def _told(level: float | Tensor | None, y: Tensor, where: str) -> EstimatedNoise:
    """A Gaussian model with its note."""
    if level is None:
        return EstimatedNoise(
            None, "the noise was not given and cannot be told from this measurement, which was taken for exact; "
            "give noise=std (0: exact)",
        )  # fmt: skip
    rms = float(torch.linalg.vector_norm(y)) / max(1, y.numel()) ** 0.5
    if float(torch.as_tensor(level).max()) <= ROUNDING * rms:
        return EstimatedNoise(
            Exact(), f"the noise was not given: none was found in {where}; taken for exact"
        )
    if isinstance(level, Tensor):
        text = f"{float(level.min()):.3g} to {float(level.max()):.3g}"
        # A picture without noise beside noisy ones: a precision has to be finite.
        level = level.clamp(min=ROUNDING * rms)
    else:
        text = f"{level:.3g}"
    note = f"the noise was not given: estimated as {text} from {where}; give noise=std where it is known"
    return EstimatedNoise(Gaussian(level), note)


def _of_kspace(y: Tensor) -> float | None:
    """The median over slices: one receiver has one level."""
    kspace = y.to(torch.complex128).cpu().numpy().reshape(-1, *y.shape[-3:])
    everywhere = np.ones(y.shape[-1], dtype=bool)  # what was not measured is zero, and left out
    found = [kspace_noise_std(k, everywhere) for k in kspace]
    levels = [level for level in found if level is not None]
    return float(np.median(levels)) if levels else None


def _sinograms(y: Tensor) -> NDArray[np.float64]:
    return y.double().cpu().numpy().reshape(-1, *y.shape[-2:])


def _of_pictures(y: Tensor, operator: Operator) -> float | Tensor | None:
    """A number, or one for each item, shaped to broadcast to y; None where y does not look like a picture."""
    if y.ndim < 2 or min(y.shape[-2:]) < LEAST_SIDE or len(operator.out_shape) < 2:
        return None
    try:
        each = white_noise_std(y, known=_known(y, operator))
    except (ConfigError, ShapeError):
        return None
    lead = y.shape[: y.ndim - operator.measured_ndim]
    squares: NDArray[np.float64] = np.square(each).reshape(*lead, -1).mean(-1)
    levels = np.sqrt(squares)
    if operator.task not in PICTURES and _rough(levels, y):
        return None
    if levels.max() <= ALIKE * levels.min() or levels.size == 1:
        return float(np.median(levels))
    shaped = levels.reshape(*lead, *[1] * (y.ndim - len(lead)))
    return torch.as_tensor(shaped, dtype=y.dtype.to_real(), device=y.device)


def _known(y: Tensor, operator: Operator) -> Tensor | None:
    """Which samples say something; None for all."""
    if operator.task == "declip":
        return (y > y.amin()) & (y < y.amax())
    seen = operator.project(torch.ones_like(y)) != 0
    return None if bool(seen.all()) else seen


def _rough(levels: NDArray[np.float64], y: Tensor) -> bool:
    return not math.sqrt(float(np.mean(levels**2))) < LARGEST_SHARE * float(y.std())


def contradictions(problem: Problem, x0: Tensor, misfit: float, *, fits: bool) -> list[str]:
    """Notes on a noise level that the result or the measurement contradicts, with the likely causes.

    misfit: `Problem.misfit` of the result x0 (unit intensities), about 1 where all is well. fits: whether the sampler
    looks for an x that explains the measurement. Nothing where the noise is exact or unknown.
    """
    if problem.precision is None:
        return []
    found = worst_unexplained(problem, x0) if fits else None
    if found is not None:
        return [_of_unexplained(found)]
    one_level = doubt_of_one_level(problem, misfit) if fits else ""
    return [*([one_level] if one_level else []), *_against_estimate(problem, misfit)]


def doubt_of_answer(problem: Problem, x0: Tensor, misfit: float) -> list[str]:
    """A note on a network's answer, fitted to nothing, that belongs to another measurement; x0, misfit as above.

    Such an answer lies above the noise, so the rule is loose: more than `ANSWER_LEAVES` of the norm, and
    `OTHER_PICTURE` deviations of the noise where there is one.
    """
    if problem.precision is not None and misfit <= OTHER_PICTURE:
        return []
    left = torch.linalg.vector_norm(problem.residual(x0)) / torch.linalg.vector_norm(
        problem.unit_y
    ).clamp(min=1e-30)
    if not float(left) > ANSWER_LEAVES:
        return []
    return [
        f"the result shows something else than the measurement, {100 * float(left):.0f} % of which it leaves over: "
        "this sampler with these settings does not fit its answer to the data; take its preset tuned, "
        "data_consistency=True where it has that, or dds"
    ]


def _of_unexplained(found: Unexplained) -> str:
    """What is said of it, with the likely causes."""
    if found.by_edges:
        return (
            f"the result explains the measurement but for rays beside steep edges (bone, metal, the rim), which pixels "
            f"and bins fill in part: {found}, and {found.edges:.2g} with edges {EDGE_BINS} of a bin off; neither the "
            "noise nor the geometry need be wrong"
        )
    causes = "" if found.rows is None else f"; of those {found.rows.words}: {found.rows.causes}"
    more = (
        "" if found.edges is None else f". Rays beside steep edges do not account for it: {found.edges:.2g} with edges "
        f"{EDGE_BINS} of a bin off"
    )  # fmt: skip
    return (
        f"the result does not explain the measurement: {found}; the noise is stated too low, or the operator is "
        "not what was measured with (kernel, mask, maps, geometry, units), or the settings follow the data too little"
        f"{causes}{more}"
    )


def doubts_of_exact(problem: Problem, misfit: float) -> list[str]:
    """A note on a measurement taken for exact that a result does not explain: noise in it is amplified without bound.

    misfit: of a sampler that explains exact measurements (`Sampler.explains_exact`), the share that it left.
    """
    if not isinstance(problem.noise, Exact) or misfit <= LEFT_OF_EXACT:
        return []
    return [
        f"the measurement is taken for exact, and the result does not explain it to {LEFT_OF_EXACT:.1%}: noise, or an "
        "operator that is not quite the one that measured, is amplified in such a result; state the noise, or leave it "
        "out to have it estimated"
    ]


def _of_air(noise: Noise | None) -> float | None:
    """The deviation of a ray through air, None where it is not one number."""
    if isinstance(noise, EdgeError):
        return _of_air(noise.noise)
    if isinstance(noise, PostLogPoisson):
        return noise.photons**-0.5
    return noise.std if isinstance(noise, Gaussian) and isinstance(noise.std, float) else None


def _against_estimate(problem: Problem, misfit: float) -> list[str]:
    """A stated level beside the estimate of a picture, which errs upwards, or of rays through air."""
    if is_rays(problem.operator):
        doubt = doubt_of_air(_of_air(problem.noise), _sinograms(problem.y))
        return [doubt] if doubt else []
    stated = problem.noise.std if isinstance(problem.noise, Gaussian) else None
    if problem.operator.task not in PICTURES or not isinstance(stated, float):
        return []
    found = _of_pictures(problem.operator.project(problem.y), problem.operator)
    if not isinstance(found, float):
        return []
    level, unit = f"the noise is stated as {stated:.3g}", problem.scaling.scale
    if misfit < TOO_GOOD and found < TOO_GOOD * stated and stated > TWO_ROUNDINGS * unit:
        unit_of_it = f"; of grey levels of 0..255 it is {stated / 255:.3g}" if stated > unit else ""
        return [
            f"{level}, and the measurement shows {found:.3g} at most: details were lost for it{unit_of_it}"
        ]
    texture = FINE_TEXTURE * unit
    if problem.operator.task != "superres" and found > math.hypot(TOO_BAD * stated, texture):
        return [
            f"{level}, and the measurement shows about {found:.3g}: noise was left in the result"
        ]
    return []
