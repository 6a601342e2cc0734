"""The first three commands of the README with the program of an environment, in an empty folder.

    python tests/docs/first_commands.py build/package/empty/bin

`make package` calls it. The folder holds one volume, made by the same environment; nothing of the checkout is imported.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
COMMANDS = 3
VOLUME = """
import restore
from restore.datasets.simulate.phantom import head_phantom
restore.write(head_phantom((48, 64, 64)), "volume.nii.gz")
"""


def first_commands() -> list[list[str]]:
    """The words of the commands."""
    lines = README.read_text(encoding="utf-8").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if line.startswith("    restore ")]
    return found[:COMMANDS]


def main(programs: str) -> int:
    """programs: the folder bin of an environment. Returns the status of the first command that fails, or 0."""
    place = Path(programs).resolve()
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        made = [str(place / "python"), "-I", "-c", VOLUME]
        for words in (made, *([str(place / "restore"), *w[1:]] for w in first_commands())):
            done = subprocess.run(words, cwd=folder, env=clean, check=False)
            if done.returncode:
                print("failed:", *words)
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
