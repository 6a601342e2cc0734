"""Make the table of factors for the bundled priors, and try it on volumes that it was not made on.

    python benchmarks/calibration.py ../shared/data --runs FOLDER               # all tasks, 55 minutes of one thread
    python benchmarks/calibration.py ../shared/data --runs FOLDER --tasks mri4  # mri8, ct60, ...

What was drawn stays in the folder of runs, so that a call goes on where an earlier one ended, and other scales are
compared in seconds. Factors go to restore/priors/calibration.json (or --table), with what they held of the volumes
that they were tried on; both are printed, for docs/intervals.md. One slice each: of MR the whole, as people have it, of
the others its middle 96 x 96 pixels; volumes by where in their depth it lies and by how many pixels are averaged along
each side, photographs alternately by name. The weights did not learn from
what MR factors are tried on, nor from thorax, iguana and the photographs. The trial ct-finer adds nothing to the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from cases import finer_scan, phantom_scan
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
from restore.conformal import UNITS, spread_of
from restore.datasets.open import read, write
from restore.front_door import solve
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


class Slice(NamedTuple):
    """A file or folder, where in its depth, pixels averaged along each side."""

    name: str
    depth: float
    binned: int = 1


MR = (
    Slice("mr/train/stroke_T1.nii.gz", 0.45),
    Slice("mr/train/stroke_T2.nii.gz", 0.45),
    Slice("mr/train/stroke_FLAIR.nii.gz", 0.45),
    Slice("mr/train/seg3d_T1.nii.gz", 0.45),
    Slice("mr/train/mr_gd_T1c.nii.gz", 0.45),
)
OTHERS = (
    Slice("mr/train/chris_PD.nii.gz", 0.45),
    Slice("mr/train/chris_T1.nii.gz", 0.45),
    Slice("mr/dicom_t1", 0.45, 2),
)
"""What those of MRI are tried on."""
MADE: dict[str, tuple[Slice, ...]] = {
    "mri": MR,
    "ct": (
        Slice("ct/train/abdomen_3mm.nii.gz", 0.35), Slice("ct/train/brain_atlas_1mm.nii.gz", 0.5),
        Slice("ct/dicom_phantom_5mm", 0.5, 2), Slice("ct/train/thorax_1p5mm.nii.gz", 0.35),
        Slice("ct/train/iguana_microct.nii.gz", 0.35, 2),
    ),
}  # fmt: skip
"""What factors are made of, by kind. The five of CT have nothing in common: each is tried with the factors of the other
four."""
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "mri4": ("mri", {"accelerations": (4,)}), "mri8": ("mri", {"accelerations": (8,)}),
    "ct60": ("ct", {"views": (60,), "limited": ()}), "ct30": ("ct", {"views": (30,), "limited": ()}),
    "superres": ("images", {"tasks": ("superres",), "noises": (0.0,), "crop": SIDE}),
    "inpaint": ("images", {"tasks": ("inpaint",), "noises": (0.0,), "crop": SIDE}),
}  # fmt: skip
FINER = "ct-finer"
"""A trial of the CT factors alone: nothing is added to the table."""


def main() -> None:
    """The tasks that were asked for, one after another."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with mr, ct and images")
    parser.add_argument("--runs", type=Path, required=True, help="folder for what is drawn")
    parser.add_argument("--tasks", default=",".join([*TASKS, FINER]))
    parser.add_argument("--table", type=Path, default=bundled_table())
    parser.add_argument("--photographs", type=int, default=12, help="to make factors of")
    asked = parser.parse_args()
    for task in asked.tasks.split(","):
        if task == FINER:
            show_finer(asked.data.resolve(), read_table(asked.table))
            continue
        made, tried = inputs(asked.data.resolve(), asked.runs, task, asked.photographs)
        known = read_table(asked.table) if asked.table.exists() else []
        scored, others = drawn(task, made, asked.runs), drawn(task, tried, asked.runs)
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


def show_finer(data: Path, entries: list[Entry]) -> None:
    """What the CT factors hold of heads made by rule and an abdomen that were measured twice finer than the image."""
    volume = read(data / "ct/train/abdomen_3mm.nii.gz", modality="CT")
    abdomen = dataclasses.replace(volume, data=np.maximum(volume.data[60:61], AIR_HU))
    for name, views, scan, index in (
        ("head", 60, phantom_scan(11, 60), 0),
        ("head", 30, phantom_scan(12, 30), 1),
        ("abdomen", 60, finer_scan(abdomen, 60, 60), 0),
    ):
        problem = scan.setup().problem(range(index, index + 1), torch.device("cpu"))
        found = solve(
            problem.y,
            problem.operator,
            noise=problem.noise,
            scaling=problem.scaling,
            samples=SAMPLES,
        )
        images = [scan.in_source_units(x.reshape(1, 1, *x.shape[-2:]))[0] for x in found.samples]
        entry = next(e for e in entries if e.measured.difficulty.get("views") == views)
        for unit in UNITS:
            scores = spread_of(np.stack(images), unit).scores(
                scan.reference[index][None], entry.scale(unit)
            )
            factors = entry.factors[SAMPLES][unit]
            held = {
                level: round(float((scores <= factors[level]).mean()), 3) for level in (0.8, 0.9)
            }
            print("finer", name, views, "views", unit, held, flush=True)


def inputs(data: Path, runs: Path, task: str, most: int) -> tuple[list[Path], list[Path]]:
    """Files of a task: those that factors are made of, and those that they are tried on."""
    kind = TASKS[task][0]
    if kind == "images":
        photographs = sorted((data / "images" / "val").glob("*.jpg"))
        return photographs[: 2 * most : 2], photographs[1 : 2 * most - 2 : 2]
    made, tried = MADE[kind], OTHERS if kind == "mri" else ()
    return [cut(data, runs, s, kind) for s in made], [cut(data, runs, s, kind) for s in tried]


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
