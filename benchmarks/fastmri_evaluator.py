"""The fastMRI package's own evaluation of a run, beside the run's rows: they must agree to 1e-6.

    build/peers/bin/python -m pip install --no-deps fastmri==0.3.0 runstats pandas pytz six
    build/peers/bin/python benchmarks/fastmri_evaluator.py RUN FOLDER_OF_TARGETS

FOLDER_OF_TARGETS: the multicoil_val (or singlecoil_val) folder that the run measured. Every volume must be in the run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from fastmri.evaluate import evaluate

from restore.bench.results import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("targets", type=Path)
    given = parser.parse_args()
    key = "reconstruction_esc" if given.targets.name.startswith("single") else "reconstruction_rss"
    rows = [row for row in load(given.run) if row.status == "done"]
    for setting, method in dict.fromkeys((r.setting, r.method) for r in rows):
        folder = given.run / "reconstructions" / setting / method
        asked = SimpleNamespace(
            target_path=given.targets, predictions_path=folder, acquisition=None, acceleration=None
        )
        theirs = evaluate(asked, key).means()
        mine = [r for r in rows if (r.setting, r.method) == (setting, method)]
        for name in ("NMSE", "PSNR", "SSIM"):
            ours = float(np.mean([getattr(r, name.lower()) for r in mine]))
            gap = abs(ours - float(np.squeeze(theirs[name]))) / max(abs(ours), 1)
            print(f"{setting:8s} {method:12s} {name} {ours:.6f}  relative gap {gap:.1e}")
            assert gap < 1e-6, (setting, method, name)


if __name__ == "__main__":
    main()
