"""The first noise level of `dds` for holes of all depths: fixed levels, and the one that `sigma_start=auto` finds.

    python benchmarks/hole_depth.py ../shared/data --tuning    # by level: what the rule was chosen on; two minutes
    python benchmarks/hole_depth.py ../shared/data             # auto beside 1.0 on photographs that no choice saw
    python benchmarks/hole_depth.py ../shared/data --volume    # by level, 20 evaluations, voxels of a head

The tables of docs/choosing-a-sampler.md. The middle 96 x 96 pixels of photographs of images/val by name: the 21st and
22nd of the tuning, at 30 evaluations; the 15th to 17th of the judgement, at the tuned 60. PSNR in dB inside the holes,
means over the photographs, no noise, one seed. lines:WIDTHxCOUNT are bent lines so many pixels wide, text:SIZE lines of
text; the other masks are those of `restore image --mask`. The head (T1) is one that `medical` learnt from.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from tasks import centre
from torch import Tensor

from restore.datasets.open import read, read_image
from restore.front_door import solve, solve_problem
from restore.metrics import ssim
from restore.noise import Exact
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.masks import parse_mask
from restore.pipelines.degrade import noise_level
from restore.problem import Problem
from restore.samplers.toolbox.hole_depth import depth_of

SIDE, SEED = 96, 7
TUNING, JUDGED = slice(20, 22), slice(14, 17)
LEVELS = (0.1, 0.25, 0.5, 1.0)
BLOCK, VOLUME_LEVELS = (24, 64, 64), (0.1, 0.25, 1.0)
MASKS = (
    "random:0.3", "random:0.1", "random:0.03", "text:14", "text:28", "lines:1x9", "lines:3x6", "lines:5x6", "lines:9x4",
    "lines:15x2", "box:8", "box:16", "box:32", "box:48", "box:64",
)  # fmt: skip
WORDS = "the quick brown fox jumps over a lazy dog and goes home".split()


def main() -> None:
    """Print the rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="the folder of data that compare.py takes")
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--volume", action="store_true")
    parser.add_argument("--sampler", default="dds")
    parser.add_argument("--masks", default=",".join(MASKS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.volume:
        volume(given.data / "mr/train/stroke_T1.nii.gz", given.sampler)
        return
    files = sorted((given.data / "images/val").glob("*.jpg"))[TUNING if given.tuning else JUDGED]
    images = [torch.from_numpy(centre(read_image(file).data, SIDE)) for file in files]
    if given.tuning:
        columns: list[dict[str, Any]] = [{"n_steps": 30, "sigma_start": s} for s in LEVELS]
    else:
        columns = [{"sigma_start": 1.0}, {}]
    heads = [str(c.get("sigma_start", "auto")) for c in columns]
    print(f"| mask | depth | {' | '.join(heads)} |\n{'| --- ' * (len(heads) + 2)}|")
    for word in given.masks.split(","):
        masks = [mask(word, SEED + i) for i in range(len(images))]
        depths = [depth_of(problem(*pair)) for pair in zip(images, masks, strict=True)]
        cells = []
        for settings in columns:
            pairs = zip(images, masks, strict=True)
            found = np.mean([scored(*pair, given.sampler, settings) for pair in pairs], axis=0)
            cells.append(f"{found[0]:.2f} / {found[1]:.3f}")
        print(
            f"| {word} | {min(depths):.1f} to {max(depths):.1f} | {' | '.join(cells)} |", flush=True
        )


def volume(path: Path, sampler: str) -> None:
    """Print a row for single voxels, slices and a ball that are lost: PSNR in the holes by first level."""
    data = np.asarray(read(path, modality="MR").data, np.float32)
    middle = tuple(
        slice(n // 2 - k // 2, n // 2 + k // 2) for n, k in zip(data.shape, BLOCK, strict=True)
    )
    truth = torch.from_numpy(data[middle] / np.quantile(data[middle], 0.999)).contiguous()
    print(f"| lost | depth | {' | '.join(map(str, VOLUME_LEVELS))} |\n{'| --- ' * 5}|")
    for name, known in lost_voxels().items():
        # lost slices are seen in planes through them, as `restore volume` shows them
        planes = (2, 1, 0) if "slice" in name else (0, 1, 2)
        asked = Problem(truth * known, Inpainting(known, BLOCK), Exact(), planes=planes)
        cells = []
        for level in VOLUME_LEVELS:
            how = {"sampler": sampler, "n_steps": 20, "sigma_start": level}
            found = solve_problem(asked, prior="medical", **how).image
            cells.append(-10 * math.log10(float((found - truth)[known == 0].square().mean())))
        print(f"| {name} | {depth_of(asked):.2g} | {' | '.join(f'{c:.2f}' for c in cells)} |")


def lost_voxels() -> dict[str, Tensor]:
    """Masks (D, H, W) by what is lost."""
    single = torch.rand(BLOCK, generator=torch.Generator().manual_seed(3)) < 0.3
    found = {"70 % of the voxels": single.float()}
    for name, count in (("a slice", 1), ("three slices", 3)):
        found[name] = torch.ones(BLOCK)
        first = BLOCK[0] // 2 - count // 2
        found[name][first : first + count] = 0
    z, y, x = np.ogrid[: BLOCK[0], : BLOCK[1], : BLOCK[2]]
    away = (z - BLOCK[0] // 2) ** 2 + (y - 30) ** 2 + (x - 34) ** 2
    return found | {"a ball of 17 voxels": torch.from_numpy((away > 64).astype(np.float32))}


def mask(word: str, seed: int) -> Tensor:
    """A mask in words, (SIDE, SIDE), 1 where a pixel is known."""
    kind, _, value = word.partition(":")
    if kind not in ("lines", "text"):
        return parse_mask(word, SIDE, SIDE, seed)
    picture = Image.new("L", (SIDE, SIDE), 255)
    draw = ImageDraw.Draw(picture)
    if kind == "lines":
        width, count = map(int, value.split("x"))
        generator = np.random.default_rng(seed)
        for _ in range(count):
            bends = [tuple(generator.uniform(0, SIDE, 2)) for _ in range(4)]
            draw.line(bends, fill=0, width=width, joint="curve")
    else:
        font, size = ImageFont.load_default(int(value)), int(value)
        for k, top in enumerate(range(2, SIDE, int(1.3 * size))):
            line = " ".join(WORDS[(3 * k + i) % len(WORDS)] for i in range(len(WORDS)))
            draw.text((2, top), line, fill=0, font=font)
    return torch.from_numpy((np.array(picture) > 127).astype(np.float32))


def problem(truth: Tensor, known: Tensor) -> Problem:
    """The picture without its lost pixels."""
    return Problem(truth * known, Inpainting(known, tuple(truth.shape)))


def scored(
    truth: Tensor, known: Tensor, sampler: str, settings: dict[str, Any]
) -> tuple[float, float]:
    """PSNR inside the holes, and SSIM of the picture."""
    asked = problem(truth, known)
    result = solve(asked.y, asked.operator, noise=noise_level(0.0), sampler=sampler, **settings)
    image = result.image.clamp(0, 1)
    error = float((image - truth)[:, known == 0].square().mean())
    return -10 * math.log10(error), ssim(image, truth, data_range=1.0)


if __name__ == "__main__":
    main()
