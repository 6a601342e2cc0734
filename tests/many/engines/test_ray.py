"""Jobs on two actors of a real local Ray, one of them killed; one volume, and one image, on both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import chores
import numpy as np
import pytest
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.open import read, read_image
from restore.datasets.picture.images import write_image
from restore.datasets.simulate.mri_volume import simulate_mri_volume
from restore.datasets.simulate.phantom import head_phantom
from restore.many.engines.crew import Show
from restore.many.engines.named import engine_named
from restore.many.jobs import Job
from restore.many.runner import in_process, run_jobs

TESTS = Path(__file__).resolve().parents[2]
SAME = 5e-5
"""Of the largest value: batches of other sizes round otherwise in convolutions, and CG carries that on; the promise."""

pytestmark = pytest.mark.services


@pytest.fixture(autouse=True)
def two_slots(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of this machine with two slots, whose processes find the package and the work of the tests."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'restore[ray]'")
    monkeypatch.setenv("PYTHONPATH", f"{TESTS.parent}:{TESTS}")
    monkeypatch.setattr(ray, "init", _with_two_slots(ray.init))
    yield
    ray.shutdown()


def _with_two_slots(init):
    return lambda **words: init(num_cpus=2, **words)


def test_jobs_of_two_actors_one_killed(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    more = {"a": {"dies": 1}, "b": {"fails": True}}
    jobs = [
        Job("x", n, Path(n), tmp_path / n, {"text": n * 3, "marks": marks} | more.get(n, {}))
        for n in "abcd"
    ]
    found = run_jobs(jobs, chores.write, engine=engine_named("ray"))
    assert [(o.job.name, o.state, o.exit_code) for o in found] == [
        ("a", "done", 0), ("b", "failed", 4), ("c", "done", 0), ("d", "done", 0)
    ]  # fmt: skip
    assert [(tmp_path / n).read_text() for n in "acd"] == ["aaa", "ccc", "ddd"]
    assert len([m for m in marks.iterdir() if m.name.startswith("a-")]) == 2


def test_one_volume_on_two_actors_is_that_of_this_process(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    write_fastmri(simulate_mri_volume(head_phantom((8, 32, 32)), coils=3, mask="caipi:2x1"), path)
    options = {"settings": {"n_steps": 3, "cg_iters": 4}}
    images, said = [], list[str]()
    show = Show(lambda out, err: said.append(out))
    for number, engine in enumerate((in_process, engine_named("ray", show=show))):
        out = tmp_path / f"{number}.nii.gz"
        (outcome,) = run_jobs(
            [Job("recon", "scan", path, out, options)], chores.reconstruct, engine=engine
        )
        assert outcome.ok, outcome.sentence
        images.append(read(out).data)
    off = np.abs(images[1] - images[0]).max()
    assert off <= SAME * np.abs(images[0]).max()
    assert images[0].std() > 0
    # Half of the 16 planes, re and im of 8 slices, at each of the three levels.
    assert said == ["helpers were asked for 24 planes\n"]


def test_one_image_on_two_actors_is_that_of_this_process(tmp_path: Path) -> None:
    photo, runner = tmp_path / "photo.png", CliRunner()
    write_image(np.random.default_rng(0).random((1, 288, 16)), photo)
    words = ["--task", "deblur", "--kernel", "gaussian:1", "--noise", "0.02", "--steps", "3"]
    for name, more in (("alone", ()), ("split", ("--engine", "ray:2", "--split-image"))):
        out = str(tmp_path / f"{name}.png")
        done = runner.invoke(app, ["image", str(photo), "-o", out, *words, *more])
        assert done.exit_code == 0, done.stderr
    images = [read_image(tmp_path / f"{name}.png").data for name in ("alone", "split")]
    # a value on the edge between two numbers of 8 bits
    np.testing.assert_allclose(images[1], images[0], atol=1 / 255 + 1e-6)
    notes = json.loads((tmp_path / "split.json").read_text())["notes"]
    assert "images were split among 2 places in 3 of 3 network calls" in notes
