"""What `eval` says of images that are no restorations of their reference: other units, turned over, constant."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from restore.datasets.simulate.phantom import head_phantom
from restore.datasets.volume.volume import Volume
from restore.pipelines.evaluate import evaluate_photograph, evaluate_volume

NOISE = 0.03
"""Of the maximum: an error as of a restoration."""


def _head(factor: float = 1.0, offset: float = 0.0, noise: float = NOISE) -> Volume:
    head = head_phantom((6, 48, 48))
    drawn = np.random.default_rng(0).normal(0, noise * float(head.data.max()), head.data.shape)
    return head.with_data((factor * (head.data + drawn) + offset).astype(np.float32))


def _notes(image: Volume, reference: Volume) -> str:
    return " | ".join(evaluate_volume(image, reference).notes)


def test_a_restoration_is_not_doubted() -> None:
    """Noise, a factor as of coil maps, a blur: nothing is said, nor of an image that equals its reference."""
    head = _head(noise=0)
    from scipy.ndimage import gaussian_filter

    for image in (_head(), _head(1.15), head, head.with_data(gaussian_filter(head.data, 1.5))):
        assert evaluate_volume(image, head).notes == ()


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (lambda a: a[:, :, ::-1], "columns turned over"),
        (lambda a: a[:, ::-1], "rows turned over"),
        (lambda a: a.swapaxes(1, 2), "rows and columns exchanged"),
        (lambda a: np.rot90(a, 1, (1, 2)), "planes turned by -90 degrees"),
        (lambda a: a[::-1], "slices in the other order"),
    ],
)
def test_an_image_that_lies_otherwise_is_said(turn: object, words: str) -> None:
    head, image = _head(noise=0), _head()
    turned = image.with_data(np.ascontiguousarray(turn(image.data)))  # type: ignore[operator]
    assert words in _notes(turned, head)


@pytest.mark.parametrize(
    ("factor", "offset"), [(2.0, 0.0), (1.0, 1000.0), (-1.0, 0.0), (0.1, 0.0), (0.5, -300.0)]
)
def test_other_units_and_another_zero_are_said(factor: float, offset: float) -> None:
    assert "one unit, with one zero" in _notes(_head(factor, offset), _head(noise=0))


def test_numbers_of_another_order_of_magnitude_are_said() -> None:
    assert "spread by" in _notes(_head(1e-3), _head(noise=0))


def test_constant_images_are_said() -> None:
    """PSNR of a constant is a number as any other."""
    head = _head(noise=0)
    constant = head.with_data(np.full_like(head.data, 5))
    assert "the image is 5 at all compared places" in _notes(constant, head)
    assert "the reference is 5 at all compared places" in _notes(head, constant)


def test_what_a_scanner_filled_in_the_image_alone_is_said() -> None:
    """-3024 HU outside a circle counts as an error of 2000 HU, unless the reference has it too."""
    head = _head(noise=0)
    ct = dataclasses.replace(head, data=head.data - 1000, modality="CT")
    filled = ct.data.copy()
    filled[:, :8] = -3024
    image = ct.with_data(filled)
    assert "mostly -3024 HU" in _notes(image, ct)
    assert "one zero" not in _notes(image, ct)
    assert "mostly -3024 HU" not in _notes(image, image)


def test_channels_in_the_other_order_are_said() -> None:
    """BGR, as OpenCV reads pictures."""
    picture = np.random.default_rng(1).uniform(0, 1, (3, 16, 16)).repeat(2, 1).repeat(2, 2)
    assert "channels in the other order" in " ".join(
        evaluate_photograph(picture[::-1], picture).notes
    )
    assert evaluate_photograph(picture * 0.95, picture).notes == ()
