"""Pages of the site that lie elsewhere in the repository: tables of benchmarks, the changelog, how the house is built.

Called by the hooks of the site and by its tests. Links between them are turned into links between pages; what a page
names outside the site, such as a test or a script, stays as text. Knows nothing of the builder of the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SINGLE = {
    "CHANGELOG.md": "release-notes.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "restore/priors/weights/LICENCE.md": "licence-of-weights.md",
}
"""Files of the repository and the pages that they become."""

_MADE = ("docs/samplers/", "docs/operators/", "docs/bundled-priors/")
"""Folders of pages that are made from the code; the builder of the site checks links to them."""

_LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)\s]+)\)")


def sources() -> dict[str, str]:
    """Path of a page below docs/ to the path of its file in the repository, of pages that lie elsewhere."""
    tables = sorted((ROOT / "benchmarks").glob("*.md"))
    pages = {f"benchmarks/{p.name}": f"benchmarks/{p.name}" for p in tables}
    return pages | {page: file for file, page in SINGLE.items()}


def pictures() -> dict[str, str]:
    """The same for the pictures that the tables show."""
    found = sorted((ROOT / "benchmarks").glob("*.png"))
    return {f"benchmarks/{p.name}": f"benchmarks/{p.name}" for p in found}


def page_of(file: str) -> str | None:
    """The page below docs/ that shows a file of the repository, or None."""
    if file.startswith("docs/"):
        return file.removeprefix("docs/")
    return {source: page for page, source in (sources() | pictures()).items()}.get(file)


def linked(text: str, file: str, page: str) -> str:
    """Markdown of a file of the repository with its relative links as those of a page of the site.

    file: its path in the repository. page: its path below docs/. Raises LookupError for a link to nothing.
    """

    def link(found: re.Match[str]) -> str:
        words, target = found.groups()
        path, hash_, part = target.partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return found[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(file), path))
        inside = there.removeprefix("docs/")
        if inside != there and (there.startswith(_MADE) or inside in sources() | pictures()):
            return found[0]  # a page of the site, said as such
        if not (ROOT / there).exists():
            raise LookupError(f"{file} links to {target}, which is not there")
        to = page_of(there)
        if to is None:
            return f"{words} (`{there}`)"
        return f"[{words}]({posixpath.relpath(to, posixpath.dirname(page) or '.')}{hash_}{part})"

    return _LINK.sub(link, text)
