"""Jobs and outcomes as plain values that travel between processes and machines: texts, numbers, lists, dicts.

Used by the engines and their members. Nothing of ours is pickled: a process gets lines of JSON, Ray the same dicts, and
the work itself is a name that the other side imports.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from restore.errors import ConfigError
from restore.many.jobs import Job, Outcome

Plain = dict[str, Any]
PATH, MANY = "path:", "tuple:"
"""Keys of the dicts that stand for a path and for a tuple; no option has such a name."""


def plain_job(job: Job) -> Plain:
    """A job as plain values. Raises ConfigError for an option that is none."""
    return {
        "verb": job.verb,
        "name": job.name,
        "source": _plain(job.source),
        "out": _plain(job.out),
        "options": _plain(dict(job.options)),
    }


def job_of(plain: Plain) -> Job:
    """The job that `plain_job` told."""
    there = {name: _of(value) for name, value in plain.items()}
    return Job(there["verb"], there["name"], there["source"], there["out"], there["options"])


def plain_outcome(outcome: Outcome) -> Plain:
    """An outcome without its job, which the other side has. Raises ConfigError for a figure that is no plain value."""
    told = {f.name: getattr(outcome, f.name) for f in dataclasses.fields(outcome)}
    del told["job"]
    return {name: _plain(value) for name, value in told.items()}


def outcome_of(plain: Plain, job: Job) -> Outcome:
    """The outcome that `plain_outcome` told."""
    return Outcome(job, **_of(plain))


def name_of_work(work: Callable[..., Any]) -> str:
    """MODULE:FUNCTION by which another process finds a function. Raises ConfigError for one without such a name."""
    if work.__qualname__ != work.__name__:
        raise ConfigError(
            f"{work.__qualname__} is no function of a module, so that no other process can call it"
        )
    return f"{work.__module__}:{work.__name__}"


def work_named(name: str) -> Callable[[Job], Any]:
    """The function of that name."""
    module, _, function = name.partition(":")
    found: Callable[[Job], Any] = getattr(importlib.import_module(module), function)
    return found


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return {PATH: str(value)}
    if isinstance(value, tuple):
        return {MANY: [_plain(v) for v in value]}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    raise ConfigError(f"{value!r} is no plain value; it cannot be given to another process")


def _of(value: Any) -> Any:
    if isinstance(value, list):
        return [_of(v) for v in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {PATH}:
        return Path(value[PATH])
    if value.keys() == {MANY}:
        return tuple(_of(v) for v in value[MANY])
    return {k: _of(v) for k, v in value.items()}
