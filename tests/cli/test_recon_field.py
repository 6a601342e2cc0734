"""`restore recon --field-map`: the page that shows it, its record, and what is compared when it is repeated."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from restore.datasets.open import open_scan, read
from restore.datasets.sidecar import read_sidecar
from restore.datasets.simulate.phantom import head_phantom

PAGE = Path(__file__).resolve().parents[2] / "docs" / "noncartesian.md"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the Python blocks of docs/noncartesian.md have run."""
    pytest.importorskip("finufft")
    monkeypatch.chdir(tmp_path)
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(code, PAGE.name, "exec"), {})  # noqa: S102
    return tmp_path


def test_the_commands_of_the_page_run(page, verb):
    (commands,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    head = head_phantom((3, 48, 48)).data[1]
    left = {}
    for command in commands.splitlines():
        done = verb(*command.split()[1:])
        assert done.exit_code == 0, f"{command}\n{done.stderr}"
        out = command.split()[4]
        left[out] = np.linalg.norm(read(page / out).data[0] - head) / np.linalg.norm(head)
    # 0.11, which is what a spiral leaves out of the corners of k-space, and 0.31.
    assert left["sharp.nii.gz"] < 0.15
    assert left["blurred.nii.gz"] > 2 * left["sharp.nii.gz"]


def test_the_record_repeats_it_and_knows_the_map(page, verb):
    field, times = page / "field.npy", page / "times.npy"
    np.save(field, 0.9 * np.load(field))  # as none that lies near by
    np.save(times, 2e-5 * np.arange(open_scan(page / "spiral.h5").shape[-1]))
    words = ("--field-map", field, "--readout-times", times, "--sampler", "zerofilled")
    done = verb("recon", page / "spiral.h5", "-o", page / "a.nii", *words)
    assert done.exit_code == 0, done.stderr
    assert "spins turn by up to" in done.stderr
    named = {s["Option"]: s["File"] for s in read_sidecar(page / "a.nii")["sources"]}
    assert (named["field-map"], named["readout-times"]) == ("field.npy", "times.npy")
    again = verb("recon", "--config", page / "a.json", "-o", page / "b.nii")
    assert again.exit_code == 0, again.stderr
    assert (page / "a.nii").read_bytes() == (page / "b.nii").read_bytes()
    np.save(field, 0.5 * np.load(field))
    refused = verb("recon", "--config", page / "a.json", "-o", page / "c.nii")
    assert refused.exit_code == 4
    assert "field.npy: is not the file that a.json was made from" in refused.stderr
    other = verb("recon", page / "spiral.h5", "-o", page / "a.nii", *words)
    assert "is not the result of this job" in other.stderr
