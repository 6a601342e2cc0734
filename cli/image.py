"""`restore image`: inpaint, deblur, enlarge or denoise a photograph, or every one of a folder."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from restore.cli import console
from restore.cli.config_option import config_file, verb
from restore.cli.many import Many
from restore.cli.options import Device, Intervals, Overwrite, Precision, Separating, Start
from restore.cli.output import check_output
from restore.cli.picture_list import draw_sheet_of, fingerprint, is_done, mask_of, result_name

if TYPE_CHECKING:
    from torch import Tensor

    from restore.datasets.picture.images import Picture
    from restore.pipelines.degrade import Degradation
    from restore.pipelines.photograph import ImageResult
    from restore.problem import Step

FACTOR, BOUNDARY = 4, "reflect"
_ALPHA = Path("alpha")
"""What --mask takes instead of a picture; further words: `restore.operators.image.masks`."""


def restore_picture(
    photo: Annotated[
        Path,
        typer.Argument(
            metavar="PHOTO",
            help="PNG, JPEG or TIFF, grey or RGB; or several, folders of such files, globs.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="OUT", help="Picture to write, or a folder for it."),
    ],
    task: Annotated[str, typer.Option(help="inpaint, deblur, superres or denoise.")],
    *,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="inpaint: white where pixels are known, black where missing; 'alpha': what PHOTO shows clear; "
            "box:WIDTHxHEIGHT[+LEFT+TOP]; with --simulate also strokes:COUNT, random:KEPT."
        ),
    ] = None,
    kernel: Annotated[
        str,
        typer.Option(
            help="deblur: gaussian:SIGMA, motion:LENGTH:ANGLE, defocus:RADIUS or a file (PNG, TIFF, .npy, .txt)."
        ),
    ] = "",
    factor: Annotated[int, typer.Option(min=2, help="superres: how many times larger.")] = FACTOR,
    boundary: Annotated[str, typer.Option(help="deblur: reflect, circular or valid.")] = BOUNDARY,
    noise: Annotated[
        str | None,
        typer.Option(
            help="Noise standard deviation, 1 = white; 0: exact; auto, and left out: estimated."
        ),
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Degrade PHOTO first; report PSNR and SSIM.")
    ] = False,
    sampler: Annotated[
        str,
        typer.Option(help="auto (dds; tweedie to denoise; split for several samples), or a name."),
    ] = "auto",
    prior: Annotated[
        str,
        typer.Option(
            help="auto (the bundled one of the kind that the sampler needs), a name or a file."
        ),
    ] = "auto",
    sampling: Separating,
    start: Start = "drawn",
    intervals: Intervals,
    luma: Annotated[
        bool,
        typer.Option("--luma", help="Restore lightness with the grey prior, interpolate colours."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the noise, simulated and sampled.")] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print metrics and settings as JSON.")
    ] = False,
) -> bool:
    """Restore a picture; with --simulate degrade it first and say how well it came back.

    --simulate also writes the degraded picture beside OUT as OUT_degraded. Of a folder every picture is restored into
    the folder OUT, where contact_sheet.png shows them; the same command skips what is done.
    """
    sampler = sampling.named(sampler)
    asked = dict(locals())
    mark, interval = fingerprint(asked), intervals.options(sampling.samples)
    import torch

    from restore.datasets.sidecar import environment, foreign_note
    from restore.pipelines.devices import choose_device
    from restore.pipelines.jpeg_noise import jpeg_noise_std
    from restore.pipelines.photograph import restore_image
    from restore.pipelines.vouching import need_not_run
    from restore.pipelines.work_folder import WorkFolder, surroundings, tidy

    if need_not_run(overwrite, lambda: is_done(out, mark)):
        tidy(out, mark)
        _tell_done(out, json)
        return False
    beside = _all_beside(out, sampling.samples > 1, simulate, sampler == "joint")
    inputs = (photo, mask, prior, kernel, start, intervals.calibration)
    outputs, old, left = _places(out, beside, inputs, overwrite, mark)
    chosen = choose_device(device)
    work = WorkFolder(out, mark, surroundings(chosen, precision), overwrite)
    enlarged = factor if task == "superres" and not simulate else 1
    picture = _read(photo, mask, out)
    alpha = None if picture.alpha is None or mask == _ALPHA else torch.from_numpy(picture.alpha)
    degradation, kernel_file, given_notes = _degradation(
        picture, task, mask, kernel, factor, boundary, seed if simulate else None
    )
    run = functools.partial(
        restore_image,
        torch.from_numpy(picture.data), degradation, noise=_noise(noise, task, simulate), simulate=simulate,
        sampler=sampler, prior=prior, samples=sampling.samples, seed=seed, device=chosen, alpha=alpha, luma=luma,
        precision=precision, settings={**sampling.values(), "preset": sampling.preset},
        least_noise=0.0 if simulate else jpeg_noise_std(picture.quantisation), quality=sampling.quality,
        interval=interval, time_limit=sampling.time_limit, start=start,
    )  # fmt: skip
    files, told = _replayed(asked, kernel_file, str(chosen))

    def make() -> tuple[dict[Path, Path], dict[str, Any]]:
        result = _with_progress(photo.name, sampling.samples, run)
        clipped, written = _write_pictures(result, picture, outputs, enlarged, work.folder)
        return written, _record(result.record, files, told) | {
            "notes": [*_notes(picture, out), *given_notes, *result.record["notes"], *left],
            "outputs": [path.name for path in outputs], "fingerprint": mark,
            "environment": environment(str(chosen)), "clipped_values": clipped,
        }  # fmt: skip

    record = work.complete(make, old)
    console.notes(filter(None, [*record["notes"], foreign_note(out)]))
    console.result_json(record) if json else _show(out, record)
    return True


def _replayed(
    asked: dict[str, Any], kernel_file: Path | None, device: str
) -> tuple[dict[str, Path | None], dict[str, Any]]:
    """Files by option, and the other options, by which a record repeats its run."""
    sampling, intervals, mask = asked["sampling"], asked["intervals"], asked["mask"]
    files = {
        "photo": asked["photo"], "mask": None if _in_words(mask) else mask, "kernel": kernel_file,
        "calibration": intervals.calibration,
    }  # fmt: skip
    same = (
        "task",
        "factor",
        "boundary",
        "noise",
        "simulate",
        "sampler",
        "prior",
        "luma",
        "seed",
        "precision",
    )
    told = {name: asked[name] for name in same} | {
        "mask": None if files["mask"] else mask, "kernel": "" if kernel_file else asked["kernel"],
        "preset": sampling.preset, "samples": sampling.samples, "quality": sampling.quality,
        "level": intervals.level, "interval": intervals.interval, "device": device,
        "time-limit": sampling.time_limit,
    }  # fmt: skip
    return files, told


def _with_progress(name: str, samples: int, run: Callable[..., ImageResult]) -> ImageResult:
    """What `run` returns, given an `on_step` that moves a progress bar."""
    with console.progress(name, total=samples) as advance:
        done = 0.0

        def on_step(step: Step) -> None:
            nonlocal done
            done += 1 / step.n
            advance(done)

        return run(on_step=on_step)


def _places(
    out: Path,
    beside: dict[Path, bool],
    inputs: tuple[Path | str | None, ...],
    overwrite: bool,
    mark: str,
) -> tuple[list[Path], list[Path], list[str]]:
    """OUT and what belongs beside it, checked; what an earlier job left there that goes; notes on it (OutputError)."""
    from restore.datasets.sidecar import check_record
    from restore.pipelines.work_folder import outdated, unmoved

    outputs, ready = [out, *(p for p, wanted in beside.items() if wanted)], unmoved(out, mark)
    for path in outputs:
        check_output(path, *inputs, config_file(), overwrite=overwrite or path in ready)
    check_record(out)
    _bits(out, 32)
    return outputs, *outdated(out, [p for p, wanted in beside.items() if not wanted], overwrite)


@functools.wraps(restore_picture)
def _single(**options: Any) -> bool:
    from restore.datasets.atomic import check_name

    photo, out = options["photo"], options["out"]
    check_name(out)
    _refuse_pipes(photo, out)
    return restore_picture(**options | {"out": result_name(photo, out)})


def _one_of_many(**options: Any) -> bool:
    return restore_picture(**options | {"mask": mask_of(options["mask"], options["photo"])})


MANY = Many("photo", "picture", job=_one_of_many, after=draw_sheet_of)
command = verb("image", many=MANY)(_single)


def _refuse_pipes(*paths: Path) -> None:
    from restore.errors import ConfigError

    if any(str(path) == "-" for path in paths):
        raise ConfigError("pictures are not read from or written to a pipe ('-'): name files")


def _write_pictures(
    result: ImageResult, picture: Picture, outputs: list[Path], enlarged: int, folder: Path
) -> tuple[int, dict[Path, Path]]:
    """Write the result with what its source carried, and what belongs beside it, into a folder.

    Returns how many values were clipped, and where the files lie, by their targets.
    """
    from restore.datasets.picture.images import write_image

    out = outputs[0]
    lying = {path: folder / f"result-{i}{path.suffix}" for i, path in enumerate(outputs)}
    clipped = write_image(
        result.restored.numpy(), lying[out], bits=_bits(out, picture.bits), tags=picture.tags.enlarged(enlarged),
        unit=picture.unit, alpha=None if result.alpha is None else result.alpha.numpy(),
    )  # fmt: skip
    more = {
        "std": result.std, "interval": result.interval, "degraded": result.measured, "structured": result.structured,
    }  # fmt: skip
    for what, image in more.items():
        path = lying.get(_beside(out, what))
        if path is not None and image is not None:
            write_image(image.numpy(), path)
    return clipped, lying


def _notes(picture: Picture, out: Path) -> list[str]:
    """What of the source, or of its precision, OUT cannot hold; and what the reader said."""
    kept = _bits(out, picture.bits)
    lost = picture.tags.exif and out.suffix.lower() in (".tif", ".tiff")
    fewer = f"{picture.bits} bits per channel were read, {out.suffix.lower()} files hold {kept}"
    unit = f", as shares of {picture.unit:g}" if picture.bits == 32 else ""
    return [
        *picture.notes,
        *["the EXIF block is not carried over into TIFF"] * bool(lost),
        *[f"{fewer}: rounded{unit}"] * (kept < picture.bits and picture.bits > 8),
    ]


def _show(out: Path, record: dict[str, Any]) -> None:
    for name, figures in record.get("metrics", {}).items():
        console.result(f"{name:18s} PSNR {figures['psnr']:6.2f} dB   SSIM {figures['ssim']:.4f}")
    kept = ", lightness only" if "luma" in record else ""
    console.result(f"{out}: {record['task']} by {record['sampler']}{kept}")


def _record(
    found: dict[str, Any], files: dict[str, Path | None], told: dict[str, Any]
) -> dict[str, Any]:
    """The record of a run, with what it takes to repeat it: "auto" is replaced by what was taken."""
    from restore.pipelines.replay_entries import replayable
    from restore.precision import record_of

    sampler, prior, asked = (told.pop(name) for name in ("sampler", "prior", "precision"))
    if found.get("time_limit", {}).get("repeatable"):
        told["time-limit"] = None  # it ended nothing, and need not be there for the same result
    options = told | {
        "sampler": found["sampler"] if sampler == "auto" else sampler,
        "set": found["settings"],
        "precision": found["precision"],
    }
    if "start" in found:
        options["start"] = found["start"]["noise"]  # whatever becomes of the table
    used = found["prior"] if prior == "auto" else prior
    if found["precision"]:
        found = found | {"precision": record_of(asked, found["precision"])}
    return found | replayable("image", files, options, used if found["prior"] else None)


def _bits(out: Path, source: int) -> int:
    """Bits per channel for a result of this name: the source's as far as it holds them. Raises ConfigError."""
    from restore.datasets.picture.images import SUFFIXES
    from restore.errors import ConfigError

    kind = SUFFIXES.get(out.suffix.lower())
    if kind is None:
        raise ConfigError(f"{out}: pictures are written as {', '.join(SUFFIXES)}")
    if source == 32:
        return {"JPEG": 8, "PNG": 16, "TIFF": 32}[kind]
    return 8 if kind == "JPEG" or source <= 8 else 16


