"""The page of `restore view` in headless Chromium: both volumes are shown, and no request leaves the machine."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from web_browser import Browser, chromium

READY = "return document.querySelector('#planar')?.dataset.ready && document.querySelector('#planar').dataset.loaded"
DROP = """
  const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
  const carried = new DataTransfer();
  for (const name of arguments[1]) carried.items.add(new File([bytes], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
"""
MESSAGE = "return document.querySelector('#drop.failed #drop-message')?.textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as session:
        yield session


@pytest.mark.slow
def test_a_volume_dropped_on_the_page_is_compared(
    browser: Browser, volumes: Path, serve: Callable
) -> None:
    with serve(volumes / "head.nii.gz") as server:
        browser.open(server.url)
        assert browser.wait(lambda: browser.run(READY)) == "1"

        def drop(path: Path, *names: str) -> None:
            content = base64.b64encode(path.read_bytes()).decode()
            browser.run(DROP, content, list(names or (path.name,)))

        drop(volumes / "far.nii.gz")
        assert "far.nii.gz: covers" in browser.wait(lambda: browser.run(MESSAGE))
        drop(volumes / "second.nii.gz", "one.nii.gz", "two.nii.gz")
        assert browser.wait(lambda: "these are 2" in (browser.run(MESSAGE) or ""))
        drop(volumes / "second.nii.gz")
        assert browser.wait(lambda: browser.run(READY) == "2")
        names = "return [...document.querySelectorAll('#planar b')].map(e => e.textContent)"
        assert browser.run(names) == ["second.nii.gz", "head.nii.gz"]
        # The page's own sentence of a refused volume is the one complaint that a browser makes of it.
        assert [c for c in browser.complaints() if "422" not in c] == []
        sent = browser.requests()
        assert [url for url in sent if url.endswith("/compare")]
        assert not [u for u in sent if not u.startswith((server.url, "data:", "blob:"))]
