"""`restore sample`: pictures from a prior alone, to see what it takes for likely."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import console
from restore.cli.config_option import config_file, verb
from restore.cli.options import Device, Overwrite, Precision, Settings, Steps
from restore.cli.output import check_output

if TYPE_CHECKING:
    from torch import Tensor

    from restore.pipelines.prior_draws import PriorDraws

ARRAY = ".npy"


@verb("sample")
def command(
    *,
    prior: Annotated[
        str, typer.Option(help="A bundled name, a name to fetch, or a file: a denoiser or a latent prior.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="OUT",
            help="PNG, JPEG or TIFF with all draws in rows, or .npy with their values, (count, C, H, W). Default: "
            "PRIOR-draws.png here.",
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many pictures.")] = 4,
    size: Annotated[
        str, typer.Option(metavar="N|HxW", help="Side of a picture in pixels, or height x width.")
    ] = "64",
    seed: Annotated[
        int, typer.Option(help="Seed; picture k is the same whatever the count is.")
    ] = 0,
    steps: Steps = None,
    settings: Settings = None,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:  # fmt: skip
    """Draw pictures from a prior, without any measurement: what it shows here it will also fill gaps with.

    Walks dds's chain (stsl's for latent priors) as an ODE from noise to a picture; --set changes its settings.
    """
    from restore.config import parse_assignments
    from restore.pipelines.devices import choose_device
    from restore.pipelines.prior_draws import draw_from
    from restore.precision import checked

    target = out or Path(f"{Path(prior).stem}-draws.png")
    _check(target, prior, overwrite)
    chosen = choose_device(device)
    asked: dict[str, Any] = dict(parse_assignments(settings or []))
    asked |= {} if steps is None else {"n_steps": str(steps)}
    with console.progress(f"draws from {prior}", total=count) as advance:
        found = draw_from(
            prior, count=count, size=_size(size), seed=seed, settings=asked,
            device=chosen, precision=checked(precision), on_draw=advance,
        )  # fmt: skip
    record = _written(found, target, str(chosen))
    console.notes(record["notes"])
    if json:
        console.result_json(record)
        return
    figures = record["figures"]
    console.result(
        f"{target}: {count} of {record['prior']}, {record['evaluations']} evaluations each, mean "
        f"{figures['mean']:.3f}, deviation {figures['deviation']:.3f}, "
        f"{100 * figures['share_outside_range']:.2f} % of the values outside its range"
    )


def _check(target: Path, prior: str, overwrite: bool) -> None:
    """Raise ConfigError, OutputError for a name that draws and their record cannot have."""
    from restore.datasets.picture.images import SUFFIXES
    from restore.datasets.sidecar import check_record
    from restore.errors import ConfigError

    known = (*SUFFIXES, ARRAY)
    if target.suffix.lower() not in known:
        raise ConfigError(f"{target}: draws are written as {', '.join(known)}")
    check_output(target, prior, config_file(), overwrite=overwrite)
    check_record(target)


def _written(found: PriorDraws, target: Path, device: str) -> dict[str, Any]:
    """Write draws and record, which it returns. Raises ConfigError, OutputError."""
    from restore.datasets.sidecar import environment, write_sidecar

    notes = list(found.notes)
    if target.suffix.lower() == ARRAY:
        _save_array(found.images, target)
    else:
        notes += _save_picture(found.images, target)
    record = {
        **found.record, "notes": notes, "outputs": [target.name], "environment": environment(device)
    }  # fmt: skip
    write_sidecar(target, record)
    return record


def _save_array(images: Tensor, target: Path) -> None:
    import numpy as np

    from restore.datasets.atomic import atomic_file

    values = images.numpy()
    with (
        atomic_file(target, expected_bytes=values.nbytes) as partial,
        Path(partial).open("wb") as f,
    ):
        np.save(f, values)


def _save_picture(images: Tensor, target: Path) -> list[str]:
    """All draws in one picture; notes on what was clipped. Raises ConfigError."""
    from restore.datasets.picture.images import write_image
    from restore.errors import ConfigError

    if images.shape[1] not in (1, 3):
        raise ConfigError(
            f"{target}: pictures have 1 or 3 channels, these draws have {images.shape[1]}; write {ARRAY}"
        )
    clipped = write_image(rows_of(images).numpy(), target)
    share = clipped / images.numel()
    return [f"{100 * share:.2g} % of the values were clipped to 0..1"] if clipped else []


def rows_of(images: Tensor) -> Tensor:
    """Pictures (N, C, H, W) in rows of about a square, white between them: (C, rows (H + 1), columns (W + 1))."""
    import torch

    n, channels, height, width = images.shape
    columns = max(1, round((n * height / width) ** 0.5))
    columns = n if n <= 4 else columns
    rows = -(-n // columns)
    sheet = torch.ones(rows * columns, channels, height + 1, width + 1)
    sheet[:n, :, :height, :width] = images
    sheet = sheet.reshape(rows, columns, channels, height + 1, width + 1)
    joined = sheet.permute(2, 0, 3, 1, 4).reshape(channels, rows * (height + 1), -1)
    return joined[:, :-1, :-1]


def _size(text: str) -> tuple[int, int]:
    """Height and width. Raises ConfigError."""
    from restore.errors import ConfigError

    parts = text.lower().split("x")
    if len(parts) > 2 or not all(p.isascii() and p.isdigit() and 0 < int(p) < 10**6 for p in parts):
        raise ConfigError(
            f"--size {text}: expected pixels, such as 64, or HEIGHTxWIDTH, such as 48x64"
        )
    return int(parts[0]), int(parts[-1])
