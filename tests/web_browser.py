"""Headless Chromium for tests, driven over plain HTTP by the WebDriver protocol; skipped where it is missing."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--window-size=1200,900",
)  # fmt: skip
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
PATIENCE = 60.0


class Browser:
    """One session of a browser; methods of the WebDriver protocol that the tests need."""

    def __init__(self, port: int, binary: str, profile: Path) -> None:
        self.base = f"http://127.0.0.1:{port}"
        options = {"binary": binary, "args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
        wanted = {
            "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }  # fmt: skip
        self.wait(lambda: self.call("GET", "/status")["ready"])
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base += f"/session/{session['sessionId']}"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 (always http to this machine)
            self.base + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from error

    def wait(self, condition: Any) -> Any:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if found := condition():
                    return found
            except urllib.error.URLError:
                pass
            time.sleep(0.1)
        raise AssertionError("the browser did not come to it in time")

    def open(self, page: Path | str) -> None:
        """A file, or an address."""
        self.call("POST", "/url", {"url": "about:blank"})
        self.log("browser"), self.log("performance")
        self.call("POST", "/url", {"url": page if isinstance(page, str) else page.as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def log(self, kind: str) -> list[dict[str, Any]]:
        return self.call("POST", "/se/log", {"type": kind})

    def find(self, css: str) -> str:
        found = self.call("POST", "/element", {"using": "css selector", "value": css})
        return found[ELEMENT]

    def click(self, css: str) -> None:
        self.call("POST", f"/element/{self.find(css)}/click", {})

    def press(self, css: str, keys: str) -> None:
        self.call("POST", f"/element/{self.find(css)}/value", {"text": keys})

    def click_at(self, css: str, x: int, y: int) -> None:
        """Click so many pixels from the middle of an element."""
        self.run(
            "document.querySelector(arguments[0]).scrollIntoView({block: 'center', behavior: 'instant'})",
            css,
        )
        origin = {ELEMENT: self.find(css)}
        steps = [
            {"type": "pointerMove", "duration": 0, "origin": origin, "x": x, "y": y},
            {"type": "pointerDown", "button": 0}, {"type": "pause", "duration": 30}, {"type": "pointerUp", "button": 0},
        ]  # fmt: skip
        self.call(
            "POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": steps}]}
        )

    def complaints(self) -> list[str]:
        return [e["message"] for e in self.log("browser") if e["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> list[str]:
        events = [json.loads(e["message"])["message"] for e in self.log("performance")]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [p["request"]["url"] for p in sent if p["request"]["url"] != "about:blank"]


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A session; the test is skipped where there is no Chromium."""
    binary = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip(
            "needs chromium and chromedriver (Debian: apt install chromium chromium-driver)"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        session = Browser(port, binary, profile)
        yield session
        session.call("DELETE", "")
    finally:
        process.terminate()
        process.wait(10)
