"""Verbs with many inputs: folders, parts, a bad file aside, done work skipped, weights read once, signals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from restore.cli import signals
from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import head_phantom

QUICK = ["--sampler", "zerofilled"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans a.h5 and sub/b.h5, a cut one, bad.h5, and a text."""
    folder = tmp_path_factory.mktemp("many") / "scans"
    (folder / "sub").mkdir(parents=True)
    head = head_phantom((2, 32, 32))
    for seed, name in enumerate(("a", "sub/b")):
        scan = simulate_mri(head, coils=2, acceleration=2, center_fraction=0.3, seed=seed)
        write_fastmri(scan, folder / f"{name}.h5")
    (folder / "bad.h5").write_bytes((folder / "a.h5").read_bytes()[:3000])
    (folder / "readme.txt").write_text("none of these")
    return folder


def results(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.nii.gz"))}


def lines(out: Path, part: str = "") -> list[dict[str, object]]:
    text = (out / f"restore-jobs{part}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_of_scans_one_bad_and_again(sources, verb, tmp_path):
    out = tmp_path / "out"
    first = verb("recon", sources, "-o", out, *QUICK)
    assert first.exit_code == 8
    assert "left out: 1 of 4 files, which hold no scan (.txt)" in first.stderr
    assert "\nfailed: bad.h5: " in first.stderr
    assert "1 of 3 inputs failed: bad.h5; the others are done" in first.stderr
    assert list(results(out)) == ["a.nii.gz", "sub/b.nii.gz"]
    assert [(j["name"], j["state"], j.get("exit_code")) for j in lines(out)] == [
        ("a.h5", "done", None), ("bad.h5", "failed", 4), ("sub/b.h5", "done", None)
    ]  # fmt: skip
    assert lines(out)[2]["output"] == "sub/b.nii.gz"
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    again = verb(
        "recon", sources, "-o", out, *QUICK, "--overwrite"
    )  # replaces what is of other jobs
    assert again.stderr.count("done before") == 2
    assert "--overwrite does it again" not in again.output
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    other = verb("recon", sources / "a.h5", sources / "sub", "-o", out, "--sampler", "cgsense")
    assert other.exit_code == 5
    assert "is not the result of this job" in other.stderr


def test_parts_together_give_the_bits_of_the_whole(sources, verb, tmp_path, monkeypatch):
    noisy = ["--sampler", "dds", "--steps", 2, "--seed", 5]
    names = [sources / "a.h5", sources / "sub" / "b.h5"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert verb("recon", *names, "-o", whole, *noisy).exit_code == 0
    assert verb("recon", *names, "-o", parts, *noisy, "--part", "2/2").exit_code == 0
    assert list(results(parts)) == ["sub/b.nii.gz"]
    for name, value in {"ID": 4, "MIN": 4, "MAX": 6, "STEP": 2, "COUNT": 2}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    task = verb("recon", *names, "-o", parts, *noisy)
    assert "part 1/2 of 2 inputs, as this task of Slurm's array says" in task.stderr
    assert results(parts) == results(whole)
    assert [j["name"] for j in lines(parts, "-1-of-2")] == ["a.h5"]
    assert "part 3/3 has none" in verb("recon", *names, "-o", parts, "--part", "3/3").stderr
    assert verb("recon", *names, "-o", parts, "--part", "4/3").exit_code == 2


def test_weights_of_a_list_are_read_once(sources, verb, tmp_path, monkeypatch):
    from restore.priors import store

    read: list[str] = []
    load = store.load_prior
    monkeypatch.setattr(store, "load_prior", lambda name: read.append(name) or load(name))
    names = [sources / "a.h5", sources / "sub" / "b.h5"]
    assert (
        verb("recon", *names, "-o", tmp_path / "o", "--sampler", "dds", "--steps", 1).exit_code == 0
    )
    assert len(read) == 1


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["{s}", "-o", "{s}"], 5, "among their sources"),
        (["{s}", "-o", "{t}/one.nii.gz"], 5, "is the name of a file, and there are 3 inputs"),
        (["{s}", "-o", "{t}/no/out"], 5, "make it first"),
        (["{s}/*.mrd", "-o", "{t}/o"], 3, "nothing there matches"),
        (["{s}", "-o", "{t}/o", "--participant-label", "01"], 4, "no BIDS tree"),
        (["{s}/a.h5", "-o", "{t}/o.nii", "--bids", "suffix=T1w"], 2, "--bids is for BIDS trees"),
        (["{s}", "-o", "{t}/{{x}}.nii"], 2, "needs {name}"),
        (["{s}", "-o", "{t}/o", "--json"], 2, "--json is for one input"),
        (["{s}", "-o", "{t}/o", "--part", "0/2"], 2, "1 <= K <= N"),
        (["{s}/a.h5", "{s}/sub/b.h5", "-o", "{t}/{{number}}/../x{{number}}"], 2, "'..'"),
    ],
)
def test_lists_that_cannot_be(sources, verb, tmp_path, words, code, told):
    result = verb("recon", *(w.format(s=sources, t=tmp_path) for w in words), *QUICK)
    assert result.exit_code == code, result.stderr
    assert told in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_a_rehearsal_leaves_nothing_behind(sources, verb, tmp_path):
    result = verb("recon", sources, "-o", tmp_path / "{folder}" / "{name}.tif", *QUICK, "--dry-run")
    assert result.exit_code == 8
    assert result.stdout.count("ZeroFilled()") == 2
    assert result.stderr.count(": looked at") == 2
    assert list(tmp_path.iterdir()) == []


