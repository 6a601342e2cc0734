"""Try settings of a sampler on the tuning part of the tasks: how the tuned presets were chosen.

    python benchmarks/tune.py ../shared/data --tasks mri4,mri8 --sampler dds "cg_iters=10" "cg_iters=20 n_steps=60"

Each quoted argument is one candidate: settings separated by spaces. Every line is appended to RESULTS as JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from tasks import load_tasks

from restore.config import parse_assignments


def main() -> None:
    """Run every candidate on every task."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("candidates", nargs="*", default=[""])
    parser.add_argument("--tasks", default="mri4,mri8,ct60,ct30,inpaint,deblur,superres,denoise")
    parser.add_argument("--sampler", default="dds")
    parser.add_argument("--preset", default="tuned")
    parser.add_argument("--results", type=Path, default=Path("runs/tune.jsonl"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_intermixed_args()
    torch.set_num_threads(args.threads)
    args.results.parent.mkdir(parents=True, exist_ok=True)
    tasks = load_tasks(args.data, "tune")
    for name in args.tasks.split(","):
        for candidate in args.candidates:
            score = tasks[name].run(args.sampler, args.preset, parse_assignments(candidate.split()))
            record = {
                "task": name,
                "sampler": args.sampler,
                "preset": args.preset,
                "settings": candidate,
            }
            record |= {k: round(v, 4) for k, v in dataclasses.asdict(score).items()}
            with args.results.open("a", encoding="utf-8") as f:
                f.write(json.dumps(record) + "\n")
            print(f"{name:9s} {args.sampler:7s} {score.psnr:6.2f} dB {score.ssim:.4f} {score.seconds:5.0f} s "
                  f"misfit {score.misfit:.2f}  {candidate}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
