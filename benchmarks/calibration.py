"""Make the table of factors for the bundled priors, and try it on volumes that it was not made on.

    python benchmarks/calibration.py ../shared/data --runs FOLDER               # all tasks, 55 minutes of one thread
    python benchmarks/calibration.py ../shared/data --runs FOLDER --tasks mri4  # mri8, mri8-few, ct60, ...

What was drawn stays in the folder of runs, so that a call goes on where an earlier one ended, and other scales are
compared in seconds. Factors go to restore/priors/calibration.json (or --table), with what they held of the volumes
that they were tried on; both are printed, for docs/intervals.md. One slice each: of MR the whole, as people have it, of
the others its middle 96 x 96 pixels; volumes by where in their depth it lies and by how many pixels are averaged along
each side, photographs alternately by name. The weights did not learn from
what MR factors are tried on, nor from thorax, iguana and the photographs; there is nothing else to make factors of.
At 8x the heads lie in a field of view of 192 columns, so that 8 lines in the centre are measured; as they are, 124 to
176 columns wide, they have 5 to 7 (mri8-few), whose maps are so poor that no other scan resembles them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.bench.calibrating import (
    Drawing,
    Scored,
    coverage_of,
    each_left_out,
    factors_from,
    with_trial,
)
from restore.bench.case import Case
from restore.bench.ct import CTSparseView
from restore.bench.images import ImageFolder
from restore.bench.method import Method
from restore.bench.protocol import Protocol, Setting
from restore.bench.simulated_mri import SimulatedMRI
from restore.conformal import UNITS
from restore.datasets.open import read, write
from restore.operators.ct.geometry import AIR_HU
from restore.pipelines.factors import (
    Circumstances,
    Entry,
    bundled_table,
    read_table,
    replaced,
    write_table,
)
from restore.priors.choosing import Model
from restore.samplers.base import Sampler

SAMPLES, SIDE = 8, 96
Slice = tuple[str, float, int]
"""A file or folder, where in its depth, pixels averaged along each side."""
MR: tuple[tuple[Slice, ...], tuple[Slice, ...]] = (
    (
        ("mr/train/stroke_T1.nii.gz", 0.45, 1),
        ("mr/train/stroke_T2.nii.gz", 0.45, 1),
        ("mr/train/stroke_FLAIR.nii.gz", 0.45, 1),
        ("mr/train/seg3d_T1.nii.gz", 0.45, 1),
        ("mr/train/mr_gd_T1c.nii.gz", 0.45, 1),
    ),
    (
        ("mr/train/chris_PD.nii.gz", 0.45, 1),
        ("mr/train/chris_T1.nii.gz", 0.45, 1),
        ("mr/dicom_t1", 0.45, 2),
    ),
)
"""What factors are made of, and what they are tried on."""
SECOND: dict[str, tuple[Slice, ...]] = {
    "mri8": (("mr/train/seg3d_T1.nii.gz", 0.6, 1), ("mr/train/mr_gd_T1c.nii.gz", 0.6, 1)),
}
"""Further slices of what factors are made of, with masks of their own: of the first head there are three contrasts."""
CT: tuple[tuple[Slice, ...], tuple[Slice, ...]] = (
    (
        ("ct/train/abdomen_3mm.nii.gz", 0.35, 1),
        ("ct/train/brain_atlas_1mm.nii.gz", 0.5, 1),
        ("ct/dicom_phantom_5mm", 0.5, 2),
        ("ct/train/thorax_1p5mm.nii.gz", 0.35, 1),
        ("ct/train/iguana_microct.nii.gz", 0.35, 2),
    ),
    (),
)
"""Five that have nothing in common: each is tried with the factors of the other four."""
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "mri4": ("mri", {"accelerations": (4,)}),
    "mri8-few": ("mri", {"accelerations": (8,)}), "mri8": ("mri", {"accelerations": (8,)}),
    "ct60": ("ct", {"views": (60,), "limited": ()}), "ct30": ("ct", {"views": (30,), "limited": ()}),
    "superres": ("images", {"tasks": ("superres",), "noises": (0.0,), "crop": SIDE}),
    "inpaint": ("images", {"tasks": ("inpaint",), "noises": (0.0,), "crop": SIDE}),
}  # fmt: skip
FIELD = {"mri8": 192}
"""Columns that what factors are made of is set into, where it has fewer."""
UNTRIED = ("mri8-few",)
"""Without others to be tried on: those of MR have more lines in the centre."""


def main() -> None:
    """The tasks that were asked for, one after another."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with mr, ct and images")
    parser.add_argument("--runs", type=Path, required=True, help="folder for what is drawn")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--table", type=Path, default=bundled_table())
    parser.add_argument("--photographs", type=int, default=12, help="to make factors of")
    asked = parser.parse_args()
    for task in asked.tasks.split(","):
        made, tried = inputs(asked.data.resolve(), asked.runs, task, asked.photographs)
        known = read_table(asked.table) if asked.table.exists() else []
        scored, others = joined(drawn(task, made, asked.runs)), drawn(task, tried, asked.runs)
        entries = with_trial(factors_from(scored, protocol_of(task, made[0]), Drawing.seed), others)
        write_table(asked.table, replaced(known, entries))
        show(task, entries, scored, others)


