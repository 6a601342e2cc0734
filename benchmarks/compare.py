"""Every method on every small task of `cases.py`, beside deepinv's: one row of JSON an image, cheapest methods first.

    python benchmarks/compare.py ../shared/data --list                # what would run, with a guess of its minutes
    python benchmarks/compare.py ../shared/data --essential           # the rows that the documents lean on
    python benchmarks/compare.py ../shared/data --minutes 40          # as many as fit into 40 minutes of processor time
    python benchmarks/compare.py ../shared/data --methods dds,tv --tasks mri4,ct30 --images 2
    python benchmarks/compare_tables.py benchmarks/compare.jsonl      # the tables

A row that is there is not run again, so that an interrupted run goes on with the same command; rows of a prior whose
weights, or of a preset, that has changed since count as not there. Each method runs a task in a process of its own, for
its peak memory. Ours take their tuned presets (NAME:PRESET others); deepinv's take as many evaluations as our dds does.
With the peers' environment (README.md) deepinv's rows are there too. Seconds are of the processor, one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import multiprocessing
import resource
import time
from collections.abc import Iterator
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import deepinv_peers
import torch
from cases import COUNT, TASKS, TRAITS, Case, load

from restore.errors import ConfigError
from restore.front_door import solve
from restore.priors.auto import automatic
from restore.registry import load_sampler, sampler_names
from restore.samplers.base import Planned, Sampler

PRESETS = ("diffpir:dpir", "split:daps", "split:pnpdm")
LEFT_OUT = ("sigpy-wavelet", "sigpy-jsense", "joint", "lps", "redpsm")
"""Of another package; docs/choosing-a-sampler.md has them on a phantom. Of measurements with structured noise:
benchmarks/joint.py. Of frames: benchmarks/dynamic.py."""

ESSENTIAL = (
    "bicubic", "zerofilled", "cgsense", "fbp", "wavelet", "tv", "tweedie", "dds", "split", "reddiff", "mrs", "rddm",
    "resshift", *deepinv_peers.NAMES,
)  # fmt: skip
PEER_ESSENTIAL = ("deblur", "mri4", "ct30")

NOT_FOR = "not for this task"

# Processor seconds of one evaluation of one image with its data step, and how much more a differentiated one takes
_SECONDS = {"image": 0.12, "mri": 0.16, "ct": 0.1}
_GRADIENTS, _CLASSICAL = 2.5, 3.0

SUBJECTS = {"image": "colour", "mri": "mri", "ct": "ct"}
"""What the bundled priors are asked for."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One method on one task. seconds: a guess, of an image."""

    task: str
    method: str
    seconds: float

    @property
    def images(self) -> int:
        """How many the task has."""
        return COUNT.get(self.task, COUNT[TRAITS[self.task][0]])

    @property
    def weights(self) -> str:
        """What the weights are that it depends on: a few digits of their file, "" for methods without."""
        name = self.method.partition(":")[0]
        ours = name not in deepinv_peers.NAMES
        kinds = load_sampler(name).prior_kinds if ours else ("denoiser",)
        prior = automatic(kinds, SUBJECTS[TRAITS[self.task][0]], TRAITS[self.task][1])
        if not prior:
            return ""
        folder = Path(str(resources.files("restore") / "priors" / "weights"))
        return hashlib.sha256((folder / f"{prior}.safetensors").read_bytes()).hexdigest()[:8]

    @property
    def preset(self) -> str:
        """What the preset says beyond the sampler's defaults: a few digits; "" for peers."""
        if self.method in deepinv_peers.NAMES:
            return ""
        sampler = _configured(self.task, self.method)
        told = [
            (f.name, getattr(sampler, f.name)) for f in dataclasses.fields(sampler)
            if getattr(sampler, f.name) != f.default
        ]  # fmt: skip
        return hashlib.sha256(repr(sorted(told)).encode()).hexdigest()[:8]


def jobs(tasks: list[str], methods: list[str], *, essential: bool) -> list[Job]:
    """What to run, cheapest first. Raises ConfigError for an unknown name."""
    every = methods or [
        *(n for n in sampler_names() if n not in LEFT_OUT),
        *(p for p in PRESETS if p.partition(":")[2] in load_sampler(p.partition(":")[0]).presets),
        *(deepinv_peers.NAMES if deepinv_peers.there() else ()),
    ]
    found = [Job(t, m, _guess(t, m)) for t in tasks for m in every if fits(t, m)]
    if essential:
        peers = deepinv_peers.NAMES
        found = [
            j for j in found
            if j.method in ESSENTIAL and (j.method not in peers or j.task in PEER_ESSENTIAL)
        ]  # fmt: skip
    return sorted(found, key=lambda j: j.seconds)


def fits(task: str, method: str) -> bool:
    """Whether a method says that it serves such a task; the others are not tried."""
    if method in deepinv_peers.NAMES:
        return True
    return load_sampler(method.partition(":")[0]).fits(Planned(*TRAITS[task]))


