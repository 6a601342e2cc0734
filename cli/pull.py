"""`restore pull`: a study or a series out of an archive, by DICOMweb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore.cli import console


def command(
    uid: Annotated[
        str, typer.Argument(metavar="STUDY|SERIES", help="UID of a study or of a series.")
    ],
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="URL", help="DICOMweb service, such as https://HOST/dicom-web."
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="Made when all images have come.")
    ],
) -> None:
    """Fetch a study or a series from an archive by DICOMweb; interrupted, the same command goes on.

    Credentials: RESTORE_DICOMWEB_USER and RESTORE_DICOMWEB_PASSWORD, or RESTORE_DICOMWEB_TOKEN, or ~/.netrc.
    """
    from restore.datasets.atomic import check_writable
    from restore.serving.dicomweb.archive import Archive
    from restore.serving.dicomweb.pulling import pull

    check_writable(out.parent)
    archive = Archive(source)
    console.notes(archive.notes)
    lines = console.progress_lines(out.name, "images", every_s=10)
    with console.progress(out.name, total=1) as advance:

        def on_image(done: int, total: int) -> None:
            advance(done / total)
            lines(done, total)

        images, fetched = pull(archive, uid, out, on_image)
    console.result(f"{out}: {images} images, {fetched} fetched now")
