"""What a caller has set in torch for his own code, kept out of a run: autocast, a default device, half precision.

Called by `restore.solve`. Everything is as it was afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from restore.errors import ConfigError

_DEVICES = ("cpu", "cuda")


@contextmanager
def plain_torch() -> Iterator[list[str]]:
    """Torch as it is after an import, but for a default of double precision; gives notes on what was put aside.

    Networks run under it too: one that wants autocast asks for it itself. Raises ConfigError for a default of half
    precision, which constants and grids would be rounded to.
    """
    if torch.get_default_dtype() not in (torch.float32, torch.float64):
        raise ConfigError(
            f"torch's default dtype is {torch.get_default_dtype()}, and solvers need single or double precision: "
            "torch.set_default_dtype(torch.float32)"
        )
    notes = []
    with ExitStack() as aside:
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                aside.enter_context(torch.autocast(device, enabled=False))
                notes.append(
                    f"autocast on {device} is put aside: solvers need the precision; a network that wants it asks for "
                    "it in its own forward"
                )
        if torch.get_default_device().type != "cpu":
            aside.enter_context(
                torch.device("cpu")
            )  # draws are made on the CPU; tensors follow the measurement
        yield notes
