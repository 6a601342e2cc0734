"""Image and coil maps estimated together, for k-space whose middle was not measured in full.

Called by the set-up of scans and by scripts; imports the transforms of this folder and linear algebra on functions.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.conjugate_gradients import LinearMap, cg
from restore.operators.base import LinearOperator
from restore.operators.mri.fourier import fftc, ifftc
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.operators.mri.noncartesian import NonCartesianMRI
from restore.operators.mri.nonuniform import nufft_adjoint
from restore.operators.mri.trajectories import Trajectory

Box = tuple[slice, ...]
"""Rows and columns of k-space, of a volume partitions before them."""

WIDTH, WIDTH_OF_VOLUMES = 64, 32
"""Lines along each axis, those about the middle of k-space, that are explained: maps are smooth."""

CENTRE = 24
"""Of them, those which the estimate fills in place of calibration lines."""

SMOOTH, POWER = 220.0, 32
"""a and b of the weight (1 + a |k|^2)^(-b / 2) on the spectra of maps, k in cycles per pixel of the coarse grid."""

BRIGHT = 4.0
"""Root mean square of the samples over the grid, in whose units the start is 1 and the first weight 1."""

STEPS, REDUCTION, INNER, TOLERANCE = 12, 0.5, 60, 0.02
"""Gauss-Newton steps, by what each multiplies the weight, conjugate gradients within each, and where these end."""

ALIKE, NEAR, FINER = 0.98, 6, 8
"""An alias of this brightness, farther away than so many pixels of the coarse grid, is as good as the image; aliases
are looked for on a grid that is as many times finer."""


@dataclasses.dataclass(frozen=True, eq=False)
class JointEstimate:
    """Of one slice or volume, on the coarse grid of the middle of k-space.

    image: complex (*grid). coils: complex (coils, *grid), smooth; image times coils explain the samples. left: the root
    mean square of what they leave of the middle's samples, of the real channel; misfit: its share of theirs, 0..1.
    """

    image: Tensor
    coils: Tensor
    left: float
    misfit: float

    def maps(self, shape: tuple[int, ...]) -> Tensor:
        """Maps (coils, *shape) with sum over coils of |maps|^2 = 1."""
        spectrum = _placed(fftc(self.coils, len(shape)), shape)
        fine = ifftc(spectrum, len(shape))
        size = fine.abs().square().sum(dim=0).sqrt()
        return fine / torch.where(size > 0, size, 1)

    def centre(self, shape: tuple[int, ...], width: int = CENTRE) -> tuple[Tensor, Box]:
        """The middle of k-space (coils, *shape) as if it had been measured, zero elsewhere, and its rows and columns.

        width: lines along each axis; of an axis shorter than that all are taken.
        """
        lines = fftc(self.image * self.coils, len(shape))
        here, region = middle_box(lines.shape[1:], width), middle_box(shape, width)
        full = lines.new_zeros((len(lines), *shape))
        full[(slice(None), *region)] = lines[(slice(None), *here)]
        return full, region


def joint_estimate(kspace: Tensor, mask: Tensor) -> JointEstimate:
    """Image and maps of Cartesian k-space that explain the samples about its middle.

    Uecker et al., MRM 60:674, 2008 (NLINV): a Gauss-Newton iteration of y_c = mask F(image maps_c) with a weight on
    image and maps that is halved at every step, and smooth maps. kspace: complex (coils, H, W) or, of a volume, (coils,
    D, H, W), centred, zeros where not sampled. mask: broadcastable to its last axes, boolean or 0/1. Raises ShapeError,
    ConfigError for one coil, or as `check_sampling` does. The image of zeros has one coil.

    Differs from the paper: only the middle of k-space is explained, on a grid of that many pixels, since maps need no
    more; data are scaled by the number of pixels, so that the weights mean the same for every grid.
    """
    if kspace.ndim not in (3, 4) or not kspace.is_complex():
        found = f"{tuple(kspace.shape)} {kspace.dtype}"
        raise ShapeError(
            f"joint estimate: k-space is {found}, expected complex (coils, H, W) or (coils, D, H, W)"
        )
    _check_coils(kspace)
    shape = tuple(kspace.shape[1:])
    check_sampling(mask, shape)
    region = middle_box(shape, _width(shape))
    sampled = mask.to(kspace.device).expand(shape)[region].contiguous()
    lines = kspace[(slice(None), *region)] * sampled
    ones = torch.ones((1, *sampled.shape), dtype=kspace.dtype, device=kspace.device)
    return _newton(lines.unsqueeze(1), MultiCoilMRI(ones, sampled, image_ndim=len(shape)))


def joint_estimate_along(
    kspace: Tensor, trajectory: Trajectory, matrix: tuple[int, ...]
) -> JointEstimate:
    """As `joint_estimate`, of samples along a trajectory.

    kspace: complex (coils, readouts, samples) in the scale of an orthonormal transform of `matrix` (H, W). Samples are
    divided by the root of the density in which their energy lies, so that the weights mean the same. Raises ConfigError
    for one coil, or as `check_trajectory` does.
    """
    _check_coils(kspace)
    check_trajectory(trajectory, matrix)
    inside, points, grid = _aboutmiddle_box(trajectory, matrix)
    lines = kspace[:, torch.from_numpy(inside)][:, None, None]
    encoding = NonCartesianMRI.single_coil(points, grid, dtype=kspace.dtype)
    norm = float(torch.linalg.vector_norm(lines))
    dense = float(torch.linalg.vector_norm(encoding.adjoint(lines))) / norm if norm else 1.0
    found = _newton(lines / dense, encoding / dense)
    return dataclasses.replace(found, left=found.left * dense)


def check_trajectory(trajectory: Trajectory, matrix: tuple[int, ...]) -> None:
    """As `check_sampling`, of a trajectory for images of `matrix` (H, W). Raises ConfigError."""
    inside, points, grid = _aboutmiddle_box(trajectory, matrix)
    if not inside.any():
        raise ConfigError("joint estimate: nothing was measured about the middle of k-space")
    ones = torch.ones((1, int(inside.sum())), dtype=torch.complex128)
    # Half a pixel apart, as far as the grid is long.
    sizes = tuple(4 * n for n in grid)
    spread = nufft_adjoint(ones, Trajectory(2 * points.points), sizes).abs()
    spread = spread * (math.prod(sizes) ** 0.5 / ones.numel())
    far = [(torch.arange(n) - n // 2).abs() > 2 * NEAR for n in sizes]
    # Beyond the field of view the image would have to be seen outside of it.
    seen = [(torch.arange(n) - n // 2).abs() <= n // 4 for n in sizes]
    _refuse_aliases(spread[(far[0][:, None] | far[1]) & seen[0][:, None] & seen[1]])


def _aboutmiddle_box(
    trajectory: Trajectory, matrix: tuple[int, ...]
) -> tuple[NDArray[np.bool_], Trajectory, tuple[int, ...]]:
    """Which samples (readouts, samples) lie about the middle of k-space, these (1, n), and their coarse grid."""
    grid = tuple(part.stop - part.start for part in middle_box(matrix, _width(matrix)))
    inside = np.asarray((np.abs(trajectory.points) <= np.array(grid) / 2).all(axis=-1))
    return inside, Trajectory(trajectory.points[inside][None]), grid


def _check_coils(kspace: Tensor) -> None:
    if len(kspace) < 2:
        raise ConfigError("joint estimate: one coil tells nothing of its map; give maps")


def check_sampling(mask: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ConfigError where the middle of k-space was not measured, or so evenly that aliases of the image explain
    it as well as the image does.

    mask: broadcastable to `shape` (H, W) or (D, H, W). A few lines side by side in the middle tell them apart.
    """
    sampled = mask.expand(shape)[middle_box(shape, _width(shape))].double()
    if not sampled.any():
        raise ConfigError("joint estimate: nothing was measured about the middle of k-space")
    fine = [(FINER if len(shape) == 2 else 2) * n for n in sampled.shape]
    spread = torch.fft.fftn(sampled, s=fine).abs() / sampled.sum()
    far = torch.zeros(fine, dtype=torch.bool)
    for axis, (n, own) in enumerate(zip(fine, sampled.shape, strict=True)):
        place = (torch.fft.fftfreq(n) * n).abs() > NEAR * n / own
        far |= place.reshape(-1, *[1] * (len(fine) - 1 - axis))
    _refuse_aliases(spread[far])


