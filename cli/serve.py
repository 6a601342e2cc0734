"""`restore serve`: servers that take what scanners and archives send, one file a protocol."""

from __future__ import annotations

import typer

from restore.cli import serve_dicom, serve_mrd

app = typer.Typer(
    help="Serve scanners and archives on a port of this machine.", no_args_is_help=True
)
app.command("mrd")(serve_mrd.command)
app.command("dicom")(serve_dicom.command)
