"""The folder of a report: what is in it, that it stands alone, that no name can do harm, that it is swapped whole."""

from __future__ import annotations

import base64
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nibabel
import numpy as np
import pytest
from PIL import Image

from restore.bench import results, store
from restore.bench.statistics import mean_interval
from restore.errors import NotFoundError, OutputError
from restore.report.from_run import study_of_run
from restore.report.pictures import oriented, scales
from restore.report.plots import THEMES
from restore.report.render import CONTENT_SECURITY_POLICY, MARKER, check_target, write_report
from restore.report.study import Images, Layer, record_tables
from restore.report.viewer import encode, script_json

LINKING = {"href", "src", "srcset"}
HOSTILE = (
    "<script>alert(1)</script>.h5", "\"' onload='alert(1)'\n</script><!-- $x_{$", "../../x", "n" * 260,
)  # fmt: skip
IN_CODE = "</script><img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Tags with attributes, and the text, of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_data(self, data):
        self.words += data


def pages(folder: Path) -> dict[Path, Elements]:
    return {p: Elements(p.read_text("utf-8")) for p in sorted(folder.rglob("*.html"))}


def own_text(folder: Path) -> dict[Path, str]:
    """Every text file that is not a third party's."""
    kinds = (".html", ".css", ".js", ".svg", ".txt")
    files = (p for p in folder.rglob("*") if p.suffix in kinds and "vendor" not in p.parts)
    return {p: p.read_text("utf-8") for p in files}


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the charts empty: drawing them is most of the time."""
    monkeypatch.setattr("restore.report.render.draw", lambda chart: dict.fromkeys(THEMES, "<svg/>"))


def test_index_and_a_page_for_each_setting_and_volume(report):
    assert (report / "index.html").is_file()
    assert [p.name for p in sorted((report / "pages").iterdir())] == [
        "001-4x-a.h5.html", "002-4x-b.h5.html", "003-8x-a.h5.html", "004-8x-b.h5.html",
    ]  # fmt: skip
    assert (report / "static/vendor/niivue/LICENSE.txt").is_file()


def test_every_link_is_relative_and_leads_to_a_file_of_the_report(report):
    seen = 0
    for path, page in pages(report).items():
        for _, attributes in page.tags:
            for link in (attributes[k] for k in LINKING & set(attributes)):
                if link.startswith(("#", "data:,")):
                    continue
                parts = urlsplit(link)
                assert not parts.scheme
                assert not parts.netloc
                target = (path.parent / unquote(parts.path)).resolve()
                assert target.is_file(), link
                assert target.is_relative_to(report.resolve())
                seen += 1
    assert seen > 100


def test_nothing_points_to_a_network(report):
    names = ("http://www.w3.org/", "http://purl.org/")  # of SVG's vocabularies, never fetched
    for path, text in own_text(report).items():
        addresses = re.findall(r"https?://\S*|[\"'(]//\S*", text)
        assert not [a for a in addresses if path.suffix != ".svg" or not a.startswith(names)], path


def test_policy_allows_nothing_inline(report):
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    for page in pages(report).values():
        (policy,) = (a for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
        assert policy["content"] == CONTENT_SECURITY_POLICY
        assert all(a.get("src") for t, a in page.tags if t == "script")
        assert not [a for t, a in page.tags if t == "style" or "style" in a]
        assert not [k for _, a in page.tags for k in a if k.startswith("on")]


def test_figures_stand_beside_what_they_depend_on(report, run):
    words = pages(report)[report / "index.html"].words
    rows = [r for r in results.load(run) if (r.setting, r.method) == ("4x", "dds")]
    mean, low, high = mean_interval([float(r.psnr) for r in rows])
    assert f"{mean:.2f}[{low:.2f}, {high:.2f}]" in words
    for said in (
        "target: RSS",
        "mask seed: 123",
        "noise std: 0.01 (from the file)",
        "SSIM: 7 x 7",
        "data range: ",
    ):
        assert words.count(said) >= 4, said
    assert "out of memory" in words
    assert "medical abc123" in words
    assert words.count("Research use only, not for diagnosis.") >= 2


def test_a_row_without_image_counts_in_the_table(run_maker, tmp_path, undrawn):
    run = run_maker(tmp_path / "RUN", volumes=("a.h5",))
    (run / "reconstructions").rename(tmp_path / "away")
    study = study_of_run(run)
    assert study.pages == ()
    assert len(study.sections[0].tables[1].rows) == 3
    index = write_report(study, run / "report")
    assert not (index.parent / "static/vendor").exists()


def test_means_over_slices_are_weighted(run_maker, tmp_path):
    run = run_maker(tmp_path / "RUN")
    rows = [r for r in results.load(run) if r.setting == "4x" and r.method == "tv"]
    record = json.loads((run / "run.json").read_text()) | {"average_over": "slices"}
    (run / "run.json").write_text(json.dumps(record))
    text = (run / "results.csv").read_text().replace(",4,random", ",9,random", 1)
    assert "Mean over" in study_of_run(run).sections[0].tables[0].caption
    (run / "results.csv").write_text(text)
    (cell,) = [
        r[2] for r in study_of_run(run).sections[0].tables[0].rows if r[0].text == "zerofilled"
    ]
    first = [r for r in results.load(run) if r.setting == "4x" and r.method == "zerofilled"]
    assert {r.slices for r in first} == {4, 9}
    expected = np.average([r.psnr for r in first], weights=[r.slices for r in first])
    assert cell.order == pytest.approx(expected, abs=1e-12)
    assert len(rows) == 2


def test_difference_is_of_one_scale_and_the_frame_fits(report, run):
    folder = report / "images/001-4x-a.h5"
    names = sorted(p.name for p in folder.glob("s001*"))
    assert (
        len(names) == 4 * 4 + 2 + 2
    )  # input and methods: image, difference, their insets; dds: std and interval; reference
    place = store.load(store.image_path(run, "4x", "tv", "a.h5")).image
    truth = store.load(store.image_path(run, "", "reference", "a.h5")).image
    gap = np.abs(place - truth)
    with (
        Image.open(folder / "s001-02-difference.png") as tv,
        Image.open(folder / "s001-03-difference.png") as dds,
    ):
        assert tv.mode == dds.mode == "P"
        shown, size = np.asarray(tv, float), tv.size
        assert shown.mean() > 1.5 * np.asarray(dds, float).mean()
    assert size == (36, 44)  # pixels of 2.2 x 2 mm
    median = np.median([
        np.quantile(np.abs(store.load(store.image_path(run, "4x", m, "a.h5")).image - truth), 0.998)
        for m in ("zerofilled", "tv", "dds")
    ])  # fmt: skip
    expected = np.clip(gap[1] / median, 0, 1).mean() * 255
    assert shown.mean() == pytest.approx(expected, rel=0.02)
    page = pages(report)[report / "pages/001-4x-a.h5.html"]
    for rect in (a for t, a in page.tags if t == "rect"):
        assert int(rect["x"]) + int(rect["width"]) <= 36
        assert int(rect["y"]) + int(rect["height"]) <= 44


def test_spread_is_shown_against_the_truth(report, run):
    """Coverage curve and deciles with the truth known; the map of the interval is Student's factor of the deviation."""
    page = (report / "pages/001-4x-a.h5.html").read_text()
    assert "Coverage of the intervals" in page
    assert "Error against predicted deviation" in page
    assert "interval, half-width (90%, nominal)" in page
    folder = report / "images/001-4x-a.h5"
    with (
        Image.open(folder / "s001-03-std.png") as std,
        Image.open(folder / "s001-03-interval.png") as interval,
    ):
        a, b = np.asarray(std, float), np.asarray(interval, float)
    unclipped = (b > 0) & (b < 255)
    # t of three degrees at 0.95 times (5/4)^1/2; half a grey level of either picture, resampled between pixels.
    np.testing.assert_allclose(b[unclipped], 2.6312 * a[unclipped], atol=5)


