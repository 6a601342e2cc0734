"""`--xml`: what 3D Slicer is told obeys its parser's rules, and calls made of it by Slicer's rules work."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from restore.cli import app
from restore.cli.many import Choice
from restore.cli.slicer_xml import LEFT_OUT, SLICER
from restore.datasets.open import read, write
from restore.datasets.simulate.phantom import head_phantom

HEAD = (
    "category",
    "title",
    "description",
    "version",
    "documentation-url",
    "license",
    "contributor",
)
"""In this order, says the schema (ModuleDescription.xsd)."""

VARIABLE = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
SIMPLE = {"integer", "double", "boolean", "string", "string-enumeration"}
TAGS = SIMPLE | {"image", "file"}
INSIDE = {
    "name", "flag", "longflag", "label", "description", "default", "channel", "index", "constraints", "element",
}  # fmt: skip


def described(verb: str) -> str:
    done = CliRunner().invoke(app, [verb, "--xml"])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def parameters(text: str) -> Iterator[ET.Element]:
    for group in ET.fromstring(text).findall("parameters"):  # noqa: S314 (our own text)
        yield from (item for item in group if item.tag not in ("label", "description"))


def slicer_call(text: str, filled: Mapping[str, str]) -> list[str]:
    """The arguments that Slicer makes of a panel: flags in their order, simple ones always, then what is indexed.

    filled: values by names; what is not in it keeps its default.
    """
    words, indexed = [], {}
    for item in parameters(text):
        name, index = item.findtext("name", ""), item.findtext("index")
        value = filled.get(name, item.findtext("default", ""))
        flag = f"--{item.findtext('longflag')}"
        if index is not None:
            indexed[int(index)] = value
        elif item.tag == "boolean":
            words += [flag] if value == "true" else []
        elif item.tag in ("image", "file", "string"):
            words += [flag, value] if value else []
        else:
            words += [flag, value]
    return words + [indexed[i] for i in sorted(indexed)]


@pytest.mark.parametrize("verb", SLICER)
def test_the_text_obeys_the_rules_of_slicers_parser(verb: str) -> None:
    text = described(verb)
    assert text.startswith('<?xml version="1.0" encoding="utf-8"?>\n')
    root = ET.fromstring(text)  # noqa: S314
    assert root.tag == "executable"
    assert [child.tag for child in root] == [*HEAD, "parameters", "parameters"]
    names = [item.findtext("name", "") for item in parameters(text)]
    assert len(set(names)) == len(names)
    for item in parameters(text):
        name, flag = item.findtext("name", ""), item.findtext("longflag")
        assert item.tag in TAGS
        assert {child.tag for child in item} <= INSIDE
        assert VARIABLE.fullmatch(name), name
        assert (flag is None) != (item.find("index") is None), name
        assert flag is None or VARIABLE.fullmatch(flag), flag
        assert item.findtext("label")
        assert item.findtext("description")
        if item.tag in SIMPLE:
            default = item.find("default")
            assert default is not None
            assert item.tag == "string" or default.text, name
        else:
            assert item.findtext("channel") == ("output" if name == "out" else "input")
        words = [element.text for element in item.findall("element")]
        assert (item.tag == "string-enumeration") == bool(words)
        assert not words or item.findtext("default") in words
        limits = item.find("constraints")
        assert limits is None or [child.tag for child in limits] == ["minimum", "maximum", "step"]
        assert limits is None or item[-1] is limits


@pytest.mark.parametrize("verb", SLICER)
def test_every_option_is_told_under_its_own_name(verb: str) -> None:
    command = get_command(app).commands[verb]  # type: ignore[attr-defined]
    many = {field.name for field in dataclasses.fields(Choice)}  # a panel has one input
    flags = {
        p.name: set(p.opts) for p in command.params if p.name not in {*LEFT_OUT, *many, "help"}
    }
    told = {item.findtext("name", ""): item for item in parameters(described(verb))}
    assert told.keys() == flags.keys()
    for name, item in told.items():
        long = item.findtext("longflag")
        assert long is None or f"--{long.replace('_', '-')}" in flags[name], name


def test_slicers_call_of_a_scan_works_twice(tmp_path: Path) -> None:
    """The second time Slicer has taken the image away and gives the same name again."""
    write(head_phantom((3, 24, 24)), tmp_path / "head.nii.gz")
    scan, out = tmp_path / "scan.h5", tmp_path / "vtkMRMLScalarVolumeNodeB.nii.gz"
    run = CliRunner().invoke
    done = run(
        app, ["simulate", "mri", str(tmp_path / "head.nii.gz"), "-o", str(scan), "--coils", "1"]
    )
    assert done.exit_code == 0, done.stderr
    call = slicer_call(
        described("recon"), {"scan": str(scan), "out": str(out), "sampler": "zerofilled"}
    )
    assert "--maps_sets" in call
    for _ in range(2):
        done = run(app, ["recon", *call])
        assert done.exit_code == 0, done.stderr
        assert read(out).data.shape == (3, 24, 24)
        out.unlink()


def test_slicers_call_of_a_volume_is_understood(tmp_path: Path) -> None:
    """Up to the work: a mask without a lost voxel is refused after all options were read."""
    head = head_phantom((3, 24, 24))
    for name, data in (("head", head.data), ("mask", head.data * 0)):
        write(head.with_data(data), tmp_path / f"{name}.nii.gz")
    filled = {
        "volumes": str(tmp_path / "head.nii.gz"), "mask": str(tmp_path / "mask.nii.gz"), "task": "inpaint",
        "out": str(tmp_path / "out.nii.gz"), "noise_level": "2.5",
    }  # fmt: skip
    call = slicer_call(described("volume"), filled)
    assert "--noise_level" in call
    done = CliRunner().invoke(app, ["volume", *call])
    assert (done.exit_code, "mask.nii.gz" in done.stderr) == (4, True), done.stderr