def _refuse_aliases(aliases: Tensor) -> None:
    """Raise ConfigError where one is as bright as the image. aliases: magnitudes over that of the image."""
    if aliases.numel() and float(aliases.max()) >= ALIKE:
        raise ConfigError(
            "joint estimate: the middle of k-space was sampled evenly, so that an image folded upon itself explains it "
            "as well as the image does; give coil maps, or measure two or more neighbouring lines in the middle"
        )


def _newton(y: Tensor, encoding: LinearOperator) -> JointEstimate:
    """y: (coils, *out_shape) of a single-coil encoding of images (*grid)."""
    shape, ndim = encoding.in_shape, len(encoding.in_shape)
    size = math.prod(shape) ** 0.5
    norm = float(torch.linalg.vector_norm(y))
    if norm == 0:
        nothing = y.new_zeros((len(y), *shape))
        first = (torch.arange(len(y), device=y.device) == 0).to(y.dtype)
        return JointEstimate(nothing[0], nothing + first.reshape(-1, *[1] * ndim), 0.0, 0.0)
    y = y * (BRIGHT * size / norm)
    weight = _smoothness(shape, y)
    start = y.new_zeros((len(y) + 1, *shape))  # the image, and the spectra of the maps
    start[0] = 1
    x, alpha = start, 1.0
    right_of = encoding.adjoint(y)
    for _ in range(STEPS):
        model = _Linearised(x[0], ifftc(weight * x[1:], ndim), weight, encoding)
        left = right_of - encoding.normal(model.image * model.coils)
        right = model.adjoint(left) - alpha * (x - start)
        step = cg(model.system(alpha), right, iters=INNER, tol=TOLERANCE, item_ndim=ndim + 1).x
        x, alpha = x + step, alpha * REDUCTION
    image, coils = x[0], ifftc(weight * x[1:], ndim)
    scale = norm / (BRIGHT * size)
    left = float(torch.linalg.vector_norm(y - encoding(image * coils))) * scale
    samples = max(1, int((y != 0).sum()))
    return JointEstimate(image * scale, coils, left / (2 * samples) ** 0.5, left / norm)