def test_viewer_data_are_the_stored_values_in_their_place(report, run):
    """The script holds a NIfTI file whose values and positions are those of the image."""
    text = (report / "volumes/001-4x-a.h5/v00.js").read_text("ascii")
    image = nibabel.Nifti1Image.from_bytes(base64.b64decode(re.search(r'"(.+)"', text).group(1)))
    stored = store.load(store.image_path(run, "", "reference", "a.h5"))
    span = np.ptp(stored.image)
    np.testing.assert_allclose(
        image.get_fdata().transpose(2, 1, 0), stored.image, atol=span / 65535
    )
    np.testing.assert_allclose(image.affine, stored.place.affine)


def test_rows_run_to_the_back_and_columns_to_the_left(run_maker, tmp_path):
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    stack = np.arange(24.0).reshape(2, 3, 4)
    turned = oriented(Images((Layer("a", "method", stack),), (0, 1), affine))
    np.testing.assert_array_equal(turned.layers[0].image, stack[:, ::-1, ::-1])
    np.testing.assert_array_equal(turned.affine @ [3, 2, 1, 1], affine @ [0, 0, 1, 1])
    np.testing.assert_array_equal(turned.affine @ [0, 0, 0, 1], affine @ [3, 2, 0, 1])


@pytest.fixture(scope="module")
def hostile(run_maker, tmp_path_factory) -> Path:
    """A report whose names are all hostile."""
    methods = {IN_CODE: (0.1, 0), "a\u2028b & c": (0.05, 20)}
    run = run_maker(
        tmp_path_factory.mktemp("hostile") / "RUN", volumes=HOSTILE, methods=methods, failed=f"{IN_CODE} failed",
    )  # fmt: skip
    record = json.loads((run / "run.json").read_text())
    record["calls"][0] |= {IN_CODE: {IN_CODE: "<b>"}, "root": "/data/Doe^Jane/knee"}
    (run / "run.json").write_text(json.dumps(record))
    return write_report(study_of_run(run), run / "report").parent


