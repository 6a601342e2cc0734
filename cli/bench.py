"""`restore bench`: compare methods on a folder of data under a named protocol, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from restore.cli import console
from restore.cli.bench_options import (
    Device,
    Json,
    Keep,
    Part,
    Preset,
    Prior,
    Run,
    Samplers,
    Samples,
    Seed,
    Settings,
    Tuned,
    Volumes,
    carry_out,
    methods_of,
    numbers,
    run_options,
    show_table,
    teller,
    tuned_values,
    words,
)
from restore.cli.config_option import verb

if TYPE_CHECKING:
    from restore.bench.protocol import Protocol
    from restore.pipelines.degrade import Task

app = typer.Typer(
    help="Compare methods on fastMRI, CT volumes or photographs; continue, tune, compare runs.",
    no_args_is_help=True,
)

FASTMRI = ("fastmri-volume", "inversebench-mri")
Root = Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the data.")]
Acceleration = Annotated[str, typer.Option(help="Accelerations, such as 4,8.")]
Split = Annotated[
    str | None,
    typer.Option(
        help="Which part of fastMRI: val, test, train or challenge. Default: val, or ROOT's own."
    ),
]
Coils = Annotated[str, typer.Option(help="auto, multicoil or singlecoil.")]
Mask = Annotated[
    str, typer.Option(help="auto (knee random, brain equispaced_fraction) or a fastMRI mask kind.")
]
Measurements = Annotated[
    str, typer.Option(help="inversebench-mri: raw k-space, simulated from the MVUE image, or both.")
]
Views = Annotated[
    str | None,
    typer.Option(
        help="Numbers of views over 180 degrees. Default: 8,30,60,180 (LoDoPaB-CT: 200,1000)."
    ),
]
Limited = Annotated[
    str | None,
    typer.Option(
        help="Arcs in degrees, one view a degree, or none. Default: 90 (LoDoPaB-CT: none)."
    ),
]
Photons = Annotated[float, typer.Option(min=1, help="Photons a ray without an object.")]
Slices = Annotated[
    str | None, typer.Option(metavar="A:B:C", help="Which slices of each volume. Default: all.")
]
Tasks = Annotated[str, typer.Option(help="inpaint, deblur, superres, denoise.")]
Noises = Annotated[str, typer.Option("--noise", help="Noise levels, 1 = white, such as 0,0.05.")]
Crop = Annotated[int, typer.Option(min=0, help="Side of the centre crop in pixels, 0 for none.")]


@app.command("fastmri")
@verb("bench fastmri")
def fastmri(
    root: Root,
    out: Run,
    protocol: Annotated[str, typer.Option(help="fastmri-volume or inversebench-mri.")] = FASTMRI[0],
    acceleration: Acceleration = "4,8",
    samplers: Samplers = None,
    volumes: Volumes = None,
    split: Split = None,
    coils: Coils = "auto",
    mask: Mask = "auto",
    measurements: Measurements = "raw",
    samples: Samples = 1,
    seed: Seed = 0,
    prior: Prior = "auto",
    preset: Preset = "tuned",
    settings: Settings = None,
    tuned: Tuned = None,
    part: Part = None,
    keep: Keep = None,
    keep_maps: Annotated[
        bool,
        typer.Option("--keep-maps", help="Leave the coil maps in RUN/cache for later methods."),
    ] = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Knee and brain k-space as NYU ships it: figures of whole volumes, or InverseBench's of slices."""
    values, used = tuned_values(tuned, protocol)
    chosen = _fastmri(
        protocol, root, acceleration, split, coils, mask, measurements, volumes, used, keep_maps
    )
    methods = methods_of(chosen, samplers, preset, prior, settings, values)
    carry_out(chosen, methods, out, run_options(device, samples, seed, part, keep), json)


