"""`restore bench`: compare methods on a folder of data under a named protocol, resumable."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from restore.cli import console
from restore.cli.bench_options import (
    Json,
    Run,
    Running,
    Volumes,
    numbers,
    show_table,
    teller,
    words,
)
from restore.cli.config_option import verb
from restore.cli.options import Device, Preset, Settings, Steps
from restore.cli.starts_table import show_starts

if TYPE_CHECKING:
    from restore.bench.protocol import Protocol
    from restore.pipelines.degrade import Task

app = typer.Typer(
    help="Compare methods on fastMRI, CT volumes or photographs; continue, tune, compare runs.",
    no_args_is_help=True,
)

FASTMRI = ("fastmri-volume", "inversebench-mri")
Root = Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the data.")]


@dataclasses.dataclass(frozen=True)
class KSpace:
    """Options of the fastMRI protocols."""

    acceleration: Annotated[str, typer.Option(help="Accelerations, such as 4,8.")] = "4,8"
    split: Annotated[
        str | None,
        typer.Option(
            help="Which part of fastMRI: val, test, train or challenge. Default: val or ROOT's own; to tune train."
        ),
    ] = None
    coils: Annotated[str, typer.Option(help="auto, multicoil or singlecoil.")] = "auto"
    mask: Annotated[
        str,
        typer.Option(help="auto (knee random, brain equispaced_fraction) or a fastMRI mask kind."),
    ] = "auto"
    measurements: Annotated[
        str,
        typer.Option(help="inversebench-mri: raw k-space, simulated from the MVUE image, or both."),
    ] = "raw"

    def protocol(
        self, name: str, root: Path, volumes: int | None, exclude: frozenset[str], keep_maps: bool
    ) -> Protocol:
        """The protocol of this name. Raises ConfigError."""
        from restore.datasets.mri.fastmri_files.fastmri_folder import folder_kind
        from restore.errors import ConfigError

        rates, split = numbers(self.acceleration, "--acceleration"), self.split
        if split is None:
            kind = folder_kind(root.resolve().name)
            split = kind[1] if kind else "val"
        if name == FASTMRI[0]:
            from restore.bench.fastmri import FastMRIVolume

            return FastMRIVolume(
                root, rates, split=split, coils=self.coils, mask=self.mask, limit=volumes, exclude=exclude,
                keep_maps=keep_maps,
            )  # fmt: skip
        if name == FASTMRI[1]:
            from restore.bench.inversebench import InverseBenchMRI

            return InverseBenchMRI(
                root, rates, words(self.measurements), split=split, limit=volumes, exclude=exclude, keep_maps=keep_maps
            )  # fmt: skip
        raise ConfigError(f"no protocol '{name}' for fastMRI; there are {' and '.join(FASTMRI)}")


@dataclasses.dataclass(frozen=True)
class Projections:
    """Options of the CT protocol."""

    views: Annotated[
        str | None,
        typer.Option(
            help="Numbers of views over 180 degrees. Default: 8,30,60,180 (LoDoPaB-CT: 200,1000)."
        ),
    ] = None
    limited: Annotated[
        str | None,
        typer.Option(
            help="Arcs in degrees, one view a degree, or none. Default: 90 (LoDoPaB-CT: none)."
        ),
    ] = None
    photons: Annotated[float, typer.Option(min=1, help="Photons a ray without an object.")] = 1e5
    slices: Annotated[
        str | None,
        typer.Option(metavar="A:B:C", help="Which slices of each volume. Default: all."),
    ] = None

    def protocol(self, root: Path, volumes: int | None, exclude: frozenset[str]) -> Protocol:
        """The protocol. Raises ConfigError."""
        from restore.bench.ct import CTSparseView
        from restore.datasets.slices import parse_slices

        chosen = None if self.slices is None else parse_slices(self.slices)
        few = numbers(self.views, "--views") if self.views else ()
        arcs = None
        if self.limited is not None:
            arcs = () if self.limited == "none" else numbers(self.limited, "--limited")
        return CTSparseView(
            root, few, limited=arcs, photons=self.photons, slices=chosen, limit=volumes, exclude=exclude
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Options of the protocol on photographs."""

    tasks: Annotated[str, typer.Option(help="inpaint, deblur, superres, denoise.")] = (
        "inpaint,deblur,superres,denoise"
    )
    noise: Annotated[str, typer.Option(help="Noise levels, 1 = white, such as 0,0.05.")] = "0,0.05"
    crop: Annotated[
        int, typer.Option(min=0, help="Side of the centre crop in pixels, 0 for none.")
    ] = 256

    def protocol(self, root: Path, volumes: int | None, exclude: frozenset[str]) -> Protocol:
        """The protocol. Raises ConfigError."""
        from restore.bench.images import ImageFolder
        from restore.errors import ConfigError

        try:
            levels = tuple(float(part) for part in words(self.noise))
        except ValueError as error:
            raise ConfigError(
                f"--noise: '{self.noise}' is no list of numbers such as 0,0.05"
            ) from error
        chosen = cast("tuple[Task, ...]", words(self.tasks))  # checked by the protocol
        return ImageFolder(root, chosen, levels, crop=self.crop, limit=volumes, exclude=exclude)


