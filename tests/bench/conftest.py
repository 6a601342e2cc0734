"""A protocol without files of its own: tiny images, known figures, so that the runner is tested alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from restore.bench.case import Case, Conditions, Figures, Outcome
from restore.bench.protocol import Protocol, Setting
from restore.bench.store import Place
from restore.errors import InputError
from restore.front_door import solve
from restore.metrics import nmse, psnr, ssim
from restore.operators.image.inpainting import Inpainting
from restore.pipelines.factors import Circumstances

CONDITIONS = Conditions("the clean image", "two of three columns", "none", None, "noiseless")
PLACE = Place("photograph", "", None, (0,))


@dataclasses.dataclass(frozen=True, eq=False)
class ToyCase(Case):
    """A smooth image with every third column missing."""

    reference: np.ndarray
    conditions: Conditions = CONDITIONS
    place: Place = PLACE
    operator: type = Inpainting

    def first_look(self) -> np.ndarray:
        return self.reference * _mask(self.reference.shape)

    def run(
        self,
        sampler,
        prior,
        *,
        samples,
        seed,
        device,
        precision="auto",
        on_progress=None,
        start="drawn",
    ) -> Outcome:
        truth = torch.from_numpy(self.reference)
        operator = Inpainting(torch.from_numpy(_mask(truth.shape)[0]), tuple(truth.shape))
        found = solve(
            operator(truth),
            operator,
            prior=prior,
            sampler=sampler,
            samples=samples,
            seed=seed,
            trace=True,
            chosen_start=start,
        )
        last = found.log[-1]
        curve = [[float(r["evaluations"]), float(r["misfit"])] for r in found.log]
        stack = None if found.samples is None else found.samples.numpy()
        return Outcome(
            found.image.numpy(),
            stack,
            last["misfit"],
            "relative",
            last["evaluations"],
            curve,
            Circumstances("image", "inpaint", {"channels": 1}, 0.0),
        )

    def score(self, image: np.ndarray) -> Figures:
        ref = self.reference
        return Figures(
            psnr(image, ref, data_range=1), ssim(image, ref, data_range=1), nmse(image, ref),
            1.0, "full scale", "uniform", {"slice": [0.0]},
        )  # fmt: skip


def _mask(shape: tuple[int, ...]) -> np.ndarray:
    mask = np.ones(shape, np.float32)
    mask[..., ::3] = 0
    return mask


class Toy(Protocol):
    """Files of numbers: each seeds a smooth image."""

    name: ClassVar[str] = "toy"
    default_samplers: ClassVar[str] = "zerofilled,tv"
    default_prior: ClassVar[dict[str, str]] = {"denoiser": "medical"}

    def __init__(self, folder: Path, settings: tuple[str, ...] = ("plain",)) -> None:
        self.folder, self.names, self.opened, self.closed = folder, settings, [], []

    def volumes(self) -> dict[str, Path]:
        return {p.name: p for p in sorted(self.folder.glob("*.txt"))}

    def settings(self) -> tuple[Setting, ...]:
        return tuple(Setting(name, {"kind": name}) for name in self.names)

    def describe(self) -> dict[str, Any]:
        return {"folder": self.folder.name}

    def open(self, volume: str, setting: Setting, run: Path) -> Case | None:
        self.opened.append((volume, setting.name))
        text = (self.folder / volume).read_text()
        if not text.isdigit():
            raise InputError(self.folder / volume, "holds no number")
        if setting.name == "absent":
            return None
        rng = np.random.default_rng(int(text))
        y, x = np.mgrid[:24, :20] / 24
        a, b, c = rng.uniform(1, 4, 3)
        return ToyCase((0.5 + 0.4 * np.sin(a * x + b * y + c))[None].astype(np.float32))

    def close(self, volume: str, setting: Setting, run: Path) -> None:
        self.closed.append((volume, setting.name))


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(3):
        (folder / f"v{i}.txt").write_text(str(i))
    return Toy(folder)
