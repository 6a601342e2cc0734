"""How long the command line and the imports take to start, each in a process of its own.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/start_up.py [--rounds 9]

"beyond torch" is the import of the package and of all that `restore.solve` needs, with torch
imported before, less torch alone. Peers' imports stand below for comparison where they are found.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys

from timing import Work, interleaved, one_thread, print_versions

PROGRAMS = {
    "python alone": "pass",
    "import restore": "import restore",
    "import torch": "import torch",
    "torch and restore": "import torch, restore",
    "torch and restore.solve": "import torch; from restore import solve",
}


def call(*arguments: str) -> Work:
    """A run of this Python."""
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    one_thread()
    print_versions("deepinv", "sigpy")
    works = {"restore --help": call("-m", "restore.cli", "--help")}
    works |= {name: call("-c", program) for name, program in PROGRAMS.items()}
    for peer in ("sigpy", "deepinv"):
        if importlib.util.find_spec(peer) is not None:
            works[f"import {peer}"] = call("-c", f"import {peer}")
    times = interleaved(works, args.rounds)
    torch_alone = times["import torch"]
    for name in ("restore", "restore.solve"):
        times[f"{name} beyond torch"] = times[f"torch and {name}"].less(torch_alone)
    print(f"{'':28}{'CPU s':>9}{'wall s':>9}")
    for name, s in times.items():
        print(f"{name:28}{s.cpu:9.3f}{s.wall:9.3f}")


if __name__ == "__main__":
    main()
