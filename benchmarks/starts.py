"""What a chosen start is worth: spread and PSNR of one start for all images beside noise that is drawn, on photographs
and slices that had no say in the choice.

    python benchmarks/starts.py ../shared/data [--table TABLE] [--samplers resshift,rddm]   # docs/chosen-starts.md
    python benchmarks/starts.py ../shared/data --halved VOLUMES OUT    # what the starts of scans were chosen on

Eight photographs of the validation set, centres of 64 x 64, as `restore image` would restore them: the bundled prior,
tuned presets. Of scans slices of `cases.py`, means of 2 x 2 pixels: three of MRI at 4x (T1, proton density, contrast
T1), three of a thorax from 30 views; their deviations are of 1 = the slice's maximum, and no period is measured. One
line each for noise that is drawn (`--draws` seeds), for the first noise chosen and the later drawn (photographs), and
for the start of the table under the same seeds.

psnr: mean over images and seeds. of psnr, of pixels: the deviation over seeds of an image's PSNR (dB) and of its
pixels (1 = white), means over images. of sets: the deviation over seeds of the mean PSNR of all images. period: the
part of the error that repeats with the tile, 1 where none does.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Case, load
from tasks import centre
from torch import Tensor

from restore.datasets.open import read, read_image, write
from restore.front_door import prior_for, solve
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.pipelines.degrade import Degradation, add_noise, noise_level
from restore.priors.kept import weights_kept
from restore.priors.store import load_prior
from restore.problem import Problem
from restore.randomness import Draws, LaidDraws
from restore.registry import load_sampler
from restore.samplers.base import Sampler
from restore.starts import ChosenStart, Entry, bundled_starts, read_starts

COUNT, SIDE, SEED = 8, 64, 7
NOISE = 0.02
SCANS = {"mri": ("mri4", 0), "ct": ("ct30", 1)}
"""The task of `cases.py`, and the first of its slices: every third is taken."""


class FirstChosen(Draws):
    """Noise whose first field is laid as chosen, and whose later ones are drawn as ever."""

    def __init__(self, seed: int, ids: Sequence[str], start: ChosenStart) -> None:
        super().__init__(seed, ids)
        self.first: Draws | None = LaidDraws(start.seed, ids, start.tile)

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        """As of `Draws`."""
        first, self.first = self.first, None
        return (first or super()).normal_like(x, item_ndim)


@dataclasses.dataclass(frozen=True, eq=False)
class Figures:
    """Of several runs on the same images."""

    psnr: np.ndarray
    images: Tensor
    truth: Tensor
    tile: int

    def row(self) -> str:
        """The cells of the table."""
        per_image = self.psnr.std(axis=0, ddof=1).mean()
        sets = self.psnr.mean(axis=1).std(ddof=1)
        pixels = float(self.images.std(0).square().mean().sqrt())
        return f"{self.psnr.mean():.3f} | {per_image:.3f} | {pixels:.4f} | {sets:.3f} | {self.period():.2f}"

    def period(self) -> float:
        """Energy of the error averaged over tiles, against what an error without a period leaves of it."""
        error = self.images - self.truth
        n = SIDE // self.tile
        parts = error.unflatten(-1, (n, self.tile)).unflatten(-3, (n, self.tile))
        folded = parts.mean((-4, -2))
        return float(folded.square().mean() * n**2 / error.square().mean())


def photographs(data: Path, task: str) -> tuple[Tensor, Tensor, LinearOperator, float]:
    """Truth, measurement, operator and noise level."""
    known = torch.rand((SIDE, SIDE), generator=torch.Generator().manual_seed(SEED)) < 0.3
    how = {
        "inpaint": Degradation("inpaint", mask=known.float()),
        "deblur": Degradation("deblur", kernel="gaussian:1.6"),
        "superres": Degradation("superres", factor=4),
    }[task]
    paths = sorted((data / "images" / "val").glob("*.jpg"))[:COUNT]
    truth = torch.stack([torch.from_numpy(centre(read_image(p).data, SIDE)) for p in paths])
    operator = how.operator(tuple(truth.shape[1:]))
    y = add_noise(operator(truth), NOISE, SEED)
    return truth, y if how.mask is None else y * how.mask, operator, float(noise_level(NOISE))


def figures(truth: Tensor, images: Sequence[Tensor], tile: int) -> Figures:
    """PSNR of what a file would hold, by run and image."""
    stack = torch.stack(list(images)).clamp(0, 1)
    error = (stack - truth).square().flatten(2).mean(2)
    return Figures(-10 * error.log10().numpy(), stack, truth, tile)


def first_chosen(
    problem: Problem, sampler: Sampler, prior: str, start: ChosenStart, draws: int
) -> Iterator[Tensor]:
    """Runs whose first noise is the start's and whose later noise is drawn."""
    model = load_prior(prior)
    for seed in range(draws):
        with torch.no_grad():
            fitted = prior_for(model, sampler, problem)
            names = [f"sample 0/{name}" for name in problem.ids]
            *_, last = sampler.steps(problem, fitted, FirstChosen(seed, names, start))
        yield last.x0


