"""`restore calibrate`: measure the factors by which intervals hold the truth as often as said, or try out a table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restore.cli import console
from restore.cli.bench import KSpace, Pictures, Projections
from restore.cli.bench_options import Volumes, numbers
from restore.cli.config_option import verb
from restore.cli.options import Device, Preset, Settings, Steps

if TYPE_CHECKING:
    from restore.bench.calibrating import Scored
    from restore.bench.protocol import Protocol
    from restore.pipelines.factors import Entry

app = typer.Typer(
    help="Measure factors for the intervals of --samples on data with a known truth; or check a table on others.",
    no_args_is_help=True,
)
Root = Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the data, or one volume.")]


@dataclasses.dataclass(frozen=True)
class Calibrating:
    """Options of every kind of data: what draws, and where the table goes."""

    sampler: Annotated[str, typer.Option(help="auto (what --samples draws with), or a name.")] = (
        "auto"
    )
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="TABLE",
            help="JSON; entries of others in it stay as they are. With --check: the table tried, with what was found.",
        ),
    ] = None
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE", help="Say how often the intervals of a table hold the truth here."
        ),
    ] = None
    samples: Annotated[
        int, typer.Option(min=1, max=100_000, help="K: a factor is for this number alone.")
    ] = 8
    prior: Annotated[str, typer.Option(help="auto (bundled), a bundled name or a weight file.")] = (
        "auto"
    )
    steps: Steps = None
    preset: Preset = "tuned"
    settings: Settings = None
    volumes: Volumes = None
    seed: Annotated[int, typer.Option(help="Seed of the sampler's noise.")] = 0
    device: Device = "auto"

    def carry_out(self, protocol: Protocol) -> None:
        """Draw, score, and write or check a table. Raises ConfigError, and what drawing raises."""
        from restore.bench.calibrating import Drawing, with_trial
        from restore.bench.method import Method
        from restore.config import parse_assignments
        from restore.conformal import SCALES
        from restore.datasets.atomic import check_writable
        from restore.errors import ConfigError
        from restore.pipelines.devices import choose_device
        from restore.pipelines.factors import read_table, scales_of, write_table
        from restore.registry import usual_sampler

        if self.out is None and self.check is None:
            raise ConfigError("give -o TABLE to write a table, or --check TABLE to try one out")
        table = self.check or self.out
        known: list[Entry] = []
        if table is not None and (self.check is not None or table.exists()):
            known = read_table(table)
        if self.out is not None:
            check_writable(self.out.parent)
        steps = {} if self.steps is None else {"n_steps": str(self.steps)}
        settings = parse_assignments(self.settings or []) | steps
        name = usual_sampler(self.samples) if self.sampler == "auto" else self.sampler
        method = Method(name, name, self.preset, settings, self.prior)
        scored: list[Scored] = []
        total = len(protocol.volumes()) * len(protocol.settings())
        lines = console.progress_lines(protocol.name, "measurements")
        with console.progress(protocol.name, total=total) as advance:
            drawing = Drawing(
                protocol, method, self.samples, choose_device(self.device), self.seed,
                lambda part: advance(len(scored) + part),
                scales=SCALES if self.check is None else scales_of(known),
            )  # fmt: skip
            for one in drawing.volumes():
                scored.append(one)
                lines(len(scored), total)
        if self.check is not None:
            _show_coverage(scored, known)
            if self.out is not None:
                write_table(self.out, with_trial(known, scored))
        elif self.out is not None:
            _write(self.out, scored, protocol, self.seed, known)


@app.command("mri")
@verb("calibrate mri")
def mri(
    root: Root,
    calibrating: Calibrating,
    acceleration: Annotated[str, typer.Option(help="Accelerations, such as 4,8.")] = "4,8",
    coils: Annotated[int, typer.Option(min=1, max=1024, help="Number of receive coils.")] = 8,
    noise: Annotated[
        float, typer.Option(min=0, help="Relative to the volume's maximum, per real channel.")
    ] = 0.005,
    slices: Annotated[
        str | None, typer.Option(metavar="A:B:C", help="Which slices of each volume. Default: all.")
    ] = None,
) -> None:
    """MR volumes (NIfTI, DICOM), measured by simulated coils with random lines left out."""
    from restore.bench.simulated_mri import SimulatedMRI
    from restore.datasets.slices import parse_slices

    chosen = None if slices is None else parse_slices(slices)
    rates = numbers(acceleration, "--acceleration")
    calibrating.carry_out(
        SimulatedMRI(root, rates, coils, noise=noise, slices=chosen, limit=calibrating.volumes)
    )


@app.command("fastmri")
@verb("calibrate fastmri")
def fastmri(root: Root, calibrating: Calibrating, kspace: KSpace) -> None:
    """Knee and brain k-space as NYU ships it, against its own complete images."""
    calibrating.carry_out(
        kspace.protocol("fastmri-volume", root, calibrating.volumes, frozenset(), False)
    )


@app.command("ct")
@verb("calibrate ct")
def ct(root: Root, calibrating: Calibrating, projections: Projections) -> None:
    """CT volumes in HU (NIfTI, DICOM), projected from few views, or LoDoPaB-CT as it is shipped."""
    calibrating.carry_out(projections.protocol(root, calibrating.volumes, frozenset()))


@app.command("images")
@verb("calibrate images")
def images(root: Root, calibrating: Calibrating, pictures: Pictures) -> None:
    """Photographs, degraded: inpainting, deblurring, super-resolution, denoising."""
    calibrating.carry_out(pictures.protocol(root, calibrating.volumes, frozenset()))


def _write(
    out: Path, scored: list[Scored], protocol: Protocol, seed: int, known: list[Entry]
) -> None:
    from restore.bench.calibrating import factors_from
    from restore.pipelines.factors import replaced, write_table

    entries = factors_from(scored, protocol, seed)
    whole = replaced(known, entries)
    write_table(out, whole)
    _show_factors(entries)
    console.result(f"{out}: {len(entries)} new of {len(whole)} entries")


def _show_factors(entries: list[Entry]) -> None:
    from restore.conformal import LEVELS, UNITS

    rows = [
        (
            "measured",
            "of",
            "scale",
            "samples",
            *(f"{level:.0%}" for level in LEVELS),
            "held-out volumes at 90%",
        )
    ]
    for entry in entries:
        most = max(entry.factors)
        for unit in UNITS:
            held = entry.held_out.get(unit, {}).get(0.9)
            told = "one volume: not known" if held is None else f"{held[0]:.3f} to {held[1]:.3f}"
            factors = (f"{entry.factors[most][unit][level]:.3f}" for level in LEVELS)
            scale = entry.scale(unit).words
            rows.append((entry.measured.words(), unit, scale, str(most), *factors, told))
    console.table(rows)


def _show_coverage(scored: list[Scored], known: list[Entry]) -> None:
    from restore.bench.calibrating import coverage_of
    from restore.conformal import LEVELS

    rows = [("volume", "measured", "of", *(f"{level:.0%}" for level in LEVELS))]
    for one in scored:
        for unit, covered in coverage_of(one, known).items():
            shares = (f"{covered[level]:.3f}" for level in LEVELS)
            rows.append((one.name, one.measured.words(), unit, *shares))
    console.table(rows)