def _noise(text: str | None, task: str, simulate: bool) -> float | Literal["estimate"] | None:
    """What --noise says. Raises ConfigError for no number, and for a simulation that has nothing to restore."""
    from restore.errors import ConfigError

    if text is None or text == "auto":
        if simulate and (text or task == "denoise"):
            raise ConfigError(
                "--simulate adds the noise that --noise gives: give a number above 0 to denoise, or any to the others"
            )
        return "estimate" if text else None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ConfigError(f"--noise is '{text}', expected a number of zero or more, or auto")
    if value > 1:
        raise ConfigError(
            f"--noise is {value:g}, and 1 is white: {value:g} grey levels of 0..255 are --noise {value / 255:.3g}"
        )
    return value


def _degradation(
    picture: Picture, task: str, mask: Path | None, kernel: str, factor: int, boundary: str, seed: int | None
) -> tuple[Degradation, Path | None, list[str]]:  # fmt: skip
    """What was done to the picture, the file of its kernel, and notes. seed: as of `_read_mask`. Raises InputError,
    ConfigError."""
    from restore.pipelines.degrade import Degradation, Task

    _check_for_task(task, factor, boundary)
    psf, file, notes = _kernel(kernel)
    known, said = _read_mask(mask, picture, seed)
    return Degradation(cast(Task, task), known, psf, factor, boundary), file, [*said, *notes]


