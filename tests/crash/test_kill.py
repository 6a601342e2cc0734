"""kill -9 at seeded moments of every long verb: run again, it gives what the uninterrupted run gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from crash.victims import done_twice, killed_after, results, to_the_end

from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.open import write
from restore.datasets.picture.images import write_image
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import head_phantom
from restore.datasets.volume.volume import Volume
from restore.priors.edm import build_unet_denoiser
from restore.priors.store import save_prior
from restore.priors.unet import UNetConfig

KILLS_IN_ALL = 40


@dataclasses.dataclass(frozen=True)
class Victim:
    """arguments: with {sources} for the folder of inputs and {out} for an empty one. again: units of work that a kill
    may cost, None where the verb has no parts that it keeps."""

    arguments: tuple[str, ...]
    again: int | None


VICTIMS = {
    "recon": Victim(
        ("recon", "{sources}/mri.h5", "-o", "{out}/a.nii.gz", "--steps", "4", "--device", "cpu"), 1
    ),
    "simulate": Victim(
        ("simulate", "mri", "{sources}/volume.nii", "-o", "{out}/a.h5", "--coils", "12"), 1
    ),
    "image": Victim(
        ("image", "{sources}/pictures/0.png", "-o", "{out}/a.png", "--task", "denoise", "--noise", "0.1",
         "--sampler", "dds", "--steps", "6", "--device", "cpu"), None,
    ),
    "folder": Victim(
        ("image", "{sources}/pictures", "-o", "{out}/all", "--task", "denoise", "--noise", "0.1",
         "--sampler", "dds", "--steps", "3", "--device", "cpu"), 1,
    ),
    "train": Victim(
        ("train", "denoiser", "{sources}/pictures", "-o", "{out}/a.safetensors", "--minutes", "1000", "--steps", "12",
         "--batch", "2", "--crop", "16", "--widths", "8,8", "--blocks", "1,1", "--device", "cpu"), 1,
    ),
    "distill": Victim(
        ("distill", "{sources}/pictures", "-o", "{out}/a.safetensors", "--prior", "{sources}/tiny.safetensors",
         "--task", "inpaint:0.3", "--minutes", "1000", "--steps", "12", "--batch", "2", "--crop", "16",
         "--device", "cpu"), 1,
    ),
    "bench": Victim(
        ("bench", "images", "{sources}/pictures", "-o", "{out}/run", "--samplers", "tv", "--tasks", "denoise",
         "--noise", "0.1,0.2", "--crop", "32", "--device", "cpu"), 1,
    ),
}  # fmt: skip
QUICK = ("recon", "simulate", "train")
"""Killed once, `simulate` in the default run; the others in `slow`, at every moment."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    head = head_phantom((7, 32, 32)).data
    volume = Volume(head, np.diag([-6.0, -6, 6, 1]), "MR")
    write(volume, folder / "volume.nii")
    write_fastmri(
        simulate_mri(volume, coils=2, acceleration=2, center_fraction=0.3), folder / "mri.h5"
    )
    save_prior(
        folder / "tiny.safetensors",
        build_unet_denoiser(UNetConfig(1, (8, 8), (1, 1), embedding=8)),
        {},
    )
    (folder / "pictures").mkdir()
    for k in range(3):
        image = np.clip(head[k + 2] / head.max(), 0, 1)
        write_image(image[None].astype(np.float32), folder / "pictures" / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sources: Path):
    """Name of a verb to what it gives uninterrupted and its seconds, found once."""
    found = {}

    def of(name: str):
        if name not in found:
            folder = tmp_path_factory.mktemp(f"whole-{name}")
            (folder / "out").mkdir()
            seconds = to_the_end(_arguments(name, sources, folder / "out"), folder / "log")
            found[name] = results(folder / "out"), seconds
        return found[name]

    return of


def _arguments(name: str, sources: Path, out: Path) -> list[str]:
    return [a.format(sources=sources, out=out) for a in VICTIMS[name].arguments]


def _kill_and_go_on(name: str, moments: list[float], sources: Path, whole, folder: Path) -> None:
    """Kill a verb at parts of its time, one after the other on the same output, then let it end."""
    expected, seconds = whole(name)
    (folder / "out").mkdir(parents=True)
    arguments, log = _arguments(name, sources, folder / "out"), folder / "log"
    hit = sum(killed_after(moment * seconds, arguments, log) for moment in moments)
    to_the_end(arguments, log)
    found = results(folder / "out")
    assert found.keys() == expected.keys()
    assert [n for n in found if found[n] != expected[n]] == []
    assert [p.name for p in (folder / "out").rglob(".*")] == []
    again = VICTIMS[name].again
    if again is not None:
        assert done_twice(log) <= again * hit


# tests/cli/test_interruptions.py kills `recon` as well
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "simulate" else [pytest.mark.slow]) for n in QUICK]
)
def test_a_killed_run_goes_on(name: str, sources: Path, whole, tmp_path: Path) -> None:
    moment = float(np.random.default_rng([0, len(name)]).uniform(0.3, 0.8))
    _kill_and_go_on(name, [moment], sources, whole, tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("name", VICTIMS)
def test_killed_at_many_moments(name: str, sources: Path, whole, tmp_path: Path) -> None:
    """Half of the kills hit runs that were killed before."""
    rng = np.random.default_rng([1, len(name)])
    for attempt in range(0, KILLS_IN_ALL, 2):
        moments = list(rng.uniform(0.05, 1.0, size=2))
        _kill_and_go_on(name, moments, sources, whole, tmp_path / str(attempt))
