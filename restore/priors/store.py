"""Denoisers on disk: NAME.safetensors with a card NAME.json beside it; the bundled ones lie in `weights/`.

The card states architecture, noise range, intensity convention, training data with licences, command, quality figures
and the sha256 of the weights. Nothing is unpickled. Used by pipelines, training and the command line.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from restore.datasets.atomic import atomic_file
from restore.errors import ConfigError, WeightsError
from restore.priors.base import ComplexMode
from restore.priors.edm import EDMDenoiser, build_unet_denoiser, config_from_dict
from restore.priors.unet import UNet

SCHEMA = 1


def bundled() -> dict[str, Path]:
    """Names and weight files of the priors that come with the package."""
    folder = Path(str(resources.files("restore.priors"))) / "weights"
    return {
        p.stem: p for p in sorted(folder.glob("*.safetensors")) if p.with_suffix(".json").exists()
    }


def read_card(name: str | Path) -> dict[str, Any]:
    """The card of a prior given by bundled name or by weight file. Raises WeightsError."""
    path = _resolve(name).with_suffix(".json")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: the card cannot be read ({error}); it must lie beside the weights"
        ) from error
    if not isinstance(card, dict) or card.get("schema") != SCHEMA:
        raise WeightsError(f"{path}: not a model card of schema {SCHEMA}")
    return card


def load_prior(name: str | Path) -> EDMDenoiser:
    """A denoiser by bundled name or weight file, checked against its card.

    Raises WeightsError: unknown name, card that says something impossible, wrong sha256, missing or extra tensors (the
    first five named), non-finite values.
    """
    path, card = _resolve(name), read_card(name)
    if card.get("architecture") != "unet":
        raise WeightsError(
            f"{path}: unknown architecture {card.get('architecture')!r}; known: 'unet'"
        )
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.get("sha256"):
        raise WeightsError(
            f"{path}: sha256 is {digest[:12]}..., the card says {str(card.get('sha256'))[:12]}...: "
            "weights and card do not belong together; fetch both again"
        )
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged weights ({error}); fetch them again") from error
    prior = _untrained(path, card, tensors)
    prior.network.load_state_dict({k: v.float() for k, v in tensors.items()})
    prior.network.eval().requires_grad_(False)
    prior.turnable = True  # `restore train` shows its crops in all eight orientations
    return prior


def save_prior(path: Path, prior: EDMDenoiser, card: dict[str, Any]) -> Path:
    """Write weights (half precision) and card, completed with architecture, ranges and sha256, which are the prior's
    whatever `card` says of them. Raises WeightsError, OutputError.
    """
    if not isinstance(prior.network, UNet):
        raise WeightsError(
            f"{path}: only the package's own U-Net can be saved, got {type(prior.network).__name__}"
        )
    tensors = {
        k: v.detach().cpu().half().contiguous() for k, v in prior.network.state_dict().items()
    }
    with atomic_file(path) as temporary:
        save_file(tensors, temporary)
        digest = hashlib.sha256(Path(temporary).read_bytes()).hexdigest()
    computed = {
        "schema": SCHEMA, "architecture": "unet",
        "network": dataclasses.asdict(prior.network.config),
        "parameters": sum(t.numel() for t in tensors.values()), "sigma_data": prior.sigma_data,
        "sigma_range": [prior.sigma_min, prior.sigma_max], "intensity": list(prior.intensity),
        "complex_mode": prior.complex_mode, "sha256": digest,
    }  # fmt: skip
    record = {"name": path.stem} | card | computed
    with atomic_file(path.with_suffix(".json")) as temporary:
        Path(temporary).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def _untrained(path: Path, card: dict[str, Any], tensors: dict[str, torch.Tensor]) -> EDMDenoiser:
    """The denoiser that a card describes, once the tensors are known to fit it. Raises WeightsError."""
    try:
        config = config_from_dict(card["network"])
        sigma_data, (sigma_min, sigma_max) = (
            float(card["sigma_data"]),
            map(float, card["sigma_range"]),
        )
        low, high = map(float, card["intensity"])
        name, complex_mode = str(card["name"]), card["complex_mode"]
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise WeightsError(
            f"{path}: the card does not describe a prior ({type(error).__name__}: {error})"
        ) from error
    sound = (
        0 < sigma_data < math.inf
        and 0 < sigma_min < sigma_max < math.inf
        and -math.inf < low < high < math.inf
    )
    if not sound or complex_mode not in get_args(ComplexMode):
        raise WeightsError(
            f"{path}: the card says sigma_data {sigma_data}, noise {sigma_min}..{sigma_max}, "
            f"intensities {low}..{high}, complex mode {complex_mode!r}; that is no prior"
        )
    with torch.device("meta"):  # shapes first: a wrong card must not allocate its network
        expected = UNet(config).state_dict()
    _check_tensors(path, tensors, expected)
    prior = build_unet_denoiser(config, sigma_data=sigma_data, name=name)
    prior.sigma_min, prior.sigma_max, prior.intensity = sigma_min, sigma_max, (low, high)
    prior.complex_mode = complex_mode
    return prior


def _resolve(name: str | Path) -> Path:
    known = bundled()
    if str(name) in known:
        return known[str(name)]
    path = Path(name)
    if path.suffix == ".safetensors" and path.is_file():
        return path
    raise WeightsError(
        f"no prior '{name}': neither bundled ({', '.join(known) or 'none'}) nor a .safetensors file with its card"
    )


def _check_tensors(
    path: Path, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    wrong = [f"{k}: missing" for k in expected if k not in found]
    wrong += [f"{k}: not of this network" for k in found if k not in expected]
    wrong += [
        f"{k}: shape {tuple(found[k].shape)}, expected {tuple(v.shape)}"
        for k, v in expected.items()
        if k in found and found[k].shape != v.shape
    ]
    wrong += [
        f"{k}: not finite"
        for k, v in found.items()
        if v.is_floating_point() and not v.isfinite().all()
    ]
    if wrong:
        raise WeightsError(f"{path}: weights do not fit: " + "; ".join(wrong[:5]))