def test_volumes_of_a_bids_tree_become_scans_and_are_restored(small_head, verb, tmp_path):
    tree = tmp_path / "bids"
    for sub in ("01", "02"):
        place = tree / f"sub-{sub}" / "anat"
        place.mkdir(parents=True)
        shutil.copy(small_head, place / f"sub-{sub}_T1w.nii.gz")
    told = ["--participant-label", "02", "--slices", "3", "--coils", 2]
    result = verb("simulate", "mri", tree, "-o", tmp_path / "sim", *told)
    assert result.exit_code == 0, result.stderr
    made = [p.name for p in (tmp_path / "sim").rglob("*.h5")]
    assert made == ["sub-02_T1w.h5"]
    again = verb("simulate", "mri", tree, "-o", tmp_path / "sim", *told, "--overwrite")
    assert "sub-02_T1w.nii.gz: done before" in again.stderr


def test_sigterm_says_by_its_code_that_the_same_command_goes_on(
    sources, verb, tmp_path, monkeypatch
):
    from restore.pipelines import run_recon

    names = [sources / "a.h5", sources / "sub" / "b.h5"]
    complete = run_recon.WorkFolder.complete

    def ended(self, *args):
        if self.out.name == "b.nii.gz":
            raise signals.Ended(15)
        return complete(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(run_recon.WorkFolder, "complete", ended)
        result = verb("recon", *names, "-o", tmp_path / "o", *QUICK)
        assert result.exit_code == 75
        assert "1 of 2 inputs are finished: the same command goes on" in result.stderr
        assert [j["state"] for j in lines(tmp_path / "o")] == ["done", "waiting"]
        assert verb("recon", names[1], "-o", tmp_path / "b.nii.gz", *QUICK).exit_code == 75
    again = verb("recon", *names, "-o", tmp_path / "o", *QUICK)
    assert again.exit_code == 0
    assert again.stderr.count("done before") == 1


def test_a_command_as_an_array_job(sources, verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = verb(
        "submit", "--time", "2:00:00", "--max", 2, "--", "recon", sources, "-o", "my out", *QUICK
    )
    assert result.exit_code == 0, result.stderr
    assert "restore-recon.sh: 3 tasks" in result.stdout
    assert "3 input(s): a.h5, bad.h5, sub/b.h5" in result.stderr
    script = (tmp_path / "restore-recon.sh").read_text()
    assert "#SBATCH --array=1-3%2\n#SBATCH --time=2:00:00\n" in script
    assert " -o 'my out' --sampler zerofilled)\n" in script
    assert [p.name for p in tmp_path.iterdir()] == ["restore-recon.sh"]
    named = verb(
        "submit", "-o", "b.sh", "--tasks", 4, "--", "bench", "images", "photos", "-o", "run"
    )
    assert "b.sh: 4 tasks" in named.stdout
    assert "job-name=restore-bench-images" in (tmp_path / "b.sh").read_text()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["recon", "nowhere.h5", "-o", "x.nii"], 3, "no such file"),
        (["recon", "{s}", "-o", "{s}"], 5, "among their sources"),
        (["recon", "{s}", "-o", "o", "--part", "1/2"], 2, "leave it out"),
        (["recon", "{s}", "-o", "o", "--nonsense"], 2, "No such option"),
        (["bench", "images", "p", "-o", "o"], 2, "--tasks N"),
        (["doctor"], 2, "has no --part"),
        (["simulate"], 2, "not a whole command"),
        (["recno", "{s}"], 2, "no verb of restore"),
    ],
)
def test_commands_that_are_no_array_job(sources, verb, tmp_path, monkeypatch, words, code, told):
    monkeypatch.chdir(tmp_path)
    result = verb("submit", "--", *(w.format(s=sources) for w in words))
    assert result.exit_code == code, result.stderr
    assert told in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_results_are_compared_with_references_of_their_names(small_head, verb, tmp_path):
    made, known = tmp_path / "made", tmp_path / "known"
    for folder in (made / "sub", known / "sub"):
        folder.mkdir(parents=True)
    image = nibabel.load(small_head)
    values = np.asarray(image.dataobj)
    for name, factor in (("a", 1.1), ("sub/b", 0.8), ("sub/c", 1.0)):
        nibabel.save(
            nibabel.Nifti1Image(values * np.float32(factor), image.affine), made / f"{name}.nii.gz"
        )
    shutil.copy(made / "a.nii.gz", made / "a_std.nii.gz")  # stands beside a result and is none
    for name in ("a", "sub/b"):
        shutil.copy(small_head, known / f"{name}.nii.gz")
    result = verb("eval", made, "--reference", known, "--json")
    assert result.exit_code == 8
    told = json.loads(result.stdout)
    assert [r["name"] for r in told["results"]] == ["a.nii.gz", "sub/b.nii.gz"]
    assert told["failed"][0]["name"] == "sub/c.nii.gz"
    assert [round(r["nmse"], 4) for r in told["results"]] == [0.01, 0.04]  # (factor - 1)^2
    assert told["summary"]["nmse"]["mean"] == pytest.approx(0.025, rel=1e-4)
    table = verb("eval", made / "a.nii.gz", made / "sub" / "b.nii.gz", "--reference", small_head)
    assert table.exit_code == 0, table.stderr
    assert [line.split()[0] for line in table.stdout.splitlines()] == [
        "PSNR", "a.nii.gz", "sub/b.nii.gz", "mean", "deviation"
    ]  # fmt: skip
