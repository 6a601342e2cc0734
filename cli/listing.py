"""`restore list`: what there is to choose from.

Operators and priors are told by their files, which is quick; samplers by their classes, with all that can be set.
"""

from __future__ import annotations

import ast
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from restore.cli import console


class Kind(StrEnum):
    """What can be listed."""

    operators = "operators"
    samplers = "samplers"
    priors = "priors"
    datasets = "datasets"
    starts = "starts"


_CONTRACTS = {"LinearOperator": "linear", "NonlinearOperator": "non-linear"}


def command(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    name: Annotated[
        str, typer.Argument(metavar="[SAMPLER]", help="samplers: this one with its settings.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List operators, samplers, priors, data sets or the chosen starts of --start best-of."""
    if name:
        _one(kind, name, json)
        return
    records = {
        Kind.operators: operators,
        Kind.samplers: samplers,
        Kind.priors: priors,
        Kind.datasets: datasets,
        Kind.starts: starts,
    }[kind]()
    if json:
        console.result_json(records)
    elif not records:
        console.result(f"no {kind.value}")
    elif kind is Kind.datasets:
        _print_datasets(records)
    elif kind is Kind.samplers:
        _print_samplers(records)
    else:
        _table([{k: v for k, v in record.items() if k != "reference"} for record in records])


def _one(kind: Kind, name: str, json: bool) -> None:
    """One sampler with its settings. Raises ConfigError."""
    from restore.errors import ConfigError
    from restore.registry import load_sampler, sampler_names

    if kind is not Kind.samplers:
        raise ConfigError(f"only samplers are listed by name; write `restore list {kind.value}`")
    load_sampler(name)  # refuses a name that is none
    record = _sampler_record(name, sampler_names()[name])
    if json:
        console.result_json(record)
        return
    _print_samplers([record])
    console.result(f"presets: {', '.join(record['presets']) or '-'}")
    rows = [(s["name"], _cell(s["default"]), _values(s), s["what"]) for s in record["settings"]]
    console.table([("setting", "default", "values", "meaning"), *rows])


def _values(setting: dict[str, Any]) -> str:
    """Words, or type and range, of a setting."""
    kind = "true, false" if setting["type"] == "bool" else setting["type"]
    number = "" if kind == "word" else f"{kind} {setting['range']}".strip()
    values = ", ".join([*setting["words"], *filter(None, [number])])
    return f"{values}, or none" if setting["none"] else values


def operators() -> list[dict[str, Any]]:
    """Forward models: class, kind, what it does; left out are those that combine others or that others derive from."""
    files = sorted(_folder("operators").rglob("*.py"))
    nodes = [(path.stem, node) for path in files for node in _public_classes(path)]
    bases = {node.name: _names(node.bases) for _, node in nodes}
    families = {base for names in bases.values() for base in names}
    return [
        {"name": node.name, "kind": kind, "what": _summary(node)}
        for stem, node in nodes
        if (kind := _contract(node.name, bases)) is not None
        and node.name not in families and stem not in ("algebra", "base", "nonlinear")
    ]  # fmt: skip


def _contract(name: str, bases: dict[str, list[str]]) -> str | None:
    """Of a class, from its bases and theirs: "linear", "non-linear" or None for no operator."""
    if name in _CONTRACTS:
        return _CONTRACTS[name]
    kinds = (_contract(base, bases) for base in bases.get(name, []))
    return next((kind for kind in kinds if kind is not None), None)


def samplers() -> list[dict[str, Any]]:
    """Samplers as their classes say: the prior they need, what they serve, evaluations, presets, settings.

    The classes are imported for it, and torch with them, which takes a second: what is shown is what runs.
    """
    from restore.registry import sampler_names

    return [_sampler_record(name, what) for name, what in sampler_names().items()]


def _sampler_record(name: str, what: str) -> dict[str, Any]:
    """evaluations: of the tuned preset, as the defaults have it."""
    from restore.config import settings_of
    from restore.errors import ConfigError
    from restore.registry import load_sampler

    try:
        sampler = load_sampler(name)
    except ConfigError as error:  # another package's, which cannot be imported
        return {"name": name, "prior": "", "serves": "", "cost": "", "evaluations": None, "gradients": False,
                "takes_start": False, "reference": "", "what": str(error), "presets": [], "settings": []}  # fmt: skip
    # Those without a network are not made: some need a package that may be missing.
    tuned = sampler.presets.get("tuned", {})
    evaluations = sampler(**tuned).cost() if sampler.prior_kinds else 0
    return {
        "name": name, "prior": " or ".join(sampler.prior_kinds) or "none", "serves": sampler.serves(),
        "cost": (sampler.cost.__doc__ or "").partition("\n")[0].strip(),
        "evaluations": evaluations, "gradients": sampler.gradients, "takes_start": sampler.takes_start,
        "reference": sampler.reference, "what": what, "presets": list(sampler.presets),
        "settings": settings_of(sampler),
    }  # fmt: skip


def priors() -> list[dict[str, Any]]:
    """Bundled priors, from their cards."""
    from restore.datasets.json_text import read_json

    found = []
    for path in sorted((_folder("priors") / "weights").glob("*.json")):
        card = read_json(path)
        found.append(
            {
                "name": path.stem,
                "channels": card.get("network", {}).get("channels"),
                "parameters": card.get("parameters"),
                "sigma_range": card.get("sigma_range"),
                "denoising_psnr_db": card.get("denoising_psnr_db"),
                "date": card.get("date"),
                "licence": card.get("licence"),
            }
        )
    return found


def datasets() -> list[dict[str, Any]]:
    """File formats that are read and written, then public data sets and how to obtain them."""
    from restore.datasets.formats import described
    from restore.datasets.json_text import parse_json

    formats = [
        {"kind": "format", "name": f["name"], "files": f["files"], "what": f["ways"]}
        for f in described()
    ]
    text = (_folder("datasets") / "public_sets.json").read_text(encoding="utf-8")
    return formats + [{"kind": "public set", **entry} for entry in parse_json(text)]


def starts() -> list[dict[str, Any]]:
    """The starts of the bundled table."""
    from restore.cli.starts_table import row
    from restore.starts import bundled_starts, read_starts

    table = bundled_starts()
    return [row(entry) for entry in read_starts(table)] if table.is_file() else []


def _print_datasets(records: list[dict[str, Any]]) -> None:
    console.result("formats")
    console.table(
        [("", r["name"], r["files"], r["what"]) for r in records if r["kind"] == "format"]
    )
    for record in records:
        if record["kind"] == "public set":
            console.result("")
            console.result(f"{record['name']}: {record['holds']}")
            for key in ("licence", "obtain", "read_by"):
                console.result(f"  {key.replace('_', ' ')}: {record[key]}")


def _print_samplers(records: list[dict[str, Any]]) -> None:
    """Three lines a sampler: the table of needs and cost would be wider than a terminal."""
    width = max(len(r["name"]) for r in records) + 1
    for r in records:
        count = r["cost"] if r["evaluations"] is None else f"{r['evaluations']} ({r['cost']})"
        calls = "no network" if r["prior"] == "none" else f"{count} network evaluations"
        slow = ", differentiated" if r["gradients"] else ""
        slow += "; takes --start" if r["takes_start"] else ""
        console.result(f"{r['name']:{width}s} {r['what']}")
        console.result(
            f"{'':{width}s} prior: {r['prior'] or '-'}; serves: {r['serves'] or '-'}; {calls}{slow}"
        )
        if r["reference"]:
            console.result(f"{'':{width}s} {r['reference']}")


def _table(records: list[dict[str, Any]]) -> None:
    """One row a record; long texts last, so that the columns stay narrow."""
    heads = tuple(records[0])
    console.table([heads, *(tuple(_cell(r[head]) for head in heads) for r in records)])


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {v}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        return " to ".join(map(str, value))
    return str(value)


def _folder(name: str) -> Path:
    return Path(str(resources.files("restore"))) / name


def _public_classes(path: Path) -> list[ast.ClassDef]:
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return [n for n in nodes if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]


def _names(bases: list[ast.expr]) -> list[str]:
    return [b.id if isinstance(b, ast.Name) else getattr(b, "attr", "") for b in bases]


def _summary(source: ast.ClassDef | Path) -> str:
    """First paragraph of a docstring, in one line."""
    node = ast.parse(source.read_text(encoding="utf-8")) if isinstance(source, Path) else source
    paragraph = (ast.get_docstring(node) or "").split("\n\n")[0]
    return " ".join(paragraph.split())
