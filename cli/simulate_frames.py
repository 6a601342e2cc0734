"""`restore simulate ... --frames`: the options, and a scan over time. Used by `simulate` only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from restore.cli.simulation import Simulation
    from restore.datasets.over_time import SeriesScan
    from restore.datasets.scan import Scan
    from restore.datasets.volume.volume import Volume


@dataclasses.dataclass(frozen=True)
class FrameOptions:
    """Options of scans over time."""

    frames: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=10_000,
            help="Measure over time: so many frames of a beating, breathing VOLUME, or of a 4-D one. docs/dynamic.md",
        ),
    ] = None
    frame_time: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="--frames: seconds from a frame to the next.",
            show_default="that of a 4-D VOLUME, else 0.1",
        ),
    ] = None

    def wanted(self, given: dict[str, Any]) -> bool:
        """Whether there are frames; refuses what does nothing then. given: options of other scans, by name."""
        if self.frames is None:
            if self.frame_time is not None:
                raise typer.BadParameter("--frame-time needs --frames")
            return False
        for name, value in given.items():
            if value is not None:
                raise typer.BadParameter(f"--{name} cannot be told with --frames; leave it out")
        return True


def measure_mri_frames(
    simulation: Simulation,
    options: FrameOptions,
    *,
    trajectory: str | None,
    lines: dict[str, Any],
    coils: int,
    noise: float,
) -> bool:
    """Simulate spokes or lines of a volume in motion and write them. lines: what is told of `Lines`, by its names."""
    from restore.datasets.mri.files.trajectory_file import write_trajectory_file
    from restore.datasets.simulate.frame_readouts import Lines
    from restore.datasets.simulate.frames import simulate_mri_frames

    if (trajectory is None) == (not lines):
        raise typer.BadParameter(
            "--frames needs --trajectory, such as radial:8 for eight golden-angle spokes a frame, or --acceleration "
            "(with --mask, --center-fraction) for Cartesian lines; not both"
        )
    readouts = Lines(**lines) if trajectory is None else trajectory

    def make(volume: Volume, slices: slice, frames: int) -> SeriesScan:
        return simulate_mri_frames(
            volume, frames, readouts, frame_s=options.frame_time, coils=coils, noise=noise, slices=slices,
            seed=simulation.seed,
        )  # fmt: skip

    return _measured(simulation, options, make, write_trajectory_file, "kspace")


def measure_ct_frames(
    simulation: Simulation, options: FrameOptions, *, views: int, photons: float
) -> bool:
    """Simulate views of a volume in motion and write them."""
    from restore.datasets.ct.files.measurement import write_ct_measurement
    from restore.datasets.simulate.frames import simulate_ct_frames

    def make(volume: Volume, slices: slice, frames: int) -> SeriesScan:
        return simulate_ct_frames(
            volume, frames, frame_s=options.frame_time, views=views, photons=photons, slices=slices,
            seed=simulation.seed,
        )  # fmt: skip

    return _measured(simulation, options, make, write_ct_measurement, "sinogram")


def _measured(
    simulation: Simulation,
    options: FrameOptions,
    make: Callable[[Volume, slice, int], SeriesScan],
    write: Callable[[Any, Path], None],
    measured: str,
) -> bool:
    from restore.datasets.budget import check_result_size
    from restore.datasets.over_time import write_series

    simulation.check()
    source, chosen = simulation.opened(frames=True)
    scan = make(source, chosen, options.frames or 0)
    check_result_size(8 * math.prod(scan.measured.shape), "a scan of this size")

    def written(found: Scan, path: Path) -> None:
        write_series(dataclasses.replace(scan, measured=found), path, write)

    made = simulation.written(scan.measured, source, written, measured)
    rows, columns = scan.image_shape
    return simulation.report(
        made,
        scan.notes,
        f"{scan.frames} frames of {scan.measured.n_slices} slices, {rows} x {columns}, {scan.per_frame} "
        f"{_readouts(scan)} a frame of {scan.frame_s:g} s",
        kind=scan.kind, slices=list(scan.measured.slice_indices), frames=scan.frames, frame_s=scan.frame_s,
        shape=list(scan.measured.shape), noise_std=scan.noise_std, settings=scan.settings,
    )  # fmt: skip


def _readouts(scan: SeriesScan) -> str:
    """What a frame consists of."""
    if scan.kind == "ct":
        return "views"
    return "lines" if "mask" in scan.settings else "spokes"