@app.command("fastmri")
@verb("bench fastmri", goes_on=True)
def fastmri(
    root: Root,
    running: Running,
    kspace: KSpace,
    protocol: Annotated[str, typer.Option(help="fastmri-volume or inversebench-mri.")] = FASTMRI[0],
    keep_maps: Annotated[
        bool,
        typer.Option("--keep-maps", help="Leave the coil maps in RUN/cache for later methods."),
    ] = False,
) -> None:
    """Knee and brain k-space as NYU ships it: figures of whole volumes, or InverseBench's of slices."""
    values, used = running.tuned_values(protocol)
    running.carry_out(kspace.protocol(protocol, root, running.volumes, used, keep_maps), values)


@app.command("ct")
@verb("bench ct", goes_on=True)
def ct(root: Root, running: Running, projections: Projections) -> None:
    """Volumes in HU (NIfTI, DICOM) projected from few views, or LoDoPaB-CT as it is shipped."""
    values, used = running.tuned_values("ct-sparse-view")
    running.carry_out(projections.protocol(root, running.volumes, used), values)


@app.command("images")
@verb("bench images", goes_on=True)
def images(root: Root, running: Running, pictures: Pictures) -> None:
    """Photographs, degraded and restored: inpainting, deblurring, super-resolution, denoising."""
    values, used = running.tuned_values("images")
    running.carry_out(pictures.protocol(root, running.volumes, used), values)


@app.command("tune")
@verb("bench tune", goes_on=True)
def tune(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="PROTOCOL", help="fastmri-volume, inversebench-mri, ct-sparse-view, images."
        ),
    ],
    root: Root,
    out: Run,
    kspace: KSpace,
    projections: Projections,
    pictures: Pictures,
    samplers: Annotated[str, typer.Option(help="Samplers to tune.")] = "cgsense,wavelet,tv",
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="SAMPLER.NAME=V,V", help="Another setting or other values to try."),
    ] = None,
    volumes: Volumes = 4,
    device: Device = "auto",
) -> None:
    """Choose a setting of each method on volumes of their own; writes RUN/tuned.json for --tuned."""
    from restore.bench.runner import RunOptions
    from restore.bench.tuning import default_grid, parse_grids
    from restore.bench.tuning import tune as search
    from restore.pipelines.devices import choose_device

    names = words(samplers)
    given = parse_grids(grid or (), names)
    grids = {name: given.get(name) or default_grid(name) for name in names}
    protocol = _for_choosing(kind, root, volumes, kspace, projections, pictures)
    options = RunOptions(choose_device(device), 1, 0, None, 0)
    with console.progress(protocol.name, total=1) as advance:
        chosen = search(protocol, grids, out, options, teller(advance))
    console.table(
        [("setting", "method", "chosen", "PSNR", "tried")]
        + [
            (c.setting, c.method, f"{c.name}={c.value}", f"{c.psnr:.2f} dB", str(len(c.tried)))
            for c in chosen
        ]
    )
    console.result(f"{out / 'tuned.json'}: use it with --tuned; its volumes are left out there")


