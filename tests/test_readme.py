"""The README's Python examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_readme_has_examples():
    assert len(EXAMPLES) == 6


@pytest.mark.parametrize(
    "code", EXAMPLES, ids=["photograph", "mri", "sigpy", "operator", "network", "volumes"]
)
def test_example_runs(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, str(README), "exec"), names)  # noqa: S102
    printed = capsys.readouterr().out
    assert printed
    if "restored" in printed:
        blurred, restored = (float(v) for v in re.findall(r"(\d\.\d+(?:e-\d+)?)", printed))
        assert restored < 0.8 * blurred
    if "relative error" in printed:
        assert float(printed.split()[-1]) < 0.1
