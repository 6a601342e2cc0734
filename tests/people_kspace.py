"""K-space as people bring it, made with numpy alone: an image of ellipses, known maps, numpy's FFT, and its header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

ELLIPSES = ((1.0, 0.0, 0.0, 0.62, 0.48), (-0.4, 0.1, -0.1, 0.25, 0.2), (0.5, -0.3, 0.15, 0.12, 0.2))
"""Brightness, middle (down, across) and half axes, in halves of the field of view."""


def grid(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Places of pixels (down, across), -1 to 1, zero at n // 2."""
    down, across = ((np.arange(n) - n // 2) / (n / 2) for n in shape)
    return down[:, None], across[None, :]


def phantom(shape: tuple[int, int]) -> np.ndarray:
    down, across = grid(shape)
    image = np.zeros(shape)
    for value, y, x, a, b in ELLIPSES:
        # A soft rim of a pixel or two, so that little of the spectrum lies in the corners.
        radius = np.hypot((down - y) / a, (across - x) / b)
        image += value / (1 + np.exp((radius - 1) * min(a, b) * shape[0] / 1.5))
    return image


def coil_maps(shape: tuple[int, int], coils: int) -> np.ndarray:
    """Smooth, with sum |S|^2 = 1."""
    down, across = grid(shape)
    angles = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    distance = (down - 1.2 * np.sin(angles)) ** 2 + (across - 1.2 * np.cos(angles)) ** 2
    maps = np.exp(-0.5 * distance) * np.exp(1j * (angles + 0.5 * down * np.cos(angles)))
    return maps / np.sqrt((np.abs(maps) ** 2).sum(0))


def centred_fft(images: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    spectrum = np.fft.fft2(np.fft.ifftshift(images, axes=axes), norm="ortho")
    return np.fft.fftshift(spectrum, axes=axes)


def noise(shape: tuple[int, ...], std: Any, seed: int = 0) -> np.ndarray:
    parts = np.random.default_rng(seed).normal(size=(2, *shape))
    return std * (parts[0] + 1j * parts[1])


def columns(width: int, step: int, first: int, end: int, offset: int = 0) -> np.ndarray:
    """Every step-th column, and all from first to before end."""
    mask = np.arange(width) % step == offset
    mask[first:end] = True
    return mask


def write(path: Path, kspace: np.ndarray, **items: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace.astype(np.complex64)
        for name, value in items.items():
            file[name] = value
    return path


def psnr(found: np.ndarray, truth: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((np.abs(found) - truth) ** 2) / truth.max() ** 2))


SHAPE = (96, 80)
COILS = 6
STD = 0.002
TRUTH = phantom(SHAPE)
MAPS = coil_maps(SHAPE, COILS)
CLEAN = centred_fft(MAPS * TRUTH)
NOISY = CLEAN + noise(CLEAN.shape, STD)
MASK = columns(SHAPE[1], 2, 32, 48)


def header(
    encoded: tuple[int, int, int] = (*SHAPE, 1),
    fov: tuple[float, float, float] = (192.0, 160.0, 5.0),
    recon: tuple[int, int, int] = (*SHAPE, 1),
    recon_fov: tuple[float, float, float] = (192.0, 160.0, 5.0),
    trajectory: str = "cartesian",
) -> str:
    def space(name: str, matrix: Any, size: Any) -> str:
        parts = [
            "".join(f"<{axis}>{value}</{axis}>" for axis, value in zip("xyz", values, strict=True))
            for values in (matrix, size)
        ]
        return f"<{name}><matrixSize>{parts[0]}</matrixSize><fieldOfView_mm>{parts[1]}</fieldOfView_mm></{name}>"

    return (
        '<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>'
        + space("encodedSpace", encoded, fov)
        + space("reconSpace", recon, recon_fov)
        + f"<trajectory>{trajectory}</trajectory></encoding></ismrmrdHeader>"
    )