@app.command("starts")
@verb("bench starts")
def starts(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="PROTOCOL",
            help="images, ct-sparse-view, mri-simulated, fastmri-volume, inversebench-mri.",
        ),
    ],
    root: Root,
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="TABLE", help="JSON; entries of others in it stay as they are."
        ),
    ],
    kspace: KSpace,
    projections: Projections,
    pictures: Pictures,
    sampler: Annotated[str, typer.Option(help="Whose start; one that has noise.")] = "resshift",
    candidates: Annotated[
        int, typer.Option(min=2, max=10_000, help="K: how many starts are tried on every image.")
    ] = 24,
    tile: Annotated[
        int,
        typer.Option(min=1, max=4096, help="Side of the field of noise that is laid over images."),
    ] = 32,
    prior: Annotated[str, typer.Option(help="auto (bundled), a bundled name or a weight file.")] = (
        "auto"
    ),
    steps: Steps = None,
    preset: Preset = "tuned",
    settings: Settings = None,
    volumes: Volumes = 8,
    device: Device = "auto",
) -> None:
    """Choose one noise that serves all images, the best of K on some with a known truth; for --start."""
    from restore.bench.choosing_starts import Trial, Tried, starts_from
    from restore.bench.method import Method
    from restore.config import parse_assignments
    from restore.datasets.atomic import check_writable
    from restore.pipelines.devices import choose_device
    from restore.starts import read_starts, replaced, write_starts

    known = read_starts(out) if out.exists() else []
    check_writable(out.parent)
    given = {} if steps is None else {"n_steps": str(steps)}
    method = Method(sampler, sampler, preset, parse_assignments(settings or []) | given, prior)
    protocol = _for_choosing(kind, root, volumes, kspace, projections, pictures)
    tried: list[Tried] = []
    runs = itertools.count(1)
    total = len(protocol.volumes()) * len(protocol.settings()) * candidates
    with console.progress(protocol.name, total=total) as advance:
        trial = Trial(
            protocol, method, candidates, tile, choose_device(device), lambda: advance(next(runs))
        )
        tried.extend(trial.volumes())
    entries = starts_from(tried, trial)
    write_starts(out, replaced(known, entries))
    show_starts(entries)
    console.notes(
        f"the start for {e.words} gains nothing on images that had no say in its choice ({gain:+.3f} dB): try more "
        "images or candidates, or another --tile"
        for e in entries
        if (gain := e.found["left_out_gain"]) is not None and gain <= 0
    )
    console.result(f"{out}: {len(entries)} new; use it with --start {out}")


def _for_choosing(
    kind: str, root: Path, volumes: int | None, kspace: KSpace, projections: Projections, pictures: Pictures
) -> Protocol:  # fmt: skip
    """The protocol on whose volumes something is chosen: of fastMRI those of training. Raises ConfigError."""
    from restore.errors import ConfigError

    none: frozenset[str] = frozenset()
    training = dataclasses.replace(kspace, split=kspace.split or "train")
    makers = {
        **dict.fromkeys(FASTMRI, lambda: training.protocol(kind, root, volumes, none, True)),
        "ct-sparse-view": lambda: projections.protocol(root, volumes, none),
        "images": lambda: pictures.protocol(root, volumes, none),
        "mri-simulated": lambda: _simulated(root, volumes, kspace, projections),
    }
    if kind not in makers:
        raise ConfigError(f"no protocol '{kind}'; there are {', '.join(makers)}")
    return makers[kind]()


def _simulated(
    root: Path, volumes: int | None, kspace: KSpace, projections: Projections
) -> Protocol:
    """MR volumes measured by simulated coils."""
    from restore.bench.simulated_mri import SimulatedMRI
    from restore.datasets.slices import parse_slices

    chosen = None if projections.slices is None else parse_slices(projections.slices)
    rates = numbers(kspace.acceleration, "--acceleration")
    return SimulatedMRI(root, rates, slices=chosen, limit=volumes)


@app.command("submission")
def submission(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a fastmri-volume run.")],
    method: Annotated[str, typer.Option(help="Whose images.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="New folder.")],
    knee_v2: Annotated[
        bool, typer.Option("--knee-v2", help="Names end in _v2, as the knee test set's.")
    ] = False,
) -> None:
    """Write the images of a method as the files that the fastMRI leaderboard takes."""
    from restore.bench.submission import write_folder

    names = write_folder(run, method, out, knee_v2)
    console.result(f"{out}: {len(names)} volumes by {method}")


@app.command("table")
def table(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")], json: Json = False
) -> None:
    """Print the table of a run again."""
    show_table(run, json)


@app.command("compare")
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="RUN, or RUN:METHOD.")],
    b: Annotated[str, typer.Argument(metavar="B", help="RUN, or RUN:METHOD.")],
    json: Json = False,
) -> None:
    """Paired differences A - B on the same measurements, with 95 % bootstrap intervals."""
    from restore.bench.comparison import compare as paired

    found = paired(a, b)
    if json:
        console.result_json([dataclasses.asdict(c) for c in found])
        return
    rows = [("setting", "A", "B", "figure", "A - B", "95 % interval", "A larger", "volumes")]
    for c in found:
        d = c.difference
        interval = f"[{d.low:+.4f}, {d.high:+.4f}]" if d.low == d.low else "one volume: none"
        rows.append(
            (c.setting, c.a, c.b, c.figure, f"{d.mean:+.4f}", interval, str(d.larger), str(d.n))
        )
    console.table(rows)
