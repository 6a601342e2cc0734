"""The demonstration: a made-up head is scanned, reconstructed, judged and drawn, for MRI and CT.

Used by `restore demo` and its tests. Does what the verbs simulate, recon and eval do, through the
same functions, and writes into one folder. Work that is finished there is not done again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from restore.datasets.atomic import make_folder
from restore.datasets.ct.files.measurement import write_ct_measurement
from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.open import read, write
from restore.datasets.sidecar import read_sidecar, write_sidecar
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import SHAPE, ct_phantom, head_phantom
from restore.datasets.volume.volume import Volume
from restore.errors import InputError, NotFoundError, OutputError
from restore.pipelines.evaluate import Evaluation, evaluate_volume
from restore.pipelines.picture import Panel, comparison_picture
from restore.pipelines.recon_job import ReconJob
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.run_recon import plan, run
from restore.precision import Word

SUMMARY = "summary.json"
HEAD_WINDOW_HU = (-500.0, 1500.0)
TITLES = {
    "zerofilled": "input: zero-filled",
    "fbp": "input: filtered back-projection",
    "wavelet": "wavelet-l1",
    "tv": "total variation",
    "dds": "DDS, prior 'medical'",
}


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is done. slices: first, end, step along z; steps: of the diffusion sampler;
    classical_steps: of TV and wavelet, None for their own number."""

    shape: tuple[int, int, int] = SHAPE
    slices: tuple[int, int, int] = (6, 13, 3)
    steps: int = 30
    classical_steps: int | None = None
    acceleration: float = 4
    views: int = 60


FULL = Size()


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """A reconstruction of the demonstration. seconds: None where it was finished before."""

    modality: str
    sampler: str
    file: Path
    figures: Evaluation
    seconds: float | None


@dataclasses.dataclass(frozen=True)
class Demonstration:
    """What was made: reconstructions in the order of the table, and pictures."""

    outcomes: tuple[Exhibit, ...]
    pictures: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class _Part:
    """One modality: how its volume is made and scanned, and which samplers reconstruct it."""

    name: str
    modality: str
    phantom: Callable[..., Volume]
    scan: Callable[[Volume, Path], None]
    samplers: tuple[str, ...]
    window: tuple[float, float] | None
    said: str


