"""`restore simulate`: turn a volume into the measurement a scanner would have made of it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import console
from restore.cli.config_option import verb
from restore.cli.output import check_output

if TYPE_CHECKING:
    from restore.datasets.mri.fastmri_write import Undersampling
    from restore.datasets.volume.volume import Volume

app = typer.Typer(help="Simulate an MRI or CT scan of a volume.", no_args_is_help=True)


class Layout(StrEnum):
    """What kind of file a simulated MRI scan becomes."""

    scan = "scan"
    fastmri = "fastmri"


Source = Annotated[
    Path, typer.Argument(metavar="VOLUME", help="NIfTI file or folder of a DICOM series.")
]
Out = Annotated[Path, typer.Option("-o", "--out", metavar="SCAN.h5", help="Scan to write.")]
Slices = Annotated[
    str | None,
    typer.Option(
        metavar="A:B:C",
        help="Every C-th slice from A up to B (without it), along the third NIfTI axis or sorted "
        "DICOM slices; one number is one slice. Default: all.",
    ),
]
Series = Annotated[str, typer.Option(help="Which series of a DICOM folder: number or UID's end.")]
Index = Annotated[int | None, typer.Option(help="Which volume of a 4-D NIfTI file, from 0.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing SCAN.h5.")]
Json = Annotated[bool, typer.Option("--json", help="Say what was written as JSON.")]


@app.command("mri")
@verb("simulate mri")
def mri(
    volume: Source,
    out: Out,
    coils: Annotated[int, typer.Option(min=1, help="Number of receive coils.")] = 8,
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
            show_default="0.08, with --test 0.32 / ACC",
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            help="random, equispaced, equispaced-fraction, gaussian1d, random2d or poisson2d; with "
            "--test random, equispaced, equispaced_fraction, magic or magic_fraction.",
            show_default="random",
        ),
    ] = None,
    noise: Annotated[
        float, typer.Option(min=0, help="Standard deviation per real channel, 1 = volume maximum.")
    ] = 0.005,
    layout: Annotated[
        Layout,
        typer.Option(
            "--as", help="scan: undersampled, with maps. fastmri: complete, as a published file."
        ),
    ] = Layout.scan,
    oversampling: Annotated[
        int | None, typer.Option(min=1, help="--as fastmri: times more rows, filled with air.")
    ] = None,
    columns: Annotated[
        int | None, typer.Option(min=1, help="--as fastmri: measured columns, the others zero.")
    ] = None,
    test: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="ACC", help="--as fastmri: a test file, ACC times fewer lines."
        ),
    ] = None,
    slices: Slices = None,
    series: Series = "",
    index: Index = None,
    seed: Seed = 7,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Multi-coil Cartesian k-space in the fastMRI layout, with smooth phase and complex noise."""
    if layout is Layout.fastmri:
        undersampling = _undersampling(acceleration, center_fraction, mask, test)
        folder = _check_stand_in(out, volume, overwrite, coils == 1, test is not None)
        source, chosen = _opened(volume, slices, series, index)
        _write_stand_in(
            out, folder, json, undersampling, volume=source, coils=coils, noise=noise, slices=chosen,
            seed=seed, oversampling=oversampling or 1, columns=columns,
        )  # fmt: skip
        return
    for name, value in {"oversampling": oversampling, "columns": columns, "test": test}.items():
        if value is not None:
            raise typer.BadParameter(f"--{name} needs --as fastmri")
    from restore.datasets.mri.fastmri import write_fastmri
    from restore.datasets.simulate.mri import simulate_mri

    check_output(out, volume, overwrite)
    source, chosen = _opened(volume, slices, series, index)
    scan = simulate_mri(
        source, coils=coils, acceleration=4 if acceleration is None else acceleration,
        center_fraction=0.08 if center_fraction is None else center_fraction, mask=mask or "random",
        noise=noise, slices=chosen, seed=seed,
    )  # fmt: skip
    write_fastmri(scan, out)
    measured = float(scan.mask.size / scan.mask.sum())
    count, coils, height, width = scan.shape
    _report(
        out, json, scan.notes,
        f"{count} slices, {coils} coils, {height} x {width}, acceleration {measured:.2f} "
        f"({mask or 'random'}), noise {scan.noise_std or 0:.4g}",
        kind="mri", slices=list(scan.slice_indices), shape=list(scan.shape),
        acceleration=measured, noise_std=scan.noise_std, settings=scan.settings,
    )  # fmt: skip


