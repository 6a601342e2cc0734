"""Options that the benchmarks share, and what every one of them does with its protocol: run, say, end.

Used by `cli/bench.py` only. Imports only typer at the top.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import console
from restore.cli.options import Device, Precision

if TYPE_CHECKING:
    from restore.bench.protocol import Protocol
    from restore.bench.results import Row
    from restore.bench.runner import RunOptions, Summary, Told
    from restore.bench.table import Cell

Run = Annotated[
    Path,
    typer.Option("-o", "--out", metavar="RUN", help="Folder of the run; a second call goes on."),
]
Volumes = Annotated[
    int | None, typer.Option(min=1, help="Only the first N volumes or photographs.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the table as JSON.")]


@dataclasses.dataclass(frozen=True)
class Running:
    """Options of every benchmark: which methods, how, on which part, and where it goes."""

    out: Run
    samplers: Annotated[
        str | None,
        typer.Option(
            help="Methods: dds,tv; set dds:n_steps=8; named fast=dds:preset=published; own prior varnet:prior=FILE. "
            "Default: baselines, dds."
        ),
    ] = None
    volumes: Volumes = None
    samples: Annotated[
        int,
        typer.Option(
            min=1, max=100_000, help="Samples a method; from 2 on their calibration is measured."
        ),
    ] = 1
    seed: Annotated[int, typer.Option(help="Seed of the samplers' noise.")] = 0
    prior: Annotated[str, typer.Option(help="auto (bundled), a bundled name or a weight file.")] = (
        "auto"
    )
    preset: Annotated[
        str, typer.Option(help="Named settings of all methods: tuned, published, ...")
    ] = "tuned"
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METHOD.NAME=VALUE", help="Any one setting."),
    ] = None
    tuned: Annotated[
        Path | None,
        typer.Option(
            help="What `restore bench tune` wrote: use its values, leave its volumes out."
        ),
    ] = None
    part: Annotated[
        str | None,
        typer.Option(metavar="K/N", help="Every N-th volume from the K-th: one job of an array."),
    ] = None
    keep: Annotated[
        int | None,
        typer.Option(min=0, help="Keep the images of the first N volumes only. Default: all."),
    ] = None
    device: Device = "auto"
    precision: Precision = "auto"
    json: Json = False

    def tuned_values(self, protocol: str) -> tuple[Any, frozenset[str]]:
        """The tuned values and the volumes to leave out; nothing without a file."""
        from restore.bench.tuning import read_tuned

        return ({}, frozenset()) if self.tuned is None else read_tuned(self.tuned, protocol)

    def carry_out(self, protocol: Protocol, tuned: Any) -> None:
        """Run the benchmark and print its table.

        tuned: values of `tuned_values`. Raises PartialFailure or InputError for failed rows, ConfigError, DeviceError.
        """
        from restore.bench.method import parse_methods
        from restore.bench.runner import run_benchmark
        from restore.errors import InputError, PartialFailure

        methods = parse_methods(
            self.samplers or protocol.default_samplers, preset=self.preset, prior=self.prior,
            assignments=self.settings or (), tuned=tuned,
        )  # fmt: skip
        run, options = self.out, self._run_options()
        total = len(protocol.volumes()) * len(protocol.settings()) * len(methods)
        with console.progress(protocol.name, total=total) as advance:
            summary = run_benchmark(protocol, methods, run, options, teller(advance))
        show_table(run, self.json)
        _say_end(summary, run)
        if summary.failed:
            sentence = f"{summary.failed} of {summary.made} runs failed; the rows of {run} say why"
            if summary.failed == summary.made and not summary.found:
                raise InputError(run, "every run failed; its rows say why")
            raise PartialFailure(sentence)

    def _run_options(self) -> RunOptions:
        from restore.bench.runner import RunOptions
        from restore.many.parts import parse_part
        from restore.pipelines.devices import choose_device
        from restore.precision import checked

        part = None if self.part is None else parse_part(self.part)
        return RunOptions(
            choose_device(self.device),
            self.samples,
            self.seed,
            None if part is None else (part.k, part.n),
            self.keep,
            checked(self.precision),
        )


def numbers(text: str, what: str) -> tuple[int, ...]:
    """`4,8` as numbers. Raises ConfigError."""
    from restore.errors import ConfigError

    try:
        found = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ConfigError(f"{what}: '{text}' is no list of whole numbers such as 4,8") from error
    if not found or min(found) < 1:
        raise ConfigError(f"{what}: '{text}' names no number of at least 1")
    return tuple(dict.fromkeys(found))


def words(text: str) -> tuple[str, ...]:
    """`a,b` as words, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def teller(advance: Any) -> Told:
    """What the runner says, as a bar on a terminal and one line a row elsewhere."""
    from restore.bench.runner import Told

    state = {"done": 0}

    def row(found: Row, done: int, total: int) -> None:
        state["done"] = done
        advance(done)
        if found.status == "failed":
            console.say(
                f"[{done}/{total}] {found.volume} {found.setting} {found.method}: failed: {found.reason}"
            )
            return
        figures = (
            "no reference"
            if found.psnr is None
            else f"PSNR {found.psnr:.2f} dB, SSIM {found.ssim:.4f}"
        )
        console.say(
            f"[{done}/{total}] {found.volume} {found.setting} {found.method}: {figures}, "
            f"misfit {found.misfit:.3g}, {found.seconds:.1f} s"
        )

    return Told(
        row, lambda part: advance(state["done"] + part), lambda text: console.say(f"note: {text}")
    )


def show_table(run: Path, json: bool) -> None:
    """Print the means of a run, and what they depend on."""
    from restore.bench.record import read_records
    from restore.bench.results import load
    from restore.bench.table import COSTS, SPREAD, conditions_line, summarise

    rows, record = load(run), read_records(run)[0]
    lines = summarise(rows, record["average_over"])
    if json:
        console.result_json([dataclasses.asdict(line) for line in lines])
        return
    for setting in dict.fromkeys(line.setting for line in lines):
        mine = [line for line in lines if line.setting == setting]
        heads = [n for n in record["headline"] if any(n in line.cells for line in mine)]
        extra = [n for n in (*COSTS, *SPREAD) if any(n in line.cells for line in mine)]
        console.result("")
        console.table(
            [(setting, "volumes", *heads, *extra)]
            + [
                (line.method, str(line.volumes) + (f" ({line.failed} failed)" if line.failed else ""),
                 *(_cell(line.cells.get(n), n, interval=True) for n in heads),
                 *(_cell(line.cells.get(n), n, interval=False) for n in extra))
                for line in mine
            ]
        )  # fmt: skip
        console.result(conditions_line([r for r in rows if r.setting == setting]))


def _cell(cell: Cell | None, name: str, interval: bool) -> str:
    if cell is None:
        return "-"
    digits = {
        "psnr": 2,
        "ssim": 4,
        "nmse": 5,
        "misfit": 3,
        "coverage": 3,
        "spread_ratio": 2,
        "seconds": 1,
    }.get(name, 0)
    if name not in ("evaluations", "peak_memory_mb") and digits == 0:
        digits = 2 if "psnr" in name else 4
    text = f"{cell.mean:.{digits}f}"
    known = interval and cell.low == cell.low
    return f"{text} [{cell.low:.{digits}f}, {cell.high:.{digits}f}]" if known else text


def _say_end(summary: Summary, run: Path) -> None:
    again = f", {summary.found} were there already" if summary.found else ""
    console.say(f"{summary.made} rows made{again}; `restore report {run}` makes pages of them")
