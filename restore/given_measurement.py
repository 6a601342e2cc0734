"""What callers bring as a measurement, as a tensor that operators, solvers and priors can compute with.

Called by `restore.solve` alone, once; touches nothing but its arguments and never changes them.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.contract import Operator
from restore.scaling import Scaling

RAISED = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.complex32: torch.complex64,
}
"""What half precision is computed in."""

WHITE = {torch.uint8: 255, torch.uint16: 65535}
"""The value of white in pictures of whole numbers."""

HALF_EMPTY = 4
"""Of white: whole numbers that reach no further are of fewer bits, such as 12 or 14 in 16, or of 0 and 1."""

DARK = -0.25
"""Of white: a hundredth of the values below is more than noise makes, -1..1 for instance."""

BRIGHT, FOREIGN = 2.0, 10.0
"""Times the white of a picture: values beyond the first are said, beyond the second they are in other units."""

PICTURES = ("denoise", "inpaint", "deblur", "superres")
NOTHING_KNOWN = "no pixel is known: what comes is a draw from the prior alone (`restore sample` makes right ones)"


def as_measurement(y: Any, operator: Operator) -> tuple[Tensor, list[str]]:
    """y as a tensor of floating-point numbers on its own device, detached, and notes on what was changed.

    y: a tensor, a numpy array (any byte order, read-only too), or lists of numbers. Double precision stays double;
    half precision is raised to single; a picture of 8 or 16 bits is divided by 255 or 65535, counts are taken as they
    are. Raises ConfigError for what cannot be numbers of a measurement, ShapeError for channels that lie last.
    """
    tensor, notes = _tensor(y), []
    _check_shape(tensor, operator)
    if tensor.dtype in RAISED:
        raised = RAISED[tensor.dtype]
        notes.append(f"the measurement is {_name(tensor.dtype)}: computed in {_name(raised)}")
        tensor = tensor.to(raised)
    elif not (tensor.is_floating_point() or tensor.is_complex()):
        tensor, said = _whole_numbers(tensor, operator)
        notes += said
    if operator.kind == "mri" and operator.is_complex and not tensor.is_complex():
        raise ConfigError(
            f"{operator}: the measurement is {_name(tensor.dtype)}, and k-space is complex; its magnitude alone cannot "
            "be reconstructed: give the complex samples (real and imaginary parts side by side: torch.view_as_complex)"
        )
    if tensor.is_complex() and not operator.is_complex and operator.task in PICTURES:
        notes.append(
            "the measurement is complex: its two parts are restored as pictures of their own"
        )
    return tensor, notes


def _tensor(y: Any) -> Tensor:
    if isinstance(y, Tensor):
        if y.is_nested:
            raise ConfigError(
                "the measurement is a nested tensor, pictures of several sizes perhaps; give them one by one"
            )
        if y.is_quantized:
            raise ConfigError(
                "the measurement is a quantized tensor; make it a plain one with .dequantize()"
            )
        if y.layout != torch.strided:
            raise ConfigError(
                f"the measurement is a tensor of layout {y.layout}; make it a plain one with .to_dense()"
            )
        if y.is_meta:
            raise ConfigError("the measurement lies on the device 'meta' and holds no numbers")
        # What was made in inference mode can never be followed by autograd; a copy made outside it can.
        plain = y.clone() if y.is_inference() else y.detach()
        return plain.resolve_conj().resolve_neg()
    masked = np.ma.count_masked(y) if isinstance(y, np.ma.MaskedArray) else 0
    if masked:
        raise ConfigError(
            f"the measurement is a masked array, and {masked} of its values are masked; tell the operator which "
            "were not measured (Inpainting, a mask), and give the numbers alone: y.filled(0)"
        )
    try:
        array = np.asarray(y)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the measurement is a {type(y).__name__} that is no array: {error}"
        ) from error
    if array.dtype.kind not in "fciub":
        raise ConfigError(
            f"the measurement is a {type(y).__name__} of {array.dtype}, expected a tensor or array of numbers"
        )
    if array.dtype.kind in "fc" and array.dtype.itemsize > (8 if array.dtype.kind == "f" else 16):
        array = array.astype(np.float64 if array.dtype.kind == "f" else np.complex128)
    if array.dtype.byteorder not in ("=", "|", "<" if sys.byteorder == "little" else ">"):
        array = array.astype(array.dtype.newbyteorder("="))
    # A copy: torch shares memory otherwise, and can neither have it read-only nor run backwards.
    return torch.from_numpy(np.array(array, order="C", copy=True))


def _check_shape(y: Tensor, operator: Operator) -> None:
    """Raise ShapeError with the cure for pictures whose channels lie last; the problem checks the rest."""
    shape = tuple(operator.out_shape)
    turned = (*y.shape[:-3], *(y.shape[-1:] + y.shape[-3:-1])) if y.ndim >= 3 else ()
    if len(shape) == 3 and tuple(y.shape[-3:]) != shape and turned[-3:] == shape:
        raise ShapeError(
            f"{operator}: measurement is {tuple(y.shape)}, channels last; expected (*batch, {shape}): move them with "
            "np.moveaxis(y, -1, -3)"
        )


def _whole_numbers(y: Tensor, operator: Operator) -> tuple[Tensor, list[str]]:
    if operator.task == "counts" or y.dtype == torch.bool:
        return y.to(operator.dtype), []
    white = WHITE.get(y.dtype)
    if operator.kind != "image" or white is None:
        raise ConfigError(
            f"{operator}: the measurement is {_name(y.dtype)}, whole numbers whose unit nobody can tell; give "
            "floating-point numbers (pictures: 0 is black, 1 is white; uint8 and uint16 are divided by 255 and 65535)"
        )
    note = f"the measurement is {_name(y.dtype)}: divided by {white}; noise counts in these units"
    top = int(y.to(torch.int64).max()) if y.numel() else 0
    if 0 < top <= white // HALF_EMPTY:
        note += f"; its largest value is {top} of {white}: scale it where it has fewer bits than its type"
    return y.to(torch.float64).div(white).to(operator.dtype), [note]


def check_brightness(
    picture: Tensor, operator: Operator, scaling: Scaling, level: float = 0.0
) -> list[str]:
    """A note on a picture that is brighter than white or far below black, for priors that know 0..1 alone.

    picture: `Operator.picture` of the measurement; level: deviation of its noise, 0 where that is no number. Only
    for restoration tasks, and where no scaling was stated. Raises ConfigError for 0..255 and the like.
    """
    if scaling != Scaling() or operator.task not in PICTURES or operator.kind != "image":
        return []
    if picture.is_complex():
        picture = picture.abs()
    brightest = _quantile(picture.abs())
    if brightest > FOREIGN:
        raise ConfigError(
            f"{operator}: the measurement reaches {brightest:.4g}, and priors know pictures of 0 (black) to 1 (white); "
            f"divide it and the noise by the value of white, such as 255, or give scaling=Scaling(white)"
        )
    if brightest > BRIGHT:
        return [
            f"the measurement reaches {brightest:.3g}, and priors know pictures of 0 to 1; give scaling=Scaling(white)"
        ]
    darkest = -_quantile(-picture)
    if darkest < DARK - 3 * level:
        return [
            f"the measurement goes down to {darkest:.3g}, and priors know pictures of 0 (black) to 1 (white); of -1..1 "
            "give (y + 1) / 2 and half the noise"
        ]
    return []


def _quantile(picture: Tensor) -> float:
    """What one value in a hundred exceeds, of at most a million: more are beyond torch.quantile."""
    values = picture.flatten()
    if not values.numel():
        return 0.0
    return float(values[:: 1 + values.numel() // 2**20].cpu().quantile(0.99))


def check_gain(operator: Operator) -> list[str]:
    """A note on a restoration task whose operator turns white into something else, such as an unnormalised kernel.

    Priors know pictures of 0..1, and so does the noise. Inpainting keeps the pixels it sees.
    """
    if (
        operator.kind != "image"
        or operator.task not in PICTURES
        or "linear" not in operator.abilities
    ):
        return []
    white = torch.ones(operator.in_shape, dtype=operator.dtype, device=operator.device)
    gain = float(operator.picture(operator(white)).abs().amax())
    if 0.5 <= gain <= 2:
        return []
    if operator.task == "inpaint" and gain == 0:
        return [NOTHING_KNOWN]
    return [
        f"{operator} turns white (1) into {gain:.3g}: if its kernel should sum to 1, divide it by its sum, or the "
        "measurement and its noise count in other units than the picture"
    ]


def check_operator_values(operator: Operator) -> None:
    """Raise ConfigError for an operator that holds values that are not finite: maps, kernels, weights, masks."""
    for tensor in operator._tensors():
        if (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel():
            bad = int((~torch.isfinite(tensor)).sum())
            if bad:
                raise ConfigError(
                    f"{operator}: {bad} values of a tensor {tuple(tensor.shape)} that it holds (maps, kernel, weights) "
                    "are not finite; repair them first"
                )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
