"""`restore image`: the four tasks on small pictures, with and without --simulate, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from restore.datasets.open import read_image
from restore.datasets.picture.images import write_image
from restore.datasets.sidecar import read_sidecar
from restore.datasets.simulate.phantom import head_phantom

STEPS = 5
TASKS = {
    "inpaint": ["--mask", "{mask}"],
    "deblur": ["--kernel", "gaussian:1.6"],
    "superres": ["--factor", 4],
    "denoise": [],
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with grey.png, rgb.png (64 x 64) and mask.png, white where 60 % are known."""
    folder = tmp_path_factory.mktemp("pictures")
    head = head_phantom((8, 96, 96)).data[:3, 16:80, 16:80] / 1200
    write_image(head[0], folder / "grey.png")
    write_image(0.2 + 0.7 * head, folder / "rgb.png")
    known = np.random.default_rng(0).random((64, 64)) < 0.6
    write_image(known.astype(np.float32), folder / "mask.png")
    return folder


def options(task: str, pictures: Path) -> list[object]:
    extra = [str(o).format(mask=pictures / "mask.png") for o in TASKS[task]]
    return ["--task", task, *extra, "--steps", STEPS]


CONDITIONAL = [
    (s, t) for s in ("resshift", "rddm", "mrs") for t in ("superres", "deblur", "inpaint")
]
OTHERS = [
    ("rad", "inpaint"),
    ("ddrm", "superres"),
    ("reddiff", "inpaint"),
    ("stsl", "deblur"),
    ("flowchef", "inpaint"),
]


SLOW = [(s, "deblur") for s in ("resshift", "rddm", "mrs")]  # their inpainting does not differ


