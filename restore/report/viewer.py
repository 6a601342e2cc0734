"""Volumes for the viewers of a page: NIfTI in base64 within scripts, because a page on disk may not fetch files.

Used by `render`. Each layer becomes one script that puts its text under a key of ours into `window.restoreVolumes`;
names of people go into the page's own data, see `script_data`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.report.pictures import Scales, colour_table, pixel_size
from restore.report.study import Images

LARGEST_PAGE = 20_000_000
"""Bytes of base64 that a page may carry: more makes browsers slow."""
MOST_VIEWERS = 10
"""Multi-planar viewers of a page: browsers keep 16 drawing contexts."""


@dataclass(frozen=True)
class Encoded:
    """scripts: names of the files, to be loaded before the page's own. data: what the page's scripts are told.
    note: how the volumes were changed to fit. planar: whether the multi-planar viewers are shown."""

    scripts: tuple[str, ...]
    data: dict[str, Any]
    note: str
    planar: bool


@dataclass(frozen=True)
class _Plan:
    dtype: str
    factor: int
    picks: tuple[int, ...]


def encode(images: Images, folder: Path, scale: Scales, largest: int = LARGEST_PAGE) -> Encoded:
    """Write the scripts of a page's layers into the folder. images: already turned."""
    stacks = list(_stacks(images))
    count = images.layers[0].image.shape[0]
    plan = _plan([stack.shape for *_, stack in stacks], images, largest)
    whole = len(plan.picks) == count and not images.colour
    affine = _affine(images, plan.factor)
    layers, scripts = [], []
    for place, (name, role, of, stack) in enumerate(stacks):
        key = f"v{place:02d}"
        values = _reduced(_picked(stack, plan.picks, images.colour and role != "std"), plan.factor)
        text = base64.b64encode(_nifti(values, affine, plan.dtype)).decode()
        scripts.append(f"{key}.js")
        (folder / scripts[-1]).write_text(
            f'(window.restoreVolumes = window.restoreVolumes || {{}}).{key} = "{text}";\n', "ascii"
        )
        colour = images.colour and role != "std"
        layers.append({"key": key, "name": name, "role": role, "of": of, "colour": colour})
    planar = whole and count > 1
    height, width = pixel_size(images)
    panes = [layer["key"] for layer in layers if layer["role"] != "input"]
    data = {
        "layers": layers, "panes": panes[:MOST_VIEWERS] if planar else [],
        "slices": [images.slices[i] for i in plan.picks], "aspect": height / width,
        "window": list(scale.window), "limit": scale.limit, "units": images.units,
        "magma": colour_table().tolist(),
    }  # fmt: skip
    return Encoded(tuple(scripts), data, _note(plan, count, len(panes), planar), planar)


def script_data(name: str, value: Any) -> str:
    """A script that sets `window.NAME` to a value; no text in it can end the script or be taken for markup."""
    return f"window.{name} = {script_json(value)};\n"


def script_json(value: Any) -> str:
    """JSON that is safe within a script of an HTML page. Raises ValueError for numbers that are not finite."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _stacks(images: Images) -> Iterator[tuple[str, str, str, NDArray[np.floating]]]:
    """Name, role, whose deviation it is, and planes (n, H, W) of everything shown; RGB as three planes a slice."""
    for layer in sorted(images.layers, key=lambda layer: layer.role != "reference"):
        stack = layer.image
        if images.colour:
            stack = stack.transpose(0, 3, 1, 2).reshape(-1, *stack.shape[1:3])
        yield layer.name, layer.role, "", stack
        if layer.std is not None:
            yield f"{layer.name} std", "std", layer.name, layer.std
        if layer.interval is not None:
            yield f"{layer.name} interval", "std", layer.name, layer.interval
        if layer.trajectory is not None:
            yield f"{layer.name} trajectory", "std", layer.name, layer.trajectory
        if layer.structured is not None:
            yield f"{layer.name} structured noise", "std", layer.name, np.abs(layer.structured)


def _plan(shapes: Sequence[tuple[int, ...]], images: Images, largest: int) -> _Plan:
    """The finest way to show everything that fits; at last fewer slices, for the slider alone.

    256 levels are enough for the eye unless the window is a small part of the range, as for HU.
    """
    count = images.layers[0].image.shape[0]
    voxels = sum(int(np.prod(shape)) for shape in shapes)
    enough = 1.0 if images.units == "HU" else 0.25
    for dtype, factor, part in (("<i2", 1, enough), ("|u1", 1, 1.0), ("|u1", 2, 1.0)):
        if images.colour and factor > 1:
            continue
        if voxels * np.dtype(dtype).itemsize * 4 / 3 / factor**2 <= largest * part:
            return _Plan(dtype, factor, tuple(range(count)))
    kept = max(1, min(count, int(largest * 3 / 4 / (voxels / count))))
    return _Plan("|u1", 1, tuple(np.linspace(0, count - 1, kept).round().astype(int).tolist()))


def _note(plan: _Plan, count: int, panes: int, planar: bool) -> str:
    words = ["Values are stored with", "65536 levels" if plan.dtype == "<i2" else "256 levels"]
    if plan.factor > 1:
        words.append(
            f"and means of {plan.factor} x {plan.factor} pixels, so that the page stays small"
        )
    if len(plan.picks) < count:
        words.append(
            f"and {len(plan.picks)} of {count} slices, as the volume is large: no view in three planes"
        )
    if planar and panes > MOST_VIEWERS:
        words.append(f"; the view in three planes shows {MOST_VIEWERS} of {panes} volumes")
    return " ".join(words) + "."


def _picked(stack: NDArray[Any], picks: Sequence[int], colour: bool) -> NDArray[Any]:
    each = [3 * i + c for i in picks for c in range(3)] if colour else list(picks)
    return stack[each]


def _reduced(stack: NDArray[Any], factor: int) -> NDArray[np.float64]:
    values = np.nan_to_num(np.asarray(stack, np.float64), posinf=0.0, neginf=0.0)
    if factor == 1:
        return values
    n, height, width = values.shape
    values = np.pad(values, ((0, 0), (0, -height % factor), (0, -width % factor)), mode="edge")
    blocks = values.reshape(n, values.shape[1] // factor, factor, values.shape[2] // factor, factor)
    return np.asarray(blocks.mean((2, 4)))


def _affine(images: Images, factor: int) -> NDArray[np.float64]:
    """Of the reduced grid: a voxel stands in the middle of those it is the mean of."""
    given = np.diag([-1.0, -1.0, 1.0, 1.0]) if images.affine is None else images.affine
    affine = np.array(given, np.float64)
    affine[:3, 3] += affine[:3, :2] @ np.full(2, (factor - 1) / 2)
    affine[:3, :2] *= factor
    return affine


def _nifti(stack: NDArray[np.float64], affine: NDArray[np.float64], dtype: str) -> bytes:
    """A NIfTI-1 file of integers with slope and intercept. stack: (n, H, W)."""
    import nibabel

    low, high = float(stack.min()), float(stack.max())
    first, last = np.iinfo(dtype).min, np.iinfo(dtype).max
    slope = (high - low) / (last - first) or 1.0
    integers = np.rint((stack - low) / slope + first).clip(first, last).astype(dtype)
    header = nibabel.Nifti1Header(endianness="<")
    header.set_data_dtype(np.dtype(dtype))
    header.set_data_shape(stack.shape[::-1])
    header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    header.set_sform(affine, code=1)
    header.set_xyzt_units("mm")
    header.set_slope_inter(slope, low - slope * first)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return bytes(header.binaryblock) + b"\0\0\0\0" + integers.tobytes()
