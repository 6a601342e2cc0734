"""`restore simulate`: turn a volume into the measurement a scanner would have made of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import scan_layouts
from restore.cli.config_option import verb
from restore.cli.many import Many
from restore.cli.scan_layouts import CTLayout, Encoding, Geometry, Layout, check_suffix, written_as
from restore.cli.simulate_by_policy import PolicyOptions, measure_ct, measure_mri
from restore.cli.simulate_frames import FrameOptions, measure_ct_frames, measure_mri_frames
from restore.cli.simulation import Simulation

if TYPE_CHECKING:
    from restore.datasets.mri.fastmri_files.fastmri_write import Undersampling
    from restore.datasets.volume.volume import Volume

MANY = Many("volume", "volume", suffix=".h5")
app = typer.Typer(help="Simulate an MRI or CT scan of a volume.", no_args_is_help=True)


@app.command("mri")
@verb("simulate mri", many=MANY, goes_on=True)
def mri(
    simulation: Simulation,
    by_policy: PolicyOptions,
    over_time: FrameOptions,
    coils: Annotated[int, typer.Option(min=1, max=1024, help="Number of receive coils.")] = 8,
    acceleration: Annotated[
        float | None,
        typer.Option(
            min=1, help="How many times fewer samples than the full k-space.", show_default="4"
        ),
    ] = None,
    center_fraction: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Part of the lines measured around the centre.",
            show_default="0.08, with --encoding 3d 0.2, with --test 0.32 / ACC",
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            help="random, equispaced, equispaced-fraction, gaussian1d, random2d or poisson2d; with "
            "--encoding 3d poisson2d, random2d or caipi:AxB (every A-th column, B-th partition); with "
            "--test random, equispaced, equispaced_fraction, magic or magic_fraction.",
            show_default="random, with --encoding 3d poisson2d",
        ),
    ] = None,
    noise: Annotated[
        float, typer.Option(min=0, help="Standard deviation per real channel, 1 = volume maximum.")
    ] = 0.005,
    trajectory: Annotated[
        str | None,
        typer.Option(
            metavar="KIND:N|FILE",
            help="Not Cartesian: radial:N spokes (with --frames of a frame), spiral:N interleaves, stars:N (3-D), "
            "cones:N (3-D), or a .npy file of points (readouts, samples, 2 or 3) in cycles per field of view.",
        ),
    ] = None,
    encoding: Annotated[
        Encoding,
        typer.Option(
            help="2d: slice by slice. 3d: the volume, undersampled along columns and partitions."
        ),
    ] = Encoding.two,
    layout: Annotated[
        Layout,
        typer.Option(
            "--as",
            help="scan: undersampled, with maps. fastmri: complete, as a published file. ismrmrd: acquisitions with a "
            "noise measurement. cfl: BART's files, with maps and pattern or trajectory beside.",
        ),
    ] = Layout.scan,
    oversampling: Annotated[
        int | None,
        typer.Option(min=1, max=16, help="--as fastmri: times more rows, filled with air."),
    ] = None,
    columns: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="--as fastmri: measured columns, the others zero."),
    ] = None,
    test: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="ACC", help="--as fastmri: a test file, ACC times fewer lines."
        ),
    ] = None,
) -> bool:
    """Multi-coil k-space, in the fastMRI layout or along a trajectory, with smooth phase and complex noise."""
    given = {
        "acceleration": acceleration, "center-fraction": center_fraction, "mask": mask, "test": test,
        "oversampling": oversampling, "columns": columns, "as": layout if layout is Layout.fastmri else None,
        "encoding": None if encoding is Encoding.two else encoding,
    }  # fmt: skip
    other = {"trajectory": trajectory, "as": None if layout is Layout.scan else layout}
    pattern = {"acceleration": acceleration, "center_fraction": center_fraction, "mask": mask}
    told = {name: value for name, value in pattern.items() if value is not None}
    elsewhere = {name: given[name] for name in ("test", "oversampling", "columns", "encoding")}
    if over_time.wanted({**elsewhere, "as": other["as"], "policy": by_policy.policy}):
        return measure_mri_frames(
            simulation, over_time, trajectory=trajectory, lines=told, coils=coils, noise=noise
        )
    if by_policy.wanted({**given, **other}):
        return measure_mri(simulation, by_policy, coils=coils, noise=noise)
    if trajectory is not None:
        for name, value in given.items():
            if value is not None:
                raise typer.BadParameter(
                    f"--{name} is for Cartesian k-space; leave it out with --trajectory"
                )
        return _along_a_trajectory(simulation, trajectory, coils, noise, layout)
    if layout is Layout.fastmri:
        if encoding is Encoding.three:
            raise typer.BadParameter(
                "--encoding 3d is for --as scan: published files are of slices"
            )
        undersampling = _undersampling(acceleration, center_fraction, mask, test)
        folder = _check_stand_in(simulation, coils == 1, test is not None)
        source, chosen = simulation.opened()
        _check_size(source, chosen, coils * (oversampling or 1) * math.prod(source.data.shape[1:]))
        return _write_stand_in(
            simulation, folder, undersampling, volume=source, coils=coils, noise=noise, slices=chosen,
            seed=simulation.seed, oversampling=oversampling or 1, columns=columns,
        )  # fmt: skip
    for name, value in {"oversampling": oversampling, "columns": columns, "test": test}.items():
        if value is not None:
            raise typer.BadParameter(f"--{name} needs --as fastmri")
    return _on_a_grid(simulation, encoding, layout, coils=coils, noise=noise, **told)


@app.command("ct")
@verb("simulate ct", many=MANY, goes_on=True)
def ct(
    simulation: Simulation,
    by_policy: PolicyOptions,
    over_time: FrameOptions,
    views: Annotated[
        int,
        typer.Option(
            min=1,
            max=100_000,
            help="Number of projection angles; with --policy those to choose from, with --frames those of a frame.",
        ),
    ] = 60,
    arc: Annotated[
        float | None,
        typer.Option(
            help="Degrees they are spread over, end left out.",
            show_default="180, with --geometry 360",
        ),
    ] = None,
    photons: Annotated[float, typer.Option(help="Counts of a ray through air.")] = 1e5,
    geometry: Annotated[
        Geometry,
        typer.Option(help="parallel or fan: slice by slice; cone or helical: of a volume."),
    ] = Geometry.parallel,
    source_detector: Annotated[
        float | None,
        typer.Option(help="mm, of a fan, cone or helix.", show_default="1000"),
    ] = None,
    source_object: Annotated[
        float | None,
        typer.Option(help="mm from the source to the axis of rotation.", show_default="500"),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="ROWSxCOLUMNS@MM",
            help="Bins and their pitch, of a fan COLUMNS@MM; needed for these.",
        ),
    ] = None,
    pitch: Annotated[
        float | None, typer.Option(help="mm along the axis in a turn, of a helix.")
    ] = None,
    layout: Annotated[
        CTLayout,
        typer.Option(
            "--as", help="scan; dxchange: a synchrotron's counts; rtk: OUT.xml, OUT.mha of a cone."
        ),
    ] = CTLayout.scan,
) -> bool:
    """Line integrals of a volume in HU, with Poisson noise, from a finer grid."""
    given = {
        "source_detector": source_detector, "source_object": source_object, "detector": detector, "pitch": pitch,
    }  # fmt: skip
    chosen_beam = {name: value for name, value in given.items() if value is not None}
    beam = {name.replace("_", "-"): value for name, value in given.items()}
    elsewhere = {
        "geometry": None if geometry is Geometry.parallel else geometry,
        "as": None if layout is CTLayout.scan else layout,
    }
    if over_time.wanted({**elsewhere, **beam, "arc": arc, "policy": by_policy.policy}):
        return measure_ct_frames(simulation, over_time, views=views, photons=photons)
    if by_policy.wanted(elsewhere):
        arc = 180.0 if arc is None else arc
        return measure_ct(simulation, by_policy, views=views, arc=arc, photons=photons)
    scan_layouts.check_beams(simulation.out, layout, geometry)
    if geometry is not Geometry.parallel:
        arc = 360.0 if arc is None else arc
        return _beams(
            simulation, geometry, layout, views=views, arc=arc, photons=photons, **chosen_beam
        )
    for name in chosen_beam:
        raise typer.BadParameter(
            f"--{name.replace('_', '-')} needs --geometry fan, cone or helical; leave it out for parallel rays"
        )
    arc = 180.0 if arc is None else arc
    from restore.datasets.ct.files.dxchange_write import check_counts, write_dxchange
    from restore.datasets.ct.files.measurement import write_ct_measurement
    from restore.datasets.simulate.ct import simulate_ct

    simulation.check()
    other = layout is CTLayout.dxchange
    if other:
        check_counts(simulation.out, photons)
    source, chosen = simulation.opened()
    _check_size(source, chosen, views * max(source.data.shape[1:]))
    scan = simulate_ct(
        source, views=views, arc=arc, photons=photons, slices=chosen, seed=simulation.seed
    )
    write = write_dxchange if other else write_ct_measurement
    mark: dict[str, Any] = {"layout": layout.value} if other else {}
    made = simulation.written(scan, source, write, "sinogram", **mark)
    count, views, detectors = scan.shape
    return simulation.report(
        made,
        scan.notes,
        f"{count} slices, {views} views over {arc:g} degrees, {detectors} detectors, "
        f"{photons:g} photons",
        kind="ct", slices=list(scan.slice_indices), shape=list(scan.shape),
        photons=scan.photons, noise_std=scan.noise_std, settings=scan.settings,
    )  # fmt: skip


def _beams(simulation: Simulation, geometry: Geometry, layout: CTLayout, **settings: Any) -> bool:
    """Simulate and write a scan by a fan, a cone or a helix."""
    from restore.datasets.simulate.ct_beams import BeamSettings, simulate_beams

    if "detector" not in settings:
        raise typer.BadParameter(
            f"--geometry {geometry} needs --detector, such as 256x256@1.0 (rows, columns, mm), of a fan 512@1.0"
        )
    simulation.check()
    source, chosen = simulation.opened()
    scan = simulate_beams(
        source, BeamSettings(geometry, **settings), slices=chosen, seed=simulation.seed
    )
    if scan.geometry.in_plane:
        _check_size(source, chosen, math.prod(scan.geometry.shape))
    parts = "slices" if scan.geometry.in_plane else "views"
    how = scan_layouts.beams_written_as(layout)
    made = simulation.written(scan, source, measured="projections", parts=parts, **how)
    return simulation.report(
        made,
        scan.notes,
        f"{scan.n_slices} slices, {scan.sampling} over {settings['arc']:g} degrees, "
        f"{settings['detector']} mm, {settings['photons']:g} photons",
        kind="ct", slices=list(scan.slice_indices), shape=list(scan.shape),
        photons=scan.photons, noise_std=scan.noise_std, settings=scan.settings,
    )  # fmt: skip


def _on_a_grid(simulation: Simulation, encoding: Encoding, layout: Layout, **settings: Any) -> bool:
    """Simulate and write Cartesian k-space, of slices or of a volume."""
    from restore.datasets.simulate.mri import simulate_mri
    from restore.datasets.simulate.mri_volume import simulate_mri_volume

    whole = encoding is Encoding.three
    check_suffix(simulation.out, layout)
    simulation.check()
    source, chosen = simulation.opened()
    # A volume's k-space and maps are held besides.
    _check_size(
        source, chosen, (3 if whole else 1) * settings["coils"] * math.prod(source.data.shape[1:])
    )
    make = simulate_mri_volume if whole else simulate_mri
    scan = make(source, slices=chosen, seed=simulation.seed, **settings)
    measured = "partitions" if whole else "kspace"
    made = simulation.written(scan, source, measured=measured, **written_as(layout, scan))
    rate = float(scan.mask.size / scan.mask.sum())
    count, height, width = scan.n_slices, *scan.image_shape
    return simulation.report(
        made,
        scan.notes,
        f"{count} slices, {settings['coils']} coils, {height} x {width}, acceleration {rate:.2f} "
        f"({scan.settings['mask']}{' in 3-D' if whole else ''}), noise {scan.noise_std or 0:.4g}",
        kind="mri", slices=list(scan.slice_indices), shape=list(scan.shape),
        acceleration=rate, noise_std=scan.noise_std, settings=scan.settings,
    )  # fmt: skip


def _along_a_trajectory(
    simulation: Simulation, trajectory: str, coils: int, noise: float, layout: Layout
) -> bool:
    """Simulate and write k-space along a trajectory."""
    from restore.datasets.simulate.noncartesian import simulate_noncartesian

    check_suffix(simulation.out, layout)
    simulation.check()
    source, chosen = simulation.opened()
    scan = simulate_noncartesian(
        source, trajectory, coils=coils, noise=noise, slices=chosen, seed=simulation.seed
    )
    count = len(scan.slice_indices)
    _check_size(source, chosen, math.prod(scan.shape) // count)
    made = simulation.written(scan, source, measured="kspace", **written_as(layout, scan))
    return simulation.report(
        made,
        scan.notes,
        f"{count} slices, {coils} coils, {' x '.join(map(str, scan.matrix))}, {scan.sampling}, "
        f"noise {scan.noise_std or 0:.4g}",
        kind="mri", slices=list(scan.slice_indices), shape=list(scan.shape), matrix=list(scan.matrix),
        noise_std=scan.noise_std, settings=scan.settings,
    )  # fmt: skip


def _check_size(volume: Volume, chosen: slice, values: int) -> None:
    """Refuse a scan that cannot be held. values: complex or double ones, of a slice. Raises ConfigError."""
    from restore.datasets.budget import check_result_size

    count = len(range(*chosen.indices(volume.n_slices)))
    check_result_size(8 * values * count, "a scan of this size")


def _undersampling(
    acceleration: float | None, center_fraction: float | None, mask: str | None, test: int | None
) -> Undersampling | None:
    """How a test file is undersampled, None for a complete file."""
    from restore.datasets.mri.fastmri_files.fastmri_masks import center_fraction_for
    from restore.datasets.mri.fastmri_files.fastmri_write import Undersampling

    if acceleration is not None:
        raise typer.BadParameter("--as fastmri takes no --acceleration; --test ACC undersamples")
    if test is None:
        if mask is not None or center_fraction is not None:
            raise typer.BadParameter("a complete file has no mask: give --test ACC with these")
        return None
    fraction = center_fraction_for(test) if center_fraction is None else center_fraction
    return Undersampling(test, fraction, mask or "random")


def _check_stand_in(simulation: Simulation, single: bool, test: bool) -> Path | None:
    """Check the output; give the folder to make where ROOT/multicoil_val is not there yet."""
    from restore.datasets.mri.fastmri_files.fastmri_folder import folder_kind
    from restore.errors import OutputError

    out = simulation.out
    kind = folder_kind(out.parent.name)
    if kind is not None:
        coils, split = "singlecoil" if single else "multicoil", "test" if test else "val"
        if kind[0] != coils or (kind[1] in ("test", "challenge")) != test:
            raise OutputError(
                f"{out}: {'an undersampled' if test else 'a complete'} {coils} file does not "
                f"belong there; write it to {coils}_{split}"
            )
        if not out.parent.exists() and out.parent.parent.parent.is_dir():
            return out.parent
    simulation.check()
    return None


def _write_stand_in(
    simulation: Simulation, folder: Path | None, test: Undersampling | None, **settings: Any
) -> bool:
    from restore.datasets.mri.fastmri_files.fastmri_write import test_mask, write_fastmri_file
    from restore.datasets.simulate.fastmri_files import simulate_fastmri
    from restore.errors import OutputError

    scan, out = simulate_fastmri(**settings), simulation.out
    if test is not None:
        test_mask(scan, test, out.name)  # refused before the work
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: could not be made: {error.strerror}") from error
    made = simulation.written(
        scan, settings["volume"], lambda s, path: write_fastmri_file(s, path, test, out.name), "kspace",
        layout="fastmri", test=test, name=out.name,
    )  # fmt: skip
    count, coils, height, width = scan.shape
    state = "complete" if test is None else f"test file at {test.acceleration} ({test.kind})"
    return simulation.report(
        made,
        scan.notes,
        f"{count} slices, {coils} coils, {height} x {width}, {state}, noise {scan.noise_std or 0:.4g}",
        kind="fastmri", slices=list(scan.slice_indices), shape=list(scan.shape),
        acceleration=None if test is None else test.acceleration,
        noise_std=scan.noise_std, settings=scan.settings,
    )  # fmt: skip
