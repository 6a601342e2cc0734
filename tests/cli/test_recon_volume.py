"""`restore simulate mri --encoding 3d` and `restore recon` of what it wrote, from files to files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scan-files.md"


def test_the_commands_of_the_page(
    small_head: Path, verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of docs/scan-files.md in order, on a small head."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(small_head, "volume.nii.gz")
    text = PAGE.read_text(encoding="utf-8").partition("### Volumes")[2]
    commands = re.search(r"```sh\n(.*?)```", text, re.DOTALL)[1].splitlines()  # type: ignore[index]
    for command in commands:
        done = verb(*command.split()[1:])
        assert done.exit_code == 0, (command, done.stderr)
        assert "does not explain" not in done.stderr
    truth = nibabel.load(small_head)
    for name, bound in (("cgsense", 0.25), ("dds", 0.3)):
        found = nibabel.load(f"volume-{name}.nii.gz")
        # Steps are few, and so are pixels: the bounds tell an image from none. 0.12 and 0.16 seen.
        error = np.linalg.norm(found.get_fdata() - truth.get_fdata())
        assert error < bound * np.linalg.norm(truth.get_fdata())
        np.testing.assert_array_equal(found.affine, truth.affine)


def test_words_that_do_not_go_together(small_head: Path, verb, tmp_path: Path) -> None:
    for words, told in (
        (("--mask", "random"), "mask 'random' is none of a volume"),
        (("--as", "fastmri"), "--encoding 3d is for --as scan"),
        (("--trajectory", "radial:9"), "--encoding is for Cartesian k-space"),
        (("--mask", "caipi:2x9"), "caipi:2x9 of 24 columns and 8 partitions"),
    ):
        done = verb(
            "simulate", "mri", small_head, "-o", tmp_path / "scan.h5", "--encoding", "3d", *words
        )
        assert done.exit_code == 2
        assert told in " ".join(done.stderr.split())
