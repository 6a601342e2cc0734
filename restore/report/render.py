"""A study as a folder of static HTML: templates, content security policy, pictures, scripts; whole or not at all.

Called by the command line. Writes one folder, which may be moved and mailed: all links in it are relative.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import restore
from restore.bench.store import slug
from restore.datasets.atomic import atomic_folder, check_writable
from restore.errors import OutputError
from restore.report.pictures import Scales, SlicePictures, oriented, scales, write_pictures
from restore.report.plots import THEMES, draw
from restore.report.study import Chart, Images, Page, Study
from restore.report.viewer import LARGEST_PAGE, Encoded, encode, script_data

LARGEST_REPORT = 200_000_000
"""Bytes of volume data that all pages together may carry, so that the folder stays one that can be sent."""
NO_VIEWER = (
    "There is no viewer on this page: the volumes of the pages before it fill what the report may carry "
    "(--report-mb)."
)
MARKER = "REPORT.txt"
MARK = "A report of the program `restore`. It may be replaced by a newer one as a whole."
INTENDED_USE = "Research use only, not for diagnosis."
HERE = Path(__file__).parent

POLICY = (
    "default-src 'none'",  # nothing else: no connections, frames, workers, fonts, forms, inline code or styles
    # 'self' serves a copy behind a web server, file: the disk, where some browsers take every file for a stranger.
    "script-src 'self' file:",
    "style-src 'self' file:",
    "img-src 'self' file: data:",  # NiiVue carries the pictures of its letters and shading as data: addresses
    "base-uri 'none'",  # not covered by default-src
    "form-action 'none'",
)
CONTENT_SECURITY_POLICY = "; ".join(POLICY)
LIVE_POLICY = f"{CONTENT_SECURITY_POLICY}; connect-src 'self'"
"""Of a page that is served on this machine and sends a volume to compare back to whoever serves it."""


@dataclass(frozen=True)
class _Volume:
    """What a page's template is told. stem: the page's name in folders."""

    page: Page
    stem: str
    images: Images
    slices: tuple[SlicePictures, ...]
    scale: Scales | None
    encoded: Encoded | None


def check_target(folder: Path) -> None:
    """Refuse to replace a folder that is not an older report of ours (OutputError)."""
    if not folder.is_symlink():
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
        marker = folder / MARKER
        if marker.is_file() and marker.read_text("utf-8", "replace").startswith(MARK):
            return
    raise OutputError(
        f"{folder}: exists and is no report of this program; move it away or give another name"
    )


def write_report(
    study: Study,
    folder: Path,
    *,
    largest_page: int = LARGEST_PAGE,
    largest_report: int = LARGEST_REPORT,
    live: bool = False,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the report and return its index; an older one of ours is replaced as a whole.

    largest_page: bytes of volume data in one page, see `viewer`; largest_report: in all pages together, those that come
    after it is reached have pictures only, and say so. live: the page takes a second volume, see `serving/page`.
    tell: gets the number of finished pages and of all.
    Raises OutputError, and what reading the images raises.
    """
    check_target(folder)
    check_writable(folder.parent)
    with atomic_folder(folder) as partial:
        _write(study, partial, largest_page, largest_report, live, tell)
    return folder / "index.html"


def _write(
    study: Study,
    folder: Path,
    largest: int,
    budget: int,
    live: bool,
    tell: Callable[[int, int], None],
) -> None:
    environment = _environment()
    stems = [f"{i:03d}-{slug(page.name)}" for i, page in enumerate(study.pages, 1)]
    common = {
        "study": study, "policy": LIVE_POLICY if live else CONTENT_SECURITY_POLICY, "live": live,
        "intended_use": INTENDED_USE, "version": restore.__version__,
        "links": [f"pages/{stem}.html" for stem in stems],
        "section_charts": [_charts(s.charts, folder, f"s{i}") for i, s in enumerate(study.sections)],
    }  # fmt: skip
    planar = False
    volume: _Volume | None = None
    for i, (page, stem) in enumerate(zip(study.pages, stems, strict=True)):
        volume = _volume(page, stem, folder, largest if budget > 0 else 0)
        budget -= sum(file.stat().st_size for file in (folder / "volumes" / stem).glob("*.js"))
        planar = planar or (volume.encoded is not None and volume.encoded.planar)
        told = {"volume": volume, "charts": _charts(page.charts, folder, f"p{i}")}
        if not study.single:
            values = {**common, **told, "root": "../", "position": i}
            _page(environment, "volume.html", values, folder / "pages" / f"{stem}.html")
        else:
            common |= told
        tell(i + 1, len(stems))
    values = {"volume": None, "charts": [], **common, "root": ""}
    _page(environment, "index.html", values, folder / "index.html")
    leave = shutil.ignore_patterns(
        "__pycache__", *([] if planar else ["vendor"]), *([] if live else ["drop.js"])
    )
    shutil.copytree(HERE / "static", folder / "static", ignore=leave)
    note = f"{MARK}\n\nOpen index.html. Written by restore {restore.__version__}. {INTENDED_USE}\n"
    (folder / MARKER).write_text(note, "utf-8")


def _volume(page: Page, stem: str, folder: Path, largest: int) -> _Volume:
    """Pictures and scripts of one page; its images are in memory only here."""
    images = oriented(page.load())
    if not images.layers:
        return _Volume(page, stem, images, (), None, None)
    pictures, volumes = folder / "images" / stem, folder / "volumes" / stem
    pictures.mkdir(parents=True)
    volumes.mkdir(parents=True)
    scale = scales(images)
    slices = write_pictures(images, pictures, scale)
    if not largest:
        noted = dataclasses.replace(images, notes=(*images.notes, NO_VIEWER))
        return _Volume(page, stem, _without_pixels(noted), slices, scale, None)
    encoded = encode(images, volumes, scale, largest)
    (volumes / "page.js").write_text(script_data("restorePage", encoded.data), "ascii")
    return _Volume(page, stem, _without_pixels(images), slices, scale, encoded)


def _without_pixels(images: Images) -> Images:
    """What the template needs of the images, so that their memory can go."""
    return Images((), images.slices, images.affine, images.modality, images.units, images.notes)


def _charts(charts: Sequence[Chart], folder: Path, stem: str) -> list[dict[str, Any]]:
    """Draw the charts; what the template is told of each."""
    (folder / "plots").mkdir(exist_ok=True)
    told = []
    for i, chart in enumerate(charts):
        files = {theme: f"plots/{stem}-{i}-{theme}.svg" for theme in THEMES}
        for theme, drawing in draw(chart).items():
            (folder / files[theme]).write_text(drawing, "utf-8")
        told.append({"chart": chart, "files": files})
    return told


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _page(environment: Environment, template: str, values: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(environment.get_template(template).render(values), "utf-8", "xmlcharrefreplace")