@app.command("ct")
@verb("simulate ct")
def ct(
    volume: Source,
    out: Out,
    views: Annotated[int, typer.Option(min=1, help="Number of projection angles.")] = 60,
    arc: Annotated[float, typer.Option(help="Degrees they are spread over, end left out.")] = 180,
    photons: Annotated[float, typer.Option(help="Counts of a ray through air.")] = 1e5,
    slices: Slices = None,
    series: Series = "",
    index: Index = None,
    seed: Seed = 7,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Parallel-beam sinogram of a volume in HU, with Poisson noise, from a finer grid."""
    from restore.datasets.ct.measurement import write_ct_measurement
    from restore.datasets.simulate.ct import simulate_ct

    check_output(out, volume, overwrite)
    source, chosen = _opened(volume, slices, series, index)
    scan = simulate_ct(source, views=views, arc=arc, photons=photons, slices=chosen, seed=seed)
    write_ct_measurement(scan, out)
    count, views, detectors = scan.shape
    _report(
        out, json, scan.notes,
        f"{count} slices, {views} views over {arc:g} degrees, {detectors} detectors, "
        f"{photons:g} photons",
        kind="ct", slices=list(scan.slice_indices), shape=list(scan.shape),
        photons=scan.photons, noise_std=scan.noise_std, settings=scan.settings,
    )  # fmt: skip


def _undersampling(
    acceleration: float | None, center_fraction: float | None, mask: str | None, test: int | None
) -> Undersampling | None:
    """How a test file is undersampled, None for a complete file."""
    from restore.datasets.mri.fastmri_masks import center_fraction_for
    from restore.datasets.mri.fastmri_write import Undersampling

    if acceleration is not None:
        raise typer.BadParameter("--as fastmri takes no --acceleration; --test ACC undersamples")
    if test is None:
        if mask is not None or center_fraction is not None:
            raise typer.BadParameter("a complete file has no mask: give --test ACC with these")
        return None
    fraction = center_fraction_for(test) if center_fraction is None else center_fraction
    return Undersampling(test, fraction, mask or "random")


def _check_stand_in(
    out: Path, source: Path, overwrite: bool, single: bool, test: bool
) -> Path | None:
    """Check the output; give the folder to make where ROOT/multicoil_val is not there yet."""
    from restore.datasets.mri.fastmri_folder import folder_kind
    from restore.errors import OutputError

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
    check_output(out, source, overwrite)
    return None


def _write_stand_in(
    out: Path, folder: Path | None, json: bool, test: Undersampling | None, **settings: Any
) -> None:
    from restore.datasets.mri.fastmri_write import write_fastmri_file
    from restore.datasets.simulate.fastmri_files import simulate_fastmri
    from restore.errors import OutputError

    scan = simulate_fastmri(**settings)
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: could not be made: {error.strerror}") from error
    write_fastmri_file(scan, out, test)
    count, coils, height, width = scan.shape
    state = "complete" if test is None else f"test file at {test.acceleration} ({test.kind})"
    _report(
        out, json, scan.notes,
        f"{count} slices, {coils} coils, {height} x {width}, {state}, noise {scan.noise_std or 0:.4g}",
        kind="fastmri", slices=list(scan.slice_indices), shape=list(scan.shape),
        acceleration=None if test is None else test.acceleration,
        noise_std=scan.noise_std, settings=scan.settings,
    )  # fmt: skip


def _opened(path: Path, slices: str | None, series: str, index: int | None) -> tuple[Volume, slice]:
    """The volume and the wanted slices, which are checked before the long work starts."""
    from restore.datasets.open import read
    from restore.datasets.slices import parse_slices, slices_within

    chosen = parse_slices(":" if slices is None else slices)
    volume = read(path, series=series, index=index)
    slices_within(chosen, volume.n_slices, str(path))
    return volume, chosen


def _report(out: Path, json: bool, notes: list[str], line: str, **record: Any) -> None:
    console.notes(notes)
    if json:
        console.result_json({"out": str(out), **record, "notes": notes})
    else:
        console.result(f"{out}: {line}")
