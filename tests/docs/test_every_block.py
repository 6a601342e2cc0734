"""Every block of the documentation is run by a test, or stands on the list of exceptions with its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs.exceptions import NOT_RUN, SCRIPTS, not_run
from docs.pages import ROOT, Block, blocks, every_page
from docs.test_commands import FENCED_TOO, RUN_HERE

TESTED = {
    "README.md": ("tests/test_readme.py",),
    "docs/benchmarking.md": ("tests/test_docs.py",),
    "docs/coils.md": ("tests/test_docs.py",),
    "docs/fetching.md": ("tests/test_docs.py",),
    "docs/mrd-server.md": ("tests/serving/mrd_server/test_mrd_places.py",),
    "docs/noncartesian.md": ("tests/cli/test_recon_field.py",),
    "docs/places.md": ("tests/test_docs_places.py",),
    "docs/priors.md": ("tests/test_docs.py", "tests/priors/families/test_page_on_priors.py"),
    "docs/run-files.md": ("tests/test_docs.py",),
    "docs/scan-files.md": (
        "tests/datasets/test_open.py", "tests/datasets/simulate/test_ct_beams.py", "tests/cli/test_recon_volume.py",
        "tests/datasets/ct/files/test_projection_stack.py",
    ),
    "docs/training.md": ("tests/test_docs.py",),
}  # fmt: skip
"""Pages whose fenced blocks are run by tests of their own."""

SCRIPT_PAGES = [p for p in every_page() if p.relative_to(ROOT).as_posix().startswith(SCRIPTS)]
BLOCKS = [block for page in every_page() for block in blocks(page)]


def covered(block: Block) -> bool:
    fenced = bool(block.language)
    return (
        block.page.startswith("docs/tutorials/")
        or (fenced and block.page in TESTED)
        or (block.page in RUN_HERE and (not fenced or block.page in FENCED_TOO))
    )


def test_every_block_is_run_or_excused() -> None:
    missing = [
        f"{b}: {b.text.splitlines()[0]}" for b in BLOCKS if not covered(b) and not not_run(b)
    ]
    assert missing == [], (
        "write a test, or a line in tests/docs/exceptions.py that says why there is none"
    )


def test_the_tests_that_are_named_read_their_page() -> None:
    for page, tests in TESTED.items():
        for test in tests:
            assert page.rpartition("/")[2] in (ROOT / test).read_text(encoding="utf-8"), (
                page,
                test,
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
