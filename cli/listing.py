"""`restore list`: what there is to choose from. Files are read, not imported: it is quick."""

from __future__ import annotations

import ast
import json as json_text
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


_CONTRACTS = {"LinearOperator": "linear", "NonlinearOperator": "non-linear"}


def command(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List operators, samplers, priors or data sets."""
    records = {
        Kind.operators: operators,
        Kind.samplers: samplers,
        Kind.priors: priors,
        Kind.datasets: datasets,
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


def operators() -> list[dict[str, Any]]:
    """Forward models: class, kind, what it does; those that only combine others are left out."""
    found = []
    for path in sorted(_folder("operators").rglob("*.py")):
        for node in _public_classes(path):
            contract = next((_CONTRACTS[b] for b in _names(node.bases) if b in _CONTRACTS), None)
            if contract is not None and path.stem not in ("algebra", "base", "nonlinear"):
                found.append({"name": node.name, "kind": contract, "what": _summary(node)})
    return found


def samplers() -> list[dict[str, Any]]:
    """Samplers: name, kind of prior they need, what they serve, network evaluations by default, what they do."""
    from restore.registry import sampler_names

    shared = _folder("samplers") / "base.py"
    base = next(_constants(n) for n in _public_classes(shared) if n.name == "Sampler")
    found = []
    for name, what in sampler_names().items():
        path = _folder("samplers") / f"{name.replace('-', '_')}.py"
        if path.is_file():
            own = next(n for n in _public_classes(path) if "Sampler" in _names(n.bases))
            found.append(_sampler_record(name, _summary(path), base | _constants(own)))
        else:
            found.append({"name": name, "prior": "", "serves": "", "cost": "", "evaluations": None,
                          "gradients": False, "reference": "", "what": what})  # fmt: skip
    return found


def _sampler_record(name: str, what: str, stated: dict[str, Any]) -> dict[str, Any]:
    """stated: the constants of the class; the tuned preset replaces the defaults of the settings."""
    tuned = stated.get("presets", {}).get("tuned", {})
    return {
        "name": name, "prior": " or ".join(stated["prior_kinds"]) or "none", "serves": stated["serves"],
        "cost": stated["cost"], "evaluations": _count(stated["cost"], stated | tuned),
        "gradients": stated["gradients"], "reference": stated["reference"], "what": what,
    }  # fmt: skip


def _count(formula: str, names: dict[str, Any]) -> int | None:
    """Network evaluations with the default settings, None where they depend on more than settings."""
    from restore.config import arithmetic
    from restore.errors import ConfigError

    try:
        return arithmetic(formula, names)
    except ConfigError:
        return None


def priors() -> list[dict[str, Any]]:
    """Bundled priors, from their cards."""
    found = []
    for path in sorted((_folder("priors") / "weights").glob("*.json")):
        card = json_text.loads(path.read_text(encoding="utf-8"))
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

    formats = [
        {"kind": "format", "name": f["name"], "files": f["files"], "what": f["ways"]}
        for f in described()
    ]
    text = (_folder("datasets") / "public_sets.json").read_text(encoding="utf-8")
    return formats + [{"kind": "public set", **entry} for entry in json_text.loads(text)]


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


def _constants(node: ast.ClassDef) -> dict[str, Any]:
    """The literal values that a class assigns to its own names."""
    found = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value:
            try:
                found[item.target.id] = ast.literal_eval(item.value)
            except ValueError:
                continue  # computed, not a literal
    return found
