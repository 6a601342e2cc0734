"""Run files: what they may say, how it joins with what is typed, and what is refused by name."""

from __future__ import annotations

import inspect
import re
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from restore.cli import app
from restore.cli.config_option import DEEPEST
from restore.cli.config_option import verb as make_verb
from restore.datasets.plain_yaml import LARGEST_BYTES, read_plain_yaml
from restore.datasets.sidecar import read_sidecar
from restore.errors import InputError

WITH_CONFIG = [
    ["recon"], ["image"], ["eval"], ["simulate", "mri"], ["simulate", "ct"], ["bench", "fastmri"],
    ["bench", "ct"], ["bench", "images"], ["bench", "tune"], ["train", "denoiser"],
    ["train", "conditional"], ["train", "resshift"], ["train", "autoencoder"], ["train", "latent"],
    ["train", "varnet"], ["distill"],
]  # fmt: skip


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("words", WITH_CONFIG, ids=" ".join)
def test_every_verb_with_a_run_takes_one(words):
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"}, color=False)
    assert "--config" in re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)


def test_the_file_says_what_could_be_typed(scans, verb, tmp_path):
    run = written(
        tmp_path,
        f"verb: recon\nscan: {scans / 'mri.h5'}\nsampler: dds\nkeep_phase: yes\nseed: 5\nsteps: 4\n"
        "noise-std: 1e1\nset: {gamma: 2.5, gamma_end: null}\nmaps: ~\n",
    )
    by_file, typed = tmp_path / "file.nii.gz", tmp_path / "typed.nii.gz"
    result = verb("recon", "--config", run, "-o", by_file)
    assert result.exit_code == 0, result.stderr
    arguments = ["--keep-phase", "--seed", 5, "--steps", 4, "--noise-std", 10]
    arguments += ["--set", "gamma=2.5", "--set", "gamma_end=none"]
    assert verb("recon", scans / "mri.h5", "-o", typed, *arguments).exit_code == 0
    assert by_file.read_bytes() == typed.read_bytes()
    assert read_sidecar(by_file)["fingerprint"] == read_sidecar(typed)["fingerprint"]


def test_what_is_typed_wins_name_by_name(scans, verb, tmp_path):
    run = written(tmp_path, "sampler: dds\nseed: 5\nsteps: 4\nset: {gamma: 2.5, eta: 0.5}\n")

    def made(*typed: object) -> dict:
        out = tmp_path / "out.nii.gz"
        result = verb("recon", scans / "ct.h5", "--config", run, "-o", out, "--overwrite", *typed)
        assert result.exit_code == 0, result.stderr
        record = read_sidecar(out)
        return record["sampler"] | {"seed": record["options"]["seed"]}

    base = made()
    assert (base["n_steps"], base["gamma"], base["eta"], base["seed"]) == (4, 2.5, 0.5, 5)
    other = made("--set", "gamma=1", "--set", "n_steps=2", "--seed", 0)
    assert (other["n_steps"], other["gamma"], other["eta"], other["seed"]) == (2, 1.0, 0.5, 0)
    assert made("--steps", 3)["n_steps"] == 3


def test_values_keep_the_text_that_stands_there(verb, scans, tmp_path):
    """YAML would read 1:8:3 as a number of base sixty and 2e0 as text."""
    run = written(
        tmp_path,
        f"volume: {scans / 'mr.nii.gz'}\nslices: 1:8:3\ncoils: 4\njson: true\nmask: random\nacceleration: 2e0\n",
    )
    result = verb("simulate", "mri", "--config", run, "-o", tmp_path / "scan.h5")
    assert result.exit_code == 0, result.stderr
    assert '"slices": [\n  1,\n  4,\n  7\n ]' in result.stdout


