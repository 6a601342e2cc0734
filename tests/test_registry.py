"""Names of samplers are names of files; listing imports none of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from restore import registry
from restore.errors import ConfigError
from restore.registry import first_line, load_sampler, name_of, sampler_names
from restore.samplers.base import Sampler
from restore.samplers.dds import DDS


def test_every_file_is_a_sampler_of_its_name():
    names = sampler_names()
    assert {"dds", "cgsense", "tv", "wavelet", "fbp", "zerofilled", "bicubic"} <= set(names)
    assert not {"base", "schedules", "__init__"} & set(names)
    for name, line in names.items():
        cls = load_sampler(name)
        assert issubclass(cls, Sampler)
        assert cls.__module__ == f"restore.samplers.{name.replace('-', '_')}"
        assert name_of(cls) == name
        assert line.endswith(".")


def test_listing_needs_no_torch():
    code = "import sys; from restore.registry import sampler_names as s; s(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_unknown_names_get_a_suggestion():
    with pytest.raises(ConfigError, match="no sampler 'ddss', did you mean 'dds'"):
        load_sampler("ddss")
    for name in ("base", "schedules", "../dds", ""):
        with pytest.raises(ConfigError, match="there are: "):
            load_sampler(name)


def test_other_packages_may_add_samplers(monkeypatch):
    entry = SimpleNamespace(name="mine", value="elsewhere:Mine", load=lambda: DDS)
    none = SimpleNamespace(name="none", value="elsewhere:NONE", load=lambda: "no class")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry, none])
    assert sampler_names()["mine"] == "from elsewhere:Mine"
    assert load_sampler("mine") is DDS
    with pytest.raises(ConfigError, match="elsewhere:NONE is no class of samplers"):
        load_sampler("none")


def test_first_lines(tmp_path: Path):
    file = tmp_path / "x.py"
    file.write_text('"""One: first.\n\nMore."""\nraise SystemExit\n')
    assert first_line(file) == "One: first."
    file.write_text("x = 1\n")
    assert first_line(file) == ""
