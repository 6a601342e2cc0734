"""Slices as PNG files: grey windows, |difference| and standard deviation on one scale, zoomed insets.

Used by `render`. Writes into the folder it is given; draws with Pillow.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restore.report.study import Images, Layer

QUANTILE = 0.998
"""Which of the brightest values ends a scale."""
WINDOW_HU, WIDE_WINDOW_HU = (-160.0, 240.0), (-1000.0, 400.0)
"""The usual soft-tissue window, in which low-dose CT is judged; and one that shows lungs as well."""
LUNG_HU, LUNG_PART = (-950.0, -300.0), 0.1
MOST_SLICES = 3
LARGEST_SIDE = 768
ZOOM_PART = 0.28
"""Side of the zoomed square as a part of the image's shorter side."""


@dataclass(frozen=True)
class Scales:
    """window: grey values from black to white. limit: end of the scale of differences and deviations."""

    window: tuple[float, float]
    limit: float


@dataclass(frozen=True)
class Box:
    """The zoomed square in pixels of the image."""

    left: int
    top: int
    side: int


@dataclass(frozen=True)
class Panel:
    """The pictures of one layer in one slice; file names, or "" where there is none."""

    name: str
    role: str
    caption: str
    image: str
    zoom: str
    difference: str = ""
    difference_zoom: str = ""
    std: str = ""
    interval: str = ""
    interval_is: str = ""
    trajectory: str = ""
    trajectory_is: str = ""
    structured: str = ""
    structured_is: str = ""


@dataclass(frozen=True)
class SlicePictures:
    """number: in the source. size: width and height of every picture. frame: the zoomed square in its pixels."""

    number: int
    size: tuple[int, int]
    frame: Box
    panels: tuple[Panel, ...]


def oriented(images: Images) -> Images:
    """The images turned by flips alone so that rows run to the back or the feet, columns to the patient's left or back.

    The affine follows, so every voxel keeps its place. Without an affine nothing is turned.
    """
    if images.affine is None:
        return images
    affine = np.array(images.affine, np.float64)
    layers = images.layers
    for axis, array_axis in ((0, 2), (1, 1)):
        direction = affine[:3, axis]
        if direction[np.argmax(np.abs(direction))] <= 0 or not layers:
            continue
        size = layers[0].image.shape[array_axis]
        affine[:3, 3] += (size - 1) * direction
        affine[:3, axis] = -direction
        layers = tuple(_flipped(layer, array_axis) for layer in layers)
    return dataclasses.replace(images, layers=layers, affine=affine)


def pixel_size(images: Images) -> tuple[float, float]:
    """Height and width of a pixel, in mm where the place is known."""
    if images.affine is None:
        return 1.0, 1.0
    width, height = np.linalg.norm(np.asarray(images.affine)[:3, :2], axis=0)
    return float(height), float(width)