@app.command("ct")
@verb("bench ct")
def ct(
    root: Root,
    out: Run,
    views: Views = None,
    limited: Limited = None,
    photons: Photons = 1e5,
    slices: Slices = None,
    samplers: Samplers = None,
    volumes: Volumes = None,
    samples: Samples = 1,
    seed: Seed = 0,
    prior: Prior = "auto",
    preset: Preset = "tuned",
    settings: Settings = None,
    tuned: Tuned = None,
    part: Part = None,
    keep: Keep = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Volumes in HU (NIfTI, DICOM) projected from few views, or LoDoPaB-CT as it is shipped."""
    values, used = tuned_values(tuned, "ct-sparse-view")
    chosen = _ct(root, views, limited, photons, slices, volumes, used)
    methods = methods_of(chosen, samplers, preset, prior, settings, values)
    carry_out(chosen, methods, out, run_options(device, samples, seed, part, keep), json)


@app.command("images")
@verb("bench images")
def images(
    root: Root,
    out: Run,
    tasks: Tasks = "inpaint,deblur,superres,denoise",
    noise: Noises = "0,0.05",
    crop: Crop = 256,
    samplers: Samplers = None,
    volumes: Volumes = None,
    samples: Samples = 1,
    seed: Seed = 0,
    prior: Prior = "auto",
    preset: Preset = "tuned",
    settings: Settings = None,
    tuned: Tuned = None,
    part: Part = None,
    keep: Keep = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Photographs, degraded and restored: inpainting, deblurring, super-resolution, denoising."""
    values, used = tuned_values(tuned, "images")
    chosen = _images(root, tasks, noise, crop, volumes, used)
    methods = methods_of(chosen, samplers, preset, prior, settings, values)
    carry_out(chosen, methods, out, run_options(device, samples, seed, part, keep), json)


@app.command("tune")
@verb("bench tune")
def tune(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="PROTOCOL", help="fastmri-volume, inversebench-mri, ct-sparse-view, images."
        ),
    ],
    root: Root,
    out: Run,
    samplers: Annotated[str, typer.Option(help="Samplers to tune.")] = "cgsense,wavelet,tv",
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="SAMPLER.NAME=V,V", help="Another setting or other values to try."),
    ] = None,
    acceleration: Acceleration = "4,8",
    split: Split = "train",
    coils: Coils = "auto",
    mask: Mask = "auto",
    measurements: Measurements = "raw",
    views: Views = None,
    limited: Limited = None,
    photons: Photons = 1e5,
    slices: Slices = None,
    tasks: Tasks = "inpaint,deblur,superres,denoise",
    noise: Noises = "0,0.05",
    crop: Crop = 256,
    volumes: Volumes = 4,
    device: Device = "auto",
) -> None:
    """Choose a setting of each method on volumes of their own; writes RUN/tuned.json for --tuned."""
    from restore.bench.tuning import default_grid, parse_grids
    from restore.bench.tuning import tune as search
    from restore.errors import ConfigError

    makers = {
        **dict.fromkeys(FASTMRI, lambda: _fastmri(
            kind, root, acceleration, split, coils, mask, measurements, volumes, frozenset(), True)),
        "ct-sparse-view": lambda: _ct(root, views, limited, photons, slices, volumes, frozenset()),
        "images": lambda: _images(root, tasks, noise, crop, volumes, frozenset()),
    }  # fmt: skip
    if kind not in makers:
        raise ConfigError(f"no protocol '{kind}'; there are {', '.join(makers)}")
    names = words(samplers)
    given = parse_grids(grid or (), names)
    grids = {name: given.get(name) or default_grid(name) for name in names}
    protocol = makers[kind]()
    with console.progress(protocol.name, total=1) as advance:
        chosen = search(protocol, grids, out, run_options(device, 1, 0, None, 0), teller(advance))
    console.table(
        [("setting", "method", "chosen", "PSNR", "tried")]
        + [
            (c.setting, c.method, f"{c.name}={c.value}", f"{c.psnr:.2f} dB", str(len(c.tried)))
            for c in chosen
        ]
    )
    console.result(f"{out / 'tuned.json'}: use it with --tuned; its volumes are left out there")


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
    import dataclasses

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


def _fastmri(
    name: str, root: Path, acceleration: str, split: str | None, coils: str, mask: str, measurements: str,
    volumes: int | None, exclude: frozenset[str], keep_maps: bool,
) -> Protocol:  # fmt: skip
    from restore.datasets.mri.fastmri_folder import folder_kind
    from restore.errors import ConfigError

    rates = numbers(acceleration, "--acceleration")
    if split is None:
        kind = folder_kind(root.resolve().name)
        split = kind[1] if kind else "val"
    if name == FASTMRI[0]:
        from restore.bench.fastmri import FastMRIVolume

        return FastMRIVolume(
            root, rates, split=split, coils=coils, mask=mask, limit=volumes, exclude=exclude, keep_maps=keep_maps
        )  # fmt: skip
    if name == FASTMRI[1]:
        from restore.bench.inversebench import InverseBenchMRI

        return InverseBenchMRI(
            root, rates, words(measurements), split=split, limit=volumes, exclude=exclude, keep_maps=keep_maps
        )  # fmt: skip
    raise ConfigError(f"no protocol '{name}' for fastMRI; there are {' and '.join(FASTMRI)}")


def _ct(
    root: Path, views: str | None, limited: str | None, photons: float, slices: str | None, volumes: int | None,
    exclude: frozenset[str],
) -> Protocol:  # fmt: skip
    from restore.bench.ct import CTSparseView
    from restore.datasets.slices import parse_slices

    chosen = None if slices is None else parse_slices(slices)
    few = numbers(views, "--views") if views else ()
    arcs = None if limited is None else () if limited == "none" else numbers(limited, "--limited")
    return CTSparseView(
        root, few, limited=arcs, photons=photons, slices=chosen, limit=volumes, exclude=exclude
    )  # fmt: skip


def _images(
    root: Path, tasks: str, noise: str, crop: int, volumes: int | None, exclude: frozenset[str]
) -> Protocol:
    from restore.bench.images import ImageFolder
    from restore.errors import ConfigError

    try:
        levels = tuple(float(part) for part in words(noise))
    except ValueError as error:
        raise ConfigError(f"--noise: '{noise}' is no list of numbers such as 0,0.05") from error
    chosen = cast("tuple[Task, ...]", words(tasks))  # checked by the protocol
    return ImageFolder(root, chosen, levels, crop=crop, limit=volumes, exclude=exclude)
