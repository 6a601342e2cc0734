"""A verb as 3D Slicer sees it: the XML of its execution model, made of the verb's own options.

Used by `config_option` for `--xml` of the verbs in SLICER. Slicer asks an executable for this text, builds a panel of
it, and calls the executable with `--long_flag VALUE` for everything that is filled and the indexed files last. Long
flags may hold letters, digits and underscores alone, so the verbs take `_` for `-` (CONTEXT). The rules are those
of Slicer's ModuleDescriptionParser and of its schema.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from types import NoneType
from typing import Any

from typer.models import ArgumentInfo

from restore.version import __version__


@dataclasses.dataclass(frozen=True)
class Module:
    """What the options do not say. images: parameters that are volumes of a scene; files: suffixes of the input."""

    title: str
    category: str
    images: tuple[str, ...]
    files: str = ""


SLICER = {
    "recon": Module("Restore: reconstruct a scan", "Reconstruction", ("out",),
                    ".h5,.mrd,.dat,.cfl,.npz,.mat,.yaml,.xml,.log,.xtekct"),
    "volume": Module("Restore: a volume", "Filtering.Denoising",
                     ("volumes", "out", "mask", "noise_map", "noise_region")),
}  # fmt: skip
LEFT_OUT = ("config", "xml", "json", "dry_run", "report")
"""Options that mean nothing in a panel."""

VOLUMES = ".nii.gz,.nii"
OVERWRITE = "overwrite"
"""Set in Slicer, which gives the same name again and loads what is written there."""

ENUMERATION = re.compile(r"[a-z][a-z0-9-]*(\|[a-z][a-z0-9-]*)+")
"""A metavar that says every word that is taken."""

CONTEXT = {"token_normalize_func": lambda token: token.replace("_", "-")}
"""Settings of such a verb's command, for long flags with underscores."""


def describe(verb: str, parameters: Iterable[inspect.Parameter], doc: str) -> str:
    """The XML of a verb. parameters: as typer takes them, annotated with their options; doc: what the verb does."""
    module = SLICER[verb]
    root = ET.Element("executable")
    head = {
        "category": module.category, "title": module.title, "description": f"{doc.strip()} For research only, not for "
        "diagnosis.", "version": __version__, "documentation-url": "", "license": "Apache-2.0", "contributor": "",
    }  # fmt: skip
    for tag, text in head.items():
        ET.SubElement(root, tag).text = text
    groups = {name: _group(root, name, name != "Volumes") for name in ("Volumes", "Settings")}
    index = 0
    for parameter in parameters:
        if parameter.name in LEFT_OUT or not typing.get_args(parameter.annotation):
            continue
        kind, option = typing.get_args(parameter.annotation)[:2]
        indexed = _is_argument(option)
        required = indexed or parameter.default is inspect.Parameter.empty
        item = _parameter(
            groups["Volumes" if required else "Settings"], parameter, kind, option, module
        )
        if indexed:
            ET.SubElement(item, "index").text = str(index)
            index += 1
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode", short_empty_elements=False)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _group(root: ET.Element, label: str, advanced: bool) -> ET.Element:
    group = ET.SubElement(root, "parameters", {"advanced": "true"} if advanced else {})
    ET.SubElement(group, "label").text = label
    ET.SubElement(group, "description").text = f"{label} of the module"
    return group


def _parameter(
    group: ET.Element, parameter: inspect.Parameter, kind: Any, option: Any, module: Module
) -> ET.Element:
    """One option; its index, if it has one, is added by the caller."""
    name, plain = parameter.name, _plain(kind)
    indexed = _is_argument(option)
    attributes, tag, words = {}, _tag(plain, parameter, option), (option.metavar or "").split("|")
    if plain is Path:
        is_image = name in module.images
        tag = "image" if is_image else "file"
        files = module.files if indexed else "*"
        attributes = {"fileExtensions": VOLUMES if is_image else files}
    item = ET.SubElement(group, tag, attributes)
    ET.SubElement(item, "name").text = name
    if not indexed:
        ET.SubElement(item, "longflag").text = _long(name, option)
    ET.SubElement(item, "label").text = name.replace("_", " ")
    told = option.help or name.replace("_", " ")
    if tag == "string" and option.metavar:
        told = f"{told} Written: {option.metavar}"
    ET.SubElement(item, "description").text = told
    if plain is Path:
        ET.SubElement(item, "channel").text = "output" if name == "out" else "input"
        return item
    default = words[0] if parameter.default is inspect.Parameter.empty else parameter.default
    ET.SubElement(item, "default").text = _text(True if name == OVERWRITE else default)
    if tag == "string-enumeration":
        for word in words:
            ET.SubElement(item, "element").text = word
    elif tag in ("integer", "double") and option.min is not None and option.max is not None:
        limits = ET.SubElement(item, "constraints")
        step = 1 if tag == "integer" else (option.max - option.min) / 100
        for what, value in (("minimum", option.min), ("maximum", option.max), ("step", step)):
            ET.SubElement(limits, what).text = _text(value)
    return item


def _tag(plain: type, parameter: inspect.Parameter, option: Any) -> str:
    """The kind of a value; what may be absent is a text, which Slicer leaves out where it is empty."""
    if plain is bool:
        return "boolean"
    if parameter.default is not None and plain in (int, float):
        return "integer" if plain is int else "double"
    chosen = parameter.default is not None and ENUMERATION.fullmatch(option.metavar or "")
    return "string-enumeration" if chosen else "string"


def _plain(kind: Any) -> Any:
    """`Path` of `Path | None` and of `list[Path]`."""
    inside = [k for k in typing.get_args(kind) if k is not NoneType]
    return _plain(inside[0]) if inside else kind


def _is_argument(option: Any) -> bool:
    return isinstance(option, ArgumentInfo)


def _long(name: str, option: Any) -> str:
    """The long flag, as Slicer may say it."""
    # In an annotation the first name stands where a default would.
    names = [str(word) for word in (option.default, *(option.param_decls or ()))]
    given = next((word for word in names if word.startswith("--")), f"--{name}")
    return given.lstrip("-").replace("-", "_")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
