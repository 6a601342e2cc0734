"""`restore demo`: scan a made-up head, reconstruct it in several ways, show which is best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restore.cli import console
from restore.cli.options import Precision


def command(
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="Where everything goes.")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the head, the scans and DDS.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Precision = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do it all again; by default only what is missing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Simulate, reconstruct and compare MRI and CT scans of a made-up head; ends with pictures."""
    from restore.pipelines.demo import demonstrate
    from restore.pipelines.devices import choose_device
    from restore.precision import checked

    chosen = choose_device(device)
    found = demonstrate(
        out,
        seed=seed,
        device=chosen,
        precision=checked(precision),
        overwrite=overwrite,
        tell=console.say,
    )
    rows = [
        {
            "modality": outcome.modality,
            "sampler": outcome.sampler,
            "psnr": outcome.figures.psnr,
            "ssim": outcome.figures.ssim,
            "nmse": outcome.figures.nmse,
            "seconds": outcome.seconds,
            "file": str(outcome.file),
        }
        for outcome in found.outcomes
    ]
    if json:
        console.result_json({"results": rows, "pictures": [str(path) for path in found.pictures]})
        return
    console.table([("scan", "sampler", "PSNR dB", "SSIM", "NMSE", "seconds"), *map(_row, rows)])
    for path in found.pictures:
        console.result(f"picture: {path}")
    console.result("Research use only, not for diagnosis.")


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    seconds = record["seconds"]
    return (
        record["modality"],
        record["sampler"],
        f"{record['psnr']:.2f}",
        f"{record['ssim']:.4f}",
        f"{record['nmse']:.5f}",
        "done before" if seconds is None else f"{seconds:.1f}",
    )