def test_hostile_names_stay_text(hostile):
    found = pages(hostile)
    assert len(found) == 1 + 2 * len(HOSTILE)
    plain = "html head meta title link script body a header h1 h2 h3 p nav main section div table thead tbody tr th td "
    plain += "button small figure figcaption img picture source svg image rect b span ul li footer strong noscript"
    for page in found.values():
        assert {t for t, _ in page.tags} <= set(plain.split())
        assert not [k for _, a in page.tags for k in a if k.startswith("on")]
    words = found[hostile / "index.html"].words
    assert IN_CODE in words
    assert HOSTILE[0] in words
    assert HOSTILE[1].replace("\n", " ") in words.replace("\n", " ")


def test_hostile_names_are_no_code(hostile):
    for path in hostile.rglob("page.js"):
        text = path.read_text("ascii")
        assert not set("<>&\u2028") & set(text)
        assert IN_CODE in [
            layer["name"] for layer in json.loads(text.split("=", 1)[1].rstrip(";\n"))["layers"]
        ]


def test_hostile_names_are_harmless_on_disk(hostile):
    for path in hostile.rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,220}", path.name), path.name
    assert sorted(p.name for p in hostile.parent.iterdir()) == [
        "reconstructions",
        "report",
        "results.csv",
        "run.json",
    ]


def test_svg_is_well_formed_with_hostile_names(hostile):
    from xml.etree import ElementTree

    for path in hostile.rglob("*.svg"):
        tags = {e.tag.rpartition("}")[2] for e in ElementTree.parse(path).iter()}  # noqa: S314 (written above)
        assert not tags & {"script", "img", "foreignObject", "a"}


def test_folders_of_the_machine_are_left_out(hostile):
    for text in own_text(hostile).values():
        assert "Doe^Jane" not in html.unescape(text)
        assert "/data" not in text
    assert ">knee<" in (hostile / "index.html").read_text("utf-8")


def test_equal_studies_give_equal_reports(run, report, tmp_path):
    again = write_report(study_of_run(run), tmp_path / "again").parent
    files = sorted(p.relative_to(report) for p in report.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert not [f for f in files if (report / f).read_bytes() != (again / f).read_bytes()]


def test_a_report_of_ours_is_replaced_as_a_whole(run_maker, tmp_path, undrawn):
    run = run_maker(tmp_path / "RUN", volumes=("a.h5",), methods={"tv": (0.1, 0)})
    folder = run / "report"
    write_report(study_of_run(run), folder)
    (folder / "old.html").write_text("old")
    write_report(study_of_run(run), folder)
    assert not (folder / "old.html").exists()
    assert not list(run.glob(".restore-*"))


def test_a_foreign_folder_is_refused(run, tmp_path):
    foreign = tmp_path / "report"
    foreign.mkdir()
    check_target(foreign)  # empty
    (foreign / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="no report"):
        write_report(study_of_run(run), foreign)
    (foreign / MARKER).write_text("something else")
    with pytest.raises(OutputError, match="no report"):
        check_target(foreign)
    assert (foreign / "thesis.tex").read_text() == "mine"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="no report"):
        check_target(link)


def test_a_failure_leaves_the_old_report(run_maker, tmp_path, monkeypatch, undrawn):
    run = run_maker(tmp_path / "RUN", volumes=("a.h5",), methods={"tv": (0.1, 0)})
    index = write_report(study_of_run(run), run / "report")
    before = index.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("restore.report.render.draw", full)
    with pytest.raises(OutputError, match="No space"):
        write_report(study_of_run(run), run / "report")
    assert index.read_bytes() == before
    assert not list(run.glob(".restore-*"))


