"""Every block of the documentation is run by a test, or stands on the list of exceptions with its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs.exceptions import NOT_RUN, SCRIPTS, not_run
from docs.pages import ROOT, Block, blocks, every_page
from docs.test_commands import FENCED_TOO, RUN_HERE

TESTS = {
    path: path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    if "docs" not in path.parent.parts[-1:]
}

SCRIPT_PAGES = [p for p in every_page() if p.relative_to(ROOT).as_posix().startswith(SCRIPTS)]
BLOCKS = [block for page in every_page() for block in blocks(page)]


def covered(block: Block) -> bool:
    """Run with its whole page here, or fenced and of a page that a test elsewhere reads by its name."""
    if block.page.startswith("docs/tutorials/"):
        return True
    if not block.language or block.page in FENCED_TOO:
        return block.page in RUN_HERE
    name = re.escape(block.page.rpartition("/")[2])
    return any(re.search(rf'(?<![\w-]){name}"', text) for text in TESTS.values())


def test_every_block_is_run_or_excused() -> None:
    missing = [
        f"{b}: {b.text.splitlines()[0]}" for b in BLOCKS if not covered(b) and not not_run(b)
    ]
    assert missing == [], (
        "write a test, or a line in tests/docs/exceptions.py that says why there is none"
    )


def test_no_exception_is_out_of_date() -> None:
    for page, begins in NOT_RUN:
        assert [b for b in BLOCKS if b.page == page and b.text.startswith(begins)], (page, begins)


@pytest.mark.parametrize(
    "page",
    SCRIPT_PAGES,
    ids=lambda p: p.stem,
)
def test_scripts_and_targets_exist(page: Path) -> None:
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    for block in blocks(page):
        for script in re.findall(r"\bbenchmarks/[\w/]+\.py", block.text):
            assert (ROOT / script).is_file(), (str(block), script)
        for target in re.findall(r"^make ([a-z-]+)", block.text, re.MULTILINE):
            assert target in targets, (str(block), target)
