"""Compare a series over time with its reference, frame by frame.

Called by the command line, benchmarks and scripts; touches no file. No torch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError
from restore.pipelines.evaluate import Compared, Evaluation, compared_pair, figures


@dataclasses.dataclass(frozen=True)
class SeriesEvaluation:
    """Figures of every frame, of one data range and one factor; `to_dict` has the names of `restore eval --json`.

    notes: on the series as a whole.
    """

    frames: tuple[Evaluation, ...]
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> int:
        """The frame of the lowest PSNR."""
        return int(np.argmin([frame.psnr for frame in self.frames]))

    def mean(self, name: str) -> float:
        """Of a figure over the frames."""
        return float(np.mean([getattr(frame, name) for frame in self.frames]))

    def to_dict(self) -> dict[str, Any]:
        """What the frames share; psnr, ssim and nmse as means over them; `frames`: those of each; `worst_frame`."""
        shared = self.frames[0].to_dict()
        names = ("psnr", "ssim", "nmse")
        notes = list(dict.fromkeys(note for frame in self.frames for note in frame.notes))
        notes += self.notes
        return (
            shared
            | {name: self.mean(name) for name in names}
            | {"notes": tuple(notes), "worst_frame": self.worst}
            | {"frames": [{name: getattr(f, name) for name in names} for f in self.frames]}
        )


def evaluate_series(
    image: Volume,
    reference: Volume,
    *,
    slices: slice | None = None,
    rescale: bool = False,
    data_range: float | None = None,
    align: bool = False,
) -> SeriesEvaluation:
    """`evaluate_volume` of every frame: frame t of the image with frame t of the reference.

    data_range: by default that of the reference over the compared slices of all frames. rescale: by one factor, the
    least-squares fit of all frames: one of each would hide intensities that waver. align is refused: it would move each
    frame elsewhere, and motion is what a series is judged by. Raises ConfigError (also for other numbers of frames),
    GeometryError, InputError.
    """
    if align:
        raise ConfigError(
            "--align moves volumes, and would move each frame of a series elsewhere; leave it out"
        )
    if image.frames != reference.frames:
        raise ConfigError(
            f"{image.source or 'image'}: {image.frames} frames, and the reference {reference.source or ''} has "
            f"{reference.frames}; compare series of as many, or choose one volume of the reference with --volume"
        )
    pairs = [compared_pair(image.frame(t), reference.frame(t), slices) for t in range(image.frames)]
    found, rule = _range(pairs) if data_range is None else (data_range, "given")
    factor, said = _factor(pairs) if rescale else (1.0, [])
    frames = tuple(
        figures(
            factor * pair.x, pair.y, found, rule, False, [*pair.notes, *said], where=pair.where,
            ssim_variant=pair.ssim_variant, slices=pair.slices, modality=pair.modality,
            modality_rule=pair.modality_rule, alignment=None,
        ) for pair in pairs
    )  # fmt: skip
    if rescale:
        frames = tuple(dataclasses.replace(frame, rescale_factor=factor) for frame in frames)
    return SeriesEvaluation(frames)


def _range(pairs: list[Compared]) -> tuple[float, str]:
    """Of the reference over all frames, with its rule."""
    high = max(float(pair.told.max()) for pair in pairs)
    if pairs[0].modality == "CT":
        low = min(float(pair.told.min()) for pair in pairs)
        return (
            high - low,
            "reference's maximum minus minimum over the compared slices of all frames",
        )
    return high, "reference's maximum over the compared slices of all frames"


def _factor(pairs: list[Compared]) -> tuple[float, list[str]]:
    """The least-squares fit of all frames to the reference, and a note. Raises ConfigError for an image of zeros."""
    kept = [
        (pair.x, pair.y) if pair.where is None else (pair.x[pair.where], pair.y[pair.where])
        for pair in pairs
    ]
    energy = sum(float(np.vdot(x, x)) for x, _ in kept)
    if energy == 0:
        raise ConfigError("the series is zero everywhere: no factor fits it to the reference")
    factor = sum(float(np.vdot(x, y)) for x, y in kept) / energy
    return factor, [
        f"all frames multiplied by {factor:.6g}, their least-squares fit to the reference"
    ]
