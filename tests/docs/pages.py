"""Pages of the documentation as programs: their blocks of code, and a run of a page from its top to its end.

Used by the tests of this folder, and by `make pictures` to draw the pictures of the tutorials anew:

    PYTHONPATH=tests python -m docs.pages docs/tutorials/pictures
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import shlex
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"


@dataclasses.dataclass(frozen=True)
class Block:
    """page: path in the repository. line: of its fence, from 1. language: "" for an indented one."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Fenced blocks, and indented ones that hold commands of a shell, in their order."""
    name, found = page.relative_to(ROOT).as_posix(), []
    lines = page.read_text(encoding="utf-8").splitlines()
    k = 0
    while k < len(lines):
        first, fence = k, re.match(r"```(\w*)\s*$", lines[k])
        if fence:
            k = lines.index("```", k + 1)
            found.append(Block(name, first + 1, fence[1], "\n".join(lines[first + 1 : k]) + "\n"))
        elif lines[k].startswith("    ") and (k == 0 or not lines[k - 1].strip()):
            while k + 1 < len(lines) and lines[k + 1].startswith("    "):
                k += 1
            text = "\n".join(line[4:] for line in lines[first : k + 1]) + "\n"
            found.append(Block(name, first + 1, "", text))
        k += 1
    return found


def every_page() -> list[Path]:
    """Pages that tell people to run something: README, docs/, tables of benchmarks, how to work on the package."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")]
    return [
        *top,
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "benchmarks").glob("*.md")),
    ]


def commands(block: Block) -> list[list[str]]:
    """The words of each `restore` command of a block, without comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    of_ours = [shlex.split(line, comments=True) for line in lines if line.startswith("restore ")]
    return [_before_the_next(words) for words in of_ours]


def _before_the_next(words: list[str]) -> list[str]:
    """The first of several commands in a line of a shell."""
    for k, word in enumerate(words):
        if word in ("|", "&&", "&", ";", ">"):
            return words[:k]
        if word.endswith(";"):
            return [*words[:k], word[:-1]]
    return words


def run_page(page: Path) -> str:
    """Run the Python and the commands of a page in the present folder; returns what was printed.

    Raises AssertionError with the command and what it said where it fails.
    """
    from restore.cli import app

    script, said = types.ModuleType(f"page_{page.stem.replace('-', '_')}"), io.StringIO()
    sys.modules[script.__name__] = script  # dataclasses look their module up
    for block in blocks(page):
        if block.language == "python":
            said.write(run_python(block, vars(script)))
        elif block.language == "sh":
            for words in commands(block):
                done = CliRunner().invoke(app, words[1:])
                assert done.exit_code == 0, f"{block}: {' '.join(words)}\n{done.stderr}"
                said.write(done.stdout)
    return said.getvalue()


def run_python(block: Block, names: dict[str, Any]) -> str:
    """Run a block with the names that earlier ones left; returns what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(block.text, str(block), "exec"), names)  # noqa: S102
    return said.getvalue()


def main(folder: str) -> None:
    """Run every tutorial and put its pictures into a folder."""
    for page in sorted(TUTORIALS.glob("*.md")):
        with tempfile.TemporaryDirectory() as made:
            target = Path(folder).resolve()
            with contextlib.chdir(made):
                sys.stdout.write(run_page(page))
                for picture in sorted(Path.cwd().glob("*.jpg")):
                    (target / picture.name).write_bytes(picture.read_bytes())


if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "Agg"
    main(sys.argv[1])
