"""Compare a restored volume or photograph with its reference, matched by position.

Called by the command line, benchmarks and scripts; touches no file. No torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.slices import slices_within
from restore.datasets.volume.padding import PADDING_BELOW_HU, padding_of
from restore.datasets.volume.volume import Volume, align_to
from restore.errors import ConfigError, InputError, ShapeError
from restore.metrics import LARGEST_RANGE, SSIM_VARIANT, nmse, psnr, ssim, ssim_counts
from restore.operators.ct.geometry import AIR_HU
from restore.pipelines.registration import Registered, register
from restore.pipelines.unlike import unlike_places, unlike_values
from restore.scaling import CT_MINIMUM_HU


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How far the image was moved to lie on its reference, before they were compared.

    shift_pixels: along the image's own axes x, y and z (photographs: columns, rows). shift_mm: to
    the right, to the front and to the head, None for photographs; distance_mm its length.
    correlation_before, correlation_after: with the reference, over the compared samples.
    """

    shift_pixels: tuple[float, ...]
    shift_mm: tuple[float, float, float] | None
    distance_mm: float | None
    correlation_before: float
    correlation_after: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Quality figures and how they were obtained; field names are those of `restore eval --json`.

    psnr in dB (infinite for equal images), ssim, nmse; data_range in the reference's units, with
    the rule that chose it; slices: the compared ones in the reference's numbering, None for
    photographs; modality "MR", "CT", "" (unknown, treated like MR) or "photograph", with the rule;
    rescale_factor: what the image was multiplied by, None if it was not; notes: anything else done;
    alignment: the shift before the comparison, None if none was asked for.
    """

    psnr: float
    ssim: float
    nmse: float
    data_range: float
    data_range_rule: str
    slices: tuple[int, ...] | None
    modality: str
    modality_rule: str
    rescale_factor: float | None
    notes: tuple[str, ...]
    ssim_variant: str = SSIM_VARIANT
    alignment: Alignment | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return dataclasses.asdict(self)


def evaluate_volume(
    image: Volume,
    reference: Volume,
    *,
    slices: slice | None = None,
    rescale: bool = False,
    data_range: float | None = None,
    align: bool = False,
) -> Evaluation:
    """PSNR, SSIM and NMSE of `image` over the voxels of `reference` at the same positions.

    slices: counted along the reference's third axis; all of them must be in the image, default:
    what the image holds. Figures are volume-wise, SSIM is the mean over the compared slices.
    data_range: default the reference's maximum over the compared slices, for CT its maximum minus
    its minimum. CT in HU is compared as HU + 1000, which is zero in air: SSIM and NMSE depend on where
    zero lies. rescale: multiply the image by the least-squares factor first. align: shift the image
    first, by what lays it on the reference (`restore.pipelines.registration`), and compare where
    both are known; along the slices only where at least eight neighbouring ones are compared.
    What the reference, or by its tags the image, never measured (padding) is compared nowhere.

    Raises GeometryError (positions do not match), ConfigError (slices that are not there, no
    range, no convincing shift), InputError (NaN or infinite voxels).
    """
    pair = compared_pair(image, reference, slices)
    found, rule = pair.data_range if data_range is None else (data_range, "given")
    x, y, where, compared, alignment = pair.x, pair.y, pair.where, pair.slices, None
    if align:
        steps = np.diff(compared)
        registered = register(x, y, (bool((np.abs(steps) == 1).all()), True, True))
        alignment = _alignment(registered, image, pair.axis, pair.picks)
        x, y = registered.image[registered.inside], y[registered.inside]
        where = None if where is None else where[registered.inside]
        compared = compared[registered.inside[0]]
    return figures(
        x, y, found, rule, rescale, pair.notes, where=where, ssim_variant=pair.ssim_variant, slices=compared,
        modality=pair.modality, modality_rule=pair.modality_rule, alignment=alignment,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Compared:
    """The voxels of two volumes at the same places, float64 (slices, rows, columns), CT as HU + 1000.

    where: those that count, None for all. slices: in the reference's numbering. axis, picks: along which axis of the
    image they lie, and where.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    where: NDArray[np.bool_] | None
    slices: tuple[int, ...]
    axis: int
    picks: list[int]
    modality: str
    modality_rule: str
    ssim_variant: str
    notes: list[str]

    @property
    def told(self) -> NDArray[np.float64]:
        """The reference's voxels that count."""
        return self.y if self.where is None else self.y[self.where]

    @property
    def data_range(self) -> tuple[float, str]:
        """By default, with its rule."""
        if self.modality == "CT":
            rule = "reference's maximum minus minimum over the compared slices"
            return float(np.ptp(self.told)), rule
        return float(self.told.max()), "reference's maximum over the compared slices"


