"""Processes that have a share of one job's prior: `--engine processes:N --split-image`.

The job runs in the process that calls this; helpers answer for strips of its image. A question and its answer are a
line of JSON and the bytes of an array each, through the pipes of the process; nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.many.engines.processes import PATIENCE_S, THREADS
from restore.many.engines.share import Share, sharing
from restore.priors.kept import models_spread
from restore.priors.split_rows import Borders

Planes = NDArray[Any]


@contextmanager
def split_among(count: int, split: Borders, device: str) -> Iterator[None]:
    """Inside, priors that are loaded by name are shared with `count` - 1 processes.

    split: which borders strips are shown (`SplitDenoiser`). device: "auto", "cpu", "cuda", ... as of the job; helpers
    take the next CUDA devices by turns where it is not the CPU. Each has its share of the threads, unless the
    environment says how many.
    """
    with contextlib.ExitStack() as ends:
        processes = [ends.enter_context(_started(k, count, device)) for k in range(1, count)]
        ends.enter_context(
            models_spread(sharing(lambda name: [_Asked(p, name) for p in processes], split))
        )
        yield


class _Asked:
    """A process as a helper of `SpreadDenoiser`; one that is gone, or answers with an error, is lost."""

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        self.process, self.name = process, name

    def ask(self, planes: Planes, sigma: float, precision: str) -> Callable[[], Planes | None]:
        """Begin; the function waits."""
        asked = {"name": self.name, "sigma": sigma, "precision": precision}
        with contextlib.suppress(OSError):  # it is gone: no answer comes
            _send(_pipe(self.process.stdin), asked, planes)

        def wait() -> Planes | None:
            found = _receive(_pipe(self.process.stdout))
            return None if found is None else found[1]

        return wait


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101  (for the type checker: it was asked for)
    return pipe


@contextmanager
def _started(number: int, count: int, device: str) -> Iterator[subprocess.Popen[bytes]]:
    share = str(max(1, (os.cpu_count() or 1) // count))
    words = [sys.executable, "-m", "restore.many.engines.split_processes", _device(number, device)]
    process = subprocess.Popen(  # noqa: S603  (our own module)
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=dict.fromkeys(THREADS, share) | os.environ,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                _pipe(pipe).close()


def _device(number: int, device: str) -> str:
    """Of helper `number`, the job itself having the first."""
    there = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    return f"cuda:{number % there}" if there else "cpu"


def _send(pipe: IO[bytes], told: dict[str, Any], planes: Planes) -> None:
    """A line on what follows, and its bytes."""
    told |= {"shape": planes.shape, "dtype": planes.dtype.str}
    pipe.write(f"{json.dumps(told)}\n".encode())
    pipe.write(np.ascontiguousarray(planes).tobytes())
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[dict[str, Any], Planes] | None:
    """What `_send` sent; None where the other side ended, also in the middle."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return None
    told = json.loads(line)
    dtype = np.dtype(told["dtype"])
    size = int(np.prod(told["shape"])) * dtype.itemsize
    content = pipe.read(size)
    if len(content) < size:
        return None
    return told, np.frombuffer(content, dtype).reshape(told["shape"])


def main(device: str, questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until there are no more questions."""
    share = Share(torch.device(device), {})
    while (found := _receive(questions)) is not None:
        told, planes = found
        answer = share.denoise(told["name"], planes, told["sigma"], told["precision"])
        _send(answers, {}, answer)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the job, which ends its helpers
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    with contextlib.suppress(BrokenPipeError):
        main(sys.argv[1], sys.stdin.buffer, own)
