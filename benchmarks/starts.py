"""What a chosen start is worth: spread and PSNR of one start for all images beside noise that is drawn, on photographs
that had no say in the choice.

    python benchmarks/starts.py ../shared/data [--table TABLE] [--samplers resshift,rddm]   # docs/chosen-starts.md

Eight photographs of the validation set, centres of 64 x 64, as `restore image` would restore them: the bundled prior,
tuned presets. One line each for noise that is drawn (`--draws` seeds), for the first noise chosen and the later drawn
(samplers that draw later), and for the start of the table under the same seeds.

psnr: mean over images and seeds. of psnr, of pixels: the deviation over seeds of an image's PSNR (dB) and of its
pixels (1 = white), means over images. of sets: the deviation over seeds of the mean PSNR of all images. period: the
part of the error that repeats with the tile, 1 where none does.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tasks import centre
from torch import Tensor

from restore.datasets.open import read_image
from restore.front_door import prior_for, solve
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.pipelines.degrade import Degradation, add_noise, noise_level
from restore.priors.store import load_prior
from restore.problem import Problem
from restore.randomness import Draws, LaidDraws
from restore.registry import load_sampler
from restore.samplers.base import Sampler
from restore.starts import ChosenStart, bundled_starts, read_starts

COUNT, SIDE, SEED = 8, 64, 7
NOISE = 0.02


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


def main() -> None:
    """Print the rows as they come."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--table", type=Path, default=bundled_starts())
    parser.add_argument("--samplers", default="")
    parser.add_argument("--draws", type=int, default=6)
    args = parser.parse_args()
    print("| sampler, task | noise | psnr | of psnr | of pixels | of sets | period |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for entry in read_starts(args.table):
        name, start = entry.method.sampler, entry.start
        if entry.kind != "image" or (args.samplers and name not in args.samplers.split(",")):
            continue
        truth, y, operator, level = photographs(args.data, entry.task)
        sampler = load_sampler(name)(**entry.method.settings)
        how = {"noise": level, "sampler": sampler, "prior": entry.method.prior}
        drawn = [solve(y, operator, seed=k, **how).image for k in range(args.draws)]
        rows = {"drawn": drawn}
        problem = Problem(y, operator, Gaussian(level))
        rows["first chosen"] = list(
            first_chosen(problem, sampler, entry.method.prior, start, args.draws)
        )
        chosen = [solve(y, operator, seed=k, chosen_start=start.text, **how).image for k in (0, 1)]
        rows[f"best-of ({start.text})"] = chosen
        for what, images in rows.items():
            found = figures(truth, images, start.tile).row()
            print(f"| {name}, {entry.task} | {what} | {found} |", flush=True)


if __name__ == "__main__":
    main()
