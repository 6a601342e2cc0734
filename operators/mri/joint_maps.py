"""Image and coil maps estimated together, for k-space whose middle was not measured in full.

Called by the set-up of scans and by scripts; imports the transforms of this folder and linear algebra on functions.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.conjugate_gradients import LinearMap, cg
from restore.operators.base import LinearOperator
from restore.operators.mri.coil_maps import Region
from restore.operators.mri.fourier import fft2c, ifft2c
from restore.operators.mri.multicoil import MultiCoilMRI

WIDTH = 64
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
    """Of one slice, on the coarse grid of the middle of k-space.

    image: complex (h, w). coils: complex (coils, h, w), smooth; image times coils explain the samples. left: the root
    mean square of what they leave of the middle's samples, of the real channel; misfit: its share of theirs, 0..1.
    """

    image: Tensor
    coils: Tensor
    left: float
    misfit: float

    def maps(self, shape: tuple[int, int]) -> Tensor:
        """Maps (coils, H, W) with sum over coils of |maps|^2 = 1."""
        spectrum = _placed(fft2c(self.coils), shape)
        fine = ifft2c(spectrum)
        size = fine.abs().square().sum(dim=0).sqrt()
        return fine / torch.where(size > 0, size, 1)

    def centre(self, shape: tuple[int, int]) -> tuple[Tensor, Region]:
        """The middle of k-space (coils, H, W) as if it had been measured, zero elsewhere, and its rows and columns.

        Of an axis shorter than the grid all lines are taken.
        """
        lines = fft2c(self.image * self.coils)
        here = _middle(lines.shape[-2:], CENTRE)
        region = _middle(shape, CENTRE)
        full = lines.new_zeros((len(lines), *shape))
        full[:, region[0], region[1]] = lines[:, here[0], here[1]]
        return full, region


def joint_estimate(kspace: Tensor, mask: Tensor) -> JointEstimate:
    """Image and maps of Cartesian k-space that explain the samples about its middle.

    Uecker et al., MRM 60:674, 2008 (NLINV): a Gauss-Newton iteration of y_c = mask F(image maps_c) with a weight on
    image and maps that is halved at every step, and smooth maps. kspace: complex (coils, H, W), centred, zeros where
    not sampled. mask: (W,) or broadcastable to (H, W), boolean or 0/1. Raises ShapeError, ConfigError for one coil, or
    as `check_sampling` does. The image of zeros has one coil.

    Differs from the paper: only the middle of k-space is explained, on a grid of that many pixels, since maps need no
    more; data are scaled by the number of pixels, so that the weights mean the same for every grid.
    """
    if kspace.ndim != 3 or not kspace.is_complex():
        found = f"{tuple(kspace.shape)} {kspace.dtype}"
        raise ShapeError(f"joint estimate: k-space is {found}, expected complex (coils, H, W)")
    if len(kspace) < 2:
        raise ConfigError("joint estimate: one coil tells nothing of its map; give maps")
    check_sampling(mask, kspace.shape[-2:])
    region = _middle(kspace.shape[-2:], WIDTH)
    sampled = mask.to(kspace.device).expand(kspace.shape[-2:])[region].contiguous()
    lines = kspace[:, region[0], region[1]] * sampled
    encoding = MultiCoilMRI.single_coil(sampled, sampled.shape, dtype=kspace.dtype)
    return _newton(lines.unsqueeze(1), encoding)


def check_sampling(mask: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ConfigError where the middle of k-space was not measured, or so evenly that aliases of the image explain
    it as well as the image does.

    mask: (W,) or broadcastable to `shape` (H, W). A few lines side by side in the middle tell them apart.
    """
    sampled = mask.expand(shape)[_middle(shape, WIDTH)].double()
    if not sampled.any():
        raise ConfigError("joint estimate: nothing was measured about the middle of k-space")
    fine = [FINER * n for n in sampled.shape]
    spread = torch.fft.fft2(sampled, s=fine).abs() / sampled.sum()
    far = [(torch.fft.fftfreq(n) * n).abs() > NEAR * FINER for n in fine]
    aliases = spread[far[0][:, None] | far[1]]
    if aliases.numel() and float(aliases.max()) >= ALIKE:
        raise ConfigError(
            "joint estimate: the middle of k-space was sampled evenly, so that an image folded upon itself explains it "
            "as well as the image does; give coil maps, or measure two or more neighbouring lines in the middle"
        )


