"""`restore eval`: how near a result is to its reference."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import console
from restore.cli.config_option import verb
from restore.cli.many import Many

if TYPE_CHECKING:
    from restore.datasets.picture.images import Picture
    from restore.datasets.volume.volume import Volume
    from restore.many.inputs import Input
    from restore.many.jobs import Outcome
    from restore.pipelines.evaluate import Alignment, Evaluation
    from restore.pipelines.evaluate_frames import SeriesEvaluation


def _with_reference(entry: Input, options: dict[str, Any]) -> dict[str, Any]:
    """The options of one comparison: of a folder REF the file of the result's name, whatever its suffix."""
    from restore.datasets.atomic import name_suffix

    folder = options["reference"] / entry.name.parent
    if not options["reference"].is_dir():
        return options

    def stem(path: Path) -> str:
        return path.name if path.is_dir() else path.name.removesuffix(name_suffix(path))

    there = sorted(folder.iterdir()) if folder.is_dir() else []
    alike = [path for path in there if stem(path) == stem(entry.source) and path.suffix != ".json"]
    return options | {"reference": alike[0] if alike else folder / entry.name.name}


def _figures(
    out: Path, reference: Path, *, slices: str | None, series: str, index: int | None, echo: int | None,
    resample: bool, repair: str, json: bool, **how: Any,
) -> dict[str, Any]:  # fmt: skip
    """One comparison of many, without a word."""
    which = _which(series, index, echo, resample, repair)
    found = _compare(out, reference, which, slices, **how)
    return {"out": str(out), "reference": str(reference), **found.to_dict()}


def _table(outcomes: Sequence[Outcome], options: dict[str, Any]) -> None:
    """Print the figures of all comparisons that could be made, and their means with the deviation between them."""
    found = [(o.job.name, o.figures) for o in outcomes if o.ok]
    means = {}
    for name in FIGURES:
        values = [float(figures[name]) for _, figures in found]
        finite = len(values) > 1 and all(map(math.isfinite, values))  # equal images have no PSNR
        spread = statistics.stdev(values) if finite else math.nan
        means[name] = {"mean": statistics.fmean(values) if values else None, "std": spread}
    if options["json"]:
        rows = [{"name": name, **figures} for name, figures in found]
        failed = [{"name": o.job.name, "error": o.sentence} for o in outcomes if not o.ok]
        console.result_json({"results": rows, "failed": failed, "summary": means})
    elif found:
        lines = [(name, *(_number(n, f[n]) for n in FIGURES)) for name, f in found]
        ends = [
            (f"{word} of {len(found)}", *(_number(n, means[n][key]) for n in FIGURES))
            for word, key in (("mean", "mean"), ("deviation", "std"))
        ]
        console.table([("", "PSNR", "SSIM", "NMSE"), *lines, *ends])


def _number(name: str, value: Any) -> str:
    return (
        f"{value:.2f}" if name == "psnr" else f"{value:.4f}" if name == "ssim" else f"{value:.6f}"
    )


def _which(
    series: str, index: int | None, echo: int | None, resample: bool, repair: str
) -> dict[str, Any]:
    """What of REF is meant, as it is read."""
    return {
        "series": series, "index": index, "echo": echo, "resample": resample or None, "repair": repair,
    }  # fmt: skip


ONE_OUT = "give OUT as a file of one volume: --volume and --echo choose in REF"
FIGURES = ("psnr", "ssim", "nmse")
MANY = Many("out", "result", suffix=None, each=_with_reference, job=_figures, after=_table)


