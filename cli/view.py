"""`restore view`: a result in the browser, on this machine alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restore.cli import console

if TYPE_CHECKING:
    from restore.report.study import Study

GIGABYTE = 1 << 30


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A volume: of `recon`, or any other.")],
    second: Annotated[
        Path | None,
        typer.Option(
            "--compare", metavar="VOLUME", help="A second volume; else drop it on the page."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of this machine alone; 0: any that is free.")
    ] = 0,
    largest: Annotated[
        float, typer.Option(metavar="GB", min=0.001, help="Of a volume that is dropped.")
    ] = 2.0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address, open nothing.")
    ] = False,
) -> None:
    """Show a volume in three planes and slice by slice, with a second one to compare dropped on the page."""
    import webbrowser

    from restore.serving.page.server import PageServer
    from restore.serving.page.shown import Shown, open_result, study_of_volumes

    result = open_result(out)
    other = None if second is None else open_result(second)

    def compare(path: Path, name: str) -> Study:
        return study_of_volumes(result, out, Shown(name, open_result(path).volume, {}))

    study = study_of_volumes(result, out, other)
    with PageServer(study, compare, port, round(largest * GIGABYTE)) as server:
        console.notes(study.notes)
        console.result(server.url)
        console.say("this machine alone sees it; Ctrl-C ends")
        if not no_browser:
            webbrowser.open(server.url)
        server.serve()
