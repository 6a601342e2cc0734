"""The tables of RESULTS.md: every method on every task, tuned presets; RESULTS.md says what tuning saw.

    python benchmarks/table.py ../shared/data -o benchmarks/results.jsonl
    python benchmarks/table.py --show benchmarks/results.jsonl

Finished rows are not run again: delete a line of the results file to redo it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from tasks import load_tasks

METHODS = {
    "mri": ("zerofilled", "cgsense", "wavelet", "tv", "dds"),
    "ct": ("fbp", "wavelet", "tv", "dds"),
    "inpaint": ("tv", "dds"),
    "deblur": ("tv", "dds"),
    "superres": ("bicubic", "tv", "dds"),
    "denoise": ("tv", "tweedie", "dds"),
}

OURS = ("tweedie", "dds")


def methods(task: str) -> tuple[str, ...]:
    """Methods that make sense for a task."""
    if task.endswith("espirit"):
        return ("dds",)
    kind = task.split()[0].rstrip("0123456789")
    return METHODS["mri" if kind == "dicom" else kind]


def run(data: Path, out: Path, wanted: list[str]) -> None:
    """Fill the results file."""
    done = {(r["task"], r["method"]) for r in load(out)}
    for name, task in load_tasks(data, "test").items():
        if wanted and name not in wanted:
            continue
        for method in methods(name):
            if (name, method) in done:
                continue
            score = task.run(method, "tuned", {})
            record = {"task": name, "method": method}
            record |= {k: round(v, 4) for k, v in dataclasses.asdict(score).items()}
            with out.open("a", encoding="utf-8") as f:
                f.write(json.dumps(record) + "\n")
            print(record, flush=True)


def load(path: Path) -> list[dict[str, Any]]:
    """Rows of a results file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(path: Path) -> None:
    """Print the results as Markdown: PSNR / SSIM, methods in columns."""
    rows = load(path)
    names = list(dict.fromkeys(m for r in rows for m in methods(r["task"])))
    names = [n for n in names if n != "dds"] + ["dds"]
    print("| task | " + " | ".join(names) + " | gain |\n|" + " --- |" * (len(names) + 2))
    for task in dict.fromkeys(r["task"] for r in rows):
        cells = {r["method"]: r for r in rows if r["task"] == task}
        classical = [r["psnr"] for m, r in cells.items() if m not in OURS]
        ours = [r["psnr"] for m, r in cells.items() if m in OURS]
        gain = f"{max(ours) - max(classical):+.1f} dB" if ours and classical else ""
        text = [
            f"{cells[n]['psnr']:.2f} / {cells[n]['ssim']:.3f}" if n in cells else "" for n in names
        ]
        print(f"| {task} | " + " | ".join(text) + f" | {gain} |")


def main() -> None:
    """Run or show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/results.jsonl"))
    parser.add_argument("--tasks", default="", help="names separated by commas; default all")
    parser.add_argument("--show", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.show:
        show(args.show)
    else:
        run(args.data, args.out, [t for t in args.tasks.split(",") if t])


if __name__ == "__main__":
    main()
