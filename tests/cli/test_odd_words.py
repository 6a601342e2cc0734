"""Words on the command line that no job can have: empty and endless names, numbers without end. A sentence, no work."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import signal
import sys
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from restore.cli import app

LONG = "n" * 300
TRAIN = ("train", "denoiser", "PICTURES", "-o", "OUT.safetensors")


@pytest.fixture
def there(tmp_path, monkeypatch) -> Path:
    """A folder to stand in with a volume and a picture."""
    monkeypatch.chdir(tmp_path)
    nibabel.save(nibabel.Nifti1Image(np.ones((16, 16, 2), np.float32), np.eye(4)), "v.nii")
    (tmp_path / "pictures").mkdir()
    PIL.Image.fromarray(np.full((16, 16), 99, np.uint8)).save("pictures/p.png")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("simulate", "mri", "VOLUME", "-o", ""), 5, "names no file"),
        (("simulate", "mri", "VOLUME", "-o", LONG), 5, "choose a shorter one"),
        (("simulate", "mri", LONG, "-o", "OUT.h5"), 3, "no such file"),
        (("recon", LONG, "-o", "OUT.nii"), 3, "no such file"),
        (("image", LONG, "-o", "OUT.png", "--task", "denoise"), 4, "too long"),
        (("eval", "VOLUME", "--reference", "VOLUME", "--data-range", "1e300"), 2, "data range"),
        (("simulate", "ct", "VOLUME", "-o", "OUT.h5", "--arc", "1e300"), 2, "at most 3600"),
        (("simulate", "mri", "VOLUME", "-o", "OUT.h5", "--as", "fastmri", "--test", "1000000000"), 2, ""),
        (("report", "pictures", "--report-mb", "inf"), 2, "--report-mb"),
        ((*TRAIN, "--threads", "-1"), 2, "--threads"),
        ((*TRAIN, "--threads", "1000000000"), 2, "--threads"),
        ((*TRAIN, "--seed", "-1"), 2, "--seed"),
        ((*TRAIN, "--seed", "1" + "0" * 30), 2, "--seed"),
        (("bench", "images", "PICTURES", "-o", "OUT", "--samplers", "nlm", "--part", "9/9"), 2, "none of the"),
    ],
)  # fmt: skip
def test_words_that_no_job_can_have(there, verb, words, code, said):
    names = {"VOLUME": "v.nii", "PHOTO": "pictures/p.png", "PICTURES": "pictures"}
    result = verb(*(names.get(word, word) for word in words))
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert sorted(p.name for p in there.rglob("*")) == ["p.png", "pictures", "v.nii"]


def test_a_benchmark_of_names_of_any_bytes(there, verb):
    Path("pictures/p.png").rename(os.fsdecode(b"pictures/caf\xe9.png"))
    result = verb("bench", "images", "pictures", "-o", "run", "--samplers", "nlm", "--tasks", "denoise",
                  "--noise", 0.1, "--crop", 16)  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert verb("report", "run").exit_code == 0


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 5), (errno.EMFILE, 4)])
def test_what_the_system_refuses_is_no_fault_of_the_program(verb, monkeypatch, number, code):
    def operators() -> list:
        raise OSError(number, os.strerror(number), "somewhere")

    monkeypatch.setattr("restore.cli.listing.operators", operators)
    result = verb("list", "operators")
    assert result.exit_code == code
    assert f"somewhere: {os.strerror(number)}" in result.stderr


@pytest.mark.parametrize("name", [LONG, "a\0b", "/"])
def test_a_record_that_names_a_file_that_cannot_be(there, verb, name):
    record = {
        "IntendedUse": "Research use only, not for diagnosis.", "run": {"verb": "recon"},
        "sources": [{"Option": "scan", "File": name, "SHA256": "ab" * 32}],
    }  # fmt: skip
    Path("r.json").write_text(json.dumps(record))
    result = verb("recon", "--config", "r.json", "-o", "x.nii")
    assert result.exit_code == 4
    assert "which no file system has" in result.stderr


def test_without_a_log_the_work_is_done(there, verb, monkeypatch):
    """stderr closed by the caller, or a log on a full disk."""
    command = ["simulate", "mri", "v.nii", "--coils", 2]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        assert verb_without_runner(*command, "-o", "a.h5") == 0
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", FullLog())
        assert (
            verb_without_runner("image", "pictures/p.png", "-o", "b.png", "--task", "denoise") == 0
        )
    assert {"a.h5", "b.png"} <= {p.name for p in there.iterdir()}


class FullLog(io.StringIO):
    """A text file on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def verb_without_runner(*words: object) -> int:
    """The exit code of a verb that finds the streams as they are."""
    try:
        app([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # h5py's own, later
def test_a_full_disk_in_the_middle_of_a_benchmark(there, verb):
    """HDF5 says it as a RuntimeError of its own."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        result = verb("bench", "images", "pictures", "-o", "run", "--samplers", "nlm", "--tasks", "denoise",
                      "--noise", 0.1, "--crop", 16)  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    assert result.exit_code == 5
    assert "File too large" in result.stderr
    assert not list(there.rglob(".restore-*"))
