"""Prints the rows of `compare.py` as the tables of RESULTS.md and docs/choosing-a-sampler.md.

    python benchmarks/compare_tables.py benchmarks/compare.jsonl            # prints them
    python benchmarks/compare_tables.py benchmarks/compare.jsonl --write    # puts them between the marks of both

A cell holds means over the images of a task. A difference is the mean over the images of (method - dds), with the 95 %
interval of Student's t; images count as independent, though slices of one volume are alike. Every empty cell says why:
"-" not for this kind of task, "r" refused (the sentences stand below the table), "?" not run. A method that has fewer
images than dds is compared on those, and their number stands beside it.
"""

from __future__ import annotations

import argparse
import datetime
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import TASKS
from compare import NOT_FOR, Job, fits, read_rows
from deepinv_peers import NAMES as PEERS
from scipy import stats

ANCHOR = "dds"
CLASSICAL = (
    "zerofilled", "cgsense", "fbp", "bicubic", "nlm", "biharmonic", "richardson-lucy", "unsupervised-wiener",
    "wavelet", "tv",
)  # fmt: skip
OURS = ("tweedie", "dds")
"""From whose better one RESULTS.md takes the gain: `tweedie` is what denoising takes."""

_SIZES = re.compile(r"\(\d+x[^()]*\)")  # of an operator, in a message

Rows = dict[str, dict[str, Any]]
"""Rows of a task and method by the name of the image."""


class Results:
    """The rows of a file: the last of each image, of the weights and preset that the file saw last."""

    def __init__(self, path: Path) -> None:
        self.cells: dict[tuple[str, str], Rows] = {}
        for row in read_rows(path):
            cell = self.cells.setdefault((row["task"], row["method"]), {})
            if cell and _of(next(iter(cell.values()))) != _of(row):
                cell.clear()
            cell[row["image"]] = row
        self.methods = list(dict.fromkeys(method for _, method in self.cells))

    def of(self, task: str, method: str) -> Rows:
        """Rows with figures."""
        rows = self.cells.get((task, method), {})
        return {name: row for name, row in rows.items() if "refused" not in row}

    def why_empty(self, task: str, method: str) -> str:
        """The mark of an empty cell."""
        said = [row["refused"] for row in self.cells.get((task, method), {}).values()]
        if not said:
            return "?" if fits(task, method) else "-"
        return "-" if NOT_FOR in said else "r"

    def refusals(self) -> list[str]:
        """The sentences behind the cells marked "r", with the methods and tasks; what differs by sizes alone is one."""
        said: dict[str, dict[str, list[str]]] = {}
        for (task, method), rows in self.cells.items():
            for row in rows.values():
                why = row.get("refused", NOT_FOR)
                if why != NOT_FOR:
                    why = _SIZES.sub("", why.removeprefix(f"{method} "))
                    said.setdefault(why, {}).setdefault(method, []).append(task)
        return [
            ", ".join(f"`{m}` ({', '.join(tasks)})" for m, tasks in methods.items()) + f": {why}"
            for why, methods in sorted(said.items())
        ]

    def outdated(self) -> list[str]:
        """Cells whose weights or preset are no longer those of the package."""
        return [
            f"{task} {method}" for (task, method), rows in self.cells.items()
            if _of(next(iter(rows.values()))) != (Job(task, method, 0).weights, Job(task, method, 0).preset)
        ]  # fmt: skip


def _of(row: dict[str, Any]) -> tuple[str, str]:
    return row["weights"], row["preset"]


def difference(rows: Rows, anchor: Rows, figure: str = "psnr") -> tuple[float, float, int]:
    """Mean of rows - anchor over the images that both have, half its 95 % interval, and how many they are."""
    both = [name for name in rows if name in anchor]
    d = np.asarray([rows[name][figure] - anchor[name][figure] for name in both])
    if d.size < 2:
        return (float(d.mean()) if d.size else float("nan")), float("nan"), d.size
    half = float(stats.t.ppf(0.975, d.size - 1) * d.std(ddof=1) / np.sqrt(d.size))
    return float(d.mean()), half, d.size


def mean(rows: Rows, figure: str) -> float:
    """Over the images."""
    return float(np.mean([row[figure] for row in rows.values()]))


def quality(found: Results) -> Callable[[str, str], str]:
    """Cells: PSNR / SSIM."""
    return lambda task, method: (
        f"{mean(found.of(task, method), 'psnr'):.2f} / {mean(found.of(task, method), 'ssim'):.3f}"
    )


def differences(found: Results) -> Callable[[str, str], str]:
    """Cells: PSNR less that of dds on the same images, with half the interval."""

    def cell(task: str, method: str) -> str:
        rows, anchor = found.of(task, method), found.of(task, ANCHOR)
        if method == ANCHOR:
            zero = {name: {"psnr": 0.0} for name in rows}
            middle, half, _ = difference(rows, zero)
            return f"{middle:.2f}{_width(half)}"
        step, half, n = difference(rows, anchor)
        if not n:
            return "? (no dds)"
        return f"{step:+.2f}{_width(half)}" + (f" (n={n})" if n < len(anchor) else "")

    return cell