def show(task: str, entries: list[Entry], scored: list[Scored], others: list[Scored]) -> None:
    """Factors, and the coverage of each volume by those of the others it was measured with, or by the table."""
    for unit in UNITS:
        scale = entries[0].scale(unit)
        print(task, unit, scale.words, *(entry.factors[SAMPLES][unit] for entry in entries))
        for level, covered in each_left_out(
            [s.scores[unit][scale] for s in scored], (0.8, 0.9)
        ).items():
            shares = {one.name: round(c, 3) for one, c in zip(scored, covered, strict=True)}
            print("  left out,", level, round(float(np.mean(covered)), 3), shares)
        for level in (0.8, 0.9):
            shares = {one.name: round(coverage_of(one, entries)[unit][level], 3) for one in others}
            if shares:
                print("  tried,", level, round(float(np.mean([*shares.values()])), 3), shares)


def inputs(data: Path, runs: Path, task: str, most: int) -> tuple[list[Path], list[Path]]:
    """Files of a task: those that factors are made of, and those that they are tried on."""
    kind = TASKS[task][0]
    if kind == "images":
        photographs = sorted((data / "images" / "val").glob("*.jpg"))
        return photographs[: 2 * most : 2], photographs[1 : 2 * most - 2 : 2]
    made, tried = MR if kind == "mri" else CT
    made += SECOND.get(task, ())
    wide = [in_field(cut(data, runs, s, kind), FIELD.get(task, 0)) for s in made]
    return wide, [] if task in UNTRIED else [cut(data, runs, s, kind) for s in tried]


def cut(data: Path, runs: Path, chosen: Slice, kind: str) -> Path:
    """The middle of a slice, of MR all of it, as a volume made once. CT without air: grey levels of 10 HU."""
    name, depth, binned = chosen
    most, kept = (512, "_whole") if kind == "mri" else (SIDE, "")
    out = runs / "slices" / f"{Path(name).name.split('.')[0]}_{100 * depth:.0f}{kept}.nii.gz"
    if out.exists():
        return out
    told = {"modality": "CT"} if kind == "ct" and (data / name).is_file() else {}
    volume = read(data / name, **told)
    image = np.asarray(volume.data[int(depth * (len(volume.data) - 1))], np.float32)
    h, w = (n // binned for n in image.shape)
    image = image[: h * binned, : w * binned].reshape(h, binned, w, binned).mean((1, 3))
    top, left = max(0, (h - most) // 2), max(0, (w - most) // 2)
    h, w = min(h, most) // 2 * 2, min(w, most) // 2 * 2
    image = np.ascontiguousarray(image[top : top + h, left : left + w])
    if kind == "ct" and image.min() >= 0:
        image = AIR_HU + 10 * image
    out.parent.mkdir(parents=True, exist_ok=True)
    write(dataclasses.replace(volume, data=image[None]), out)
    return out


def in_field(path: Path, columns: int) -> Path:
    """A slice with air at its left and right up to so many columns, as a volume made once beside it."""
    volume = read(path)
    missing = columns - volume.data.shape[2]
    if missing <= 0:
        return path
    out = path.with_name(path.name.replace("_whole", f"_w{columns}"))
    if not out.exists():
        sides = (missing // 2, missing - missing // 2)
        write(dataclasses.replace(volume, data=np.pad(volume.data, ((0, 0), (0, 0), sides))), out)
    return out


def protocol_of(task: str, path: Path) -> Protocol:
    """How a task measures one file."""
    kind, how = TASKS[task]
    if kind == "images":
        return ImageFolder(path, **how)
    return SimulatedMRI(path, **how) if kind == "mri" else CTSparseView(path, **how)


def drawn(task: str, files: list[Path], runs: Path) -> list[Scored]:
    """Scores of the samples of every file, drawn where they do not lie in the folder of runs."""
    method = Method("split", "split", "tuned", {}, "auto")
    found: list[Scored] = []
    for path in files:
        kept = KeptDrawing(protocol_of(task, path), method, SAMPLES, torch.device("cpu"), runs=runs)
        found += kept.volumes()
    return found


def joined(scored: list[Scored]) -> list[Scored]:
    """Slices of one volume as one, so that they are left out together."""
    heads: dict[str, list[Scored]] = {}
    for one in scored:
        heads.setdefault(re.sub(r"_\d+_w\d+", "", one.name), []).append(one)
    return [
        dataclasses.replace(
            parts[0],
            name=" and ".join(part.name for part in parts),
            images=sum(part.images for part in parts),
            scores={
                unit: {
                    scale: np.concatenate([part.scores[unit][scale] for part in parts])
                    for scale in by_scale
                }
                for unit, by_scale in parts[0].scores.items()
            },
        )
        for parts in heads.values()
    ]


@dataclasses.dataclass(frozen=True, eq=False)
class KeptDrawing(Drawing):
    """A drawing whose samples are kept in a folder, by protocol, setting and volume."""

    runs: Path = Path()

    def drawn(
        self, volume: str, setting: Setting, case: Case, sampler: Sampler, model: Model | None
    ) -> tuple[NDArray[Any] | None, Circumstances]:
        """From the folder, or drawn and put there."""
        path = self.runs / f"{self.protocol.name}_{setting.name}_{volume}.npz"
        if path.exists():
            with np.load(path) as there:
                return there["samples"], Circumstances(**json.loads(str(there["circumstances"])))
        samples, measured = super().drawn(volume, setting, case, sampler, model)
        if samples is not None:
            told = json.dumps(dataclasses.asdict(measured))
            np.savez(path, samples=samples.astype(np.float32), circumstances=told)
        return samples, measured


if __name__ == "__main__":
    main()