def compared_pair(image: Volume, reference: Volume, slices: slice | None = None) -> Compared:
    """What of two volumes is compared. Raises as `evaluate_volume`."""
    notes: list[str] = []
    aligned = align_to(image, reference)
    axis, indices = _reference_slices(image, reference)
    picks = _compared(image, indices, slices, reference.n_slices)
    x = _real(np.moveaxis(image.data, 2 - axis, 0)[picks], _name(image, "image"), notes)
    y = _real(np.moveaxis(aligned.data, 2 - axis, 0)[picks], _name(reference, "reference"), notes)
    modality, modality_rule = _modality(image, reference)
    where = _measured(image, dataclasses.replace(aligned, modality=modality), notes)
    where = None if where is None else np.moveaxis(where, 2 - axis, 0)[picks]
    variant = SSIM_VARIANT
    if modality == "CT":
        y = np.maximum(y, AIR_HU)  # as in the benchmark: nothing is emptier than air
        x, y, variant = x - AIR_HU, y - AIR_HU, f"{SSIM_VARIANT}, on HU + 1000"
    if where is not None and not ssim_counts(where):
        raise ConfigError(f"{_name(reference, 'reference')}: the compared slices hold padding only")
    compared = tuple(indices[p] for p in picks)
    return Compared(x, y, where, compared, axis, picks, modality, modality_rule, variant, notes)


def evaluate_photograph(
    image: NDArray[Any],
    reference: NDArray[Any],
    *,
    rescale: bool = False,
    data_range: float | None = None,
    align: bool = False,
) -> Evaluation:
    """PSNR, SSIM and NMSE of two photographs (channels, H, W) in [0, 1], data range 1 by default.

    SSIM is the mean over the channels. align: as above, one shift for all channels. Raises
    ShapeError, ConfigError, InputError as above.
    """
    if np.shape(image) != np.shape(reference):
        raise ShapeError(
            f"the photographs differ in size: image {np.shape(image)}, reference "
            f"{np.shape(reference)} (channels, rows, columns); compare images of one size"
        )
    notes: list[str] = []
    x, y = _real(image, "image", notes), _real(reference, "reference", notes)
    found, rule = (
        (1.0, "full scale of a photograph") if data_range is None else (data_range, "given")
    )
    alignment = None
    if align:
        registered = register(x, y, (False, True, True))
        alignment = _alignment(registered)
        x, y = registered.image[registered.inside], y[registered.inside]
    return figures(
        x, y, found, rule, rescale, notes, slices=None, modality="photograph",
        modality_rule="the files are photographs", alignment=alignment,
    )  # fmt: skip


def _alignment(
    found: Registered, image: Volume | None = None, axis: int = 0, picks: Sequence[int] = (0,)
) -> Alignment:
    """The shift of arrays (slices or channels, rows, columns) in the words of `Alignment`.

    axis: of the volume, along which its slices were stacked, those numbered `picks`.
    """
    if image is None:
        return Alignment(
            found.shift[:0:-1], None, None, found.correlation_before, found.correlation_after
        )
    # Array axes are (z, y, x) with the slices' one brought to the front.
    others = [a for a in (2, 1, 0) if a != axis]
    along = np.zeros(3)
    along[[axis, *others]] = found.shift
    along[axis] *= picks[1] - picks[0] if len(picks) > 1 else 1
    mm = image.affine[:3, :3] @ along
    x, y, z = (float(v) for v in mm)
    return Alignment(
        tuple(along.tolist()), (x, y, z), float(np.linalg.norm(mm)),
        found.correlation_before, found.correlation_after,
    )  # fmt: skip


def figures(
    x: NDArray[Any],
    y: NDArray[Any],
    data_range: float,
    rule: str,
    rescale: bool,
    notes: list[str],
    *,
    where: NDArray[np.bool_] | None = None,
    **described: Any,
) -> Evaluation:
    """The figures of two arrays of samples. where: those that count, all by default. described: the other fields of
    `Evaluation`. Raises ConfigError."""
    if not 0 < data_range <= LARGEST_RANGE:
        raise ConfigError(
            f"the data range is {data_range:g} ({rule}), expected a positive number of at most {LARGEST_RANGE:g}; "
            "give another with --data-range"
        )
    both = (x, y) if where is None else (x[where], y[where])
    factor = _least_squares_factor(*both) if rescale else None
    if factor is not None:
        x = factor * x
        notes.append(f"image multiplied by {factor:.6g}, the least-squares fit to the reference")
    else:
        notes += unlike_values(*both)
    notes += unlike_places(
        x, y, where, "channels" if described["modality"] == "photograph" else "slices"
    )
    return Evaluation(
        psnr=psnr(x, y, data_range=data_range, where=where),
        ssim=ssim(x, y, data_range=data_range, where=where), nmse=nmse(x, y, where=where),
        data_range=float(data_range), data_range_rule=rule,
        rescale_factor=factor, notes=tuple(notes), **described,
    )  # fmt: skip


