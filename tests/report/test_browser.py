"""A report in headless Chromium, opened from disk: no error, no network, viewers that show and move.

Skipped where Chromium or its driver is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from web_browser import Browser, chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as session:
        yield session


@pytest.fixture(scope="module")
def page(browser: Browser, report: Path) -> Browser:
    """A volume's page, its viewers ready; the tests below use it one after the other."""
    browser.open(report / "pages/001-4x-a.h5.html")
    browser.wait(lambda: browser.run("return document.querySelector('#planar')?.dataset.ready"))
    return browser


def test_index_opens_without_complaint_and_without_network(browser, report):
    browser.open(report / "index.html")
    assert browser.run("return document.images.length") >= 8
    broken = (
        "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    )
    browser.wait(lambda: browser.run("return [...document.images].every(i => i.complete)"))
    assert browser.run(broken) == []
    assert browser.complaints() == []
    sent = browser.requests()
    assert len(sent) > 8
    assert not [url for url in sent if not url.startswith(("file:", "data:"))]


def test_a_table_sorts_by_click_and_by_key(browser, report):
    browser.open(report / "index.html")
    read = (
        "const t = document.querySelectorAll('table.sortable')[1];"
        "return [...t.tBodies[0].rows].map(r => r.cells[2].textContent)"
    )
    before = browser.run(read)
    browser.run("document.querySelectorAll('table.sortable')[1].tHead.rows[0].cells[2].id = 'psnr'")
    browser.click("#psnr button")
    rising = browser.run(read)
    assert rising == sorted(before, key=float) != before
    browser.press("#psnr button", "\ue007")
    assert browser.run(read) == rising[::-1]
    assert browser.run("return document.querySelector('#psnr').ariaSort") == "descending"


def test_rows_without_a_figure_stay_last(browser, report):
    browser.open(report / "index.html")
    read = (
        "const h = [...document.querySelectorAll('table.sortable th')].find(h => h.innerText.startsWith('coverage'));"
        "h.querySelector('button').click();"
        "return [...h.closest('table').tBodies[0].rows].map(r => r.cells[h.cellIndex].textContent[0])"
    )
    assert browser.run(read) == ["0", "–", "–"]
    assert browser.run(read) == ["0", "–", "–"]


def test_a_page_opens_without_complaint_and_without_network(page):
    assert page.complaints() == []
    sent = page.requests()
    assert [url for url in sent if url.endswith("niivue.umd.js")]
    assert not [url for url in sent if not url.startswith(("file:", "data:", "blob:"))]


def test_the_viewer_shows_every_volume(page):
    assert page.run("return document.querySelector('#planar').dataset.loaded") == "6"
    names = "return [...document.querySelectorAll('#planar b')].map(e => e.textContent)"
    assert page.run(names) == [
        "reference",
        "zerofilled",
        "tv",
        "dds",
        "dds std",
        "dds interval",
    ]
    # A drawing buffer is empty after it is shown: draw into another canvas within the frame that draws it.
    lit = """
      const done = [];
      for (const canvas of document.querySelectorAll('#planar canvas')) {
        const copy = document.createElement('canvas');
        [copy.width, copy.height] = [canvas.width, canvas.height];
        const gl = canvas.getContext('webgl2');
        const pixels = new Uint8Array(4 * canvas.width * canvas.height);
        gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
        let bright = 0;
        for (let i = 0; i < pixels.length; i += 4) if (pixels[i] + pixels[i + 1] + pixels[i + 2] > 60) bright++;
        done.push(bright / (canvas.width * canvas.height));
      }
      return done;
    """
    shares = page.run(lit)
    assert len(shares) == 6
    assert min(shares) > 0.02, shares


def test_cross_hairs_move_together(page):
    read = "return [...document.querySelectorAll('#planar figure')].map(f => f.dataset.voxel)"
    before = page.run(read)
    assert len(set(before)) == 1
    page.click_at("#planar figure:nth-child(2) canvas", -60, -40)
    after = page.wait(lambda: (now := page.run(read)) != before and now)
    assert len(set(after)) == 1, after
    page.run(
        "const s = document.querySelectorAll('.viewers > .controls input')[2]; s.value = 1;"
        "s.dispatchEvent(new Event('input'))"
    )
    assert {v.rsplit(",", 1)[1] for v in page.run(read)} == {"3"}


PICTURE = "return document.querySelector('#stack canvas').toDataURL()"


def test_the_slider_moves_and_the_picture_changes(page):
    before = page.run(PICTURE)
    assert page.run("return document.querySelector('#stack').dataset.loaded") == "7"
    page.press("#stack-slice", "\ue014")
    assert page.run("return document.querySelector('#stack output').value") == "13"
    assert page.run(PICTURE) != before
    page.press("#stack-slice", "\ue012")
    assert page.run(PICTURE) == before


def test_layers_and_differences_are_shown(page):
    seen = {page.run(PICTURE)}
    for layer in range(6):
        page.run(
            "document.querySelectorAll('#stack input[type=radio]')[arguments[0]].click()", layer
        )
        seen.add(page.run(PICTURE))
    page.run("document.querySelectorAll('#stack input[type=radio]')[3].click()")
    page.run("document.querySelector('#stack-difference').click()")
    seen.add(page.run(PICTURE))
    assert len(seen) == 6  # input and zerofilled are the same picture, and the first was seen


def test_the_read_out_tells_the_values_at_the_cross_hair(page, run):
    from restore.bench import store

    page.run("document.querySelector('#stack canvas').focus()")
    page.press("#stack canvas", "\ue012\ue013")
    place = page.run("return document.querySelector('.readout caption').textContent")
    assert place == "slice 12, row 19, column 17"
    rows = "return [...document.querySelectorAll('.readout tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    for name, value, gap in page.run(rows):
        if name.endswith(("std", "interval")):
            continue
        file = {"reference": ("", "reference")}.get(name, ("4x", name))
        image = store.load(store.image_path(run, *file, "a.h5")).image
        truth = store.load(store.image_path(run, "", "reference", "a.h5")).image
        span = float(image.max() - image.min()) / 65535
        assert float(value) == pytest.approx(float(image[2, 19, 17]), abs=span, rel=1e-3)
        if gap:
            expected = float(abs(image[2, 19, 17] - truth[2, 19, 17]))
            assert float(gap) == pytest.approx(expected, abs=2 * span, rel=1e-3)


@pytest.mark.parametrize("width", [390, 1000, 1600])
def test_nothing_scrolls_sideways(page, width):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
    page.call("POST", "/goog/cdp/execute", command)
    assert page.run("return [innerWidth, document.documentElement.scrollWidth <= innerWidth]") == [
        width,
        True,
    ]


def test_without_webgl_the_slider_remains(browser, report):
    blind = "const get = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext ="
    blind += " function (kind, ...rest) { return kind === 'webgl2' ? null : get.call(this, kind, ...rest); }"
    command = {"cmd": "Page.addScriptToEvaluateOnNewDocument", "params": {"source": blind}}
    added = browser.call("POST", "/goog/cdp/execute", command)
    browser.open(report / "pages/001-4x-a.h5.html")
    assert "needs WebGL 2" in browser.run(
        "return document.querySelector('#planar-message').innerText"
    )
    assert browser.run("return document.querySelector('#stack').dataset.loaded") == "7"
    assert browser.complaints() == []
    command = {"cmd": "Page.removeScriptToEvaluateOnNewDocument", "params": added}
    browser.call("POST", "/goog/cdp/execute", command)