def _kernel(text: str) -> tuple[str | Tensor, Path | None, list[str]]:
    """A kernel's words, or the values of a file, the file, and notes on them. Raises InputError, ConfigError."""
    from restore.datasets.picture.kernel_files import KERNEL_SUFFIXES, read_kernel
    from restore.operators.image.kernels import given_kernel

    file = Path(text)
    if file.suffix.lower() not in KERNEL_SUFFIXES and not file.is_file():
        return text, None, []
    kernel, notes = given_kernel(read_kernel(file))
    return kernel, file, notes


def _in_words(mask: Path | None) -> bool:
    """Whether --mask says in words what is missing."""
    from restore.operators.image.masks import is_words

    return mask == _ALPHA or (mask is not None and is_words(str(mask)) and not mask.is_file())


def _read_mask(
    path: Path | None, photo: Picture, seed: int | None
) -> tuple[Tensor | None, list[str]]:
    """Which pixels are known, (H, W) of 0 and 1, and notes; None where no mask is given. seed: of a simulated one, None
    where nothing is simulated."""
    if path is None:
        return None, []
    import torch

    from restore.datasets.picture.mask_files import read_mask
    from restore.errors import ConfigError
    from restore.operators.image.masks import parse_mask

    if path == _ALPHA:
        if photo.alpha is None:
            raise ConfigError(f"{photo.source}: has no transparent pixels; give a mask picture")
        return torch.from_numpy(photo.alpha[0] > 0).float(), []
    if _in_words(path):
        if seed is None and not str(path).startswith("box:"):
            raise ConfigError(
                f"--mask {path} draws what is missing, which only --simulate has a use for; give a picture of what "
                "is, or box:WIDTHxHEIGHT+LEFT+TOP"
            )
        return parse_mask(str(path), photo.data.shape[-2], photo.data.shape[-1], seed or 0), []
    known, notes = read_mask(path, photo)
    return torch.from_numpy(known), notes


