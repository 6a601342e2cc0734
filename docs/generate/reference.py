"""Pages of the site that are made from the code: one for each sampler and each operator, and their indexes.

Called by the hooks of the site and by its tests. What `restore list` prints and what the docstrings say is all that
stands there, so that a page cannot disagree with the program. Knows nothing of the builder of the site.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from restore import operators
from restore.cli import listing
from restore.registry import load_sampler


def sampler_pages() -> dict[str, str]:
    """Path below docs/ to Markdown: `samplers/NAME.md`, and `samplers/index.md` with a table of all."""
    records = listing.samplers()
    pages = {f"samplers/{r['name']}.md": _sampler_page(r) for r in records}
    rows = [
        [
            f"[{r['name']}]({r['name']}.md)",
            r["prior"],
            r["serves"],
            str(r["evaluations"]),
            r["what"],
        ]
        for r in records
    ]
    head = (
        "# Samplers\n\nAs `restore list samplers` prints them; which to take says "
        "[Choosing a sampler](../choosing-a-sampler.md).\n\n"
    )
    pages["samplers/index.md"] = head + table(
        ["sampler", "prior", "serves", "network evaluations", "in a sentence"], rows
    )
    return pages


def operator_pages() -> dict[str, str]:
    """Path below docs/ to Markdown: `operators/NAME.md`, and `operators/index.md` with a table of all."""
    records = listing.operators()
    pages = {f"operators/{r['name']}.md": _operator_page(r) for r in records}
    rows = [[f"[{r['name']}]({r['name']}.md)", r["kind"], r["what"]] for r in records]
    head = (
        "# Operators\n\nAs `restore list operators` prints them. An operator of your own: "
        "[Your own method and prior](../tutorials/method-and-prior.md).\n\n"
    )
    pages["operators/index.md"] = head + table(["operator", "kind", "in a sentence"], rows)
    return pages


def _sampler_page(record: dict[str, Any]) -> str:
    cls = load_sampler(record["name"])
    facts = [
        ["prior", record["prior"]],
        ["serves", record["serves"]],
        ["network evaluations", f"{record['evaluations']} ({record['cost']})"],
        ["gradients of the network", "yes" if record["gradients"] else "no"],
        ["reference", record["reference"]],
    ]
    parts = [f"# {record['name']}", record["what"], table(["", ""], facts), _doc(cls)]
    parts += ["## Settings", _settings(record["settings"])]
    parts += ["## Presets", _presets(cls.presets)]
    parts += ["## Use", f"    restore list samplers {record['name']}", _import_line(cls)]
    return "\n\n".join(parts) + "\n"


def _settings(settings: list[dict[str, Any]]) -> str:
    if not settings:
        return "None: it runs as it is."
    rows = []
    for s in settings:
        number = "" if s["type"] == "word" else f"{s['type']} {s['range']}".strip()
        values = ", ".join([*s["words"], *filter(None, [number])])
        default = "none" if s["default"] is None else f"`{s['default']}`"
        rows.append(
            [f"`{s['name']}`", default, values + (", or none" if s["none"] else ""), s["what"]]
        )
    return table(["setting", "default", "values", "meaning"], rows)


def _presets(presets: dict[str, dict[str, Any]]) -> str:
    if not presets:
        return "None beside the defaults."
    rows = [
        [f"`{name}`", ", ".join(f"`{k}={v}`" for k, v in changed.items()) or "the defaults"]
        for name, changed in presets.items()
    ]
    return table(["preset", "what differs from the defaults"], rows)


def _operator_page(record: dict[str, Any]) -> str:
    cls = _operator_class(record["name"])
    parts = [f"# {record['name']}", f"A {record['kind']} operator.", _doc(cls)]
    signature = str(inspect.signature(cls)).replace("'", "")
    parts += ["## Construction", f"    {record['name']}{signature}", _import_line(cls)]
    made = [m for m in vars(cls) if isinstance(vars(cls)[m], classmethod) and not m.startswith("_")]
    for name in made:
        method = getattr(cls, name)
        text = inspect.getdoc(method) or ""
        head = f"### {record['name']}.{name}"
        parts += [
            head,
            f"    {name}{str(inspect.signature(method)).replace(chr(39), '')}",
            _prose(text),
        ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _operator_class(name: str) -> type:
    """The class of an operator that `restore list operators` names, wherever in its rooms it stands."""
    root = Path(operators.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if f"class {name}(" in path.read_text(encoding="utf-8"):
            module = ".".join(("restore.operators", *path.relative_to(root).with_suffix("").parts))
            return getattr(importlib.import_module(module), name)
    raise LookupError(f"no class {name} in restore.operators")


def _import_line(cls: type) -> str:
    public = cls.__name__ in operators.__all__
    return f"    from {'restore.operators' if public else cls.__module__} import {cls.__name__}"


def _doc(cls: type) -> str:
    return _prose(inspect.getdoc(cls) or "")


def _prose(text: str) -> str:
    """A docstring as Markdown: what would be read as HTML or emphasis is escaped, indented parts stay as they are."""
    lines = []
    for line in text.splitlines():
        spoken = not line.startswith("    ")
        lines.append(re.sub(r"(?<!`)([<*_|])(?![^`]*`)", r"\\\1", line) if spoken else line)
    return "\n".join(lines)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown."""
    lines = [
        head,
        ["---"] * len(head),
        *([cell.replace("|", "\\|") for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
