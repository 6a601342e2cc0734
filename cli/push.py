"""`restore push`: the DICOM files of a folder into an archive, by DICOMweb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore.cli import console


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Searched to its bottom for DICOM files.")
    ],
    target: Annotated[
        str,
        typer.Option(
            "--to", metavar="URL", help="DICOMweb service, such as https://HOST/dicom-web."
        ),
    ],
) -> None:
    """Send the DICOM files of a folder that an archive lacks, by DICOMweb; interrupted, the same command goes on.

    Credentials: RESTORE_DICOMWEB_USER and RESTORE_DICOMWEB_PASSWORD, or RESTORE_DICOMWEB_TOKEN, or ~/.netrc.
    """
    from restore.serving.dicomweb.archive import Archive
    from restore.serving.dicomweb.pushing import push

    archive = Archive(target)
    console.notes(archive.notes)
    lines = console.progress_lines(folder.name, "images", every_s=10)
    with console.progress(folder.name, total=1) as advance:

        def on_image(done: int, total: int) -> None:
            advance(done / total)
            lines(done, total)

        pushed = push(archive, folder, on_image)
    if pushed.left_out:
        console.notes([f"{pushed.left_out} file(s) that are no DICOM images were left out"])
    console.result(
        f"{target}: {pushed.images} images, {pushed.sent} sent now, {pushed.images - pushed.sent} were there"
    )