def _measured(image: Volume, reference: Volume, notes: list[str]) -> NDArray[np.bool_] | None:
    """True where both volumes, which are aligned, were measured; None where that is everywhere."""
    masks = [padding_of(reference), padding_of(image, by_value=False)]
    padded = [mask for mask in masks if mask is not None]
    notes += _emptier(image, reference, padded)
    if not padded:
        return None
    union = np.logical_or.reduce(padded)
    notes.append(f"{100 * union.mean():.3g} % of the voxels are padding and were not compared")
    return np.logical_not(union)


def _emptier(image: Volume, reference: Volume, padded: list[NDArray[np.bool_]]) -> list[str]:
    """A note on padding of CT in the image alone: one number below all air, which errors of reconstructions are not."""
    if reference.modality != "CT" or np.iscomplexobj(image.data):
        return []
    below = image.data < PADDING_BELOW_HU
    for mask in padded:
        below &= ~mask
    values = image.data[below]
    same = np.count_nonzero(values == np.median(values)) / values.size if values.size else 0.0
    if same < 0.5:
        return []
    return [
        f"{100 * values.size / below.size:.3g} % of the image's voxels, mostly {np.median(values):g} HU, lie below all "
        "air where the reference was measured: compared as they are; if a scanner filled them, fill the reference alike"
    ]


def _reference_slices(image: Volume, reference: Volume) -> tuple[int, list[int]]:
    """Which axis of the image runs along the reference's third, and the index of each slice there.

    The volumes are aligned: all axes longer than one voxel are parallel to the reference's.
    """
    to_reference = np.linalg.inv(reference.affine) @ image.affine
    along, start = to_reference[2, :3], float(to_reference[2, 3])
    size = image.data.shape[::-1]
    long = [a for a in range(3) if size[a] > 1 and abs(along[a]) > 0.5]
    single = [a for a in (2, 1, 0) if size[a] == 1]
    axis = (long or single)[0]
    step = round(float(along[axis])) if long else 0
    return axis, [round(start) + step * k for k in range(size[axis])]


def _compared(image: Volume, indices: Sequence[int], slices: slice | None, depth: int) -> list[int]:
    """Positions in the image of the wanted slices; all of the image by default."""
    if slices is None:
        return list(range(len(indices)))
    wanted = slices_within(slices, depth, "the reference")
    missing = [s for s in wanted if s not in indices]
    if missing:
        raise ConfigError(
            f"{_name(image, 'image')}: slices {_listed(missing)} of the reference are not in it; "
            f"it holds {_listed(sorted(indices))}"
        )
    return [list(indices).index(s) for s in wanted]


def _real(values: NDArray[Any], name: str | Path, notes: list[str]) -> NDArray[np.float64]:
    """Double precision, complex as magnitude (noted). Raises InputError for NaN and infinity."""
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise InputError(name, f"{bad} compared values are NaN or infinite", "reconstruct it again")
    if np.iscomplexobj(values):
        notes.append(f"{Path(name).name} is complex: its magnitude was compared")
        values = np.abs(values)
    return values.astype(np.float64)


def _modality(image: Volume, reference: Volume) -> tuple[str, str]:
    for volume, what in ((reference, "reference"), (image, "image")):
        if volume.modality:
            return volume.modality, f"stated by the {what}"
    lowest = float(np.min(np.real(reference.data)))
    if lowest <= CT_MINIMUM_HU:
        return "CT", f"not stated; the reference reaches {lowest:g}, below {CT_MINIMUM_HU:g} HU"
    return "", f"not stated; the reference never falls below {CT_MINIMUM_HU:g}, so not CT in HU"


def _least_squares_factor(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    energy = float(np.vdot(x, x))
    if energy == 0:
        raise ConfigError("the image is zero everywhere: no factor fits it to the reference")
    return float(np.vdot(x, y)) / energy


def _name(volume: Volume, what: str) -> Path:
    return volume.source or Path(what)


def _listed(numbers: Sequence[int], most: int = 12) -> str:
    return ", ".join(map(str, numbers[:most])) + (", ..." if len(numbers) > most else "")
