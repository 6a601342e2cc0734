"""Models named by bundled names and files, read once for a row of runs, or spread over several places.

Called by `restore.priors.choosing`, and by whatever runs row after row: benchmarks, engines, many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from restore.priors.traits import Model

Spread = Callable[[str, Model], Model]
"""Of a name and its model: the model that is asked in its place."""

_kept: ContextVar[dict[str, Model] | None] = ContextVar("_kept", default=None)
_spread: ContextVar[Spread | None] = ContextVar("_spread", default=None)


@contextmanager
def weights_kept(kept: dict[str, Model] | None = None) -> Iterator[None]:
    """Models named inside are read once and stay in memory to the end, for a row of runs.

    kept: where they stay by name, for rows that go on elsewhere.
    """
    token = _kept.set({} if kept is None else kept)
    try:
        yield
    finally:
        _kept.reset(token)


@contextmanager
def models_spread(spread: Spread) -> Iterator[None]:
    """Models named inside pass through a function of their name and themselves: to be asked in several places."""
    token = _spread.set(spread)
    try:
        yield
    finally:
        _spread.reset(token)


def loaded(name: str) -> Model:
    """A bundled model or one of a weight file, inside `weights_kept` read once. Raises WeightsError."""
    from restore.priors.store import load_prior

    kept, spread = _kept.get(), _spread.get()
    model: Model | None = None if kept is None else kept.get(name)
    if model is None:
        model = load_prior(name)
        if kept is not None:
            kept[name] = model
    return model if spread is None else spread(name, model)
