"""Several processes that train one model, each on its share of every batch: what torchrun starts.

    torchrun --nproc-per-node 4 -m restore.cli train denoiser FOLDER -o prior.safetensors --batch 48

Used by the loop, the families' losses and the job. Every process draws the same batch and works on its part; gradients
are averaged by torch's DistributedDataParallel, so that the result is that of one process with the whole batch, up to
the order of sums. The first process alone writes, validates and speaks, and its clock is everybody's.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from restore.errors import ConfigError, LostWorkerError

TRANSPORT = ("gloo", "nccl", "connection", "timed out", "timeout", "socket", "broken pipe")
"""Words of the errors of torch's transports, which have no class of their own."""
PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: longer than a validation, which only the first one does."""

_LEFT: list[Any] = []
"""Groups of exchanges that were broken off, kept to the end of the process. Whoever lets go of one as the last waits
for its threads, and these may wait for the interpreter, to let go of the broken exchange: where the last one is a
network that Python collects, which holds the interpreter, both wait for ever."""


@dataclasses.dataclass(frozen=True)
class Workers:
    """The processes of a training. rank: of this one, from 0; count: of all; local: its number on its machine."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes, validates and speaks."""
        return self.rank == 0

    def check(self, batch: int) -> None:
        """Raise ConfigError for a batch that cannot be shared out evenly: averages of gradients would be off."""
        if batch % self.count:
            raise ConfigError(
                f"a batch of {batch} cannot be shared out among {self.count} processes; give --batch "
                f"{-(-batch // self.count) * self.count}"
            )

    def share(self, *whole: Tensor) -> tuple[Tensor, ...]:
        """This process's part of tensors (N, ...) whose first dimension is the batch."""
        if self.count == 1:
            return whole
        return tuple(t.chunk(self.count)[self.rank] for t in whole)

    def device(self, device: str) -> str:
        """The device of this process: with several GPUs on a machine each has its own."""
        alone = self.count == 1 or torch.device(device).type != "cuda"
        return device if alone else f"cuda:{self.local}"

    def together(self, network: nn.Module, loss: Callable[[int], Tensor]) -> nn.Module:
        """`loss` as a module called with a step's number, whose gradients at `network` are those of all processes.

        All begin with the first one's weights. Raises LostWorkerError.
        """
        whole = _Loss(network, loss)
        with self.kept():
            return whole if self.count == 1 else DistributedDataParallel(whole)

    def agreed(self, *values: float) -> list[float]:
        """The first process's numbers. Raises LostWorkerError."""
        if self.count == 1:
            return list(values)
        sent = torch.tensor(values, dtype=torch.float64, device=_meeting_place())
        with self.kept():
            distributed.broadcast(sent, 0)
        return [float(v) for v in sent.tolist()]

    def mean(self, value: float) -> float:
        """The mean of a number over all processes. Raises LostWorkerError."""
        if self.count == 1:
            return value
        sent = torch.tensor([value], dtype=torch.float64, device=_meeting_place())
        with self.kept():
            distributed.all_reduce(sent)
        return float(sent) / self.count

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Turns what the transport says of a process that has gone into a LostWorkerError."""
        try:
            yield
        except RuntimeError as error:
            told = str(error).splitlines()[0] if str(error) else ""
            if self.count == 1 or not any(word in str(error).lower() for word in TRANSPORT):
                raise
            raise LostWorkerError(
                f"process {self.rank} of {self.count}: another one has ended or does not answer ({told:.160}); look at "
                "what it said, and give the same command again to go on from the last state"
            ) from error


ALONE = Workers()


@contextmanager
def joined(device: str) -> Iterator[Workers]:
    """The processes that torchrun has started, joined for the block; one process where it has not. Raises
    LostWorkerError where the others do not come, ConfigError for an environment that names processes half.
    """
    if "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    try:
        rank, count = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
        workers = Workers(rank, count, int(os.environ.get("LOCAL_RANK", rank)))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"WORLD_SIZE is set, and the other variables of torchrun are not as they should be ({error}); start with "
            "torchrun, or unset WORLD_SIZE"
        ) from error
    if count == 1:
        yield workers
        return
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.set_device(workers.local)
    with workers.kept():
        distributed.init_process_group(
            "nccl" if cuda else "gloo", rank=rank, world_size=count, timeout=PATIENCE
        )
    try:
        yield workers
    except BaseException:
        _LEFT.append(distributed.group.WORLD)
        raise
    finally:
        distributed.destroy_process_group()


class _Loss(nn.Module):
    """A loss and the network that it trains, as one module."""

    def __init__(self, network: nn.Module, loss: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, step: int) -> Any:
        """The loss of a step."""
        return self.loss(step)


def _meeting_place() -> torch.device:
    """Where numbers lie that are exchanged."""
    backend = distributed.get_backend()
    return (
        torch.device("cuda", torch.cuda.current_device())
        if backend == "nccl"
        else torch.device("cpu")
    )
