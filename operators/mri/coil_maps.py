"""Coil sensitivity maps and image phase from the fully sampled centre of k-space.

Called by readers' pipelines and the command line before `MultiCoilMRI`; imports only torch and
errors of the package.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.eigenpairs import top_eigenpairs

FEWEST_LINES = 4  # samples along an axis below which no kernel can be calibrated
_WIDEST = 24  # samples along an axis used by default: more sharpen nothing that maps contain
_MOST_COILS = 32  # of which maps are estimated; the time grows with their number's third power
_BLOCK_VALUES = 2**20  # matrix entries processed at a time
_FAINT, _FULL = 0.93, 0.98  # eigenvalues between which a second set of maps fades in
_EVERY = 4  # pixels along each axis between those where the second eigenvalue is looked at
_SECOND = 0.95  # eigenvalue from which a second set of maps is seen
_CUT, _OBJECT = (
    0.02,
    0.1,
)  # share of the object, from this part of its brightest, that no single set of maps explains
_LEAST_LINES = 12  # below which kernels are too short to tell
_ENOUGH_COILS = 12  # principal components that tell it

Region = tuple[slice, slice]
"""Rows and columns of k-space, with start and stop."""

Calibration = int | tuple[int, int] | Region | None
"""A side, two sides about the centre, the region itself with its place, or None: to be found."""


def calibration_region(mask: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the fully sampled rectangle around the zero frequency [H // 2, W // 2].

    mask: (W,), (H, W) or (*slices, H, W), boolean or 0/1 (for slices: what all share). A mask (W,)
    gives all rows, `slice(None)`. The rectangle grows by one line at a time on whichever of its
    sides still is complete. Raises ConfigError where the zero frequency itself was not sampled.
    """
    line = mask.ndim == 1
    sampled = (mask[None] if line else mask).bool()
    sampled = sampled.reshape(-1, *sampled.shape[-2:]).all(dim=0)
    height, width = sampled.shape
    top, left = height // 2, width // 2
    bottom, right = top + 1, left + 1
    if not sampled[top, left]:
        raise ConfigError(
            "calibration region: the centre of k-space was not sampled, so coil maps cannot be "
            "estimated from it; give maps, or check that k-space is centred"
        )
    grown = True
    while grown:
        before = (top, bottom, left, right)
        if left > 0 and sampled[top:bottom, left - 1].all():
            left -= 1
        if right < width and sampled[top:bottom, right].all():
            right += 1
        if top > 0 and sampled[top - 1, left:right].all():
            top -= 1
        if bottom < height and sampled[bottom, left:right].all():
            bottom += 1
        grown = before != (top, bottom, left, right)
    return (slice(None) if line else slice(top, bottom)), slice(left, right)


def espirit(
    kspace: Tensor,
    calib: Calibration = None,
    *,
    kernel: int = 6,
    threshold: float = 0.02,
    crop: float | None = None,
    sets: int = 1,
) -> tuple[Tensor, Tensor]:
    """Coil maps by ESPIRiT (Uecker et al., MRM 71:990, 2014), one set or two, in covariance-kernel form.

    kspace: (*slices, coils, H, W) complex, centred, zeros where not sampled. calib: side of the
    calibration region about the centre, or (rows, columns), taken as they are; or its place, a pair of
    slices, or None to find the fully sampled centre of all slices: of these at most 24 lines along an
    axis are used, those nearest to the centre. kernel: side of the k-space kernel; along an
    axis where the region is short it shrinks to a third of it. threshold: singular values of the
    calibration matrix below this fraction of the largest are noise. Of more than 32 coils the 32 principal components
    of the calibration data stand for all (Huang et al., Magn Reson Imaging 26:133, 2008); maps are of all coils.

    Returns maps (*slices, coils, H, W) with sum over coils of |maps|^2 = 1 and eigenvalues
    (*slices, H, W) in 0..1, close to 1 where there is signal. With `crop` (sigpy and BART use 0.95
    and 0.8) maps are zero where the eigenvalue is below it; the default keeps them everywhere,
    because a reconstruction must not lose voxels. The phase is that of a virtual coil, the
    principal component of the calibration data.

    With `sets=2` maps are (*slices, 2, coils, H, W) and eigenvalues (*slices, 2, H, W), for a field of view that cuts
    the object: where two places are seen in one pixel, the second eigenvalue is close to 1 too. The first set is then
    the vector of both eigenvectors' plane that lies nearest to the virtual coil, the second is perpendicular to it; its
    norm grows from 0 to 1 as the second eigenvalue does from 0.93 to 0.98, so that both are smooth.

    Raises ShapeError for arrays of other ranks, ConfigError for a region under four samples along
    an axis, or other sets than 1 and 2 (2 of one coil included).
    """
    if sets not in (1, 2) or sets > kspace.shape[-3 if kspace.ndim > 2 else 0]:
        raise ConfigError(f"espirit: {sets} sets of maps of {tuple(kspace.shape)}, expected 1 or 2")
    if kspace.ndim < 3 or not kspace.is_complex():
        found = f"{tuple(kspace.shape)} {kspace.dtype}"
        raise ShapeError(f"espirit: k-space is {found}, expected complex (*slices, coils, H, W)")
    rows, columns = _narrowed(_region(kspace, calib), calib, kspace.shape[-2:])
    slices = kspace.shape[:-3]
    flat = kspace.reshape(math.prod(slices), *kspace.shape[-3:])
    maps = flat.new_empty((len(flat), sets, *flat.shape[1:]))
    values = flat.real.new_empty((len(flat), sets, *flat.shape[2:]))
    for item, map_, value in zip(flat, maps, values, strict=True):
        centre, basis = _compressed(item[:, rows, columns])
        found = map_ if basis is None else map_[:, : len(centre)].clone()
        kernels = _correlation_kernels(centre, kernel, threshold)
        _eigenmaps(centre, kernels, (rows, columns), found, value)
        if basis is not None:
            map_[:] = (basis @ found.flatten(2)).reshape(map_.shape)
    if crop is not None:
        maps *= (values > crop).unsqueeze(2)
    several = (sets,) if sets > 1 else ()
    shape = (*several, *kspace.shape[-3:])
    return maps.reshape(*slices, *shape), values.reshape(*slices, *several, *kspace.shape[-2:])


