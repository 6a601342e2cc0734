"""Every dependency is used and declared, every extra has code behind it."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"astra-toolbox": "astra", "dicomweb-client": "dicomweb_client"}
"""Distributions whose module has another name, among those of the extras."""

DEVELOPERS = ("test", "services", "docs")
"""Extras of those who work on the package: no code of it loads them."""


def extras() -> dict[str, set[str]]:
    """Modules of every extra but the developers'."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {}
    for extra, lines in project["optional-dependencies"].items():
        names = {line.split(">")[0].split("=")[0].strip() for line in lines}
        found[extra] = {MODULES.get(n, n) for n in names}
    for extra in DEVELOPERS:
        del found[extra]
    return found


def calls_of_extras() -> set[tuple[str, str]]:
    """Module and extra of every call of `load_extra` in the package."""
    found = set()
    for folder in ("restore", "operators", "datasets", "cli"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load_extra":
                    module, extra = (ast.literal_eval(a) for a in node.args[:2])
                    found.add((module.partition(".")[0], extra))
    return found


def test_extras_are_what_the_code_loads():
    """Both ways: nothing is declared that no code loads, and the advice to install names what there is."""
    assert calls_of_extras() == {(m, extra) for extra, names in extras().items() for m in names}


def test_nothing_is_unused_missing_or_undeclared():
    done = subprocess.run(
        [sys.executable, "-m", "deptry", "."], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
