"""The fastMRI benchmark on stand-ins made of volumes that no prior was trained on; the tables of FASTMRI.md.

    python benchmarks/fastmri_standins.py ../shared/data -o runs/fastmri

Makes fully sampled stand-in files (T1 head and contrast-enhanced T1 for the table, proton density for tuning), tunes
the baselines, runs both protocols, samples once for calibration, and writes the pages. Every step is a command of
`restore` that is printed before it runs; a second call continues.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path


def restore(*arguments: object) -> None:
    """Print a command and run it with this interpreter."""
    words = [str(a) for a in arguments]
    print("\n$ restore " + shlex.join(words), flush=True)
    subprocess.run([sys.executable, "-m", "restore.cli", *words], check=True)


def standin(volume: Path, slices: str, seed: int, out: Path) -> None:
    """One stand-in file, unless it is there."""
    if not out.exists():
        restore("simulate", "mri", volume, "--as", "fastmri", "-o", out, "--coils", 8,
                "--slices", slices, "--seed", seed, "--oversampling", 2)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    mr, root, out = given.data / "mr", given.out / "data", given.out
    root.mkdir(parents=True, exist_ok=True)
    standin(
        mr / "train" / "chris_T1.nii.gz", "65:146:40", 1, root / "multicoil_val" / "file1000001.h5"
    )
    standin(mr / "dicom_t1", "16:36:16", 2, root / "multicoil_val" / "file1000002.h5")
    standin(mr / "train" / "chris_PD.nii.gz", "25", 3, root / "multicoil_train" / "file1000003.h5")
    restore("data", "fastmri", root)
    restore("bench", "tune", "fastmri-volume", root, "-o", out / "tuned")
    methods = ("--samplers", "zerofilled,cgsense,wavelet,tv,dds", "--tuned", out / "tuned")
    restore("bench", "fastmri", root, *methods, "-o", out / "volume")
    restore("bench", "fastmri", root, "--protocol", "inversebench-mri", "--acceleration", 4,
            "--samplers", "zerofilled,cgsense,wavelet,tv,dds", "-o", out / "slices")  # fmt: skip
    restore("bench", "fastmri", root, "--acceleration", 4, "--volumes", 1, "--samples", 4,
            "--samplers", "dds:n_steps=20,posterior=dds:preset=posterior:n_steps=40",
            "-o", out / "samples")  # fmt: skip
    restore("bench", "compare", f"{out / 'volume'}:dds", f"{out / 'volume'}:tv")
    for run in ("volume", "slices", "samples"):
        restore("report", out / run)


if __name__ == "__main__":
    main()