def field_is_cut(kspace: Tensor, calib: Calibration = None) -> bool:
    """Whether the object reaches the edges of the field of view, or lies beyond: one set of maps does not explain it.

    kspace: complex (coils, H, W); calib as in `espirit`. So it is where the second eigenvalue of ESPIRiT reaches 0.95,
    of every fourth pixel along each axis, in two of a hundred pixels of the object (benchmarks/cut_field.py). Fewer
    than 12 calibration lines along an axis do not tell: False. Raises ConfigError as `espirit` does.
    """
    region = _narrowed(_region(kspace, calib), calib, kspace.shape[-2:])
    if len(kspace) == 1 or min(part.stop - part.start for part in region) < _LEAST_LINES:
        return False
    centre, _ = _compressed(kspace[:, region[0], region[1]], _ENOUGH_COILS)
    kernels = _correlation_kernels(centre, kernel=6, threshold=0.02)
    on_rows, on_columns = (
        on[_EVERY // 2 :: _EVERY] for on in _kernel_waves(kernels, kspace.shape[-2:])
    )
    seen = _low_resolution(centre, region, kspace.shape[-2:]).abs().square().sum(dim=0).sqrt()
    inside = seen > _OBJECT * seen.max()
    inside = inside[_EVERY // 2 :: _EVERY, _EVERY // 2 :: _EVERY].flatten()
    second = torch.linalg.eigvalsh(_matrices(kernels, on_rows, on_columns)[inside])[:, -2]
    return len(second) > 0 and float((second > _SECOND).double().mean()) > _CUT


def image_phase(kspace: Tensor, maps: Tensor, calib: Calibration = None) -> Tensor:
    """Low-resolution phase of the coil-combined image, unit modulus, (*slices, H, W).

    kspace and maps: (*slices, coils, H, W); calib as in `espirit`, a pair of slices used in full. The
    calibration region is weighted with a Hann window (no ringing) before the transform. Where the
    low-resolution image is
    zero the phase is 1. With the phase moved into the maps by `fold_phase`, the image that is left
    is nearly real and non-negative.
    """
    if kspace.shape != maps.shape or kspace.ndim < 3:
        raise ShapeError(
            f"image_phase: k-space has shape {tuple(kspace.shape)} and maps {tuple(maps.shape)}, "
            "expected the same (*slices, coils, H, W)"
        )
    rows, columns = _region(kspace, calib)
    image = (
        _low_resolution(kspace[..., rows, columns], (rows, columns), kspace.shape[-2:])
        * maps.conj()
    ).sum(-3)
    return _unit_phase(image)


def fold_phase(maps: Tensor, phase: Tensor) -> Tensor:
    """Maps with the image's phase: maps (*slices, coils, H, W) times phase (*slices, H, W)."""
    return maps * phase.unsqueeze(-3)


def _region(kspace: Tensor, calib: Calibration) -> Region:
    height, width = kspace.shape[-2:]
    if isinstance(calib, tuple) and isinstance(calib[0], slice):
        rows, columns = (
            slice(*part.indices(n)[:2]) for part, n in zip(calib, (height, width), strict=True)
        )
    elif calib is None:
        sampled = (kspace != 0).any(dim=-3).reshape(-1, height, width)
        filled = sampled[sampled.any(dim=-1).any(dim=-1)]  # an empty slice tells nothing
        found = calibration_region(filled if len(filled) else sampled)
        rows, columns = (_middle(part, n) for part, n in zip(found, (height, width), strict=True))
    else:
        sides = (calib, calib) if isinstance(calib, int) else calib
        rows, columns = (
            slice(max(0, n // 2 - side // 2), min(n, n // 2 - side // 2 + side))
            for side, n in zip(sides, (height, width), strict=True)
        )
    lengths = (rows.stop - rows.start, columns.stop - columns.start)
    if min(lengths) < FEWEST_LINES:
        raise ConfigError(
            f"calibration region is {lengths[0]} x {lengths[1]} (rows x columns) of k-space, "
            f"expected at least {FEWEST_LINES} x {FEWEST_LINES}; give coil maps, or a scan with more "
            "calibration lines"
        )
    return rows, columns


def _narrowed(region: Region, calib: Calibration, size: tuple[int, int] | torch.Size) -> Region:
    """At most `_WIDEST` lines along an axis of a region that was found, not chosen by its size."""
    if isinstance(calib, int) or (calib is not None and isinstance(calib[0], int)):
        return region
    rows, columns = (_middle(part, n) for part, n in zip(region, size, strict=True))
    return rows, columns


def _middle(found: slice, n: int) -> slice:
    """At most `_WIDEST` samples of a run, those nearest to the zero frequency."""
    latest = max(found.start, found.stop - _WIDEST)
    start = min(max(found.start, n // 2 - _WIDEST // 2), latest)
    return slice(start, min(found.stop, start + _WIDEST))


def _compressed(centre: Tensor, most: int = _MOST_COILS) -> tuple[Tensor, Tensor | None]:
    """Calibration data of at most so many virtual coils, and their orthonormal basis (coils, virtual), or None."""
    if len(centre) <= most:
        return centre, None
    samples = centre.flatten(1)
    basis = torch.linalg.eigh(samples @ samples.mH).eigenvectors[:, -most:]
    return (basis.mH @ samples).reshape(-1, *centre.shape[1:]), basis


def _correlation_kernels(centre: Tensor, kernel: int, threshold: float) -> Tensor:
    """Kernels K of the projection on the signal subspace of patches: (2a - 1, 2b - 1, coils,
    coils).

    Averaging the projection P over all placements of an (a, b) patch turns it into a convolution in
    k-space, k_c(m) = sum_{e, c'} K[e, c, c'] k_c'(m + e), whose eigenvectors in the image domain
    are the maps.
    """
    coils, height, width = centre.shape
    # A third of the region at most: with fewer placements the patches span too small a space to
    # tell coils apart (map overlap on a head with 9 calibration columns: 0.9992, with half 0.9971).
    a, b = (min(kernel, max(2, n // 3)) for n in (height, width))
    patches = (
        centre.unfold(1, a, 1).unfold(2, b, 1).permute(0, 3, 4, 1, 2).reshape(coils * a * b, -1)
    )
    peak = patches.abs().amax()
    patches = patches / torch.where(peak > 0, peak, 1)
    values, vectors = torch.linalg.eigh(patches @ patches.mH)
    signal = vectors[:, values > threshold**2 * values[-1]]
    projection = (signal @ signal.mH).reshape(coils, a, b, coils, a, b)
    kernels = projection.new_zeros((2 * a - 1, 2 * b - 1, coils, coils))
    for i in range(a):
        for j in range(b):
            placed = projection[:, i, j].permute(2, 3, 0, 1)
            kernels[a - 1 - i : 2 * a - 1 - i, b - 1 - j : 2 * b - 1 - j] += placed
    return kernels / (a * b)


def _eigenmaps(
    centre: Tensor, kernels: Tensor, region: tuple[slice, slice], maps: Tensor, values: Tensor
) -> None:
    """Fill maps (sets, coils, H, W) and eigenvalues (sets, H, W) with the top eigenpairs of the kernels'
    transform at every pixel.
    """
    sets, coils, height, width = maps.shape
    on_rows, on_columns = _kernel_waves(kernels, (height, width))
    start = _low_resolution(centre, region, (height, width))
    basis = torch.linalg.eigh(centre.flatten(1) @ centre.flatten(1).mH).eigenvectors
    references = basis[:, -sets:].flip(1)
    references = references * _unit_phase(references[:1].conj())  # eigh leaves the phase open
    step = max(1, _BLOCK_VALUES // (width * coils**2))
    for top in range(0, height, step):
        band = slice(top, top + step)
        matrices = _matrices(kernels, on_rows[band], on_columns)
        if sets == 1:
            guess = start[:, band].permute(1, 2, 0).reshape(-1, coils)
            vectors, values_here = top_eigenpairs(matrices, guess)
            vectors = vectors * _unit_phase(vectors.conj() @ references[:, 0]).unsqueeze(-1)
        else:
            vectors, values_here = _smooth_pairs(matrices, references)
        maps[:, :, band] = vectors.reshape(-1, width, sets, coils).permute(2, 3, 0, 1)
        values[:, band] = values_here.reshape(-1, width, sets).permute(2, 0, 1)


def _kernel_waves(kernels: Tensor, size: tuple[int, ...] | torch.Size) -> tuple[Tensor, Tensor]:
    """What takes kernels to the pixels of the rows, and to those of the columns."""
    rows, columns = (
        _waves(n, torch.arange(-(side // 2), side // 2 + 1), kernels).conj()
        for n, side in zip(size, kernels.shape, strict=False)
    )
    return rows, columns


def _matrices(kernels: Tensor, on_rows: Tensor, on_columns: Tensor) -> Tensor:
    """The kernels' transform (pixels, coils, coils) at the pixels of some rows and columns.

    Two small matrix products instead of a zero-padded FFT for each coil pair; pixels come out first.
    """
    coils = kernels.shape[-1]
    half = (on_rows @ kernels.flatten(1)).reshape(-1, kernels.shape[1], coils**2)
    return (on_columns @ half).reshape(-1, coils, coils)


def _smooth_pairs(matrices: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps (n, 2, coils) and eigenvalues (n, 2) of Hermitian matrices (n, coils, coils).

    Where two eigenvalues nearly coincide their vectors may turn from pixel to pixel, their plane does not: the maps are
    the direction in it nearest to the first of the references (coils, 2), and that across it.
    """
    spectra, bases = torch.linalg.eigh(matrices)
    values = spectra[:, -2:].flip(1)
    fading = ((values[:, 1] - _FAINT) / (_FULL - _FAINT)).clamp(0, 1)
    fading = fading**2 * (3 - 2 * fading)
    top, next_ = bases[..., -1], bases[..., -2]
    a, b = top.conj() @ references[:, 0], fading * (next_.conj() @ references[:, 0])
    length = torch.sqrt(a.abs().square() + b.abs().square())
    sound = length > 0
    a, b = torch.where(sound, a, 1), torch.where(sound, b, 0)
    a, b = (part / torch.where(sound, length, 1) for part in (a, b))
    first = a[:, None] * top + b[:, None] * next_
    across = a.conj()[:, None] * next_ - b.conj()[:, None] * top
    across = across * (_unit_phase(across.conj() @ references[:, 1]) * fading).unsqueeze(-1)
    return torch.stack([first, across], dim=1), values


def _waves(n: int, frequencies: Tensor, like: Tensor) -> Tensor:
    """exp(2 pi i f r / n) for centred pixels r (rows) and frequencies f (columns), in the precision
    of `like`.
    """
    pixels = torch.arange(n) - n // 2
    angle = 2 * torch.pi / n * ((pixels[:, None] * frequencies) % n).double()
    return torch.polar(torch.ones_like(angle), angle).to(like)


def _low_resolution(
    centre: Tensor, region: tuple[slice, slice], size: tuple[int, int] | torch.Size
) -> Tensor:
    """Coil images (..., H, W) of the Hann-weighted region: a centred orthonormal inverse FFT of few
    samples.
    """
    factors = []
    for part, n in zip(region, size, strict=True):
        frequencies = torch.arange(part.start, part.stop) - n // 2
        reach = int(frequencies.abs().max()) + 1
        window = torch.cos(torch.pi / 2 * frequencies.double() / reach) ** 2
        factors.append(_waves(n, frequencies, centre) * (window / n**0.5).to(centre.real))
    return factors[0] @ centre @ factors[1].mT


def _unit_phase(z: Tensor) -> Tensor:
    size = z.abs()
    return torch.where(size > 0, z / torch.where(size > 0, size, 1), torch.ones_like(z))