def photograph_rows(entry: Entry, data: Path, draws: int) -> Iterator[tuple[str, str]]:
    """What was done, and its cells."""
    start, prior = entry.start, entry.method.prior
    truth, y, operator, level = photographs(data, entry.task)
    sampler = load_sampler(entry.method.sampler)(**entry.method.settings)
    how = {"noise": level, "sampler": sampler, "prior": prior}
    drawn = [solve(y, operator, seed=k, **how).image for k in range(draws)]
    yield "drawn", figures(truth, drawn, start.tile).row()
    problem = Problem(y, operator, Gaussian(level))
    first = list(first_chosen(problem, sampler, prior, start, draws))
    yield "first chosen", figures(truth, first, start.tile).row()
    chosen = [solve(y, operator, seed=k, chosen_start=start.text, **how).image for k in (0, 1)]
    yield f"best-of ({start.text})", figures(truth, chosen, start.tile).row()


def scan_rows(entry: Entry, data: Path, draws: int) -> Iterator[tuple[str, str]]:
    """What was done, and its cells."""
    task, first = SCANS[entry.kind]
    cases = list(load(data, task))[first::3]
    sampler = load_sampler(entry.method.sampler)(**entry.method.settings)
    start = entry.start.text
    rows = {
        "drawn": [{"seed": k} for k in range(draws)],
        f"best-of ({start})": [{"seed": k, "chosen_start": start} for k in (0, 1)],
    }
    with weights_kept():
        for what, runs in rows.items():
            yield (
                what,
                scan_cells([_several(case, sampler, entry.method.prior, runs) for case in cases]),
            )


def _several(
    case: Case, sampler: Sampler, prior: str, runs: Sequence[dict[str, Any]]
) -> tuple[list[float], Tensor]:
    """PSNR of every run, and the images, 1 = their largest value."""
    how = {"noise": case.noise, "scaling": case.scaling, "sampler": sampler, "prior": prior}
    images = [solve(case.y, case.operator, **how, **run).image for run in runs]
    stack = torch.stack(images).abs() if images[0].is_complex() else torch.stack(images)
    return [case.score(image)[0] for image in images], stack / stack.abs().max()


def scan_cells(found: Sequence[tuple[list[float], Tensor]]) -> str:
    """The cells of the table, of slices (PSNR of the runs, images of the runs)."""
    psnr = np.array([scores for scores, _ in found]).T
    pixels = np.mean([float(images.std(0).square().mean()) for _, images in found]) ** 0.5
    sets = psnr.mean(axis=1).std(ddof=1)
    return (
        f"{psnr.mean():.3f} | {psnr.std(axis=0, ddof=1).mean():.3f} | {pixels:.5f} | {sets:.3f} |"
    )


def halve(volumes: Path, out: Path) -> None:
    """Every NIfTI volume of a folder as means of 2 x 2 pixels of its slices."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(volumes.glob("*.nii.gz")):
        volume = read(path)
        depth, rows, columns = (volume.data.shape[0], *(n // 2 for n in volume.data.shape[1:]))
        blocks = volume.data[:, : 2 * rows, : 2 * columns].reshape(depth, rows, 2, columns, 2)
        affine = volume.affine @ np.diag([2.0, 2.0, 1.0, 1.0])
        write(
            dataclasses.replace(volume, data=blocks.mean((2, 4)), affine=affine, header=None),
            out / path.name,
        )


def main() -> None:
    """Print the rows as they come."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--table", type=Path, default=bundled_starts())
    parser.add_argument("--samplers", default="")
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--halved", type=Path, nargs=2, metavar=("VOLUMES", "OUT"))
    args = parser.parse_args()
    if args.halved:
        halve(*args.halved)
        return
    print("| sampler, task | noise | psnr | of psnr | of pixels | of sets | period |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for entry in read_starts(args.table):
        name = entry.method.sampler
        if args.samplers and name not in args.samplers.split(","):
            continue
        rows = photograph_rows if entry.kind == "image" else scan_rows
        for what, cells in rows(entry, args.data, args.draws):
            print(f"| {name}, {entry.words} | {what} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
