"""Reconstruct a measured scan into a volume: chunks of slices through `restore.solve`, geometry put back.

The main job of the package, without files: reading stands in `restore.datasets`, writing and sidecars in
`restore.pipelines.run`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.datasets.scan import CTScan, MRIScan
from restore.datasets.volume import Volume
from restore.errors import ConfigError
from restore.operators.geometry import mu_to_hu
from restore.pipelines.scan_setup import CTSetup, MapsSource, MRISetup, set_up_ct, set_up_mri
from restore.priors.adapter import PIXELS_PER_CALL
from restore.priors.base import Denoiser
from restore.problem import Reconstruction, Step
from restore.samplers.base import Sampler
from restore.solve import solve

OnStep = Callable[[int, int, Step], None]  # slices finished before this chunk, slices in it, the step


@dataclasses.dataclass(frozen=True)
class ReconOptions:
    """Everything that shapes the result. noise_std: per real channel in the scan's units, None to take or estimate it."""

    samples: int = 1
    seed: int = 0
    maps: MapsSource = "auto"
    remove_phase: bool = True
    noise_std: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class ReconResult:
    """The volume, its standard deviation over samples (or None), and a record for the sidecar."""

    volume: Volume
    std: Volume | None
    record: dict[str, Any]


def reconstruct(
    scan: MRIScan | CTScan,
    sampler: Sampler,
    prior: Denoiser | None,
    options: ReconOptions,
    *,
    device: torch.device,
    on_step: OnStep | None = None,
) -> ReconResult:
    """Every slice of a scan, in the source's units (MR) or HU (CT).

    Slices are independent and go in chunks that fit; a sampler that couples them (tv_weight > 0) gets them all at once.
    Raises ConfigError, InputError, DivergenceError, OutOfMemory.
    """
    setup: MRISetup | CTSetup = (
        set_up_mri(scan, options.maps, options.remove_phase, options.noise_std)
        if isinstance(scan, MRIScan)
        else set_up_ct(scan, options.noise_std)
    )
    images, stds, logs = [], [], []
    for which in _chunks(scan, coupled=getattr(sampler, "tv_weight", 0) > 0):
        chunk = setup.chunk(which, device)
        result = solve(
            chunk.y, chunk.operator, noise=chunk.noise, prior=prior, sampler=sampler, samples=options.samples,
            seed=options.seed, scaling=setup.scaling, ids=chunk.ids, on_step=_told(on_step, which),
        )  # fmt: skip
        image, std = _in_source_units(scan, result)
        images.append(image)
        stds.append(std)
        logs.append({"slices": list(chunk.ids), "misfit": result.log[-1]["misfit"], **result.log[-1]})
    record = {"chunks": logs, "scaling": dataclasses.asdict(setup.scaling), "notes": list(scan.notes)}
    if isinstance(setup, MRISetup):
        record |= {"maps": setup.maps_used, "noise_std": setup.noise_std}
    std_volume = None if stds[0] is None else _volume(scan, np.concatenate(stds))
    return ReconResult(_volume(scan, np.concatenate(images)), std_volume, record)


def _chunks(scan: MRIScan | CTScan, coupled: bool) -> list[range]:
    """Slices that go through the network together: as many as fill a call, re and im counted."""
    pixels = int(np.prod(scan.shape[-2:])) * 2 if isinstance(scan, MRIScan) else int(np.prod(scan.geometry.shape))
    size = scan.n_slices if coupled else max(1, PIXELS_PER_CALL // 2 // pixels)
    return [range(i, min(i + size, scan.n_slices)) for i in range(0, scan.n_slices, size)]


def _told(on_step: OnStep | None, which: range) -> Callable[[Step], None] | None:
    return None if on_step is None else lambda step: on_step(which.start, len(which), step)


def _in_source_units(scan: MRIScan | CTScan, result: Reconstruction) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Magnitude cropped to the image's size, or HU."""
    if isinstance(scan, MRIScan):
        image = result.image.abs() if result.samples is None else result.samples.abs().mean(0)
        parts = [image, result.std]
        arrays = [None if p is None else _crop(p.cpu().numpy(), scan.recon_shape) for p in parts]
    else:
        hu = mu_to_hu(result.image, scan.mu_water)
        std = None if result.std is None else result.std / scan.mu_water * 1000
        arrays = [hu.cpu().numpy(), None if std is None else std.cpu().numpy()]
    if arrays[0] is None:
        raise ConfigError("the reconstruction is empty")
    return arrays[0].astype(np.float32), None if arrays[1] is None else arrays[1].astype(np.float32)


def _crop(image: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Centre crop of (..., H, W): removes the readout oversampling."""
    top, left = ((n - m) // 2 for n, m in zip(image.shape[-2:], shape, strict=True))
    return image[..., top : top + shape[0], left : left + shape[1]]


def _volume(scan: MRIScan | CTScan, data: NDArray[Any]) -> Volume:
    modality = "MR" if isinstance(scan, MRIScan) else "CT"
    affine = np.eye(4) if scan.affine is None else scan.affine
    units = "HU" if modality == "CT" else str(scan.source.get("units", ""))
    return Volume(data, affine, modality, units, notes=tuple(scan.notes))