REFUSED = {
    "smapler: dds": (2, "'smapler' is no option of `restore recon`, did you mean 'sampler'"),
    "config: x.yaml": (2, "'config' is no option"),
    "samples: many": (2, "samples: 'many' will not do"),
    "samples: 0": (2, "samples: '0' will not do"),
    "seed: 2.5": (2, "seed: '2.5' will not do"),
    "keep_phase: 3": (2, "keep_phase: true or false was expected, got '3'"),
    'overwrite: "true"': (2, "overwrite: true or false was expected, got 'true'"),
    "sampler: [dds, tv]": (2, "sampler: one value was expected, got a list"),
    "seed: {a: 1}": (2, "seed: one value was expected, got names with values"),
    "verb: image": (2, "is for the verb 'image', not for 'restore recon'"),
    "set:\n  gama: 3": (2, "DDS has no setting 'gama', did you mean 'gamma'"),
    "set:\n  n_steps: many": (2, "n_steps"),
    "a: &x 1\nb: *x": (4, "line 1: an anchor or alias"),
    "seed: 1\nseed: 2": (4, "line 2: 'seed' is given twice"),
    "set: {eta: 1, eta: 2}": (4, "'eta' is given twice"),
    "a: {<<: {b: 1}}": (4, "a name must be plain text"),
    "? [a]\n: 1": (4, "a name must be plain text"),
    '!!python/object/apply:os.system ["true"]': (4, "the tag tag:yaml.org,2002:python/object/apply:os.system"),
    "seed: !!int 3": (4, "the tag"),
    "- seed": (4, "holds no names with values"),
    "seed": (4, "holds no names with values"),
    "seed: [1": (4, "not YAML: line 2, column 1"),
    "seed: 1\n---\nseed: 2": (4, "not YAML"),
    "a: {b: {c: {d: {e: 1}}}}": (4, "more than 4 levels deep"),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_meant_is_refused_by_name(scans, verb, tmp_path, text):
    code, words = REFUSED[text]
    run = written(tmp_path, text + "\n")
    result = verb(
        "recon", scans / "ct.h5", "-o", tmp_path / "o.nii.gz", "--config", run, "--dry-run"
    )
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert "run.yaml" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["run.yaml"]


def test_an_empty_file_says_nothing(scans, verb, tmp_path):
    for text in ("", "# nothing\n", "---\n"):
        run = written(tmp_path, text)
        result = verb(
            "recon", scans / "ct.h5", "-o", tmp_path / "o.nii.gz", "--config", run, "--dry-run"
        )
        assert result.exit_code == 0, result.stderr


def test_a_file_that_is_not_there_is_not_found(scans, verb, tmp_path):
    result = verb(
        "recon", scans / "ct.h5", "-o", tmp_path / "o.nii.gz", "--config", tmp_path / "none.yaml"
    )
    assert result.exit_code == 3
    assert "none.yaml" in result.stderr


def test_hostile_files_end_soon(tmp_path):
    """A bomb of aliases, depth without end, size without end, bytes that are no text: a sentence each, at once."""
    layers = "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12))
    bombs = [
        "a0: &a0 [x]\n" + layers,
        "[" * 100_000,
        "a: {" * 50_000,
        "- " * 60_000,
        "a: " + "x" * LARGEST_BYTES,
    ]
    start = time.perf_counter()
    for bomb in bombs:
        with pytest.raises(InputError):
            read_plain_yaml(written(tmp_path, bomb), DEEPEST)
    for content in (b"\xff\xfe\x00", b"\x00", b"a: \xc3\x28"):
        (tmp_path / "run.yaml").write_bytes(content)
        with pytest.raises(InputError):
            read_plain_yaml(tmp_path / "run.yaml", DEEPEST)
    # Each is refused at the first offending event or byte; a busy machine may take long for a few of them.
    assert time.perf_counter() - start < 30


def test_json_that_is_no_record_is_a_run_file(scans, verb, tmp_path):
    run = tmp_path / "run.json"
    run.write_text('{"sampler": "tv", "set": {"n_steps": 5}, "overwrite": true}', encoding="utf-8")
    result = verb("recon", scans / "ct.h5", "-o", tmp_path / "o.nii.gz", "--config", run)
    assert result.exit_code == 0, result.stderr
    assert read_sidecar(tmp_path / "o.nii.gz")["sampler"]["n_steps"] == 5


def test_settings_of_a_benchmark_go_by_method(verb, tmp_path):
    """Two levels, lists and flat names are what --set METHOD.NAME=VALUE takes."""
    seen = []

    def command(
        assigned: list[str] | None = typer.Option(None, "--set", metavar="METHOD.NAME=VALUE"),
    ) -> None:
        seen.append(assigned)

    one = typer.Typer()
    one.command()(make_verb("bench")(command))
    run = written(
        tmp_path, "set: {dds: {n_steps: 8, eta: 1}, tv.iterations: 5, grid: {w: [1, 2]}}\n"
    )
    result = CliRunner().invoke(one, ["--config", str(run), "--set", "dds.eta=0"])
    assert result.exit_code == 0, result.output
    assert seen == [["dds.n_steps=8", "dds.eta=1", "tv.iterations=5", "grid.w=1,2", "dds.eta=0"]]


def test_a_verb_keeps_its_signature():
    """Only --config and the context join the options of a function; its docstring is the help."""

    def command(a: int, b: str = "x") -> None:
        """What it does."""

    made = make_verb("some verb")(command)
    assert list(inspect.signature(made).parameters) == ["a", "b", "context", "config"]
    assert made.__doc__ == "What it does."