@dataclasses.dataclass(frozen=True, eq=False)
class _Linearised:
    """The derivative of image and spectra -> encoding(image * maps) at one place."""

    image: Tensor
    coils: Tensor
    weight: Tensor
    encoding: LinearOperator

    def system(self, alpha: float) -> LinearMap:
        """v -> (D^H D + alpha) v of v (1 + coils, *grid)."""
        ndim = self.image.ndim

        def apply(v: Tensor) -> Tensor:
            seen = self.coils * v[0] + self.image * ifftc(self.weight * v[1:], ndim)
            return torch.add(self.adjoint(self.encoding.normal(seen)), v, alpha=alpha)

        return apply

    def adjoint(self, coil_images: Tensor) -> Tensor:
        """D^H after the encoding's adjoint: (coils, *grid) -> (1 + coils, *grid)."""
        image = (self.coils.conj() * coil_images).sum(dim=0, keepdim=True)
        spectra = self.weight * fftc(self.image.conj() * coil_images, self.image.ndim)
        return torch.cat([image, spectra])


def _smoothness(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """(*grid): the smaller, the higher the frequency."""
    squares = torch.zeros(shape, dtype=torch.float64)
    for axis, n in enumerate(shape):
        place = (torch.arange(n) - n // 2).double() / (WIDTH if len(shape) == 3 else n)
        squares += (place**2).reshape(-1, *[1] * (len(shape) - 1 - axis))
    weight = (1 + SMOOTH * squares) ** (-POWER / 2)
    return weight.to(like.device, like.real.dtype)


def _width(shape: tuple[int, ...]) -> int:
    return WIDTH if len(shape) == 2 else WIDTH_OF_VOLUMES


def middle_box(shape: tuple[int, ...] | torch.Size, width: int) -> Box:
    """At most `width` lines, an even number, along each axis about the zero frequency."""
    half = width // 2
    return tuple(slice(max(0, n // 2 - half), min(n, n // 2 + half)) for n in shape)


def _placed(spectrum: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A spectrum (coils, *grid) in the middle of zeros (coils, *shape), scaled so that its image keeps its values."""
    full = spectrum.new_zeros((len(spectrum), *shape))
    box = tuple(
        slice(n // 2 - m // 2, n // 2 - m // 2 + m)
        for n, m in zip(shape, spectrum.shape[1:], strict=True)
    )
    finer = (math.prod(shape) / math.prod(spectrum.shape[1:])) ** 0.5
    full[(slice(None), *box)] = spectrum * finer
    return full
