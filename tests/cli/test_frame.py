"""The frame of the command line: verbs, exit codes, what stands on which stream."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import restore
from restore import errors
from restore.cli import VERBS, app, console, main

runner = CliRunner()


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `restore list operators` meet an error."""

    def operators() -> list:
        raise error

    monkeypatch.setattr("restore.cli.listing.operators", operators)


def leave(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `main` as the console script does and give its exit code."""
    monkeypatch.setattr(sys, "argv", ["restore", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_help_lists_each_verb_with_a_line_and_in_order():
    result = runner.invoke(app, ["--help"], terminal_width=100)
    assert result.exit_code == 0
    lines = [line.strip("│ ").split() for line in result.stdout.splitlines()]
    shown = [words[0] for words in lines if words and words[0] in VERBS and len(words) > 3]
    assert shown == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help(verb):
    result = runner.invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_version():
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"restore {restore.__version__}\n")


def test_version_is_that_of_the_distribution():
    from importlib import metadata

    assert metadata.version("restore") == restore.__version__


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RestoreError("went wrong"), 1),
        (errors.ConfigError("went wrong"), 2),
        (errors.NotFoundError("went wrong"), 3),
        (errors.ShapeError("went wrong"), 4),
        (errors.InputError("file", "went wrong"), 4),
        (errors.OutputError("went wrong"), 5),
        (errors.WeightsError("went wrong"), 6),
        (errors.OutOfMemory("went wrong"), 7),
        (errors.DivergenceError("went wrong"), 1),
        (errors.DeviceError("went wrong"), 9),
        (MemoryError(), 7),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_expected_error_is_one_sentence_and_its_code(monkeypatch, error, code):
    failing(monkeypatch, error)
    result = runner.invoke(app, ["list", "operators"])
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("restore: error: ")
    assert result.stderr.count("\n") == 1


def test_a_bug_says_how_to_see_the_traceback(monkeypatch, capsys):
    failing(monkeypatch, ZeroDivisionError("a bug"))
    monkeypatch.delenv("RESTORE_DEBUG", raising=False)
    assert leave(monkeypatch, "list", "operators") == 1
    text = capsys.readouterr().err
    assert "unexpected ZeroDivisionError: a bug" in text
    assert "RESTORE_DEBUG=1" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), errors.ConfigError("a setting")])
def test_debugging_lets_every_error_through(monkeypatch, error):
    failing(monkeypatch, error)
    monkeypatch.setenv("RESTORE_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["restore", "list", "operators"])
    with pytest.raises(type(error)):
        main()


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["list"], ["list", "nonsense"], ["eval", "--unknown"], ["simulate", "pet"]],
)
def test_usage_errors(monkeypatch, arguments):
    assert leave(monkeypatch, *arguments) == 2


def test_a_missing_device_has_its_own_code(tmp_path):
    arguments = ["train", "denoiser", str(tmp_path), "-o", str(tmp_path / "w.safetensors")]
    result = runner.invoke(app, [*arguments, "--device", "cuda:99"])
    assert result.exit_code == 9


def test_as_a_process():
    command = [sys.executable, "-m", "restore.cli"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"restore {restore.__version__}\n")
    done = subprocess.run([*command, "eval"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_reader_that_goes_away_is_no_crash():
    command = f"{sys.executable} -m restore.cli list samplers | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


def test_hostile_names_cannot_steer_the_terminal():
    assert console.printable("a\x1b[2J\nb\udcff") == "a\\x1b[2J\\nb\\udcff"
    assert console.printable("größe 体") == "größe 体"


def test_error_is_one_line(capsys):
    console.error("two\nlines")
    assert capsys.readouterr().err == "restore: error: two lines\n"


def test_json_is_strict(capsys):
    console.result_json({"a": float("inf"), "b": [float("nan"), 1.5], "c": (1,)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": [1]}


@pytest.mark.parametrize(
    ("options", "level"),
    [([], "WARNING"), (["-q"], "ERROR"), (["-v"], "INFO"), (["-vv"], "DEBUG")],
)
def test_verbosity(options, level):
    assert runner.invoke(app, [*options, "list", "operators"]).exit_code == 0
    assert logging.getLogger("restore").level == getattr(logging, level)
    assert console.quiet() == (options == ["-q"])


def test_quiet_drops_remarks_and_keeps_errors(capsys):
    console.configure(quiet=True)
    console.say("a remark")
    console.error("an error")
    console.configure()
    console.notes(["a note"])
    assert capsys.readouterr().err == "restore: error: an error\nnote: a note\n"


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    with console.progress("work", 3) as done:
        done(1)
    assert capsys.readouterr() == ("", "")


def test_progress_draws_on_a_terminal(capsys, monkeypatch):
    console.configure()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with console.progress("scan [bold].h5", 3) as done:
        done(2)
    assert "scan [bold].h5" in capsys.readouterr().err


def test_usage_errors_inside_a_verb_stay_usage_errors(monkeypatch):
    failing(monkeypatch, typer.BadParameter("a parameter"))
    assert runner.invoke(app, ["list", "operators"]).exit_code == 2
