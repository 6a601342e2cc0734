"""The command line `restore`: one file a verb, put together here.

Entry point of the console script and of `python -m restore.cli`. Importing it costs neither torch
nor numpy: a verb's file imports what it needs inside its function, so that `restore --help` answers
at once. This is also the only place where an error becomes an exit code.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import restore
from restore.cli import (
    bench,
    bids,
    calibrate,
    console,
    data,
    demo,
    distill,
    doctor,
    evaluate,
    image,
    listing,
    models,
    pull,
    push,
    recon,
    report,
    sample,
    serve,
    signals,
    simulate,
    slicer_xml,
    submit,
    train,
    view,
    volume,
)
from restore.errors import expected

DEBUG = "RESTORE_DEBUG"
INTERRUPTED = 130
UNEXPECTED = 1
LEFT = "no half-written file was left behind"
VERBS = (
    "recon",
    "volume",
    "bids",
    "image",
    "simulate",
    "eval",
    "bench",
    "calibrate",
    "submit",
    "report",
    "view",
    "data",
    "train",
    "distill",
    "models",
    "sample",
    "serve",
    "pull",
    "push",
    "list",
    "doctor",
    "demo",
)
"""The order in which `restore --help` shows them."""


class Verbs(TyperGroup):
    """The group of all verbs: expected errors become one sentence and their exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of `VERBS`."""
        return [name for name in VERBS if name in self.commands]

    def invoke(self, ctx: Any) -> Any:
        """Run the verb. Raises typer.Exit with the code of `restore.errors`, 130 if interrupted."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            told = expected(error)
            if told is None:
                raise
            self._end(error, told[1], told[0])
        except signals.Ended as error:
            goes_on = ", the same command goes on" if error.goes_on else ""
            self._end(error, f"ended by {error.name}; {LEFT}{goes_on}", error.exit_code)
        except KeyboardInterrupt as error:
            self._end(error, f"interrupted; {LEFT}", INTERRUPTED)

    @staticmethod
    def _end(cause: BaseException, sentence: str, code: int) -> None:
        if os.environ.get(DEBUG) == "1":
            raise cause
        console.error(sentence)
        raise typer.Exit(code) from cause


app = typer.Typer(
    name="restore",
    cls=Verbs,
    help="Reconstruct and restore images and medical volumes with diffusion priors. "
    "For research only, not for diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("recon", context_settings=slicer_xml.CONTEXT)(recon.command)
app.command("volume", context_settings=slicer_xml.CONTEXT)(volume.command)
app.command("bids")(bids.command)
app.command("image")(image.command)
app.add_typer(simulate.app, name="simulate")
app.command("eval")(evaluate.command)
app.add_typer(bench.app, name="bench")
app.add_typer(calibrate.app, name="calibrate")
app.command("submit")(submit.command)
app.command("report")(report.command)
app.command("view")(view.command)
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
app.command("distill")(distill.command)
app.add_typer(models.app, name="models")
app.command("sample")(sample.command)
app.add_typer(serve.app, name="serve")
app.command("pull")(pull.command)
app.command("push")(push.command)
app.command("list")(listing.command)
app.command("doctor")(doctor.command)
app.command("demo")(demo.command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"restore {restore.__version__}")
        raise typer.Exit


@app.callback()
def frame(
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Errors and results only.")] = False,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="More to read; -vv for all of it.")
    ] = 0,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Set up what all verbs share."""
    console.configure(quiet=quiet, verbosity=verbose)


def main() -> None:
    """Run the command line and leave with its exit code; a bug leaves with 1 and one sentence."""
    signals.listen()
    console.accept_any_text()
    try:
        app()
    except SystemExit as end:  # a signal that came before a verb was at work is taken for Ctrl-C
        ended = signals.received()
        if end.code != INTERRUPTED or ended is None:
            raise
        console.error(f"ended by {ended.name}; {LEFT}")
        sys.exit(ended.exit_code)
    except Exception as error:  # the boundary: whatever was not foreseen ends here
        if os.environ.get(DEBUG) == "1":
            raise
        console.error(
            f"unexpected {type(error).__name__}: {error} - this is a fault of the program; run it "
            f"again with {DEBUG}=1 in the environment to see where it happened"
        )
        sys.exit(UNEXPECTED)