@verb("eval", many=MANY)
def command(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Volume or photograph to judge; or several, folders of such, globs."
        ),
    ],
    reference: Annotated[
        Path,
        typer.Option(
            metavar="REF",
            help="What it should be; matched by position. Of several one for all, or a folder with the same names.",
        ),
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
    found = _compare(
        out, reference, _which(series, index, echo, resample, repair), slices, rescale=rescale,
        data_range=data_range, align=align,
    )  # fmt: skip
    if json:
        record = {"out": str(out), "reference": str(reference), **found.to_dict()}
        console.result_json(record)
        return
    first, notes = _printed(found)
    console.result(f"data range {first.data_range:.6g}: {first.data_range_rule}")
    if first.slices is not None:
        console.result(f"slices {', '.join(map(str, first.slices))} of {reference.name}")
    console.result(f"modality {first.modality or 'unknown'}: {first.modality_rule}")
    console.result(f"SSIM: {first.ssim_variant}")
    if first.alignment is not None:
        console.result(_shift_line(first.alignment))
    for note in notes:
        console.result(note)


def _printed(found: Evaluation | SeriesEvaluation) -> tuple[Evaluation, tuple[str, ...]]:
    """Print the figures, of a series those of each frame; what describes them, and all notes."""
    from restore.pipelines.evaluate import Evaluation

    if isinstance(found, Evaluation):
        console.result(f"PSNR {found.psnr:.2f} dB   SSIM {found.ssim:.4f}   NMSE {found.nmse:.6f}")
        return found, found.notes
    told = found.to_dict()
    rows = [(f"frame {t}", frame) for t, frame in enumerate(told["frames"])]
    rows += [
        (f"mean of {len(rows)}", told),
        (f"worst ({told['worst_frame']})", rows[found.worst][1]),
    ]
    lines = [(name, *(_number(n, row[n]) for n in FIGURES)) for name, row in rows]
    console.table([("", "PSNR", "SSIM", "NMSE"), *lines])
    return found.frames[0], told["notes"]


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


def _result(out: Path) -> Volume:
    """The volume of OUT, or its series over time. Raises InputError for others of several: the options that choose are
    those of REF."""
    from restore.datasets.open import read
    from restore.errors import InputError

    try:
        return read(out, **_as_series(out))
    except InputError as error:
        if "--volume" not in str(error):
            raise
        raise InputError(out, "holds several volumes", ONE_OUT) from error


def _as_series(path: Path) -> dict[str, Any]:
    """The option that reads all frames of a file, where its format has them."""
    from restore.datasets.open import format_of

    form = format_of(path)
    return {"frames": True} if form is not None and "frames" in form.options else {}


def _volumes(out: Path, reference: Path, which: dict[str, Any]) -> tuple[Volume, Volume]:
    """OUT and REF: both a series over time, or both a volume. Raises InputError."""
    from restore.datasets.open import read
    from restore.errors import InputError

    result = _result(out)
    over_time = result.frames > 1 and which["index"] is None
    truth = read(reference, **which, **(_as_series(reference) if over_time else {}))
    if result.frames > 1 and truth.frames == 1:
        raise InputError(out, "holds several volumes", ONE_OUT)
    return result, truth


def _compare(
    out: Path, reference: Path, which: dict[str, Any], slices: str | None, **how: Any
) -> Evaluation | SeriesEvaluation:
    from restore.datasets.open import format_of, read_image
    from restore.datasets.slices import parse_slices
    from restore.errors import ConfigError
    from restore.pipelines.evaluate import evaluate_photograph, evaluate_volume
    from restore.pipelines.evaluate_frames import evaluate_series

    chosen = None if slices is None else parse_slices(slices)
    if any((form := format_of(path)) and form.holds == "picture" for path in (out, reference)):
        if chosen is not None:
            raise ConfigError("--slices is for volumes; a photograph has none")
        pair = read_image(out), read_image(reference)
        found = evaluate_photograph(*(p.data for p in pair), **how)
        return replace(found, notes=(*found.notes, *_said_of(*pair)))
    volumes = _volumes(out, reference, which)
    said = [f"{v.source.name}: {note}" for v in volumes if v.source for note in v.notes]
    if volumes[0].frames > 1:
        series = evaluate_series(*volumes, slices=chosen, **how)
        return replace(series, notes=tuple(said))
    found = evaluate_volume(*volumes, slices=chosen, **how)
    return replace(found, notes=(*found.notes, *said))