def _check_for_task(task: str, factor: int, boundary: str) -> None:
    """Refuse options that a task does not know; `Degradation` refuses a mask and a kernel."""
    from restore.errors import ConfigError

    for option, of, told in (
        ("factor", "superres", factor != FACTOR),
        ("boundary", "deblur", boundary != BOUNDARY),
    ):
        if told and task != of:
            raise ConfigError(f"--{option} is for task {of}, not for {task}; leave it out")


def _read(photo: Path, mask: Path | None, out: Path) -> Picture:
    """The picture. Raises InputError, and ConfigError where OUT cannot hold its transparency."""
    from restore.datasets.open import read_image
    from restore.datasets.picture.images import SUFFIXES
    from restore.errors import ConfigError

    picture = read_image(photo)
    if picture.alpha is not None and mask != _ALPHA and SUFFIXES[out.suffix.lower()] == "JPEG":
        raise ConfigError(
            f"{out}: JPEG holds no transparency, which {photo.name} has; write PNG or TIFF"
        )
    return picture


def _tell_done(out: Path, json: bool) -> None:
    from restore.datasets.sidecar import read_sidecar
    from restore.pipelines.vouching import said_of_done

    if json:
        console.result_json(read_sidecar(out))
    else:
        console.result(said_of_done(out))


def _all_beside(out: Path, several: bool, simulated: bool, separated: bool) -> dict[Path, bool]:
    """What can lie beside OUT, and whether it is made."""
    made = {"std": several, "interval": several, "degraded": simulated, "structured": separated}
    return {_beside(out, what): wanted for what, wanted in made.items()}


def _beside(out: Path, what: str) -> Path:
    return out.with_name(f"{out.stem}_{what}{out.suffix}")
