"""Options that every kind of simulated scan has, and what becomes of one: opened, computed, written, told.

Used by the commands of `restore simulate` only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from restore.cli import console
from restore.cli.config_option import config_file
from restore.cli.output import check_output

if TYPE_CHECKING:
    from restore.datasets.scan import Scan
    from restore.datasets.volume.volume import Volume

S = TypeVar("S", bound="Scan")


@dataclasses.dataclass(frozen=True)
class Simulation:
    """Options of every kind of scan: what of which volume, and where it goes."""

    volume: Annotated[
        Path, typer.Argument(metavar="VOLUME", help="NIfTI file or folder of a DICOM series.")
    ]
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="SCAN.h5",
            help="Scan to write; of several a folder, or 'OUT/{folder}/{name}.h5'.",
        ),
    ]
    slices: Annotated[
        str | None,
        typer.Option(
            metavar="A:B:C",
            help="Every C-th slice from A up to B (without it), along the third NIfTI axis or sorted "
            "DICOM slices; one number is one slice. Default: all.",
        ),
    ] = None
    series: Annotated[
        str, typer.Option(help="Which series of a DICOM folder: number or UID's end.")
    ] = ""
    index: Annotated[
        int | None,
        typer.Option("--index", "--volume", help="Which volume of several (4-D, echoes), from 0."),
    ] = None
    echo: Annotated[
        int | None, typer.Option("--echo", help="Which echo of a DICOM series, from 1.")
    ] = None
    resample: Annotated[
        bool,
        typer.Option(
            "--resample", help="Interpolate a tilted or uneven DICOM series to a straight volume."
        ),
    ] = False
    repair: Annotated[
        str, typer.Option(help="'zero' puts 0 for voxels that are NaN or infinite.")
    ] = ""
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 7
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing SCAN.h5.")] = (
        False
    )
    json: Annotated[bool, typer.Option("--json", help="Say what was written as JSON.")] = False

    def check(self) -> None:
        """Refuse an output that cannot be; a scan that was simulated is looked at later. Raises OutputError."""
        from restore.datasets.atomic import check_name
        from restore.pipelines.run_simulation import has_job

        check_name(self.out)
        ours = not self.overwrite and self.out.is_file() and has_job(self.out)
        check_output(self.out, self.volume, config_file(), overwrite=self.overwrite or ours)

    def written(
        self,
        scan: S,
        volume: Volume,
        write: Callable[[S, Path], None],
        measured: str,
        parts: str = "slices",
        files: Callable[[Path], Sequence[Path]] | None = None,
        **layout: Any,
    ) -> bool:
        """Compute and write a scan, or what an interruption left of it; False, and said, where that is done."""
        from restore.pipelines.run_simulation import job_of, simulate
        from restore.pipelines.vouching import said_of_done

        lines = console.progress_lines(self.out.name, parts, every_s=2.0)
        with console.progress(self.out.name, total=len(getattr(scan, measured))) as advance:

            def on_piece(finished: int, total: int) -> None:
                advance(finished)
                lines(finished, total)

            made = simulate(
                scan, self.out, job_of(volume, scan, **layout), write, measured=measured,
                overwrite=self.overwrite, files=files, on_piece=on_piece,
            )  # fmt: skip
        if not made:
            console.say(said_of_done(self.out))
        return made

    def opened(self, frames: bool = False) -> tuple[Volume, slice]:
        """The volume and the wanted slices, which are checked before the long work starts. frames: of a series over
        time all of it, where no volume is chosen."""
        from restore.datasets.open import read
        from restore.datasets.slices import parse_slices, slices_within

        chosen = parse_slices(":" if self.slices is None else self.slices)
        volume = read(
            self.volume, series=self.series, index=self.index, echo=self.echo, repair=self.repair,
            resample=self.resample or None, frames=(frames and self._holds_frames) or None,
        )  # fmt: skip
        slices_within(chosen, volume.n_slices // volume.frames, str(self.volume))
        return volume, chosen

    @property
    def _holds_frames(self) -> bool:
        """Whether the volume's format can hold a series over time."""
        from restore.datasets.open import format_of

        form = format_of(self.volume)
        return form is not None and "frames" in form.options and self.index is None

    def report(self, made: bool, notes: list[str], line: str, **record: Any) -> bool:
        """Say what was written; gives `made`."""
        console.notes(notes)
        if self.json:
            console.result_json({"out": str(self.out), **record, "notes": notes})
        else:
            console.result(f"{self.out}: {line}")
        return made
