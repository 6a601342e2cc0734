"""Every line of docs/what-is-read.md names a test that exists.

A line that names no file means the files of its section's sentence "Tests without a file", else that of the line above.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "what-is-read.md"
FILE = re.compile(r"[\w/]*\btest_\w+\.py")
NAME = re.compile(r"`(?:[\w/]*test_\w+\.py::)?(test_\w+|[A-Z][A-Z_]+)`")
ELSEWHERE = re.compile(r"^Tests without a file: .*$", re.MULTILINE)
NOT_TO_BE_SEEN = "cannot be told from the data"
"""How a line begins what happens to something that no program can notice, and no test can show."""


def rows(page: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """What, the files and the names of the tests, of every line of every table."""
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        elsewhere = FILE.findall("".join(ELSEWHERE.findall(section)))
        above: list[str] = elsewhere
        for line in [line for line in section.splitlines() if line.startswith("|")][2:]:
            what, happens, named = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            if happens.startswith(NOT_TO_BE_SEEN):
                continue
            files, names = FILE.findall(named), NAME.findall(named)
            above = files or above
            yield what, files or (elsewhere or above if names else []), names


def faults(page: str) -> Iterator[str]:
    """Lines that name no test, or one that is not there."""
    known = {path.relative_to(TESTS.parent).as_posix(): path for path in TESTS.rglob("test_*.py")}
    for what, files, names in rows(page):
        if not files:
            yield f"{what}: names no test"
        text = ""
        for name in files:
            paths = [path for full, path in known.items() if f"/{full}".endswith(f"/{name}")]
            if len(paths) != 1:
                yield f"{what}: {name} is {len(paths)} files"
            text += "\n".join(path.read_text(encoding="utf-8") for path in paths)
        for name in names if text else ():
            if not re.search(rf"^(?:def {name}\(|{name}\b.*=)", text, re.MULTILINE):
                yield f"{what}: {name} is not in {', '.join(files)}"


def test_every_line_names_a_test_that_exists() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert list(faults(page)) == []
    assert len(list(rows(page))) > 80


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("| a | b | nothing |", "names no test"),
        ("| a | b | tests/test_none.py |", "is 0 files"),
        ("| a | b | test_what_is_read.py `test_not_there` |", "is not in"),
        ("| a | b | `test_not_there` |", "names no test"),
    ],
)
def test_other_lines_are_found_out(row: str, fault: str) -> None:
    (found,) = faults(f"## A\n\n| what | then | test |\n| --- | --- | --- |\n{row}\n")
    assert fault in found
