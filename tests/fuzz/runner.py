"""Read damaged files, and tell of every one that ends in anything but a result or a RestoreError, or does not end.

    PYTHONPATH=tests python -m fuzz.runner --minutes 60 --seed 1
    PYTHONPATH=tests python -m fuzz.runner --target png --seed 1 --first 17 --mutants 1      repeats one

The work is done in a child process with limits: what it reads it names beforehand, so that a hang or a crash is known
by its number. Mutant k of a target depends on (seed, target, k) alone. Every finding is one line that repeats it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

CPU_SECONDS = 10
"""For one mutant; sound ones take milliseconds."""

MEMORY_BYTES = 8 << 30
"""Of address space: torch's libraries take 4 GB of it, the readers' budget is 0.5 GB."""

TESTS = Path(__file__).resolve().parents[1]


def campaign(names: Sequence[str], seed: int, first: int, mutants: int) -> list[str]:
    """Run mutants first ... first + mutants - 1 of the named targets, of all if none; the findings, one a line."""
    findings: list[str] = []
    work = [[name, first] for name in names]
    while True:
        code, said, lines = _run_child(work, seed, first, first + mutants)
        told = [line for line in lines if "finding" in line]
        findings += [f"{t['finding']}  [{_repeat(t['target'], seed, t['k'])}]" for t in told]
        if code == 0:
            return findings
        begun = [line for line in lines if "k" in line]
        if not begun:
            raise RuntimeError(f"the child of the campaign cannot start:\n{said}")
        name, k = begun[-1]["target"], begun[-1]["k"]
        findings.append(f"exit {code} {said.splitlines()[-1:]}  [{_repeat(name, seed, k)}]")
        every = next(line["work"] for line in lines if "work" in line)
        rest = every[[n for n, _ in every].index(name) + 1 :]
        work = ([[name, k + 1]] if k + 1 < first + mutants else []) + rest
        if not work:
            return findings


def _run_child(work: list[list], seed: int, first: int, end: int) -> tuple[int, str, list[dict]]:
    """Exit status of a child, what it said on stderr, and the lines that it told."""
    command = [
        sys.executable,
        "-m",
        "fuzz.runner",
        "--child",
        json.dumps(work),
        "--seed",
        str(seed),
    ]
    command += ["--first", str(first), "--mutants", str(end)]
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = os.environ | {"PYTHONPATH": paths, "RESTORE_MAX_MEMORY_GB": "0.5"}
    with tempfile.TemporaryFile("w+") as errors:  # a pipe that nobody empties would stop the child
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, check=False
        )
        errors.seek(0)
        said = errors.read().strip()
    return done.returncode, said, [json.loads(line) for line in done.stdout.splitlines()]


def _repeat(target: str, seed: int, k: int) -> str:
    return f"PYTHONPATH=tests python -m fuzz.runner --target {target} --seed {seed} --first {k} --mutants 1"


def _child(work: list[list], seed: int, first: int, end: int) -> None:
    """Read the mutants of each target, naming each before; tell of every error that is not a RestoreError."""
    from fuzz.planted import PLANTED

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    targets = {target.name: target for target in PLANTED}
    if not work or any(name not in targets for name, _ in work):
        from fuzz.targets import TARGETS

        targets |= {target.name: target for target in TARGETS}
        work = work or [[target.name, first] for target in TARGETS]
    _tell({"work": work})
    for name, start in work:
        with tempfile.TemporaryDirectory() as folder:
            for finding in _findings(targets[name], seed, range(start, end), Path(folder)):
                _tell(finding)


def _findings(target, seed: int, numbers: range, folder: Path) -> Iterator[dict]:
    from restore.errors import RestoreError

    sound = folder / "sound"
    sound.mkdir()
    file = target.make(sound).relative_to(sound)
    content = (sound / file).read_bytes()
    target.read(sound / file)
    import numpy as np

    for k in numbers:
        _tell({"target": target.name, "k": k})
        rng = np.random.default_rng([seed, zlib.crc32(target.name.encode()), k])
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + CPU_SECONDS + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        mutate = target.mutators[int(rng.integers(len(target.mutators)))]
        shutil.copytree(sound, folder / "mutant")
        (folder / "mutant" / file).write_bytes(mutate(content, rng))
        try:
            target.read(folder / "mutant" / file)
        except RestoreError:
            pass  # as it should be
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            place = next(
                (f for f in reversed(frames) if "site-packages" not in f.filename), frames[-1]
            )
            at = f"{Path(place.filename).name}:{place.lineno}"
            text = f"{type(error).__name__} {str(error)[:160]!r} at {at}"
            yield {"target": target.name, "k": k, "finding": text}
        left = sorted(p.name for p in folder.rglob(".restore-*"))
        if left:
            yield {"target": target.name, "k": k, "finding": f"left behind: {left}"}
        shutil.rmtree(folder / "mutant")


def _tell(line: dict) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run what is asked for; the status says whether anything was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--mutants", type=int, default=100)
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="go on with further seeds until then"
    )
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        _child(json.loads(given.child), given.seed, given.first, given.mutants)
        return 0
    end, seed, count = time.monotonic() + 60 * given.minutes, given.seed, 0
    while True:
        findings = campaign(given.target, seed, given.first, given.mutants)
        count += len(findings)
        print(f"seed {seed}: {len(findings)} findings", *findings, sep="\n", flush=True)
        if time.monotonic() >= end:
            return 1 if count else 0
        seed += 1


if __name__ == "__main__":
    sys.exit(main())
