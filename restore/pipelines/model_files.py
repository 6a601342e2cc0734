"""Foreign files of weights made into models of this package: what a file is, its conversion, what is said of it later.

The work of `restore models inspect`, `convert` and `state`; `model_check.py` has that of `check`. Reads the file that
it is given, writes a weight file with its card.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import restore
from restore.datasets.json_text import plain, read_json
from restore.errors import ConfigError, InputError, OutputError
from restore.pipelines.model_check import read_arrays
from restore.pipelines.model_settings import settings_from
from restore.priors.checkpoints.content import Checkpoint, Opaque, StoredTensor, leaves
from restore.priors.checkpoints.reading import read_checkpoint
from restore.priors.converted import ALONE, CONTEXT, Converted, converted_from, is_converted
from restore.priors.families.base import Family, Weights
from restore.priors.families.known import FAMILIES, PLAIN, family_of
from restore.priors.families.meaning import Meaning, meaning_from
from restore.priors.store import SCHEMA, read_card, write_card, write_tensors

_SHOWN = 5
_LONGEST = 100


@dataclasses.dataclass(frozen=True)
class Found:
    """What a file is. kinds: the families whose names it has. settings: what its shapes tell, by family.

    entries: name, what lies there. architecture: of the card beside a weight file of this package, else "".
    """

    path: Path
    form: str
    entries: list[tuple[str, str]]
    kinds: tuple[str, ...]
    settings: dict[str, dict[str, Any]]
    parameters: int
    architecture: str = ""


def inspect_file(path: Path) -> Found:
    """What a file or folder is. Raises NotFoundError, InputError for what is no file of weights."""
    found = read_checkpoint(path)
    tensors = [v for _, v in leaves(found.tree) if isinstance(v, StoredTensor)]
    kinds = tuple(k for k in FAMILIES if family_of(k).claims(found))
    kinds = tuple(k for k in kinds if k != PLAIN) or kinds
    settings: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        family = family_of(kind)
        try:
            record = family.guess(family.weights(found, ""))
        except (ConfigError, InputError, LookupError, StopIteration, ValueError):
            record = {}  # parts of a network: its names are there, its layout is not
        settings[kind] = {**record, **family.settings_in(found)}
    return Found(
        path, found.form, [(name, _in_words(value)) for name, value in found.tree.items()], kinds, settings,
        sum(_count(t) for t in tensors), _architecture(path),
    )  # fmt: skip


def _architecture(path: Path) -> str:
    """Of a weight file of this package, by the card beside it."""
    if path.suffix != ".safetensors" or not path.with_suffix(".json").is_file():
        return ""
    record = read_json(path.with_suffix(".json"))
    return str(record.get("architecture", "")) if record.get("schema") == SCHEMA else ""


def _count(tensor: StoredTensor) -> int:
    return int(torch.Size(tensor.shape).numel())


def _in_words(value: Any) -> str:
    if isinstance(value, StoredTensor):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        tensors = [v for _, v in leaves(value) if isinstance(v, StoredTensor)]
        return f"{len(value)} entries, {len(tensors)} tensors of {sum(map(_count, tensors))} values"
    if isinstance(value, list):
        tensors = [v for v in value if isinstance(v, StoredTensor)]
        return f"list of {len(value)}, {len(tensors)} tensors of {sum(map(_count, tensors))} values"
    if isinstance(value, Opaque):
        return f"an object of {value.name} (not built)"
    return short(repr(value))


def short(text: str) -> str:
    """A text that fits on a line."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What to convert and what is said of it.

    config: a JSON file with the constructor's arguments, by file name under "files" or plainly; entry: another name
    there. settings: arguments that win over it. meaning: what the weights do not tell; it wins over `sidecar`, a JSON
    file of the same, and both over what the family's settings say. context: tensors that the network is told beside the
    image (.npz, .safetensors; .npy by the file's name). weights: "ema", "raw" or "" for the usual ones.
    """

    path: Path
    kind: str
    out: Path
    config: Path | None = None
    entry: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    meaning: Meaning = dataclasses.field(default_factory=Meaning)
    sidecar: Path | None = None
    context: Path | None = None
    weights: str = ""
    licence: str = ""
    overwrite: bool = False


def convert(job: Conversion) -> Converted:
    """Write NAME.safetensors and its card.

    Raises NotFoundError, InputError (no such file, another family, weights that do not fit), ConfigError (settings that
    are unknown, missing, wrong), OutputError.
    """
    if job.out.suffix != ".safetensors":
        raise OutputError(f"{job.out}: expected a name that ends in .safetensors")
    if job.out.exists() and not job.overwrite:
        raise OutputError(f"{job.out} exists; choose another name or say --overwrite")
    if job.out.resolve() == job.path.resolve():
        raise OutputError(f"{job.out} is the input; choose another name")
    found, family = read_checkpoint(job.path), family_of(job.kind)
    _claimed(found, family)
    weights = family.weights(found, job.weights)
    told = _arguments(job, family, found)
    try:
        given = {**family.plain(told), **job.settings}
        record = {**_guess(family, weights, found), **family.settings_in(found), **given}
        config = family.config(record)
        taken = [n for n in family.silent if n not in record and hasattr(config, n)]
        assumed = tuple(f"{n}={getattr(config, n)}" for n in taken)
        meaning = _meaning(job, record, found)
        made = Converted(family, config, meaning, job.out.stem, assumed)
        shapes = made.shapes()
    except ConfigError as error:
        raise ConfigError(f"{job.path}: {error}") from error
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
        # Settings that each may be, and that make no network together; torch's layers say so in their own ways.
        raise ConfigError(
            f"{job.path}: no network of '{family.name}' has these settings ({type(error).__name__}: {error})"
        ) from error
    _fits(job.path, weights, shapes)
    tensors = {name: tensor.read().contiguous() for name, tensor in weights.items()}
    context = {} if job.context is None else _context(job.context)
    tensors |= {CONTEXT + name: tensor for name, tensor in context.items()}
    made = made.told(tensors)
    if made.kind not in ALONE and not made.missing():
        made.model()  # what is said fits the network, before anything is written
    bad = [n for n, t in tensors.items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if bad:
        raise InputError(job.path, f"holds values that are not finite ({', '.join(bad[:_SHOWN])})")
    digest = write_tensors(job.out, tensors)
    write_card(job.out, {
        "name": job.out.stem, "schema": SCHEMA, "architecture": family.name, "kind": made.kind,
        "settings": plain(_without_remarks(record), "settings"), "meaning": plain(made.meaning.record(), "meaning"),
        "context": {name: list(tensor.shape) for name, tensor in context.items()},
        "assumed": list(made.assumed), "source": _source(job, found),
        "parameters": sum(t.numel() for t in tensors.values()),
        "licence": job.licence or "that of the source", "converted": f"restore {restore.__version__}",
        "sha256": digest,
    })  # fmt: skip
    return made


def _meaning(job: Conversion, record: Mapping[str, Any], found: Checkpoint) -> Meaning:
    """What is said by options, by the side-car, by the family's own settings, in this order."""
    side = meaning_from(read_json(job.sidecar)) if job.sidecar is not None else Meaning()
    return job.meaning.over(side).over(family_of(job.kind).stated(record, found))


def _claimed(found: Checkpoint, family: Family) -> None:
    if family.claims(found):
        return
    others = [k for k in FAMILIES if k != PLAIN and family_of(k).claims(found)]
    names = [".".join(p) for p, v in leaves(found.tree) if isinstance(v, StoredTensor)]
    there = f"; it looks like --kind {' or '.join(others)}" if others else ""
    raise InputError(
        found.path, f"holds no network of '{family.name}' ({family.what}){there}",
        f"its tensors are {', '.join(names[:3]) or 'none'}; `restore models inspect` says more",
    )  # fmt: skip


def _guess(family: Family, weights: Weights, found: Checkpoint) -> dict[str, Any]:
    try:
        return family.guess(weights)
    except (LookupError, StopIteration, ValueError, ArithmeticError) as error:
        raise InputError(
            found.path, f"the layout of '{family.name}' cannot be told from its tensors ({error})",
            "parts of the network are missing",
        ) from error  # fmt: skip


def _arguments(job: Conversion, family: Family, found: Checkpoint) -> dict[str, Any]:
    """The constructor's arguments for this file: of `--config`, else of the config.json that belongs to the weights."""
    if job.config is None:
        return dict(found.configs.get("", {}))
    return settings_from(job.config, job.entry, family, found)


def _context(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, as float32. Raises NotFoundError, InputError."""
    if path.suffix == ".safetensors":
        found = {n: t.read() for n, t in read_checkpoint(path).tensors().items()}
    else:
        found = read_arrays(path)
    return {n: t.float().contiguous() for n, t in found.items()}


def _fits(path: Path, weights: Weights, expected: Mapping[str, Tensor]) -> None:
    """Raise InputError unless the names and shapes of a file are those of the network that the settings describe."""
    wrong = [f"{n} is missing" for n in expected if n not in weights]
    wrong += [f"{n} is not of this network" for n in weights if n not in expected]
    wrong += [
        f"{n} is {weights[n].shape}, expected {tuple(t.shape)}"
        for n, t in expected.items()
        if n in weights and tuple(t.shape) != weights[n].shape
    ]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise InputError(
            path, f"the settings do not fit the weights: {'; '.join(wrong[:_SHOWN])}{more}",
            "correct the settings (--config, --set); `restore models inspect` says what the shapes tell",
        )  # fmt: skip


def _without_remarks(record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without entries that no JSON can hold."""
    return {str(k): v for k, v in record.items() if not isinstance(v, Opaque | StoredTensor)}


def _source(job: Conversion, found: Checkpoint) -> dict[str, Any]:
    files = (
        sorted(p for p in job.path.rglob("*") if p.is_file()) if job.path.is_dir() else [job.path]
    )
    return {
        "file": job.path.name, "form": found.form, "weights": job.weights or "usual",
        "sha256": {p.name: _sha256(p) for p in files},
    }  # fmt: skip


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def state(path: Path, meaning: Meaning, settings: Mapping[str, Any]) -> Converted:
    """Say of a converted model what its card lacks, or say it differently. Raises WeightsError, ConfigError."""
    card = read_card(path)
    if not is_converted(card):
        raise ConfigError(f"{path}: is no converted model; its card was written by its training")
    card["meaning"] = plain(meaning.over(meaning_from(card.get("meaning", {}))).record(), "meaning")
    card["settings"] = {**card["settings"], **settings}
    before, made = converted_from(read_card(path)).shapes(), converted_from(card)
    after = made.shapes()
    changed = [n for n in {**before, **after} if n not in after or n not in before]
    changed += [n for n in before if n in after and before[n].shape != after[n].shape]
    if changed:
        raise ConfigError(
            f"{path}: these settings are of another network ({', '.join(changed[:_SHOWN])}); convert the file again"
        )
    if made.kind not in ALONE and not made.missing():
        made.model()
    write_card(path, card)
    return made


def values_of(assignments: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE texts as settings: numbers, true, false, null and lists as in JSON, anything else a text."""
    found: dict[str, Any] = {}
    for item in assignments:
        name, sign, text = item.partition("=")
        if not sign or not name:
            raise ConfigError(f"--set {item}: expected NAME=VALUE")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found
