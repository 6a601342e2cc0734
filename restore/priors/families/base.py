"""The contract of a family of published networks, and what is common to reading their settings.

A family knows how its official code names settings and weights; the readers of files
(`restore.priors.checkpoints`) know no family, the networks (`restore.priors.nets`) no files. One file a family ends
in `FAMILY = ...`.
"""

from __future__ import annotations

import dataclasses
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from restore.config import did_you_mean
from restore.errors import ConfigError
from restore.priors.checkpoints.content import Checkpoint, StoredTensor
from restore.priors.families.meaning import Meaning

Record = Mapping[str, Any]
Weights = dict[str, StoredTensor]

TOLERANCE = 2e-5
"""Largest difference over largest reference that counts as the same network: what float32 runs of the published codes
differ by from their own float64 runs is 1e-6 to 7e-6, and some compute the frequencies of embeddings in float32."""


class Case(NamedTuple):
    """One stored output: its name, its values, how it is computed here, what it may differ by (relative to the largest
    value; for whole numbers the share that differ).
    """

    output: str
    reference: Tensor
    compute: Callable[[], Tensor]
    tolerance: float = TOLERANCE


class Family(ABC):
    """One family of published networks.

    name: as in `--kind`. what: whose networks these are, one line. ignored: arguments of the official constructors that
    do not change what the network computes; accepted and dropped. silent: arguments that do, that no shape shows, and
    that have an official default; where it is taken, this is said. inferred, asked: for people, what weights tell and
    what they do not. local: an answer depends on a neighbourhood alone; not where there are normalisations or attention
    over the whole image.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    ignored: ClassVar[frozenset[str]] = frozenset()
    silent: ClassVar[tuple[str, ...]] = ()
    inferred: ClassVar[str]
    asked: ClassVar[str]
    local: ClassVar[bool] = False

    @abstractmethod
    def claims(self, found: Checkpoint) -> bool:
        """Whether a file's names are this family's. Reads no tensor."""

    @abstractmethod
    def weights(self, found: Checkpoint, which: str) -> Weights:
        """The official state dict of the network, by its official names, wrappings and prefixes taken off.

        which: "ema", "raw", or "" for what the family's own sampling code uses. Raises InputError where the file has
        no such entry, ConfigError for another word.
        """

    @abstractmethod
    def guess(self, weights: Weights) -> dict[str, Any]:
        """The arguments that names and shapes determine; what stands in a configuration must agree with them."""

    @abstractmethod
    def config(self, record: Record) -> Any:
        """The settings from a record of constructor arguments. Raises ConfigError (see `arguments`)."""

    @abstractmethod
    def network(self, config: Any) -> nn.Module:
        """The network with exactly the official names. Called on the meta device."""

    def plain(self, record: Record) -> Record:
        """What people give as settings without sections, so that single ones can win over it. As it is by default."""
        return record

    def settings_of(self, document: Record, found: Checkpoint) -> Record:
        """The constructor's arguments for a file of weights from the whole configuration that its authors keep.

        The document itself by default. Raises ConfigError.
        """
        return document

    def settings_in(self, found: Checkpoint) -> Record:
        """The constructor's arguments that stand in the file itself. None by default."""
        return {}

    def stated(self, record: Record, found: Checkpoint) -> Meaning:
        """What the family's own settings, or files beside the weights, say of the meaning. Nothing by default."""
        return Meaning()

    @abstractmethod
    def kind(self, config: Any) -> str:
        """What it makes: "denoiser", "conditional", "latent"; "autoencoder" and "part" are no priors by themselves."""

    @abstractmethod
    def unstated(self, config: Any, meaning: Meaning) -> list[str]:
        """The fields of `Meaning` that a prior of this network needs and that are not said."""

    @abstractmethod
    def model(self, network: nn.Module, config: Any, meaning: Meaning, name: str) -> Any:
        """The `Denoiser`, `ConditionalModel` or `LatentModel`; the network itself for an autoencoder.

        Called with a complete meaning (`unstated` is empty). The network may be a stand-in that is never called, so
        only the settings are looked at.
        """

    @abstractmethod
    def replay(
        self, network: nn.Module, config: Any, arrays: Mapping[str, Tensor], source: str
    ) -> Iterator[Case]:
        """The stored outputs that belong to this network in this reading.

        arrays: inputs and outputs by name, in the precision of the network. source: name of the file that it was
        converted from, without suffix. Outputs are called NAME_f64 or NAME_f32.
        """


def needed(meaning: Meaning, *names: str) -> list[str]:
    """Those of these fields of a meaning about which nothing is said."""
    return [n for n in names if getattr(meaning, n) in (None, "", ())]


def check_label(label: int | None, classes: int | None) -> None:
    """Raise ConfigError for a class that a network with so many does not know; None knows any, or is none."""
    if label is not None and classes is not None and not 0 <= label < classes:
        raise ConfigError(f"label {label}: there are the classes 0 to {classes - 1}")


def beside(arrays: Mapping[str, Tensor], output: str, *names: str) -> Tensor | None:
    """The first input of these names that is stored for an output NAME_f64: NAME_x before x."""
    own = output.rpartition("_")[0]
    found = (arrays.get(k) for name in names for k in (f"{own}_{name}", name))
    return next((a for a in found if a is not None), None)


def outputs(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The stored outputs: what is called NAME_f64, NAME_f32 or out."""
    return {k: v for k, v in arrays.items() if k == "out" or k.endswith(("_f64", "_f32"))}


C = TypeVar("C")


def arguments(kind: type[C], record: Record, ignored: frozenset[str] = frozenset()) -> C:
    """A dataclass of settings from a record. Raises ConfigError: unknown, missing, or of another type.

    Lists become tuples, whole numbers pass for numbers. What is in `ignored` is dropped.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for key, value in record.items():
        if key in fields:
            values[key] = _typed(f"argument '{key}'", value, hints[key])
        elif key not in ignored:
            known = ", ".join(fields)
            raise ConfigError(
                f"argument '{key}' is unknown{did_you_mean(key, [*fields, *ignored])}; there are: {known}"
            )
    missing = [
        f.name
        for f in fields.values()
        if f.name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(
            f"the arguments {', '.join(missing)} are missing; give them by --config or --set"
        )
    return kind(**values)


def _typed(what: str, value: Any, hint: Any) -> Any:
    """A value as its type asks, or ConfigError."""
    if get_origin(hint) in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        for option in (h for h in get_args(hint) if h is not type(None)):
            try:
                return _typed(what, value, option)
            except ConfigError:
                continue
    elif get_origin(hint) is tuple:
        if isinstance(value, list | tuple):
            return tuple(_typed(what, v, get_args(hint)[0]) for v in value)
    elif get_origin(hint) in (dict, Mapping):
        if isinstance(value, Mapping):
            return dict(value)
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    name = getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
    raise ConfigError(f"{what} is {value!r}, expected {name}")
