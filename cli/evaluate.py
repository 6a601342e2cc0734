"""`restore eval`: how near a result is to its reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import console
from restore.cli.config_option import verb

if TYPE_CHECKING:
    from restore.datasets.picture.images import Picture
    from restore.datasets.volume.volume import Volume
    from restore.pipelines.evaluate import Alignment, Evaluation


@verb("eval")
def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Volume or photograph to judge.")],
    reference: Annotated[
        Path, typer.Option(metavar="REF", help="What it should be; matched by position.")
    ],
    slices: Annotated[
        str | None,
        typer.Option(
            metavar="A:B:C", help="Slices in REF's numbering; OUT must hold them. Default: OUT's."
        ),
    ] = None,
    rescale: Annotated[
        bool, typer.Option("--rescale", help="Multiply OUT by its least-squares factor first.")
    ] = False,
    data_range: Annotated[
        float | None,
        typer.Option(help="Peak of PSNR and SSIM. Default: REF's maximum, for CT its range."),
    ] = None,
    series: Annotated[str, typer.Option(help="Which series of a DICOM folder REF.")] = "",
    align: Annotated[
        bool,
        typer.Option("--align", help="Shift OUT onto REF first; compare where both are known."),
    ] = False,
    index: Annotated[
        int | None,
        typer.Option("--index", "--volume", help="Which volume of several in REF, from 0."),
    ] = None,
    echo: Annotated[
        int | None, typer.Option("--echo", help="Which echo of a DICOM series REF, from 1.")
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Interpolate a tilted or uneven DICOM REF.")
    ] = False,
    repair: Annotated[
        str, typer.Option(help="'zero' puts 0 for voxels of REF that are NaN or infinite.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """PSNR, SSIM and NMSE of a result against its reference."""
    which = {
        "series": series, "index": index, "echo": echo, "resample": resample or None, "repair": repair,
    }  # fmt: skip
    found = _compare(
        out, reference, which, slices, rescale=rescale, data_range=data_range, align=align
    )
    if json:
        record = {"out": str(out), "reference": str(reference), **found.to_dict()}
        console.result_json(record)
        return
    console.result(f"PSNR {found.psnr:.2f} dB   SSIM {found.ssim:.4f}   NMSE {found.nmse:.6f}")
    console.result(f"data range {found.data_range:.6g}: {found.data_range_rule}")
    if found.slices is not None:
        console.result(f"slices {', '.join(map(str, found.slices))} of {reference.name}")
    console.result(f"modality {found.modality or 'unknown'}: {found.modality_rule}")
    console.result(f"SSIM: {found.ssim_variant}")
    if found.alignment is not None:
        console.result(_shift_line(found.alignment))
    for note in found.notes:
        console.result(note)


def _shift_line(found: Alignment) -> str:
    pixels = ", ".join(f"{s:+.2f}" for s in found.shift_pixels)
    mm = "" if found.distance_mm is None else f" ({found.distance_mm:.3g} mm)"
    axes = "columns, rows" if found.shift_mm is None else "x, y, z"
    return (
        f"aligned: moved by {pixels} pixels along {axes}{mm}; correlation "
        f"{found.correlation_before:.4f} before, {found.correlation_after:.4f} after"
    )


def _said_of(*pictures: Picture) -> list[str]:
    """What reading the pictures changed or left out, and what of them the figures do not see."""
    said = [f"{p.source.name}: {note}" for p in pictures for note in p.notes]
    for p in pictures:
        if p.alpha is not None:
            said.append(
                f"{p.source.name}: partly transparent; its colours are compared, its transparency is not"
            )
    if len({p.tags.profile for p in pictures}) > 1:
        said.append(
            "the colour profiles differ; stored values are compared, whatever colours they stand for"
        )
    return said


def _only_volume(out: Path) -> Volume:
    """The volume of OUT. Raises InputError for several: the options that choose are those of REF."""
    from restore.datasets.open import read
    from restore.errors import InputError

    try:
        return read(out)
    except InputError as error:
        if "--volume" not in str(error):
            raise
        todo = "give OUT as a file of one volume: --volume and --echo choose in REF"
        raise InputError(out, "holds several volumes", todo) from error


def _compare(
    out: Path, reference: Path, which: dict[str, Any], slices: str | None, **how: Any
) -> Evaluation:
    from restore.datasets.open import format_of, read, read_image
    from restore.datasets.slices import parse_slices
    from restore.errors import ConfigError
    from restore.pipelines.evaluate import evaluate_photograph, evaluate_volume

    chosen = None if slices is None else parse_slices(slices)
    if any((form := format_of(path)) and form.holds == "picture" for path in (out, reference)):
        if chosen is not None:
            raise ConfigError("--slices is for volumes; a photograph has none")
        pair = read_image(out), read_image(reference)
        found = evaluate_photograph(*(p.data for p in pair), **how)
        return replace(found, notes=(*found.notes, *_said_of(*pair)))
    volumes = _only_volume(out), read(reference, **which)
    found = evaluate_volume(*volumes, slices=chosen, **how)
    said = [f"{v.source.name}: {note}" for v in volumes if v.source for note in v.notes]
    return replace(found, notes=(*found.notes, *said))
