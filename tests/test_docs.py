"""Pages of docs/ whose code and commands run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from restore.bench.results import load
from restore.cli import app
from restore.datasets.fetch_table import entries
from restore.datasets.mri.fastmri_files.fastmri_write import write_fastmri_file
from restore.datasets.open import write
from restore.datasets.picture.images import write_image
from restore.datasets.simulate.fastmri_files import simulate_fastmri
from restore.datasets.simulate.phantom import head_phantom
from restore.priors.families.known import FAMILIES
from restore.priors.store import read_card
from restore.scaling import PEAK_RULE

DOCS = Path(__file__).resolve().parents[1] / "docs" / "benchmarking.md"


def block(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) == 1
    return found[0]


def installed(folder: Path) -> None:
    """What pip leaves behind: the module, and metadata with its entry points."""
    (folder / "landweber.py").write_text(block("python"), encoding="utf-8")
    metadata = folder / "landweber-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: landweber\nVersion: 0.1\n")
    group, entry = re.search(r'entry-points\."(.+?)"\]\n(\w+) = "(.+?)"', block("toml")).group(1, 2)
    target = re.search(rf'{entry} = "(.+?)"', block("toml"))[1]
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{entry} = {target}\n")


def test_ones_own_method_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "multicoil_val").mkdir()
    scan = simulate_fastmri(head_phantom((3, 40, 52)), coils=3, slices=slice(1, 2))
    write_fastmri_file(scan, tmp_path / "multicoil_val" / "file1000001.h5")

    def restore(*arguments: object) -> str:
        done = CliRunner().invoke(app, [str(a) for a in arguments])
        assert done.exit_code == 0, done.stderr
        return done.stdout

    assert "landweber" in restore("list", "samplers")
    restore("bench", "fastmri", ".", "--acceleration", 4, "-o", "run",
            "--samplers", "zerofilled,landweber,longer=landweber:n_steps=80")  # fmt: skip
    rows = {row.method: row for row in load(tmp_path / "run")}
    assert rows["longer"].settings == {"n_steps": 80}
    assert rows["longer"].misfit < rows["landweber"].misfit < rows["zerofilled"].misfit


RUN_FILES = DOCS.with_name("run-files.md")


def test_the_commands_on_run_files_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file and every command of docs/run-files.md, in order, on a small head and a small photograph."""
    monkeypatch.chdir(tmp_path)
    text = RUN_FILES.read_text(encoding="utf-8")
    head = head_phantom((6, 40, 40))
    write(head, tmp_path / "volume.nii.gz")
    (tmp_path / "photographs").mkdir()
    for path in (tmp_path / "photograph.png", tmp_path / "photographs" / "one.png"):
        write_image(head.data[3][None] / 1200, path)
    for content in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        name = re.match(r"# (\S+\.yaml)\n", content).group(1)
        (tmp_path / name).write_text(content, encoding="utf-8")
    commands = [
        line
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    commands.sort(
        key=lambda line: "simulate" not in line
    )  # the page begins with what most people do
    assert len(commands) == 8
    for command in commands:
        program, *arguments = command.split()
        assert program == "restore"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, f"{command}\n{done.stderr}"
    assert (tmp_path / "again.nii.gz").read_bytes() == (tmp_path / "head.nii.gz").read_bytes()
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "restored.png").read_bytes()


def test_the_examples_on_coils_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Every example of docs/coils.md prints what it finds."""
    text = DOCS.with_name("coils.md").read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(code, "coils.md", "exec"), {})  # noqa: S102
        assert capsys.readouterr().out


def test_the_table_of_the_page_on_fetching_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = DOCS.with_name("fetching.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "table.yaml").write_text(table.replace("sha256: ...", f"sha256: '{'0' * 64}'"))
    monkeypatch.setenv("RESTORE_TABLES", str(tmp_path / "table.yaml"))
    assert "phantoms" in CliRunner().invoke(app, ["data", "fetch"]).stdout
    assert [f.name for f in entries("priors")["knee"].files] == ["knee.safetensors", "knee.json"]


def test_the_page_on_priors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its commands, in order, on the sample of an NCSN++ checkpoint; its table has every kind that there is."""
    text = DOCS.with_name("priors.md").read_text(encoding="utf-8")
    samples = Path(__file__).parent / "golden" / "checkpoints" / "ncsnpp"
    for path in samples.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    scan = simulate_fastmri(head_phantom((2, 24, 22)), coils=2, columns=22)
    write_fastmri_file(scan, tmp_path / "scan.h5")
    monkeypatch.chdir(tmp_path)
    commands = re.search(r"```sh\n(.*?)```", text, re.DOTALL)[1].splitlines()
    assert [c.split()[:3] for c in commands[:3]] == [
        ["restore", "models", v] for v in ("inspect", "convert", "check")
    ]
    for command in commands:
        result = CliRunner().invoke(app, command.split()[1:])
        assert result.exit_code == 0, (command, result.stderr)
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(FAMILIES)


def test_the_page_on_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its commands, in order, on NIfTI files of spheres with texture; a few steps of a tiny network are trained."""
    grid = np.linspace(-1, 1, 40)
    ball = np.clip(1.2 - grid[:, None, None] ** 2 - grid[:, None] ** 2 - grid[18:21] ** 2, 0, None)
    for k, folder in enumerate(("volumes", "volumes", "volumes", "held_out")):
        (tmp_path / folder).mkdir(exist_ok=True)
        texture = 1 + 0.2 * np.random.default_rng(k).random(ball.shape)
        image = nibabel.Nifti1Image((ball * texture).astype(np.float32), np.diag([1, 1, 5, 1]))
        name = "subject-9" if folder == "held_out" else f"subject-{k}"
        nibabel.save(image, tmp_path / folder / f"{name}.nii.gz")
    tiny = ("--steps", "3", "--batch", "2", "--crop", "16", "--widths", "8,8", "--blocks", "1,1")
    monkeypatch.chdir(tmp_path)
    text = DOCS.with_name("training.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    commands = [line.split() for block in blocks for line in block.splitlines()]
    assert [c[1] for c in commands] == ["train", "simulate", "recon", "train", "recon"]
    for program, *arguments in commands:
        assert program == "restore"
        result = CliRunner().invoke(app, [*arguments, *(tiny if arguments[0] == "train" else ())])
        assert result.exit_code == 0, (arguments, result.stderr)
    for name, complex_mode in (("mine", "separate"), ("complex", "channels")):
        card = read_card(tmp_path / f"{name}.safetensors")
        assert card["scaling"] == {"MR": PEAK_RULE}
        assert (card["complex_mode"], set(card["denoising_psnr_db"])) == (
            complex_mode,
            {"15", "25", "50"},
        )
        assert (tmp_path / f"{name}.validation.png").is_file()
    written = {re.sub("^mine", "", p.name) for p in tmp_path.glob("mine*")}
    assert written == set(re.findall(r"`mine(\.[\w.]+)`", text))
    for out in ("recon", "recon-complex"):
        assert nibabel.load(tmp_path / f"{out}.nii.gz").shape == (40, 40, 3)
