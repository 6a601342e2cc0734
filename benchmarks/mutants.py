"""Mutants that the tests do not see: small changes to the numerics, one at a time, by Cosmic Ray.

    python benchmarks/mutants.py --minutes 30        needs cosmic-ray beside the environment

Works on a copy of the checkout. For every change of the sample the tests that bear the module's name run first, and
those of its room only where they let it pass: what both let pass survived. Prints a table, a line a room, and each
survivor's change. A survivor is a missing test or a change without effect; someone has to look.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_item import MutationSpec, TestOutcome

ROOT = Path(__file__).resolve().parents[1]
COPY = ROOT / "build" / "mutants" / "tree"
ROOMS = {
    "operators": "operators", "linalg": "restore/linalg", "solvers": "restore/solvers", "bridges": "restore/bridges",
    "samplers": "restore/samplers", "datasets": "datasets",
}  # fmt: skip
# Of datasets, the numerics alone: not the readers of formats.
NUMERIC = {
    "datasets": ("simulate", "mri/noise_estimation.py", "median_deviation.py", "mri/masks.py", "ct")
}
CHANGES = [f"core/ReplaceBinaryOperator_{pair}" for pair in
           ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul", "FloorDiv_Div", "Mod_Mul")]  # fmt: skip
CHANGES += [f"core/ReplaceComparisonOperator_{pair}" for pair in
            ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Eq_NotEq", "NotEq_Eq")]  # fmt: skip
CHANGES += [f"core/{name}" for name in (
    "ReplaceUnaryOperator_Delete_USub", "ReplaceUnaryOperator_Delete_Not", "ReplaceAndWithOr", "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "NumberReplacer")]  # fmt: skip
TIMEOUT_S = 600


def copy_of_the_checkout() -> None:
    """What git knows or does not ignore, links as links."""
    shutil.rmtree(COPY, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists() or (ROOT / name).is_symlink():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name, follow_symlinks=False)


def modules(room: str) -> list[Path]:
    folder = COPY / ROOMS[room]
    every = [p for p in sorted(folder.rglob("*.py")) if p.name != "__init__.py"]
    wanted = NUMERIC.get(room)
    return (
        every
        if wanted is None
        else [p for p in every if p.relative_to(folder).as_posix().startswith(wanted)]
    )


def mutations(room: str, path: Path) -> Iterator[tuple[str, MutationSpec]]:
    """Every place of every change, outside annotations and error messages' lines."""
    tree, lines = get_ast_from_path(path), path.read_text().splitlines()
    for name in CHANGES:
        operator = get_operator(name)()
        places = (
            (start, end)
            for node in ast_nodes(tree)
            for start, end in operator.mutation_positions(node)
        )
        for occurrence, (start, end) in enumerate(places):
            if "Error(" not in lines[start[0] - 1] and 'f"' not in lines[start[0] - 1]:
                yield room, MutationSpec(str(path), name, occurrence, start, end)


def tests_of(room: str, module: Path) -> tuple[list[str], list[str]]:
    """Test files that bear the module's name, and the room's other ones."""
    every = sorted((COPY / "tests" / room).rglob("test_*.py"))
    stem = module.stem.strip("_")
    near = [p for p in every if stem in p.stem or p.stem.removeprefix("test_") in stem]
    near += [p for p in every if f".{module.stem} import" in p.read_text() and p not in near]
    rest = [str(p) for p in every if p not in near]
    return [str(p) for p in near], rest


def verdict(spec: MutationSpec, room: str) -> tuple[TestOutcome, str]:
    """Killed, survived or without meaning, and the change as a diff."""
    outcome, diff = TestOutcome.SURVIVED, ""
    for files in tests_of(room, spec.module_path):
        if not files or outcome is not TestOutcome.SURVIVED:
            continue
        command = " ".join(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-x",
                "-n",
                "0",
                "-p",
                "no:cacheprovider",
                *files,
            ]
        )
        result = mutate_and_test([spec], command, TIMEOUT_S)
        outcome, diff = result.test_outcome or TestOutcome.INCOMPETENT, result.diff or ""
    return outcome, diff


def sample(rooms: list[str], seed: int) -> list[tuple[str, MutationSpec]]:
    """All mutations, shuffled; rooms take turns, so that a short run sees each of them."""
    draws = random.Random(seed)
    queues = []
    for room in rooms:
        queue = [m for path in modules(room) for m in mutations(room, path)]
        draws.shuffle(queue)
        queues.append(queue)
    return [queue.pop() for _ in range(max(map(len, queues))) for queue in queues if queue]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rooms", default=" ".join(ROOMS))
    options = parser.parse_args()
    copy_of_the_checkout()
    os.chdir(COPY)
    os.environ["PYTHONPATH"] = str(COPY)
    rooms = options.rooms.split()
    work, end = sample(rooms, options.seed), time.monotonic() + 60 * options.minutes
    files = {room: len(modules(room)) for room in rooms}
    tried: Counter[str] = Counter()
    killed: Counter[str] = Counter()
    for room, spec in work:
        if time.monotonic() > end:
            break
        outcome, diff = verdict(spec, room)
        tried[room] += 1
        killed[room] += outcome is TestOutcome.KILLED
        if outcome is not TestOutcome.KILLED:
            print(
                f"--- {outcome.value}: {Path(spec.module_path).relative_to(COPY)}",
                diff,
                sep="\n",
                flush=True,
            )
    print(f"| room | files | possible | tried | killed | survived |\n{'| --- ' * 6}|")
    for room in rooms:
        possible = sum(r == room for r, _ in work)
        print(
            f"| {room} | {files[room]} | {possible} | {tried[room]} | {killed[room]} | {tried[room] - killed[room]} |"
        )


if __name__ == "__main__":
    main()
