"""Priors on disk: NAME.safetensors with a card NAME.json beside it; the bundled ones lie in `weights/`.

The card states architecture, noise range, intensity convention, training data with licences, command, quality figures
and the sha256 of the weights. Nothing is unpickled. Used by pipelines, training and the command line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from restore.config import did_you_mean
from restore.datasets.atomic import atomic_file, hidden_folder
from restore.datasets.fetch_table import entries
from restore.datasets.json_text import read_json
from restore.errors import ConfigError, InputError, NotFoundError, OutputError, WeightsError
from restore.priors.autoencoder import Autoencoder
from restore.priors.blueprints import BASE, BLUEPRINTS, architecture_of
from restore.priors.bridge_edm import BridgeDenoiser
from restore.priors.converted import ALONE, converted_from, is_converted
from restore.priors.distilled import DistilledModel
from restore.priors.edm import EDMDenoiser
from restore.priors.latent_edm import LatentEDM
from restore.priors.network_options import split_options
from restore.priors.remote import fetched
from restore.priors.varnet import VarNet

SCHEMA = 1
T = TypeVar("T")


def bundled() -> dict[str, Path]:
    """Names and weight files of the priors that come with the package."""
    folder = Path(str(resources.files("restore.priors"))) / "weights"
    return {
        p.stem: p for p in sorted(folder.glob("*.safetensors")) if p.with_suffix(".json").exists()
    }


def read_card(name: str | Path) -> dict[str, Any]:
    """The card of a prior given by bundled name or by weight file; with options (`network_options`) theirs.

    Raises WeightsError, ConfigError.
    """
    name, options = split_options(name)
    path = _resolve(name).with_suffix(".json")
    try:
        card = read_json(path)
    except (NotFoundError, InputError) as error:
        raise WeightsError(
            f"the card cannot be read ({error}); it must lie beside the weights"
        ) from error
    if card.get("schema") != SCHEMA:
        raise WeightsError(f"{path}: not a model card of schema {SCHEMA}")
    return card if options is None else options.on_card(card)


def kind_of(name: str | Path) -> str:
    """What a card describes: "denoiser", "conditional", "latent", "distilled", "cascade", "region" or "".

    Raises WeightsError.
    """
    kinds = {
        "unet": "denoiser", "conditional-unet": "conditional", "latent": "latent", "distilled-unet": "distilled",
        "varnet": "cascade", "region-factors": "region",
    }  # fmt: skip
    card = read_card(name)
    if is_converted(card):
        return _as_card(name, lambda: converted_from(card).kind)
    return kinds.get(str(card.get("architecture")), "")


def load_prior(
    name: str | Path,
) -> EDMDenoiser | BridgeDenoiser | LatentEDM | DistilledModel | VarNet:
    """A prior by bundled name or weight file: a denoiser, or a model of another kind, as its card says.

    Its network has the options that follow the name (`network_options`). Raises WeightsError: as `load_model`, and for
    an autoencoder without a denoiser of its codes; ConfigError for options that it cannot have.
    """
    name, options = split_options(name)
    if (kind := kind_of(name)) in ALONE:
        raise WeightsError(f"{name}: a converted {kind}, which is no prior by itself")
    model = load_model(name)
    if isinstance(model, Autoencoder):
        raise WeightsError(
            f"{name}: an autoencoder alone is no prior; train a denoiser of its codes with `restore train latent`"
        )
    return model if options is None else options.applied(model)


def load_denoiser(name: str | Path) -> EDMDenoiser:
    """A pixel denoiser. Raises WeightsError, also for other kinds of model."""
    return _of_type(EDMDenoiser, name)


def load_autoencoder(name: str | Path) -> Autoencoder:
    """An autoencoder. Raises WeightsError, also for other kinds of model."""
    return _of_type(Autoencoder, name)


def load_model(
    name: str | Path,
) -> EDMDenoiser | BridgeDenoiser | LatentEDM | DistilledModel | VarNet | Autoencoder:
    """Whatever lies under a bundled name or in a weight file, checked against its card.

    Raises WeightsError: unknown name, card that says something impossible, wrong sha256, missing or extra tensors (the
    first five named), non-finite values; of factors that the prior which they adapt is not there, or another one.
    """
    card, tensors = load_tensors(name)
    if "adapts" in card:
        adapted = _adapted(_resolve(name), card)
        tensors |= {BASE + k: v for k, v in adapted.items()}
    return BLUEPRINTS[str(card["architecture"])].build(card, tensors)


def load_tensors(name: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Card and tensors of a bundled name or weight file, checked against each other. Raises WeightsError."""
    path, card = _resolve(name), read_card(name)
    blueprint = BLUEPRINTS.get(str(card.get("architecture")))
    if blueprint is None:
        raise WeightsError(
            f"{path}: unknown architecture {card.get('architecture')!r}; known: {', '.join(BLUEPRINTS)}"
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

    def expected() -> dict[str, Tensor]:
        str(card["name"])
        return blueprint.expected(card)

    _check_tensors(path, tensors, _as_card(path, expected))
    return card, tensors


def _adapted(path: Path, card: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of the prior that factors belong to: of the file of that name beside them, else of what goes by the
    name. Raises WeightsError."""
    wanted, beside = card["adapts"], path.with_name(f"{card['adapts']['name']}.safetensors")
    given = beside if beside.is_file() else wanted["name"]
    try:
        base, tensors = load_tensors(given)
    except WeightsError as error:
        raise WeightsError(
            f"{path}: holds low-rank factors of the prior '{wanted['name']}', which cannot be had: {error}"
        ) from error
    if base["sha256"] != wanted["sha256"] or base.get("architecture") != "unet":
        raise WeightsError(
            f"{path}: holds low-rank factors of the prior '{wanted['name']}' of sha256 {wanted['sha256'][:12]}..., and "
            f"{given} is another one, {base['sha256'][:12]}...; put that file with its card beside the factors, or "
            "train anew with `restore train rad`"
        )
    return tensors


def _as_card(name: str | Path, read: Callable[[], T]) -> T:
    """What is read of a card. Raises WeightsError where it says something impossible."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise WeightsError(
            f"{name}: the card does not describe a prior ({type(error).__name__}: {error})"
        ) from error


def save_prior(path: Path, model: Any, card: dict[str, Any]) -> Path:
    """Write weights (half precision) and card, completed with architecture, ranges and sha256, which are the model's
    whatever `card` says of them. Raises WeightsError, OutputError.
    """
    architecture = architecture_of(model)
    blueprint = BLUEPRINTS[architecture]
    described = blueprint.describe(model)
    tensors = {k: v.detach().cpu().half().contiguous() for k, v in blueprint.tensors(model).items()}
    digest = write_tensors(path, tensors)
    computed = {
        "schema": SCHEMA, "architecture": architecture,
        "parameters": sum(t.numel() for t in tensors.values()), **described, "sha256": digest,
    }  # fmt: skip
    write_card(path, {"name": path.stem} | card | computed)
    return path


def write_card(path: Path, record: dict[str, Any]) -> None:
    """Write the card of a weight file beside it. Raises OutputError."""
    with atomic_file(path.with_suffix(".json")) as temporary:
        Path(temporary).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, Tensor], record: str = "") -> str:
    """Write tensors, and a text as the file's metadata "record", atomically; returns the sha256. Raises OutputError."""
    metadata = {"record": record} if record else None
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    with atomic_file(path, expected_bytes=size) as temporary, hidden_folder(path) as folder:
        try:
            save_file(tensors, folder / "tensors", metadata)
        except SafetensorError as error:  # how that library reports a full or read-only disk
            raise OutputError(f"{path}: could not be written: {error}") from error
        (folder / "tensors").replace(temporary)
        with Path(temporary).open("rb") as written:
            return hashlib.file_digest(written, "sha256").hexdigest()


M = TypeVar("M")


def _of_type(kind: type[M], name: str | Path) -> M:
    model = load_model(name)
    if not isinstance(model, kind):
        raise WeightsError(f"{name}: a {type(model).__name__}, expected {kind.__name__}")
    return model


def _resolve(name: str | Path) -> Path:
    known = bundled()
    if str(name) in known:
        return known[str(name)]
    path = Path(name)
    if path.suffix == ".safetensors" and path.is_file():
        return path
    remote = entries("priors")
    if str(name) in remote:
        return fetched(remote[str(name)])
    names = ", ".join([*known, *remote])
    raise WeightsError(
        f"no prior '{name}'{did_you_mean(str(name), [*known, *remote])}: not one of {names}, nor a .safetensors file "
        "with its card"
    )


def _check_tensors(path: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
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
