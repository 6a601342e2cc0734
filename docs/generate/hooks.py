"""What the builder of the site (MkDocs, mkdocs.yml) calls: adds the made pages, turns links, refuses foreign hosts.

A page that is missing from the navigation, a link to nothing and an asset of another host end the build.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cards
import reference
import repository
from assets import LOADED
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_MADE: dict[str, str] = {}
"""Pages that are made from the code, by their path below docs/; filled once a build."""

_FILLED = {word: f"{word}/" for word in ("samplers", "operators", "bundled-priors", "benchmarks")}
"""Words of the navigation in mkdocs.yml in whose place all pages of a folder come."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the pages and put them into the navigation."""
    _MADE.clear()
    _MADE.update(reference.sampler_pages() | reference.operator_pages() | cards.prior_pages())
    config.nav = _with_folders(config.nav)
    return config


def _with_folders(entry: Any) -> Any:
    """The navigation with lists of pages in the place of the words for them."""
    if isinstance(entry, list):
        return [_with_folders(e) for e in entry]
    if isinstance(entry, dict):
        return {title: _with_folders(e) for title, e in entry.items()}
    if entry in _FILLED:
        pages = (p for p in {**_MADE, **repository.sources()} if p.startswith(_FILLED[entry]))
        return sorted(pages, key=lambda p: (not p.endswith(("index.md", "README.md")), p.lower()))
    return entry


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made, and what lies elsewhere in the repository."""
    for page, text in _MADE.items():
        files.append(File.generated(config, page, content=text))
    for page, source in repository.sources().items():
        text = (repository.ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for page, source in repository.pictures().items():
        files.append(File.generated(config, page, content=(repository.ROOT / source).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages."""
    path = page.file.src_uri
    if path in _MADE:
        return markdown
    try:
        return repository.linked(markdown, repository.sources().get(path, f"docs/{path}"), path)
    except LookupError as error:
        raise PluginError(str(error)) from error


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that loads anything from another host."""
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix not in (".html", ".css"):
            continue
        found = LOADED.search(path.read_text(encoding="utf-8"))
        if found:
            raise PluginError(
                f"{path.relative_to(config.site_dir)} loads from another host: {found[0]}"
            )
