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
from torch import Tensor

from restore.datasets.scan import CTScan, MRIScan
from restore.datasets.volume.volume import Volume
from restore.front_door import Model, solve
from restore.operators.ct.geometry import mu_to_hu
from restore.pipelines.identity import source_header
from restore.pipelines.scan_setup import CTSetup, MapsSource, MRISetup, set_up_ct, set_up_mri
from restore.priors.adapter import PIXELS_PER_CALL
from restore.problem import Step
from restore.samplers.base import Sampler

OnStep = Callable[
    [int, int, Step], None
]  # slices finished before this chunk, slices in it, the step


@dataclasses.dataclass(frozen=True)
class ReconOptions:
    """Everything that shapes the result.

    noise_std: per real channel in the scan's units, None to take it from the file or to estimate it. trace: record
    the data misfit after every step, at the cost of one forward projection each.
    """

    samples: int = 1
    seed: int = 0
    maps: MapsSource = "auto"
    remove_phase: bool = True
    noise_std: float | None = None
    trace: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class ReconResult:
    """The volume, its standard deviation over samples (or None), the samples (K, slices, H, W) themselves (or None),
    and a record for the sidecar; "curve" in it is [evaluations, misfit] after each step, the mean over all slices."""

    volume: Volume
    std: Volume | None
    record: dict[str, Any]
    samples: NDArray[Any] | None = None


def reconstruct(
    scan: MRIScan | CTScan,
    sampler: Sampler,
    prior: Model | None,
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
    stacks: list[NDArray[Any]] = []
    logs: list[dict[str, Any]] = []
    curves: list[tuple[int, list[list[float]]]] = []
    for which in _chunks(scan, coupled=getattr(sampler, "tv_weight", 0) > 0):
        chunk = setup.chunk(which, device)
        result = solve(
            chunk.y, chunk.operator, noise=chunk.noise, prior=prior, sampler=sampler, samples=options.samples,
            seed=options.seed, scaling=setup.scaling, ids=chunk.ids, on_step=_told(on_step, which), trace=options.trace,
        )  # fmt: skip
        stack = result.image[None] if result.samples is None else result.samples
        stacks.append(in_source_units(scan, stack))
        logs.append({"slices": list(chunk.ids), **result.log[-1]})
        if options.trace:
            curve = [[float(r["evaluations"]), float(r["misfit"])] for r in result.log]
            curves.append((len(which), curve))
    samples = np.concatenate(stacks, axis=1)
    record: dict[str, Any] = {
        "chunks": logs,
        "scaling": dataclasses.asdict(setup.scaling),
        "notes": list(scan.notes),
    }
    if isinstance(setup, MRISetup):
        record |= {"maps": setup.maps_used, "noise_std": setup.noise_std}
    if curves:
        record["curve"] = _mean_curve(curves)
    several = options.samples > 1
    std = _volume(scan, samples.std(0, ddof=1)) if several else None
    return ReconResult(_volume(scan, samples.mean(0)), std, record, samples if several else None)


def empty_result(scan: MRIScan | CTScan) -> Volume:
    """Zeros of the shape, in the place and with the header of what a scan is reconstructed to."""
    plane = scan.recon_shape if isinstance(scan, MRIScan) else scan.geometry.shape
    return _volume(scan, np.zeros((scan.n_slices, *plane), np.float32))


def _chunks(scan: MRIScan | CTScan, coupled: bool) -> list[range]:
    """Slices that go through the network together: as many as fill a call, re and im counted."""
    pixels = (
        int(np.prod(scan.shape[-2:])) * 2
        if isinstance(scan, MRIScan)
        else int(np.prod(scan.geometry.shape))
    )
    size = scan.n_slices if coupled else max(1, PIXELS_PER_CALL // 2 // pixels)
    return [range(i, min(i + size, scan.n_slices)) for i in range(0, scan.n_slices, size)]


def _mean_curve(curves: list[tuple[int, list[list[float]]]]) -> list[list[float]]:
    """The chunks' curves as one, weighted by their numbers of slices; all chunks take the same steps."""
    weights = [size for size, _ in curves]
    steps = zip(*(curve for _, curve in curves), strict=True)
    return [
        [step[0][0], float(np.average([point[1] for point in step], weights=weights))]
        for step in steps
    ]


def _told(on_step: OnStep | None, which: range) -> Callable[[Step], None] | None:
    return None if on_step is None else lambda step: on_step(which.start, len(which), step)


def in_source_units(scan: MRIScan | CTScan, samples: Tensor) -> NDArray[Any]:
    """Samples (K, slices, H, W) as magnitudes cropped to the image's size, or as HU."""
    if isinstance(scan, MRIScan):
        return _crop(samples.abs().float().cpu().numpy(), scan.recon_shape)
    return mu_to_hu(samples, scan.mu_water).float().cpu().numpy()


def _crop(image: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Centre crop of (..., H, W): removes the readout oversampling."""
    top, left = ((n - m) // 2 for n, m in zip(image.shape[-2:], shape, strict=True))
    return image[..., top : top + shape[0], left : left + shape[1]]


def _volume(scan: MRIScan | CTScan, data: NDArray[Any]) -> Volume:
    modality = "MR" if isinstance(scan, MRIScan) else "CT"
    affine = np.eye(4) if scan.affine is None else scan.affine
    units = "HU" if modality == "CT" else str(scan.source.get("units", ""))
    header = None if scan.affine is None else source_header(scan.source, affine)
    return Volume(data, affine, modality, units, header, notes=tuple(scan.notes))