def _width(half: float) -> str:
    """Half an interval, nothing where one image tells none."""
    return "" if np.isnan(half) else f" ± {half:.2f}"


def cost(found: Results) -> Callable[[str, str], str]:
    """Cells: network evaluations and processor seconds of an image."""
    return lambda task, method: (
        f"{max(r['evaluations'] for r in found.of(task, method).values())}, "
        f"{mean(found.of(task, method), 'seconds'):.1f} s"
    )


def table(
    found: Results,
    methods: Iterable[str],
    tasks: list[str],
    cell: Callable[[str, str], str],
) -> str:
    """Methods down, tasks across."""
    lines = ["| method | " + " | ".join(tasks) + " |", "|" + " --- |" * (len(tasks) + 1)]
    for method in methods:
        cells = [
            cell(task, method) if found.of(task, method) else found.why_empty(task, method)
            for task in tasks
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def gains(found: Results) -> str:
    """RESULTS.md: the best classical method of each task, dds or tweedie, and the gain with its interval."""
    lines = [
        "| task | images | best classical | PSNR / SSIM | ours | PSNR / SSIM | gain in dB | gain in SSIM |",
        "|" + " --- |" * 8,
    ]
    for task in TASKS:
        rivals, ours = ([m for m in names if found.of(task, m)] for names in (CLASSICAL, OURS))
        if not rivals or not ours:
            continue
        best, own = (
            max(names, key=lambda m: mean(found.of(task, m), "psnr")) for names in (rivals, ours)
        )
        pair = found.of(task, own), found.of(task, best)
        up, half, n = difference(*pair)
        likeness, width, _ = difference(*pair, "ssim")
        lines.append(
            f"| {task} | {n} | {best} | {quality(found)(task, best)} | {own} | {quality(found)(task, own)} | "
            f"{up:+.2f} ± {half:.2f} | {likeness:+.3f} ± {width:.3f} |"
        )  # fmt: skip
    return "\n".join(lines)


def samplers(found: Results) -> str:
    """docs/choosing-a-sampler.md: quality, differences from dds, cost, and why cells are empty."""
    ours = [m for m in found.methods if m not in (*CLASSICAL, *PEERS, ANCHOR)]
    methods = [ANCHOR, *sorted(ours), *(m for m in (*CLASSICAL, *PEERS) if m in found.methods)]
    tasks = [t for t in TASKS if any((t, m) in found.cells for m in methods)]
    quality_, differences_, cost_ = (
        table(found, methods, tasks, cell(found)) for cell in (quality, differences, cost)
    )
    refused = "\n".join(f"- {sentence}" for sentence in found.refusals())
    return (
        f"{head(found)}\n\nPSNR in dB / SSIM, means over the images of a task:\n\n{quality_}\n\n"
        "PSNR of dds, and of the others less that of dds on the same images, ± half the 95 % interval:\n\n"
        f"{differences_}\n\nNetwork evaluations, and processor seconds an image:\n\n{cost_}\n\n"
        f"Largest peak memory of a process: {memory(found)} MB. Empty cells: - not for this task; ? not run; r refused:"
        f"\n\n{refused or '- none'}"
    )


def head(found: Results) -> str:
    """When it was measured, on how many images."""
    counts = {t: len(found.of(t, ANCHOR)) for t in TASKS if found.of(t, ANCHOR)}
    images = ", ".join(f"{task} {n}" for task, n in counts.items())
    return f"{datetime.date.today()}, torch {torch.__version__}, one thread of a busy x86 CPU; images: {images}."


def memory(found: Results) -> int:
    """In MB."""
    return max(r.get("memory_mb", 0) for rows in found.cells.values() for r in rows.values())


def write(path: Path, text: str) -> None:
    """Replace what stands between the marks of a document."""
    before, mark, rest = path.read_text(encoding="utf-8").partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- /table -->")
    if not mark or not end:
        raise SystemExit(f"{path}: has no marks <!-- table --> and <!-- /table -->")
    path.write_text(f"{before}{mark}{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Print, or write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", action="store_true", help="into the two documents")
    args = parser.parse_args()
    found = Results(args.results)
    if old := found.outdated():
        print(f"Beware: of former weights or presets: {', '.join(old)}.\n")
    texts = {
        Path("benchmarks/RESULTS.md"): f"{head(found)}\n\n{gains(found)}",
        Path("docs/choosing-a-sampler.md"): samplers(found),
    }
    for path, text in texts.items():
        if args.write:
            write(path, text)
        else:
            print(f"# {path}\n\n{text}\n")


if __name__ == "__main__":
    main()
