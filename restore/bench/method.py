"""What is compared: a sampler with its settings and prior, under the name that it has in the table.

`parse_methods` reads what people write, `dds,tv,fast=dds:n_steps=8`. Used by the runner and the tuning.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from restore.config import did_you_mean
from restore.errors import ConfigError
from restore.priors.demand import Demand
from restore.priors.matching import check
from restore.priors.store import read_card
from restore.priors.traits import card_traits
from restore.registry import check_operator, load_sampler, sampler_names
from restore.samplers.base import OperatorTraits, Sampler

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
_RESERVED = ("input", "reference")


@dataclasses.dataclass(frozen=True)
class Method:
    """name: in the table. preset, settings: as `--preset` and `--set`. prior: "auto", a bundled name or a file.
    per_setting: settings that hold under one setting of the benchmark only (a tuned weight at 4x)."""

    name: str
    sampler: str
    preset: str = "tuned"
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    prior: str = "auto"
    per_setting: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in _RESERVED:
            raise ConfigError(
                f"'{self.name}' cannot name a method: letters, digits, dot, dash and underscore, not "
                f"{' or '.join(_RESERVED)}"
            )

    def sampler_for(
        self, setting: str, operator: OperatorTraits | type, check: bool = True
    ) -> Sampler:
        """The configured sampler under one setting for one kind of operator; check: that it serves it.

        Raises ConfigError.
        """
        values = {**self.per_setting.get(setting, {}), **self.settings}
        chosen = load_sampler(self.sampler).configured(self.preset, operator, values)
        if check:
            check_operator(type(chosen), operator)
        return chosen

    def identity(self, setting: str) -> dict[str, Any]:
        """Everything of the method that shapes a result under a setting, defaults and presets of the sampler too."""
        kind = load_sampler(self.sampler)
        defaults = {f.name: repr(f.default) for f in dataclasses.fields(kind)}
        return {
            "name": self.name, "sampler": self.sampler, "preset": self.preset, "presets": kind.presets,
            "defaults": defaults, "settings": {**self.per_setting.get(setting, {}), **self.settings},
            "prior": self.prior if self.prior == "auto" else prior_mark(self.prior),
        }  # fmt: skip

    def prior_for(self, demand: Demand, default: str) -> str:
        """The name of the prior, "" for classical samplers. Raises ConfigError for one that cannot serve."""
        if not demand.kinds:
            return ""
        name = default if self.prior == "auto" else self.prior
        check(card_traits(name), demand)
        return name


def prior_mark(name: str) -> str:
    """Name and hash of a prior's weights, "" for none."""
    return f"{read_card(name)['name']} {read_card(name)['sha256'][:12]}" if name else ""


def parse_methods(
    text: str,
    *,
    preset: str = "tuned",
    prior: str = "auto",
    assignments: Sequence[str] = (),
    tuned: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
) -> tuple[Method, ...]:
    """Methods as people write them, separated by commas: `dds`, `tv:weight=1e-3`, `fast=dds:preset=published:eta=0`,
    `varnet:prior=mine.safetensors`.

    assignments: `METHOD.SETTING=VALUE`, for one method each. tuned: method or sampler -> setting of the benchmark
    -> values, as `restore bench tune` stores them. Raises ConfigError for unknown samplers and names given twice.
    """
    known = sampler_names()
    methods: dict[str, Method] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        head, *values = item.split(":")
        label, equals, sampler = head.partition("=")
        sampler = sampler if equals else label
        if sampler not in known:
            raise ConfigError(
                f"no sampler '{sampler}'{did_you_mean(sampler, known)}; `restore list samplers` shows all"
            )
        if label in methods:
            raise ConfigError(f"two methods are called {label}; write name={sampler}:setting=value")
        stored = (tuned or {}).get(label) or (tuned or {}).get(sampler) or {}
        settings = _pairs(values)
        named, own = settings.pop("preset", preset), settings.pop("prior", prior)
        methods[label] = Method(label, sampler, named, settings, own, stored)
    if not methods:
        raise ConfigError("no method is named; write --samplers dds,tv")
    for item in assignments:
        name, dot, rest = item.partition(".")
        if not dot or name not in methods:
            raise ConfigError(
                f"--set takes METHOD.SETTING=VALUE with a method of this run ({', '.join(methods)}), got '{item}'"
            )
        old = methods[name]
        methods[name] = dataclasses.replace(old, settings={**old.settings, **_pairs([rest])})
    return tuple(methods.values())


def _pairs(items: Sequence[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in items]
    for name, equals, _ in pairs:
        if not equals or not name.strip():
            raise ConfigError(f"a setting is written NAME=VALUE, got '{name}'")
    return {name.strip(): value.strip() for name, _, value in pairs}