def chosen_slices(count: int, most: int = MOST_SLICES) -> list[int]:
    """Evenly spaced slices away from the ends; all where there are few."""
    if count <= most:
        return list(range(count))
    return [count * (k + 1) // (most + 1) for k in range(most)]


def scales(images: Images) -> Scales:
    """One window and one limit for all layers and slices of a page.

    The limit is that of the middling method: the worst would leave the others, and the deviations, in the dark.
    """
    base = images.reference or images.layers[-1]
    values = _finite(base.image)
    if images.colour:
        window = (0.0, 1.0)
    elif images.units == "HU":
        lungs = np.mean((values > LUNG_HU[0]) & (values < LUNG_HU[1]))
        window = WIDE_WINDOW_HU if lungs > LUNG_PART else WINDOW_HU
    else:
        window = (min(0.0, float(values.min())), _upper(values))
    spreads = [_finite(layer.std) for layer in images.layers if layer.std is not None]
    errors = [
        d for x in images.layers if x.role == "method" and (d := _difference(x, images)) is not None
    ]
    found = errors or spreads
    return Scales(window, float(np.median([_upper(f) for f in found])) if found else 1.0)


def write_pictures(images: Images, folder: Path, scale: Scales) -> tuple[SlicePictures, ...]:
    """Write the pictures of the chosen slices. images: already turned."""
    aspect = pixel_size(images)
    written = []
    for index in chosen_slices(images.layers[0].image.shape[0]):
        box = zoom_box(images, index)
        panels = []
        for place, layer in enumerate(images.layers):
            stem = f"s{index:03d}-{place:02d}"
            kinds = _planes(layer, images, index, scale)
            names = {kind: f"{stem}-{kind}.png" for kind in kinds}
            for kind, plane in kinds.items():
                _save(plane, folder / names[kind], aspect, kind)
            for kind in ("image", "difference"):
                if kind in kinds:
                    names[f"{kind}_zoom"] = f"{stem}-{kind}-zoom.png"
                    _save(_crop(kinds[kind], box), folder / names[f"{kind}_zoom"], aspect, kind)
            names["zoom"] = names.pop("image_zoom")
            said = {"interval_is": layer.interval_is}
            for name, stack in _own_scales(layer).items():
                said[f"{name}_is"] = f"0 to {_upper(stack):.4g}"
            panels.append(Panel(layer.name, layer.role, layer.caption, **names, **said))
        with Image.open(folder / panels[0].image) as first:
            size = first.size
        height, width = images.layers[0].image.shape[1:3]
        frame = _scaled(box, size[0] / width, size[1] / height)
        written.append(SlicePictures(images.slices[index], size, frame, tuple(panels)))
    return tuple(written)


def zoom_box(images: Images, index: int) -> Box:
    """The square with most error of the methods and most detail of the image together, in this slice."""
    height, width = images.layers[0].image.shape[1:3]
    side = min(max(4, round(min(height, width) * ZOOM_PART)), height, width)
    plane = _grey((images.reference or images.layers[-1]).image[index])
    total = _box_sums(np.hypot(*np.gradient(plane)) if min(plane.shape) > 1 else plane, side)
    errors = [
        d for x in images.layers if x.role == "method" and (d := _difference(x, images, index)) is not None
    ]  # fmt: skip
    if errors:
        total = total * _box_sums(np.nan_to_num(np.mean(errors, axis=0)), side)
    top, left = np.unravel_index(int(np.argmax(total)), total.shape)
    return Box(int(left), int(top), side)


def _box_sums(plane: NDArray[np.floating], side: int) -> NDArray[np.float64]:
    """Sums over all squares of this side, at the place of their upper left corner."""
    sums = np.pad(np.asarray(plane, np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    upper, lower = sums[:-side], sums[side:]
    return np.asarray(lower[:, side:] - lower[:, :-side] - upper[:, side:] + upper[:, :-side])


def colour_table() -> NDArray[np.uint8]:
    """The 256 colours (256, 3) of differences and deviations."""
    import matplotlib

    return np.asarray(matplotlib.colormaps["magma"](np.arange(256), bytes=True))[:, :3]


def _planes(
    layer: Layer, images: Images, index: int, scale: Scales
) -> dict[str, NDArray[np.uint8]]:
    low, high = scale.window
    planes = {"image": _bytes(layer.image[index], low, high)}
    difference = _difference(layer, images, index)
    if difference is not None:
        planes["difference"] = _bytes(difference, 0, scale.limit)
    if layer.std is not None:
        planes["std"] = _bytes(layer.std[index], 0, scale.limit)
    if layer.interval is not None:
        planes["interval"] = _bytes(layer.interval[index], 0, scale.limit)
    for name, stack in _own_scales(layer).items():
        planes[name] = _bytes(stack[index], 0, _upper(stack))
    return planes


def _own_scales(layer: Layer) -> dict[str, NDArray[np.floating]]:
    """Maps that are no errors: the trajectory's deviation, which orders pixels, and the size of structured noise."""
    found = {"trajectory": layer.trajectory, "structured": layer.structured}
    return {name: np.abs(stack) for name, stack in found.items() if stack is not None}


def _difference(layer: Layer, images: Images, index: int | None = None) -> NDArray[np.float64] | None:  # fmt: skip
    """|layer - reference|, the mean over channels of photographs; None for the reference or without one."""
    reference = images.reference
    if reference is None or layer is reference:
        return None
    picked = slice(None) if index is None else index
    gap = np.abs(layer.image[picked].astype(np.float64) - reference.image[picked])
    return gap.mean(-1) if images.colour else gap


def _bytes(plane: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    scaled = (np.nan_to_num(plane) - low) / max(high - low, 1e-30)
    return np.asarray(np.rint(np.clip(scaled, 0, 1) * 255), np.uint8)


def _save(plane: NDArray[np.uint8], path: Path, aspect: tuple[float, float], kind: str) -> None:
    picture = Image.fromarray(plane)
    size = _shown_size(plane.shape[0], plane.shape[1], aspect)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    if kind != "image":
        picture = picture.convert("L")
        picture.putpalette(colour_table().tobytes())
    picture.save(path, format="PNG", optimize=True)


def _shown_size(height: int, width: int, aspect: tuple[float, float]) -> tuple[int, int]:
    """Width and height in square pixels, not larger than fits a page."""
    short = min(aspect)
    tall, wide = height * aspect[0] / short, width * aspect[1] / short
    factor = min(1.0, LARGEST_SIDE / max(tall, wide))
    return max(1, round(wide * factor)), max(1, round(tall * factor))


def _crop(plane: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    return plane[box.top : box.top + box.side, box.left : box.left + box.side]


def _scaled(box: Box, x: float, y: float) -> Box:
    return Box(round(box.left * x), round(box.top * y), max(1, round(box.side * min(x, y))))


def _flipped(layer: Layer, axis: int) -> Layer:
    maps = {
        name: getattr(layer, name)
        for name in ("image", "std", "interval", "trajectory", "structured")
    }
    turned = {name: np.flip(plane, axis) for name, plane in maps.items() if plane is not None}
    return dataclasses.replace(layer, **turned)


def _grey(plane: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(plane, np.float64).mean(-1) if plane.ndim == 3 else plane)


def _finite(values: NDArray[np.floating]) -> NDArray[np.floating]:
    kept = values[np.isfinite(values)]
    return kept if kept.size else np.zeros(1)


def _upper(values: NDArray[np.floating]) -> float:
    return max(float(np.quantile(_finite(values), QUANTILE)), 1e-12)
