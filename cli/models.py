"""`restore models`: what a file of weights is, its conversion, proof that it is the same network, what there is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from restore.cli import console
from restore.cli.options import Overwrite

if TYPE_CHECKING:
    from restore.pipelines.model_files import Found
    from restore.priors.converted import Converted
    from restore.priors.families.meaning import Meaning

app = typer.Typer(help="Use networks of other codebases: docs/priors.md.", no_args_is_help=True)

_ENTRIES_SHOWN = 12

Json = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
Range = Annotated[
    str, typer.Option("--range", metavar="LOW:HIGH", help="Intensities of the training images.")
]
Schedule = Annotated[
    str,
    typer.Option(help="linear:1e-4:0.02:1000, scaled_linear:0.00085:0.012:1000 or cosine:1000."),
]
Prediction = Annotated[str, typer.Option(help="What the network returns: eps, x0 or v.")]
ComplexMode = Annotated[
    str, typer.Option(help="Complex images pass separate, as channels, or by magnitude.")
]
SigmaRange = Annotated[
    str,
    typer.Option(metavar="LOW:HIGH", help="Noise it was trained for, in units of its images."),
]
Label = Annotated[
    int | None,
    typer.Option(min=-1, help="Class that a conditional network is asked for; -1: none (EDM)."),
]
Tasks = Annotated[str, typer.Option(help="Tasks that a restoration network was trained on.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An argument of the family's constructor."),
]


@app.command("inspect")
def inspect(
    file: Annotated[Path, typer.Argument(help="A file of weights, or a folder of diffusers.")],
    json: Json = False,
) -> None:
    """Say what a file of weights is, what it tells of its network, and what has to be said. Nothing of it is run."""
    from restore.pipelines.model_files import inspect_file
    from restore.priors.families.known import family_of

    found = inspect_file(file)
    families = [family_of(kind) for kind in found.kinds]
    if json:
        console.result_json({
            "file": str(found.path), "form": found.form, "values": found.parameters,
            "architecture": found.architecture or None, "entries": dict(found.entries),
            "families": [
                {
                    "kind": f.name, "what": f.what, "settings": found.settings[f.name], "inferred": f.inferred,
                    "asked": f.asked,
                }
                for f in families
            ],
        })  # fmt: skip
        return
    _print_found(found, families)


def _print_found(found: Found, families: list[Any]) -> None:
    from restore.pipelines.model_files import short

    console.result(f"{found.path}: {found.form}, {found.parameters:,} values in tensors")
    for name, what in found.entries[:_ENTRIES_SHOWN]:
        console.result(f"  {name or '.'}: {what}")
    if len(found.entries) > _ENTRIES_SHOWN:
        console.result(f"  and {len(found.entries) - _ENTRIES_SHOWN} more")
    if found.architecture:
        console.result(
            f"a model of this package ({found.architecture}); `restore models show` prints its card"
        )
    if not families:
        console.result("no family of networks that is known here has these names")
    for family in families:
        console.result(f"--kind {family.name}: {family.what}")
        console.result(f"  the file tells: {family.inferred}")
        for name, value in found.settings[family.name].items():
            console.result(f"    {name} = {short(str(value))}")
        console.result(f"  to be said: {family.asked}")


@app.command("convert")
def convert(
    file: Annotated[Path, typer.Argument(help="A file of weights, or a folder of diffusers.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="NAME.safetensors")],
    kind: Annotated[
        str,
        typer.Option(
            help="adm, ncsnpp, edm, diffusers, ldm, resshift, rddm, irsde, drunet, ffdnet; tensors for any."
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(help="JSON of the constructor's arguments; may hold several files by name."),
    ] = None,
    entry: Annotated[str, typer.Option(help="Name of the file in CONFIG, if another.")] = "",
    settings: Set = None,
    weights: Annotated[str, typer.Option(help="ema or raw, where a file has both.")] = "",
    image_range: Range = "", schedule: Schedule = "", prediction: Prediction = "", complex_mode: ComplexMode = "",
    sigma_range: SigmaRange = "", label: Label = None, tasks: Tasks = "",
    sidecar: Annotated[
        Path | None, typer.Option(help="JSON with range, schedule, prediction, complex_mode, ...")
    ] = None,
    context: Annotated[
        Path | None, typer.Option(help="Tensors that it is told beside the image (.npz, .safetensors).")
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the card.")] = "",
    overwrite: Overwrite = False,
) -> None:  # fmt: skip
    """Write a network of another codebase as NAME.safetensors with a card; --prior NAME.safetensors uses it."""
    from restore.pipelines.model_files import Conversion, values_of
    from restore.pipelines.model_files import convert as run

    meaning = _meaning(image_range, schedule, prediction, complex_mode, sigma_range, label, tasks)
    made = run(
        Conversion(
            file, kind, out, config, entry, values_of(settings or ()), meaning, sidecar, context, weights, licence,
            overwrite,
        )
    )  # fmt: skip
    console.result(str(out))
    if made.assumed:
        console.notes([f"said nowhere, taken as the official default: {', '.join(made.assumed)}"])
    _say_missing(made, out)


@app.command("join")
def join(
    network: Annotated[Path, typer.Argument(metavar="NETWORK.safetensors")],
    autoencoder: Annotated[Path, typer.Argument(metavar="AUTOENCODER.safetensors")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="NAME.safetensors")],
    overwrite: Overwrite = False,
) -> None:
    """Make a converted network of codes and its converted autoencoder (ResShift) the one model that they are."""
    from restore.pipelines.model_join import join_models

    made = join_models(network, autoencoder, out, overwrite=overwrite)
    console.result(str(out))
    _say_missing(made, out)


@app.command("state")
def state(
    file: Annotated[Path, typer.Argument(metavar="NAME.safetensors")],
    settings: Set = None,
    image_range: Range = "", schedule: Schedule = "", prediction: Prediction = "", complex_mode: ComplexMode = "",
    sigma_range: SigmaRange = "", label: Label = None, tasks: Tasks = "",
) -> None:  # fmt: skip
    """Say of a converted model what its weights do not tell; kept on its card."""
    from restore.pipelines.model_files import state as run
    from restore.pipelines.model_files import values_of

    meaning = _meaning(image_range, schedule, prediction, complex_mode, sigma_range, label, tasks)
    made = run(file, meaning, values_of(settings or ()))
    console.result(str(file.with_suffix(".json")))
    _say_missing(made, file)


def _say_missing(made: Converted, path: Path) -> None:
    from restore.priors.converted import OPTIONS

    missing = made.missing()
    for name in missing:
        console.say(f"not told by the weights: {name}; {OPTIONS.get(name, name)}")
    if missing:
        console.say(
            "it can be checked against stored outputs now; before it is a prior, say these: "
            f"restore models state {path}"
        )


def _meaning(
    image_range: str, schedule: str, prediction: str, complex_mode: str, sigma_range: str, label: int | None,
    tasks: str,
) -> Meaning:  # fmt: skip
    from restore.priors.families.meaning import Meaning

    named = tuple(t.strip() for t in tasks.split(",") if t.strip())
    return Meaning(
        _pair("--range", image_range), schedule, prediction, _pair("--sigma-range", sigma_range), complex_mode,
        label, tasks=named,
    )  # fmt: skip


def _pair(option: str, text: str) -> tuple[float, float] | None:
    from restore.errors import ConfigError

    if not text:
        return None
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise ConfigError(f"{option} {text}: expected LOW:HIGH, such as -1:1") from error
    return low, high


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="NAME.safetensors")],
    io: Annotated[Path, typer.Option(help="Stored inputs and outputs (.npz): docs/priors.md.")],
    precision: Annotated[
        Literal["float64", "float32"], typer.Option(help="In which it is computed.")
    ] = "float64",
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="Largest relative difference; default 2e-5.")
    ] = None,
    json: Json = False,
) -> None:
    """Replay stored inputs and print the largest relative difference of each output; fails above the tolerance."""
    from restore.errors import WeightsError
    from restore.pipelines.model_check import replay

    found = replay(file, io, precision, tolerance)
    if json:
        console.result_json({
            "outputs": [
                {"output": c.output, "difference": c.difference, "tolerance": c.tolerance, "same": c.same}
                for c in found.compared
            ],
            "of_other_models_or_readings": found.others,
        })  # fmt: skip
    else:
        rows = [("output", "largest relative difference", "tolerance", "")]
        rows += [
            (c.output, f"{c.difference:.2e}", f"{c.tolerance:.0e}", "same" if c.same else "DIFFERS")
            for c in found.compared
        ]
        console.table(rows)
        if found.others:
            console.say(
                f"{len(found.others)} outputs belong to other models or other readings: {', '.join(found.others[:6])}"
                + (", ..." if len(found.others) > 6 else "")
            )
    bad = [c for c in found.compared if not c.same]
    if bad:
        worst = max(bad, key=lambda c: c.difference)
        raise WeightsError(
            f"{file}: {len(bad)} of {len(found.compared)} outputs differ, {worst.output} by {worst.difference:.2e}; "
            "other settings (attention order, heads), another entry (--weights) or another network"
        )


@app.command("list")
def list_models(json: Json = False) -> None:
    """Say which models there are: in the package and in the tables of files to fetch (docs/fetching.md)."""
    from restore.datasets.fetch_table import entries
    from restore.datasets.fetching import folder_of
    from restore.priors.store import bundled, kind_of, read_card

    rows = []
    for name in bundled():
        card = read_card(name)
        rows.append(
            (
                name,
                "bundled",
                kind_of(name) or str(card["architecture"]),
                str(card.get("licence", "")),
            )
        )
    for name, entry in entries("priors").items():
        here = all((folder_of(entry) / f.name).is_file() for f in entry.files)
        rows.append((name, "fetched" if here else "to fetch", entry.what, entry.licence))
    if json:
        keys = ("name", "where", "what", "licence")
        console.result_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    console.table([("name", "where", "what", "licence"), *rows])


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A bundled name, a name to fetch, or a weight file.")],
) -> None:
    """Print the card of a model, and with which command it shows what it draws."""
    from restore.errors import WeightsError
    from restore.pipelines.prior_draws import why_not
    from restore.priors.store import read_card
    from restore.priors.traits import card_traits

    console.result_json(read_card(name))
    try:
        reason = why_not(card_traits(name))
    except WeightsError:
        return  # no prior by itself, or not yet
    said = f"no draws: '{name}' {reason}" if reason else f"its draws: restore sample --prior {name}"
    console.say(said)


@app.command("fetch")
def fetch(name: Annotated[str, typer.Argument(help="A name of `restore models list`.")]) -> None:
    """Get a model by name, checked by sha256; prints where the weights lie."""
    from restore.datasets.fetch_table import entry_of
    from restore.priors.remote import fetched
    from restore.priors.store import bundled

    if name in bundled():
        console.result(str(bundled()[name]))
        return
    entry = entry_of("priors", name)
    path = fetched(entry)
    console.say(f"licence: {entry.licence}")
    console.result(str(path))
