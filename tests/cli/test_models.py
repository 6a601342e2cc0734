"""`restore models`: from somebody else's file to a prior that `recon` uses, and what is refused on the way."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from restore.datasets.fetch_table import TABLES
from restore.datasets.fetching import CACHE

GOLDEN = Path(__file__).parents[1] / "golden" / "checkpoints"
NCSNPP = GOLDEN / "ncsnpp" / "checkpoint_ve_continuous.pth"
ADM = GOLDEN / "adm" / "adm_additive_convresample.pt"


@pytest.fixture
def ncsnpp(verb, tmp_path: Path) -> Path:
    """A converted prior of one channel that has all that has to be said."""
    out = tmp_path / "ncsnpp.safetensors"
    result = verb(
        "models", "convert", NCSNPP, "--kind", "ncsnpp", "--config", NCSNPP.with_name("config.json"),
        "--complex-mode", "separate", "-o", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}\n"
    assert "not told" not in result.stderr
    return out


def test_inspect_says_what_a_file_is(verb) -> None:
    result = verb("models", "inspect", ADM)
    assert result.exit_code == 0, result.stderr
    for words in (
        "torch file (zip)",
        "--kind adm",
        "model_channels = 32",
        "to be said: heads, attention order",
    ):
        assert words in result.stdout
    record = json.loads(verb("models", "inspect", NCSNPP, "--json").stdout)
    assert record["families"][0]["kind"] == "ncsnpp"
    assert record["families"][0]["settings"]["num_channels"] == 1
    assert set(record["entries"]) == {"optimizer", "model", "ema", "step"}


def test_inspect_knows_a_model_of_this_package(verb, ncsnpp: Path) -> None:
    result = verb("models", "inspect", ncsnpp)
    assert "a model of this package (ncsnpp)" in result.stdout
    assert json.loads(verb("models", "inspect", ADM, "--json").stdout)["architecture"] is None


def test_a_card_says_where_a_model_is_from(verb, ncsnpp: Path) -> None:
    card = json.loads(verb("models", "show", ncsnpp).stdout)
    assert card["architecture"] == "ncsnpp"
    assert card["meaning"]["range"] == [0.0, 1.0]  # of `centered`
    assert card["source"]["file"] == NCSNPP.name
    assert card["source"]["sha256"] == {
        NCSNPP.name: hashlib.sha256(NCSNPP.read_bytes()).hexdigest()
    }
    assert load_file(ncsnpp)["sigmas"].dtype.itemsize == 8


def test_check_prints_every_difference_and_fails_above_the_tolerance(verb, ncsnpp: Path) -> None:
    io = NCSNPP.with_name("io.npz")
    result = verb("models", "check", ncsnpp, "--io", io)
    assert result.exit_code == 0, result.stderr
    assert "ve_ema_f64" in result.stdout
    assert "same" in result.stdout
    record = json.loads(verb("models", "check", ncsnpp, "--io", io, "--json").stdout)
    assert record["outputs"][0]["difference"] < 1e-10
    assert record["of_other_models_or_readings"] == ["ve_raw_f64"]
    strict = verb("models", "check", ncsnpp, "--io", io, "--tolerance", 1e-20)
    assert strict.exit_code == 6
    assert "DIFFERS" in strict.stdout
    assert "1 of 1 outputs differ" in strict.stderr


def test_another_file_of_outputs_is_no_proof(verb, ncsnpp: Path) -> None:
    result = verb("models", "check", ncsnpp, "--io", GOLDEN / "adm" / "io.npz")
    assert result.exit_code == 4
    assert "has no output that belongs to 'ncsnpp.safetensors'" in result.stderr


def test_recon_uses_a_converted_model(verb, ncsnpp: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    result = verb(
        "recon",
        scans / "mri.h5",
        "-o",
        out,
        "--prior",
        ncsnpp,
        "--sampler",
        "dds",
        "--set",
        "n_steps=2",
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "out.json").read_text())
    assert "ncsnpp" in json.dumps(record["prior"])


def test_recon_asks_for_what_is_not_said(verb, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "adm.safetensors"
    converted = verb(
        "models", "convert", ADM, "--kind", "adm", "--config", ADM.with_name("config.json"), "-o", out
    )  # fmt: skip
    assert converted.exit_code == 0, converted.stderr
    assert "not told by the weights: range; --range LOW:HIGH" in converted.stderr
    result = verb("recon", scans / "mri.h5", "-o", tmp_path / "x.nii.gz", "--prior", out)
    assert result.exit_code == 2
    assert "nothing is guessed" in result.stderr
    said = verb(
        "models", "state", out, "--range", "-1:1", "--schedule", "linear", "--prediction", "eps"
    )
    assert said.exit_code == 0, said.stderr
    colour = verb("recon", scans / "mri.h5", "-o", tmp_path / "x.nii.gz", "--prior", out)
    assert colour.exit_code == 2
    assert "3 channels and cannot serve complex images" in colour.stderr


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--kind", "admm"], 2, "no kind 'admm', did you mean 'adm'"),
        (["--kind", "edm"], 4, "looks like --kind adm"),
        (["--kind", "adm", "--range", "0"], 2, "expected LOW:HIGH"),
        (["--kind", "adm", "--set", "heads"], 2, "expected NAME=VALUE"),
        (["--kind", "adm", "--weights", "best"], 2, "weights are 'ema' or 'raw'"),
        (["--kind", "adm", "--entry", "other.pt"], 2, "has no settings for 'other.pt'"),
        (["--kind", "adm", "--sidecar", "none.json"], 3, "no such file"),
    ],
)  # fmt: skip
def test_refusals(verb, options: list[str], code: int, words: str, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    config = ADM.with_name("config.json")
    result = verb("models", "convert", ADM, "--config", config, "-o", out, *options)
    assert result.exit_code == code, result.stderr
    assert words in result.stderr
    assert not out.exists()


def test_what_is_taken_by_default_is_said(verb, tmp_path: Path) -> None:
    """The attention order shows in no shape."""
    out = tmp_path / "x.safetensors"
    heads = ["--set", "num_heads=2", "--set", "num_heads_upsample=4"]
    result = verb("models", "convert", ADM, "--kind", "adm", "-o", out, *heads)
    assert (
        "said nowhere, taken as the official default: use_new_attention_order=False"
        in result.stderr
    )
    assert json.loads(out.with_suffix(".json").read_text())["assumed"] == [
        "use_new_attention_order=False"
    ]
    said = ["--set", "use_new_attention_order=false", "--overwrite"]
    again = verb("models", "convert", ADM, "--kind", "adm", "-o", out, *heads, *said)
    assert "official default" not in again.stderr


def test_names_that_are_taken_or_wrong(verb, ncsnpp: Path, tmp_path: Path) -> None:
    base = [
        "models",
        "convert",
        NCSNPP,
        "--kind",
        "ncsnpp",
        "--config",
        NCSNPP.with_name("config.json"),
        "-o",
    ]
    assert "choose another name or say --overwrite" in verb(*base, ncsnpp).stderr
    assert verb(*base, ncsnpp, "--overwrite").exit_code == 0
    assert "ends in .safetensors" in verb(*base, tmp_path / "x.pt").stderr


def test_list_has_what_is_bundled(verb) -> None:
    result = verb("models", "list", "--json")
    rows = {r["name"]: r for r in json.loads(result.stdout)}
    assert rows["medical"]["what"] == "denoiser"
    assert rows["medical"]["where"] == "bundled"
    assert verb("models", "show", "medical").exit_code == 0
    assert verb("models", "show", "medicl").exit_code == 6


@pytest.fixture
def site(ncsnpp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A table of a site with one prior, on a server of this machine; an empty cache."""
    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    files = [
        f"      - {{name: {p.name}, url: '{url}/{p.name}', sha256: {hashlib.sha256(p.read_bytes()).hexdigest()}}}"
        for p in (ncsnpp, ncsnpp.with_suffix(".json"))
    ]
    table = ["priors:", "  ours:", "    what: ours", "    licence: internal", "    files:", *files]
    (tmp_path / "table.yaml").write_text("\n".join(table) + "\n")
    monkeypatch.setenv(TABLES, str(tmp_path / "table.yaml"))
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    yield "ours"
    server.shutdown()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_a_site_can_hand_out_converted_models(verb, site: str, tmp_path: Path) -> None:
    rows = {r["name"]: r for r in json.loads(verb("models", "list", "--json").stdout)}
    assert rows[site]["where"] == "to fetch"
    result = verb("models", "fetch", site)
    assert result.exit_code == 0, result.stderr
    assert Path(result.stdout.strip()).is_relative_to(tmp_path / "cache")
    assert "licence: internal" in result.stderr
    assert {r["name"]: r["where"] for r in json.loads(verb("models", "list", "--json").stdout)}[
        site
    ] == "fetched"
    assert (
        verb("models", "check", result.stdout.strip(), "--io", NCSNPP.with_name("io.npz")).exit_code
        == 0
    )
