"""YAML of plain values: names, texts and lists, bounded in size and depth, as people write it by hand.

May be called by every reader of such a file (run files, tables of addresses). A value is the text that stands there
(10:20 stays a range of slices, 1e-3 what it is): whoever asks turns it into numbers. No tags, no anchors, no name given
twice; nothing is built by name.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from restore.errors import InputError, NotFoundError

LARGEST_BYTES = 1 << 18


@dataclasses.dataclass(frozen=True)
class Word:
    """One value as it stands in the file; kind: "truth" (true, false), "none" (null, nothing) or "plain"."""

    text: str
    kind: str = "plain"


Value: TypeAlias = "Word | list[Value] | dict[str, Value]"


def read_plain_yaml(path: Path, deepest: int) -> dict[str, Value]:
    """The names and values of a YAML file, or of a JSON file, which is YAML too; nothing for an empty one.

    deepest: levels that are allowed, the outermost counted. Raises NotFoundError, and InputError naming the line of
    what cannot stand in such a file.
    """
    text = _text(path)
    try:
        _check_events(path, text, deepest)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise InputError(path, f"not YAML: {_fault(error)}") from error
    found = {} if node is None else _value(path, node)
    if isinstance(found, Word) and found.kind == "none":
        return {}
    if not isinstance(found, dict):
        raise InputError(path, "holds no names with values", "write lines such as `name: value`")
    return found


def words_of(values: Mapping[str, Any]) -> dict[str, Value]:
    """Values of a JSON object as if they stood in such a file."""

    def word(value: Any) -> Value:
        if isinstance(value, Mapping):
            return {str(k): word(v) for k, v in value.items()}
        if isinstance(value, list):
            return [word(v) for v in value]
        if isinstance(value, str):
            return Word(value)
        kind = "none" if value is None else "truth" if isinstance(value, bool) else "plain"
        return Word("none" if value is None else json.dumps(value), kind)

    return {str(k): word(v) for k, v in values.items()}


def _fault(error: Exception) -> str:
    """What a YAML parser says is wrong, and where."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or not problem:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _text(path: Path) -> str:
    if not path.is_file():
        raise NotFoundError(f"{path}: there is no such file")
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error
    if len(content) > LARGEST_BYTES:
        raise InputError(
            path, f"too large for a file of this kind: more than {LARGEST_BYTES} bytes"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path, f"not UTF-8 text (byte {error.start})") from error


def _check_events(path: Path, text: str, deepest: int) -> None:
    """Refuse depth, anchors and tags while parsing is still iterative: nothing has been built yet."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.events.CollectionStartEvent):
            depth += 1
            if depth > deepest:
                raise InputError(path, f"line {line}: more than {deepest} levels deep")
        elif isinstance(event, yaml.events.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.events.AliasEvent) or getattr(event, "anchor", None):
            raise InputError(path, f"line {line}: an anchor or alias", "write the value out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise InputError(path, f"line {line}: the tag {tag}", "plain values have no tag")


def _value(path: Path, node: yaml.Node) -> Value:
    if isinstance(node, yaml.SequenceNode):
        return [_value(path, item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Value] = {}
        for key, value in node.value:
            at = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                raise InputError(path, f"line {at}: a name must be plain text")
            if key.value in found:
                raise InputError(path, f"line {at}: '{key.value}' is given twice")
            found[key.value] = _value(path, value)
        return found
    kind = {"bool": "truth", "null": "none"}.get(node.tag.rpartition(":")[2], "plain")
    return Word("none" if kind == "none" else node.value, kind)
