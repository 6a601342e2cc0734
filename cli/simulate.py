"""`restore simulate`: turn a volume into the measurement a scanner would have made of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import console
from restore.cli.output import check_output

if TYPE_CHECKING:
    from restore.datasets.volume import Volume

app = typer.Typer(help="Simulate an MRI or CT scan of a volume.", no_args_is_help=True)

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
def mri(
    volume: Source,
    out: Out,
    coils: Annotated[int, typer.Option(min=1, help="Number of receive coils.")] = 8,
    acceleration: Annotated[
        float, typer.Option(min=1, help="How many times fewer samples than the full k-space.")
    ] = 4,
    center_fraction: Annotated[
        float, typer.Option(min=0, max=1, help="Part of the lines measured around the centre.")
    ] = 0.08,
    mask: Annotated[
        str,
        typer.Option(
            help="random, equispaced, equispaced-fraction, gaussian1d, random2d or poisson2d."
        ),
    ] = "random",
    noise: Annotated[
        float, typer.Option(min=0, help="Standard deviation per real channel, 1 = volume maximum.")
    ] = 0.005,
    slices: Slices = None,
    series: Series = "",
    index: Index = None,
    seed: Seed = 7,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Multi-coil Cartesian k-space in the fastMRI layout, with smooth phase and complex noise."""
    from restore.datasets.fastmri import write_fastmri
    from restore.datasets.simulate_mri import simulate_mri

    check_output(out, volume, overwrite)
    source, chosen = _opened(volume, slices, series, index)
    scan = simulate_mri(
        source, coils=coils, acceleration=acceleration, center_fraction=center_fraction, mask=mask,
        noise=noise, slices=chosen, seed=seed,
    )  # fmt: skip
    write_fastmri(scan, out)
    measured = float(scan.mask.size / scan.mask.sum())
    count, coils, height, width = scan.shape
    _report(
        out, json, scan.notes,
        f"{count} slices, {coils} coils, {height} x {width}, acceleration {measured:.2f} "
        f"({mask}), noise {scan.noise_std or 0:.4g}",
        kind="mri", slices=list(scan.slice_indices), shape=list(scan.shape),
        acceleration=measured, noise_std=scan.noise_std, settings=scan.settings,
    )  # fmt: skip


@app.command("ct")
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
    from restore.datasets.ct_measurement import write_ct_measurement
    from restore.datasets.simulate_ct import simulate_ct

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