def _newton(y: Tensor, encoding: LinearOperator) -> JointEstimate:
    """y: (coils, *out_shape) of a single-coil encoding of images (h, w)."""
    shape = encoding.in_shape
    norm = float(torch.linalg.vector_norm(y))
    if norm == 0:
        nothing = y.new_zeros((len(y), *shape))
        first = (torch.arange(len(y), device=y.device) == 0).to(y.dtype)
        return JointEstimate(nothing[0], nothing + first[:, None, None], 0.0, 0.0)
    y = y * (BRIGHT * (shape[0] * shape[1]) ** 0.5 / norm)
    weight = _smoothness(shape, y)
    start = y.new_zeros((len(y) + 1, *shape))  # the image, and the spectra of the maps
    start[0] = 1
    x, alpha = start, 1.0
    right_of = encoding.adjoint(y)
    for _ in range(STEPS):
        model = _Linearised(x[0], ifft2c(weight * x[1:]), weight, encoding)
        left = right_of - encoding.normal(model.image * model.coils)
        right = model.adjoint(left) - alpha * (x - start)
        step = cg(model.system(alpha), right, iters=INNER, tol=TOLERANCE, item_ndim=3).x
        x, alpha = x + step, alpha * REDUCTION
    image, coils = x[0], ifft2c(weight * x[1:])
    scale = norm / (BRIGHT * (shape[0] * shape[1]) ** 0.5)
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
        """v -> (D^H D + alpha) v of v (1 + coils, h, w)."""

        def apply(v: Tensor) -> Tensor:
            seen = self.coils * v[0] + self.image * ifft2c(self.weight * v[1:])
            return torch.add(self.adjoint(self.encoding.normal(seen)), v, alpha=alpha)

        return apply

    def adjoint(self, coil_images: Tensor) -> Tensor:
        """D^H after the encoding's adjoint: (coils, h, w) -> (1 + coils, h, w)."""
        image = (self.coils.conj() * coil_images).sum(dim=0, keepdim=True)
        spectra = self.weight * fft2c(self.image.conj() * coil_images)
        return torch.cat([image, spectra])


def _smoothness(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """(h, w): the smaller, the higher the frequency."""
    y, x = ((torch.arange(n) - n // 2).double() / n for n in shape)
    weight = (1 + SMOOTH * (y[:, None] ** 2 + x**2)) ** (-POWER / 2)
    return weight.to(like.device, like.real.dtype)


def _middle(shape: tuple[int, ...] | torch.Size, width: int) -> Region:
    """At most `width` lines, an even number, along each axis about the zero frequency."""
    half = width // 2
    rows, columns = (slice(max(0, n // 2 - half), min(n, n // 2 + half)) for n in shape)
    return rows, columns


def _placed(spectrum: Tensor, shape: tuple[int, int]) -> Tensor:
    """A spectrum (coils, h, w) in the middle of zeros (coils, H, W), scaled so that its image keeps its values."""
    full = spectrum.new_zeros((len(spectrum), *shape))
    rows, columns = (
        slice(n // 2 - m // 2, n // 2 - m // 2 + m)
        for n, m in zip(shape, spectrum.shape[1:], strict=True)
    )
    finer = (shape[0] * shape[1] / (spectrum.shape[1] * spectrum.shape[2])) ** 0.5
    full[:, rows, columns] = spectrum * finer
    return full