def test_an_image_that_cannot_be_read_is_noted(run_maker, tmp_path):
    run = run_maker(tmp_path / "RUN", volumes=("a.h5",))
    store.image_path(run, "4x", "tv", "a.h5").write_bytes(b"no HDF5")
    place = store.Place("MR")
    store.save(store.image_path(run, "4x", "dds", "a.h5"), np.zeros((2, 3, 3)), place)
    images = study_of_run(run).pages[0].load()
    assert [x.name for x in images.layers] == ["input", "zerofilled", "reference"]
    assert [n.split(" is not shown")[0] for n in images.notes] == ["tv", "dds"]


def test_photographs_have_colours_and_no_planes(tmp_path, undrawn):
    run, rng = tmp_path / "RUN", np.random.default_rng(0)
    truth, place = rng.random((3, 30, 40)), store.Place("photograph")
    for folder, method in (("", store.REFERENCE), ("deblur", store.INPUT), ("deblur", "dds")):
        save = rng.random((3, 30, 40)) if method == "dds" else None
        store.save(store.image_path(run, folder, method, "cat.png"), truth * 0.9, place, save)
    row = results.Row("k", "images", "cat.png", "deblur", "dds", "done", psnr=20.0, data_range=1.0)
    results.append(results.results_path(run), row)
    index = write_report(study_of_run(run), run / "report")
    text = (index.parent / "volumes/001-deblur-cat.png/page.js").read_text("ascii")
    data = json.loads(text.split("=", 1)[1].rstrip(";\n"))
    assert data["panes"] == []
    assert [x["colour"] for x in data["layers"]] == [True, True, True, False]
    with Image.open(index.parent / "images/001-deblur-cat.png/s000-01-image.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (40, 30))
    assert "run.json is missing" in index.read_text("utf-8")


def test_large_volumes_are_reduced_and_then_thinned(run, tmp_path):
    images = study_of_run(run).pages[0].load()
    eight_bit = 7 * 4 * 40 * 36 * 4 / 3  # input, 3 methods, 1 deviation and interval, reference
    found = []
    for part in (8, 1, 1 / 4, 1 / 5):
        encoded = encode(images, tmp_path, scales(images), round(eight_bit * part))
        script = (tmp_path / encoded.scripts[0]).read_text("ascii")
        file = nibabel.Nifti1Image.from_bytes(
            base64.b64decode(re.search(r'"(.+)"', script).group(1))
        )
        corner = file.affine @ [
            -0.5,
            -0.5,
            0,
            1,
        ]  # of the first voxel: the same for any voxel's size
        found.append(
            (file.shape, file.get_data_dtype().name, encoded.planar, len(encoded.data["slices"]))
        )
        np.testing.assert_allclose(corner, images.affine @ [-0.5, -0.5, 0, 1], rtol=1e-6)
    assert found == [
        ((36, 40, 4), "int16", True, 4), ((36, 40, 4), "uint8", True, 4), ((18, 20, 4), "uint8", True, 4),
        ((36, 40, 1), "uint8", False, 1),
    ]  # fmt: skip
    assert "1 of 4 slices" in encoded.note


def test_a_report_carries_volumes_up_to_its_limit(run, tmp_path):
    write_report(study_of_run(run), tmp_path / "report", largest_report=1)
    pages = sorted((tmp_path / "report" / "pages").glob("*.html"))
    shown = ["page.js" in page.read_text() for page in pages]
    assert shown == [True, False, False, False]
    assert "There is no viewer on this page" in pages[1].read_text()
    assert list((tmp_path / "report" / "images" / pages[1].stem).glob("*.png"))


def test_records_become_tables():
    tables = record_tables({"a": 1, "b": {"c": [1, 2], "d": {"e": None}}, "f": [{"g": "C:\\x\\y"}]})
    assert [(t.title, [tuple(c.text for c in row) for row in t.rows]) for t in tables] == [
        ("General", [("a", "1")]), ("b", [("c", "1, 2"), ("d / e", "–")]), ("f", [("1 / g", "y")]),
    ]  # fmt: skip


def test_json_cannot_leave_its_script():
    value = {"x": "</script>\u2028\u2029&<!--", "y": [1.5, None]}
    text = script_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(NotFoundError, match=r"no results\.csv"):
        study_of_run(tmp_path)
