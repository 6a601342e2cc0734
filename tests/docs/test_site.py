"""The site of the documentation without its builder: navigation, made pages, links, citation. `make docs` builds it."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from docs.pages import ROOT, TUTORIALS

from restore.cli import listing
from restore.priors.store import bundled, read_card
from restore.registry import load_sampler, sampler_names

DOCS = ROOT / "docs"
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def generator(name: str) -> ModuleType:
    """A file of docs/generate, which is no package: the builder imports it by its place."""
    path = DOCS / "generate" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"docs_generate_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


assets, reference, repository = (generator(name) for name in ("assets", "reference", "repository"))
sys.modules["reference"] = reference  # by the name under which its neighbour imports it
cards = generator("cards")


def pages_in(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for e in entry.values() if isinstance(entry, dict) else entry:
            yield from pages_in(e)


def test_every_page_is_in_the_navigation_once() -> None:
    """A new page of docs/ gets a line in mkdocs.yml, a page that goes loses it."""
    listed = list(pages_in(SITE["nav"]))
    written = {p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md")}
    elsewhere = {p for p in repository.sources() if not p.startswith("benchmarks/")}
    filled = {"samplers", "operators", "bundled-priors", "benchmarks"}
    assert sorted(listed) == sorted(written | elsewhere | filled)


def test_nothing_is_fetched_and_warnings_are_errors() -> None:
    assert SITE["strict"] is True
    assert SITE["theme"]["font"] is False
    assert SITE["validation"]["nav"]["omitted_files"] == "warn"


@pytest.mark.parametrize(
    ("tag", "foreign"),
    [
        ('<script src="https://cdn.example/x.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.example/x.css">', True),
        ("a { background: url(https://host.example/a.png) }", True),
        ('<a href="https://example.org">a link that is clicked</a>', False),
        ('<link rel="canonical" href="https://example.org/">', False),
        ('<img src="pictures/ct.jpg">', False),
    ],
)
def test_what_a_browser_would_load_from_elsewhere_is_noticed(tag: str, foreign: bool) -> None:
    assert bool(assets.LOADED.search(tag)) is foreign


def test_every_sampler_and_operator_has_a_page() -> None:
    """With what is declared: settings, presets, evaluations, reference."""
    pages = reference.sampler_pages()
    assert set(pages) == {f"samplers/{n}.md" for n in (*sampler_names(), "index")}
    for name in sampler_names():
        page, cls = pages[f"samplers/{name}.md"], load_sampler(name)
        assert cls.reference in page.replace("\\", "")
        assert all(f"| `{preset}` |" in page for preset in cls.presets)
    dds = pages["samplers/dds.md"]
    assert "| `n_steps` | `30` | int 1..100000 |" in dds
    assert "ICLR 2024" in dds
    operators = reference.operator_pages()
    assert set(operators) == {f"operators/{r['name']}.md" for r in listing.operators()} | {
        "operators/index.md"
    }
    assert "from restore.operators import Blur" in operators["operators/Blur.md"]
    assert "### Inpainting.random" in operators["operators/Inpainting.md"]


NOT_DRAWN = {
    "natural-restore": "knows pictures only beside a degraded one",
    "natural-inpaint": "its few steps begin at a measurement",
    "natural-x4": "its few steps begin at a measurement",
    "natural-rad": "trained to answer where pixels are known",
    "brain-varnet": "its steps begin at a scan",
}


def test_every_bundled_prior_has_a_page_with_what_it_draws() -> None:
    """The command of the page is that of its picture."""
    pages = cards.prior_pages()
    assert set(pages) == {f"bundled-priors/{n}.md" for n in (*bundled(), "index")}
    for name in bundled():
        page = pages[f"bundled-priors/{name}.md"]
        assert read_card(name)["licence"] in page
        if name in NOT_DRAWN:
            assert NOT_DRAWN[name] in page
            continue
        assert f"restore sample --prior {name} --count 4 --size 96 -o {name}.jpg" in page
        record = json.loads((DOCS / "drawn" / f"{name}.json").read_text(encoding="utf-8"))
        assert (record["prior"], record["count"], record["size"]) == (name, 4, [96, 96])
        assert (DOCS / "drawn" / f"{name}.jpg").stat().st_size < 100_000


def test_links_lead_to_pages() -> None:
    """Of every page, also those that lie elsewhere in the repository; what is no page stays as text."""
    for path in DOCS.rglob("*.md"):
        page = path.relative_to(DOCS).as_posix()
        repository.linked(path.read_text(encoding="utf-8"), f"docs/{page}", page)
    for page, source in repository.sources().items():
        repository.linked((ROOT / source).read_text(encoding="utf-8"), source, page)
    turned = repository.linked(
        "[a](../benchmarks/README.md#x) [b](../Makefile)", "docs/x.md", "x.md"
    )
    assert turned == "[a](benchmarks/README.md#x) b (`Makefile`)"
    assert (
        repository.linked("[a](docs/coils.md)", "CHANGELOG.md", "release-notes.md")
        == "[a](coils.md)"
    )
    with pytest.raises(LookupError, match=r"docs/x\.md links to none\.md"):
        repository.linked("[a](none.md)", "docs/x.md", "x.md")


def test_pictures_are_there_and_small() -> None:
    shown = set()
    for path in DOCS.rglob("*.md"):
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
            page = path.relative_to(DOCS).parent / target
            file = ROOT / page if page.parts[0] == "benchmarks" else DOCS / page
            assert file.is_file(), f"{path}: {target}"
            shown.add(file)
    drawn = set((TUTORIALS / "pictures").iterdir())
    assert drawn <= shown
    assert sum(p.stat().st_size for p in drawn) < 600_000


def test_the_citation_names_this_version() -> None:
    """`make package` holds the file to the schema."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] in project["license"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_release_notes_are_the_changelog() -> None:
    """Versions stand in it newest first, each with its date but for what is not released."""
    assert repository.sources()["release-notes.md"] == "CHANGELOG.md"
    heads = re.findall(
        r"^## \[(.+?)\](.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert heads[0][0] == "Unreleased"
    assert all(re.fullmatch(r" - \d{4}-\d\d-\d\d", date) for _, date in heads[1:])


def test_made_pages_are_no_part_of_the_source() -> None:
    made = ("samplers", "operators", "bundled-priors", "benchmarks")
    assert not [p for p in made if (DOCS / p).exists()]
    assert Path(SITE["site_dir"]).parts[0] == "build"
