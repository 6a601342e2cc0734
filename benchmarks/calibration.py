"""Make the table of factors for the bundled priors, task by task, and try it on volumes that it was not made on.

    python benchmarks/calibration.py ../shared/data mri4            # mri8, ct60, ct30, superres, inpaint: a task a call
    python benchmarks/calibration.py ../shared/data mri4 --check    # coverage on other volumes, for docs/intervals.md

Each call adds its task to restore/priors/calibration.json (or --table) and takes 1 to 5 minutes of one thread.
Of the volumes the abdomen and the brain atlas were seen in training, the others not: there are too few. --sampler: what
`--samples` is to draw with. A table of more volumes, and of one's own kind, is worth more.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from restore.cli import app
from restore.pipelines.factors import bundled_table

SAMPLES = "8"
TWO = "ct/train/[at]*mm.nii.gz"  # abdomen and thorax
MADE_ON: dict[str, tuple[str, str, str]] = {
    "mri4": ("mri", "mr/train/chris_T1.nii.gz", "--acceleration 4 --slices 100:101"),
    "mri8": ("mri", "mr/train/chris_T1.nii.gz", "--acceleration 8 --slices 100:101"),
    "ct60": ("ct", TWO, "--views 60 --limited none --slices 30:80:30"),
    "ct30": ("ct", TWO, "--views 30 --limited none --slices 30:80:30"),
    "superres": ("images", "images/val/[1-4]*.jpg", "--tasks superres --noise 0 --crop 96"),
    "inpaint": ("images", "images/val/[1-4]*.jpg", "--tasks inpaint --noise 0 --crop 96"),
}
"""Of each task: kind of data, files, options."""
CHECKED_ON: dict[str, tuple[str, str, str]] = {
    "mri4": ("mri", "mr/train/chris_PD.nii.gz", "--acceleration 4 --slices 27:28"),
    "mri8": ("mri", "mr/train/chris_PD.nii.gz", "--acceleration 8 --slices 27:28"),
    "ct60": ("ct", "ct/train/brain_atlas_1mm.nii.gz", "--views 60 --limited none --slices 80:81"),
    "ct30": ("ct", "ct/train/brain_atlas_1mm.nii.gz", "--views 30 --limited none --slices 80:81"),
    "superres": ("images", "images/val/[5-9]*.jpg", "--tasks superres --noise 0 --crop 96"),
    "inpaint": ("images", "images/val/[5-9]*.jpg", "--tasks inpaint --noise 0 --crop 96"),
}


def main() -> None:
    """One task from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with mr, ct and images")
    parser.add_argument("task", choices=MADE_ON)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--sampler", default="auto")
    parser.add_argument("--table", type=Path, default=bundled_table())
    parser.add_argument("--volumes", default="8", help="photographs, at most")
    asked = parser.parse_args()
    kind, pattern, options = (CHECKED_ON if asked.check else MADE_ON)[asked.task]
    files = sorted(asked.data.resolve().glob(pattern))
    with tempfile.TemporaryDirectory() as folder:
        for file in files:  # a folder of just these
            (Path(folder) / file.name).symlink_to(file)
        where = ["--check" if asked.check else "-o", str(asked.table)]
        how = ["--sampler", asked.sampler, "--samples", SAMPLES, "--volumes", asked.volumes]
        app(["calibrate", kind, folder, *options.split(), *how, *where])


if __name__ == "__main__":
    main()