@pytest.mark.parametrize(
    ("sampler", "task"),
    [pytest.param(*p, marks=[pytest.mark.slow] if p in SLOW else []) for p in CONDITIONAL + OTHERS],
)
def test_every_sampler_runs_with_the_bundled_prior_of_its_kind(
    pictures, verb, tmp_path, sampler, task
):
    out = tmp_path / "out.png"
    chosen = options(task, pictures)
    few = (
        chosen[:-2] if (sampler, task) in CONDITIONAL else chosen
    )  # these take two steps by themselves
    command = ["image", pictures / "rgb.png", "-o", out, *few]
    result = verb(*command, "--sampler", sampler, "--simulate", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    kind = {
        "rad": "natural-rad",
        "stsl": "natural",
        "ddrm": "natural",
        "reddiff": "natural",
        "flowchef": "natural",
    }
    assert record["prior"]["name"] == kind.get(sampler, "natural-restore")
    assert record["sampler"] == sampler
    metrics = record["metrics"]
    assert metrics["restored"]["psnr"] > metrics["degraded"]["psnr"]


CLASSICAL = [
    ("biharmonic", "inpaint", ["--mask", "{mask}"]),
    ("nlm", "denoise", ["--noise", 0.1]),
    ("richardson-lucy", "deblur", ["--kernel", "motion:9:30", "--noise", 0.01]),
    ("unsupervised-wiener", "deblur", ["--kernel", "defocus:3", "--noise", 0.01]),
]


@pytest.mark.parametrize(("sampler", "task", "extra"), CLASSICAL)
@pytest.mark.parametrize("picture", ["grey.png", "rgb.png"])
def test_classical_samplers_run_without_a_network(
    pictures, verb, tmp_path, sampler, task, extra, picture
):
    out = tmp_path / "out.png"
    told = [str(o).format(mask=pictures / "mask.png") for o in extra]
    command = ["image", pictures / picture, "-o", out, "--task", task, *told, "--sampler", sampler]
    result = verb(*command, "--simulate", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert (record["sampler"], record["prior"]) == (sampler, None)
    assert record["metrics"]["restored"]["psnr"] > record["metrics"]["degraded"]["psnr"] + 0.5
    assert read_image(out).data.shape == read_image(pictures / picture).data.shape


def test_a_classical_sampler_of_another_task_is_refused(pictures, verb, tmp_path):
    command = ["image", pictures / "rgb.png", "-o", tmp_path / "out.png", "--sampler", "biharmonic"]
    result = verb(*command, "--task", "denoise", "--noise", 0.1)
    assert result.exit_code == 2
    assert "nlm" in result.stderr
    assert not (tmp_path / "out.png").exists()


def test_luma_restores_lightness_with_the_grey_prior(pictures, verb, tmp_path):
    out = tmp_path / "out.png"
    command = ["image", pictures / "rgb.png", "-o", out, *options("superres", pictures), "--luma"]
    result = verb(*command, "--simulate", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["prior"]["name"] == "medical"
    assert record["luma"] == {"lightness": "Y of YCbCr", "colour": ["bicubic"]}
    assert record["metrics"]["restored"]["psnr"] > record["metrics"]["degraded"]["psnr"]
    assert read_image(out).data.shape == (3, 64, 64)
    assert "lightness only" in verb(*command, "--overwrite").stdout


def test_a_task_that_a_conditional_prior_never_saw_is_refused(pictures, verb, tmp_path):
    command = ["image", pictures / "rgb.png", "-o", tmp_path / "out.png", "--task", "denoise"]
    result = verb(*command, "--noise", 0.1, "--sampler", "resshift")
    assert result.exit_code == 2
    assert "was trained for" in result.stderr
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", [pytest.param("grey", marks=pytest.mark.slow), "rgb"])
@pytest.mark.parametrize("task", TASKS)
def test_simulation_says_how_well_it_came_back(pictures, verb, tmp_path, task, kind):
    out = tmp_path / "out.png"
    command = ["image", pictures / f"{kind}.png", "-o", out, *options(task, pictures)]
    result = verb(*command, "--noise", 0.05, "--simulate", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["prior"]["name"] == {"grey": "medical", "rgb": "natural"}[kind]
    metrics = record["metrics"]
    assert metrics["restored"]["psnr"] > metrics["degraded"]["psnr"]
    assert metrics["restored"]["ssim"] > metrics["degraded"]["ssim"]
    assert names(tmp_path) == ["out.json", "out.png", "out_degraded.png"]
    truth, restored = (read_image(p).data for p in (pictures / f"{kind}.png", out))
    error = np.mean((restored - truth) ** 2)
    assert -10 * np.log10(error) == pytest.approx(metrics["restored"]["psnr"], abs=0.1)
    small = 16 if task == "superres" else 64
    assert read_image(tmp_path / "out_degraded.png").data.shape[-2:] == (small, small)


@pytest.mark.parametrize("task", TASKS)
def test_a_picture_that_is_degraded_already(pictures, verb, tmp_path, task):
    out = tmp_path / "out.png"
    photo = pictures / "grey.png"
    result = verb("image", photo, "-o", out, *options(task, pictures), "--noise", 0.02)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}: {task} by dds\n"
    assert names(tmp_path) == ["out.json", "out.png"]
    size = 256 if task == "superres" else 64
    assert read_image(out).data.shape == (1, size, size)
    record = read_sidecar(out)
    assert record["sources"][0]["File"] == "grey.png"
    assert "metrics" not in record
    assert "/" not in json.dumps(record).replace("slice", "")


def test_white_is_known_and_stays_and_black_is_filled(pictures, verb, tmp_path):
    photo = read_image(pictures / "grey.png").data.copy()
    known = read_image(pictures / "mask.png").data[0] > 0.5
    spoilt, out = tmp_path / "spoilt.png", tmp_path / "out.png"
    write_image(np.where(known, photo, 1.0), spoilt)
    command = ["image", spoilt, "-o", out, "--steps", 12, "--noise", 0]
    assert verb(*command, "--task", "inpaint", "--mask", pictures / "mask.png").exit_code == 0
    restored = read_image(out).data
    kept, filled = (np.abs(restored - photo)[0][m] for m in (known, ~known))
    assert kept.mean() < 0.01
    assert filled.mean() < 0.08
    assert np.abs(1.0 - photo)[0][~known].mean() > 0.5


def test_two_samples_give_a_deviation_too(pictures, verb, tmp_path):
    out = tmp_path / "out.png"
    command = ["image", pictures / "grey.png", "-o", out, *options("inpaint", pictures)]
    # Known pixels keep the spread that their noise leaves
    assert verb(*command, "--noise", 0.005, "--samples", 2).exit_code == 0
    assert names(tmp_path) == ["out.json", "out.png", "out_interval.png", "out_std.png"]
    known = read_image(pictures / "mask.png").data[0] > 0.5
    deviation = read_image(tmp_path / "out_std.png").data[0]
    assert deviation[~known].mean() > 2 * deviation[known].mean()


@pytest.mark.parametrize(
    ("task", "sampler"),
    [("inpaint", "tv"), ("deblur", "wavelet"), ("superres", "bicubic"), ("denoise", "tv")],
)
def test_classical_samplers_need_no_prior(pictures, verb, tmp_path, task, sampler):
    out = tmp_path / "out.png"
    steps = [] if sampler == "bicubic" else ["--steps", 10]
    command = ["image", pictures / "rgb.png", "-o", out, *options(task, pictures)[:-2], *steps]
    result = verb(*command, "--noise", 0.05, "--sampler", sampler)
    assert result.exit_code == 0, result.stderr
    assert read_sidecar(out)["prior"] is None
    assert read_image(out).data.shape[0] == 3


def test_the_seed_decides(pictures, verb, tmp_path):
    command = ["image", pictures / "grey.png", *options("denoise", pictures), "--noise", 0.1]
    for name, seed in (("a", 0), ("b", 0), ("c", 5)):
        assert verb(*command, "-o", tmp_path / f"{name}.png", "--seed", seed).exit_code == 0
    a, b, c = (read_image(tmp_path / f"{name}.png").data for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_deep_pictures_stay_deep(pictures, verb, tmp_path):
    deep = tmp_path / "deep.png"
    write_image(read_image(pictures / "grey.png").data, deep, bits=16)
    command = ["image", deep, *options("denoise", pictures), "--noise", 0.05]
    for name, bits in (("out.png", 16), ("out.tif", 16), ("out.jpeg", 8)):
        result = verb(*command, "-o", tmp_path / name)
        assert result.exit_code == 0, result.stderr
        assert read_image(tmp_path / name).bits == bits


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--task", "inpaint"], 2, "needs a mask"),
        (["--task", "deblur"], 2, "needs a kernel"),
        (["--task", "deblur", "--kernel", "gauss:1"], 2, "gauss"),
        (["--task", "sharpen"], 2, "unknown task 'sharpen'"),
        (["--task", "denoise", "--mask", "{mask}"], 2, "leave it out"),
        (["--task", "denoise", "--kernel", "disk:3"], 2, "leave it out"),
        (["--task", "deblur", "--kernel", "disk:2", "--sampler", "bicubic"], 2, "bicubic"),
        (
            ["--task", "denoise", "--sampler", "fbp"],
            2,
            "fbp serves CT with filtered backprojection",
        ),
        (["--task", "denoise", "--sampler", "ddss"], 2, "did you mean 'dds'?"),
        (["--task", "denoise", "--set", "step=3"], 2, "no setting 'step'"),
        (["--task", "denoise", "--prior", "natural"], 2, "use prior 'medical'"),
        (["--task", "inpaint", "--mask", "{small}"], 4, "the mask is 32 x 64 pixels"),
        (["--task", "inpaint", "--mask", "none.png"], 3, "none.png"),
        (["--task", "inpaint", "--mask", "strokes:3"], 2, "which only --simulate has a use for"),
        (["--task", "inpaint", "--mask", "box:65"], 2, "is not a part of a picture of 64 x 64"),
        (["--task", "inpaint", "--mask", "box:8", "--sampler", "rad"], 2, "no bundled one serves"),
        (
            ["--task", "inpaint", "--mask", "box:8", "--sampler", "rad", "--prior", "medical"],
            2,
            "rad needs a region",
        ),
        (
            ["--task", "superres", "--sampler", "rad"],
            2,
            "rad serves inpainting with pixels as they are",
        ),
        (["--task", "denoise", "--device", "cuda"], 9, "use --device cpu"),
    ],
)
def test_refusals(pictures, verb, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    small = tmp_path / "small.png"
    write_image(np.ones((64, 32), np.float32), small)
    given = [a.format(mask=pictures / "mask.png", small=small) for a in arguments]
    result = verb("image", pictures / "grey.png", "-o", tmp_path / "out.png", *given)
    assert result.exit_code == code, result.stderr
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert names(tmp_path) == ["small.png"]


@pytest.mark.parametrize("mask", ["box:16x8+4+40", "strokes:2", "random:0.5"])
def test_masks_in_words(pictures, verb, tmp_path, mask):
    """The same mask at every call, and told in the record, by which the run is repeated."""
    command = [
        "image",
        pictures / "rgb.png",
        "--task",
        "inpaint",
        "--mask",
        mask,
        "--sampler",
        "biharmonic",
    ]
    for name in ("a.png", "b.png"):
        result = verb(*command, "-o", tmp_path / name, "--simulate", "--noise", 0)
        assert result.exit_code == 0, result.stderr
    missing = read_image(tmp_path / "a_degraded.png").data.max(0) == 0
    assert np.array_equal(missing, read_image(tmp_path / "b_degraded.png").data.max(0) == 0)
    if mask.startswith("box"):
        assert missing[40:48, 4:20].all()
    again = ("image", pictures / "rgb.png", "-o", tmp_path / "again.png")
    repeated = verb(*again, "--config", tmp_path / "a.json")
    assert repeated.exit_code == 0, repeated.stderr
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "a.png").read_bytes()


def test_files_that_cannot_be(pictures, verb, tmp_path):
    photo = pictures / "grey.png"

    def code(source: Path, out: Path, *more: object) -> int:
        return verb("image", source, "-o", out, "--task", "denoise", *more).exit_code

    text = tmp_path / "text.png"
    text.write_text("hello")
    assert code(tmp_path / "none.png", tmp_path / "out.png") == 3
    assert code(text, tmp_path / "out.png") == 4
    assert code(photo, tmp_path / "out.gif") == 2
    assert code(photo, tmp_path / "no" / "out.png") == 5
    assert code(photo, photo, "--overwrite") == 5
    assert code(photo, text) == 5
    assert text.read_text() == "hello"
    (tmp_path / "out_degraded.png").write_text("precious")
    assert code(photo, tmp_path / "out.png", "--simulate") == 5
    assert names(tmp_path) == ["out_degraded.png", "text.png"]


def test_bits_that_out_cannot_hold_are_said(pictures, verb, tmp_path):
    colour = read_image(pictures / "rgb.png").data
    write_image(colour, tmp_path / "deep.tif", bits=16)
    result = verb(
        "image", tmp_path / "deep.tif", "-o", tmp_path / "d.jpg", *options("denoise", pictures)
    )
    assert "16 bits per channel were read, .jpg files hold 8: rounded" in result.stderr
    write_image(colour, tmp_path / "float.tif", bits=32, unit=7.0)
    result = verb(
        "image", tmp_path / "float.tif", "-o", tmp_path / "d.png", *options("denoise", pictures)
    )
    assert "hold 16: rounded, as shares of" in result.stderr


def test_transparency_is_kept_and_serves_as_a_mask(pictures, verb, tmp_path):
    colour = read_image(pictures / "rgb.png").data
    alpha = (np.random.default_rng(1).random((1, 64, 64)) < 0.9).astype(np.float32)
    write_image(np.where(alpha > 0, colour, 0), tmp_path / "a.png", alpha=alpha)
    denoise = [*options("denoise", pictures), "--noise", 0.02]
    verb("image", tmp_path / "a.png", "-o", tmp_path / "d.png", *denoise)
    kept = read_image(tmp_path / "d.png")
    assert kept.alpha is not None
    np.testing.assert_array_equal(kept.alpha, alpha)
    assert (
        verb("image", tmp_path / "a.png", "-o", tmp_path / f"{'a' * 300}.png", *denoise).exit_code
        == 5
    )
    refused = verb("image", tmp_path / "a.png", "-o", tmp_path / "d.jpg", *denoise)
    assert refused.exit_code == 2
    assert "JPEG holds no transparency" in refused.stderr
    arguments = ["--task", "inpaint", "--mask", "alpha", "--steps", STEPS]
    verb("image", tmp_path / "a.png", "-o", tmp_path / "f.png", *arguments)
    filled = read_image(tmp_path / "f.png")
    assert filled.alpha is None
    missing = np.broadcast_to(alpha == 0, colour.shape)
    # Single pixels in a smooth head: filled within a few grey levels, where black is 0.5 off.
    assert np.abs(filled.data - colour)[missing].mean() < 0.1


@pytest.mark.parametrize(("side", "said"), [(20, False), (40, True)])
def test_what_fills_a_large_hole_is_called_a_guess(pictures, verb, tmp_path, side, said):
    mask = f"box:{side}x{side}+4+4"
    result = verb(
        "image", pictures / "rgb.png", "-o", tmp_path / "a.png", "--task", "inpaint", "--mask", mask, "--noise", 0,
        "--sampler", "biharmonic",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert ("is a guess" in result.stderr) == said
    notes = read_sidecar(tmp_path / "a.json")["notes"]
    assert any("is a guess" in note for note in notes) == said