def demonstrate(
    folder: Path,
    *,
    seed: int = 0,
    device: torch.device,
    precision: Word = "auto",
    overwrite: bool = False,
    size: Size | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Demonstration:
    """Make everything in `folder`, which is created; its parent must be there.

    A folder of an earlier demonstration with the same seed and size is completed; any other one
    that holds files is refused unless `overwrite`. tell: gets a line before each piece of work.
    Raises OutputError, and what the pieces raise.
    """
    size = size or FULL
    settings = {"seed": seed, **dataclasses.asdict(size)}
    _claim(folder, settings, overwrite)
    outcomes, pictures = [], []
    for part in _parts(seed, size):
        truth, scan = _scanned(part, folder, seed, size, overwrite, tell)
        found = []
        for sampler in part.samplers:
            job = _job(scan, part, sampler, seed, size, overwrite, precision)
            tell(f"{part.said}: {sampler}")
            seconds = _reconstructed(job, device)
            figures = evaluate_volume(read(job.out), truth)
            found.append(Exhibit(part.name, sampler, job.out, figures, seconds))
        pictures.append(_drawn(part, found, truth, folder / f"{part.name}.png"))
        outcomes += found
    _record(folder, settings, "done", outcomes)
    return Demonstration(tuple(outcomes), tuple(pictures))


def _parts(seed: int, size: Size) -> tuple[_Part, ...]:
    chosen = slice(*size.slices)

    def mri(volume: Volume, path: Path) -> None:
        scan = simulate_mri(
            volume, mask="equispaced", acceleration=size.acceleration, slices=chosen, seed=seed
        )
        write_fastmri(scan, path)

    def ct(volume: Volume, path: Path) -> None:
        scan = simulate_ct(volume, views=size.views, slices=chosen, seed=seed)
        write_ct_measurement(scan, path)

    return (
        _Part(
            "mri", "MR", head_phantom, mri, ("zerofilled", "wavelet", "tv", "dds"), None,
            f"MRI, 8 coils, {size.acceleration:g}-fold acceleration",
        ),
        _Part(
            "ct", "CT", ct_phantom, ct, ("fbp", "wavelet", "tv", "dds"), HEAD_WINDOW_HU,
            f"CT, {size.views} views, 1e5 photons",
        ),
    )  # fmt: skip


def _claim(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Take a new or empty folder, or one where these settings were started; refuse others."""
    if not folder.parent.is_dir():
        raise OutputError(f"{folder.parent}: there is no such folder; make it first")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; the demonstration needs a folder")
    make_folder(folder)
    if any(folder.iterdir()) and not overwrite and _settings_in(folder) != _plain(settings):
        raise OutputError(
            f"{folder}: holds something else than this demonstration, or one with other settings; "
            "choose another folder or add --overwrite"
        )
    _record(folder, settings, "started", [])


def _settings_in(folder: Path) -> Any:
    try:
        return read_sidecar(folder / SUMMARY).get("settings")
    except (NotFoundError, InputError):
        return None


def _plain(settings: dict[str, Any]) -> Any:
    """Settings as they come back from JSON."""
    return json.loads(json.dumps(settings))


def _scanned(
    part: _Part, folder: Path, seed: int, size: Size, overwrite: bool, tell: Callable[[str], None]
) -> tuple[Volume, Path]:
    """The reference volume and the scan of some of its slices, both as files."""
    reference, scan = folder / f"{part.name}_reference.nii.gz", folder / f"{part.name}_scan.h5"
    if overwrite or not (scan.exists() and reference.exists()):
        tell(f"{part.said}: simulate")
        volume = part.phantom(size.shape, seed)
        write(volume, reference, description="restore phantom", overwrite=True)
        part.scan(volume, scan)
    return read(reference, modality=part.modality), scan


def _job(
    scan: Path, part: _Part, sampler: str, seed: int, size: Size, overwrite: bool, precision: Word
) -> ReconJob:
    steps = {"n_steps": size.steps if sampler == "dds" else size.classical_steps}
    return ReconJob(
        scan, scan.with_name(f"{part.name}_{sampler}.nii.gz"), sampler,
        settings={} if sampler in ("zerofilled", "fbp") or None in steps.values() else steps,
        options=ReconOptions(seed=seed, precision=precision), overwrite=overwrite,
    )  # fmt: skip


def _reconstructed(job: ReconJob, device: torch.device) -> float | None:
    """Seconds the job took, None where it had been done."""
    planned = plan(job)
    return None if planned.done else float(run(planned, device)["seconds"])


def _drawn(part: _Part, found: list[Exhibit], truth: Volume, path: Path) -> Path:
    """The picture of the middle slice: input, best classical result, DDS, reference."""
    first, *classical, dds = found
    chosen = [first, max(classical, key=lambda outcome: outcome.figures.psnr), dds]
    slices = first.figures.slices or ()
    middle = len(slices) // 2
    panels = [
        Panel(
            TITLES[outcome.sampler], read(outcome.file).data[middle],
            f"PSNR {outcome.figures.psnr:.1f} dB   SSIM {outcome.figures.ssim:.3f}",
        )
        for outcome in chosen
    ]  # fmt: skip
    panels.append(Panel("reference", truth.data[slices[middle]], "made-up head"))
    numbers = ", ".join(map(str, slices))
    title = f"{part.said}: slice {slices[middle]}; figures over slices {numbers}"
    units = "|error| in HU" if part.modality == "CT" else "|error|"
    return comparison_picture(panels, path, title=title, window=part.window, units=units)


def _record(folder: Path, settings: dict[str, Any], status: str, found: list[Exhibit]) -> None:
    results = [
        {
            "modality": outcome.modality, "sampler": outcome.sampler, "file": outcome.file,
            "seconds": outcome.seconds, "figures": outcome.figures.to_dict(),
        }
        for outcome in found
    ]  # fmt: skip
    write_sidecar(folder / SUMMARY, {"status": status, "settings": settings, "results": results})