def _configured(task: str, method: str) -> Sampler:
    name, _, preset = method.partition(":")
    return load_sampler(name).configured(preset or "tuned", Planned(*TRAITS[task]), {})


def _guess(task: str, method: str) -> float:
    each = _SECONDS[TRAITS[task][0]]
    if method in deepinv_peers.NAMES:
        factor = _GRADIENTS if method == "deepinv DPS" else 1.0
        return each * factor * _configured(task, "dds").cost()
    sampler = _configured(task, method)
    factor = _GRADIENTS if type(sampler).gradients else 1.0
    return each * factor * sampler.cost() if type(sampler).prior_kinds else _CLASSICAL


def row(case: Case, job: Job) -> dict[str, Any]:
    """One image: figures, or {"refused": why}."""
    start = time.process_time()
    try:
        if job.method in deepinv_peers.NAMES:
            steps = _configured(job.task, "dds").cost()
            answer = deepinv_peers.restore_with(job.method, case, steps)
            if answer is None:
                return {"refused": "deepinv has no decomposition of this operator"}
            image, evaluations = answer
        else:
            name, _, preset = job.method.partition(":")
            if not load_sampler(name).fits(case.operator):
                return {"refused": NOT_FOR}
            result = solve(
                case.y, case.operator, noise=case.noise, scaling=case.scaling, sampler=name, preset=preset or "tuned"
            )  # fmt: skip
            image, evaluations = result.image, result.log[-1]["evaluations"]
    except ConfigError as error:
        return {"refused": str(error)}
    seconds = time.process_time() - start
    quality, likeness = case.score(image)
    return {
        "psnr": round(quality, 3), "ssim": round(likeness, 4), "evaluations": evaluations,
        "seconds": round(seconds, 2),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }  # fmt: skip


def perform(data: Path, out: Path, job: Job, images: int | None) -> None:
    """All images of a job that are not in the file yet; a refusal ends it."""
    torch.set_num_threads(1)
    done = names(out, job)
    for case in islice(load(data, job.task), images):
        if case.name in done:
            continue
        found = row(case, job)
        head = {
            "task": job.task, "method": job.method, "image": case.name, "weights": job.weights, "preset": job.preset
        }  # fmt: skip
        with out.open("a", encoding="utf-8") as f:
            f.write(json.dumps(head | found) + "\n")
        print(json.dumps(head | found), flush=True)
        if "refused" in found:
            return


def names(out: Path, job: Job) -> set[str]:
    """Images of a job that the file has, with the weights and preset of today; "" where it was refused."""
    wanted = (job.task, job.method, job.weights, job.preset)
    rows = [
        r for r in read_rows(out) if (r["task"], r["method"], r["weights"], r["preset"]) == wanted
    ]
    return {"" if "refused" in r else r["image"] for r in rows}


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a results file; a last line that a stopped run left half written is passed over."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.endswith("}"):
            yield json.loads(line)


def run(data: Path, out: Path, todo: list[Job], images: int | None, minutes: float) -> None:
    """Job after job, each in a process of its own, until the processor time of all is spent."""
    fork = multiprocessing.get_context("fork")  # imports are done once
    for i, job in enumerate(todo):
        spent = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) / 60
        if spent > minutes:
            print(f"{spent:.1f} minutes: stopped with {len(todo) - i} of {len(todo)} jobs left")
            return
        done, count = names(out, job), job.images
        if "" in done or len(done) >= min(count, images or count):
            continue
        process = fork.Process(target=perform, args=(data, out, job, images))
        process.start()
        process.join()
        if process.exitcode:
            print(f"{job.task} {job.method}: ended with {process.exitcode}", flush=True)


def chosen(text: str, every: tuple[str, ...]) -> list[str]:
    """Names between commas, all where there are none. Raises ConfigError."""
    found = [t for t in text.split(",") if t] or list(every)
    unknown = [t for t in found if t not in every]
    if unknown:
        raise ConfigError(f"no task {', '.join(unknown)}; there are: {', '.join(every)}")
    return found


def main() -> None:
    """Run, or list what would run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/compare.jsonl"))
    parser.add_argument("--tasks", default="", help="names separated by commas; default all")
    parser.add_argument("--methods", default="", help="NAME or NAME:PRESET, by commas; default all")
    parser.add_argument("--essential", action="store_true", help="the methods of ESSENTIAL alone")
    parser.add_argument("--images", type=int, help="the first so many of a task")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of processor time")
    parser.add_argument("--list", action="store_true", help="say what would run, and run nothing")
    args = parser.parse_args()
    methods = [m for m in args.methods.split(",") if m]
    todo = jobs(chosen(args.tasks, TASKS), methods, essential=args.essential)
    if args.list:
        for job in todo:
            print(f"{job.task:10} {job.method:24} about {job.seconds:5.1f} s an image")
    else:
        run(args.data, args.out, todo, args.images, args.minutes)


if __name__ == "__main__":
    main()
