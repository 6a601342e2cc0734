"""`restore report`: a benchmark's folder as web pages that open from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore.cli import console
from restore.cli.config_option import verb
from restore.cli.many import Many

LARGEST_MB = 1e6
"""A terabyte: no browser opens it."""


@verb("report", many=Many("run", "run"))
def command(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Folder that `restore bench ... -o RUN` wrote; or several, or a folder of such.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FOLDER", help="Default: RUN/report.")
    ] = None,
    pages: Annotated[
        int, typer.Option(min=0, help="Most pages of volumes; the tables hold all of them.")
    ] = 100,
    page_mb: Annotated[
        float,
        typer.Option("--page-mb", min=0, max=LARGEST_MB, help="Volume data in one page, in MB."),
    ] = 20,
    report_mb: Annotated[
        float,
        typer.Option("--report-mb", min=0, max=LARGEST_MB, help="Volume data in all pages, in MB."),
    ] = 200,
) -> None:
    """Tables, charts, pictures and volume viewers of a benchmark, as static pages for any browser."""
    from restore.datasets.atomic import check_writable
    from restore.report.from_run import study_of_run
    from restore.report.render import check_target, write_report

    folder = run / "report" if out is None else out
    check_target(folder)
    study = study_of_run(run, most_pages=pages)
    check_writable(folder.parent)
    with console.progress(run.name, total=max(len(study.pages), 1)) as advance:
        index = write_report(
            study,
            folder,
            largest_page=round(page_mb * 1e6),
            largest_report=round(report_mb * 1e6),
            tell=lambda done, _: advance(done),
        )
    console.notes(study.notes)
    console.result(f"{index}: {len(study.sections)} settings, {len(study.pages)} pages of volumes")
