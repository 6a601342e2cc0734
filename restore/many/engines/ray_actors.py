"""An engine of Ray's actors: one a GPU, or a CPU slot, of a cluster or of this machine.

Chosen by `--engine ray`. Actors get dicts, arrays and the name of the work; Ray carries them by means of its own. One
job alone is shared: its actor keeps the data steps, and the others have a part of the images that the prior sees.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from restore.errors import ConfigError
from restore.extras import load_extra
from restore.many.engines.crew import Lost, Show, spread
from restore.many.engines.member import Member
from restore.many.engines.plain import Plain, name_of_work
from restore.many.engines.share import Share, sharing
from restore.many.jobs import Job, Outcome
from restore.many.runner import Work
from restore.priors.split_rows import Borders

THREADS = 3
"""Of an actor: its job, a share of another's prior, and the word on how far it is."""

ASKING_S = 0.2
"""Patience for the words on how far members are."""


class Actor(Member):
    """A member in a process of Ray's. folder: the one that names of files are relative to."""

    def __init__(self, work: str, folder: str) -> None:
        os.chdir(folder)
        super().__init__(work)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._share = Share(device, self.weights)

    def run(self, job: Plain, helpers: list[Any], split: Borders | None) -> Plain:
        """`do`, the prior shared with other actors; split: see `sharing`."""
        if not helpers:
            return self.do(job)

        def helpers_of(name: str) -> list[ActorHelper]:
            return [ActorHelper(handle, name) for handle in helpers]

        return self.do(job, sharing(helpers_of, split))

    def denoise(
        self, name: str, planes: NDArray[Any], sigma: float, precision: str
    ) -> NDArray[Any]:
        """As of `Share`."""
        return self._share.denoise(name, planes, sigma, precision)


class ActorHelper:
    """Another actor as a helper of `SpreadDenoiser`."""

    def __init__(self, handle: Any, name: str) -> None:
        self.handle, self.name = handle, name

    def ask(
        self, planes: NDArray[Any], sigma: float, precision: str
    ) -> Callable[[], NDArray[Any] | None]:
        """Begin; the function waits, and gives None where the actor is lost."""
        ray = load_extra("ray", "ray", "--engine ray")
        reference = self.handle.denoise.remote(self.name, planes, sigma, precision)

        def wait() -> NDArray[Any] | None:
            try:
                found: NDArray[Any] = ray.get(reference)
            except ray.exceptions.RayActorError:
                return None
            return found

        return wait


class RayCrew:
    """A crew of actors. helpers: how many more share the prior of the one job that there is; split: see `sharing`."""

    def __init__(
        self, ray: Any, size: int, work: str, helpers: int = 0, split: Borders | None = None
    ) -> None:
        self.ray, self.size, self.split = ray, size, split
        gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0
        asked = {"num_cpus": 0 if gpus else 1, "num_gpus": gpus, "max_concurrency": THREADS}
        kind = ray.remote(Actor).options(**asked)
        self._made = lambda: kind.remote(work, str(Path.cwd()))
        self._members: dict[int, Any] = {}
        self._helpers = [self._made() for _ in range(helpers)]
        self._at: dict[Any, int] = {}
        self._far: dict[int, float] = {}

    def give(self, member: int, job: Plain) -> None:
        """Let the actor begin."""
        if member not in self._members:
            self._members[member] = self._made()
        # What is fitted to one scan is not in the weights that the others read.
        helpers = [] if job["options"].get("adapt") else self._helpers
        reference = self._members[member].run.remote(job, helpers, self.split)
        self._at[reference] = member

    def next(self, seconds: float) -> tuple[int, Plain | Lost] | None:
        """The first that is done or lost."""
        ready, _ = self.ray.wait(list(self._at), num_returns=1, timeout=seconds)
        if not ready:
            return None
        member = self._at.pop(ready[0])
        self._far.pop(member, None)
        try:
            found: Plain = self.ray.get(ready[0])
        except self.ray.exceptions.RayError as error:
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.kill(self._members.pop(member))
            return member, Lost(_first_line(error))
        return member, found

    def far(self) -> float:
        """What the actors at work say; of one that is silent what it said last."""
        asked = {self._members[m].far.remote(): m for m in self._at.values()}
        if asked:
            ready, _ = self.ray.wait(list(asked), num_returns=len(asked), timeout=ASKING_S)
            for reference in ready:
                with contextlib.suppress(self.ray.exceptions.RayError):
                    self._far[asked[reference]] = float(self.ray.get(reference))
        return sum(self._far.values())

    def close(self) -> None:
        """End all actors and leave the cluster."""
        for handle in (*self._members.values(), *self._helpers):
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.kill(handle)
        self.ray.shutdown()


class RayEngine:
    """The engine. size: members at most, 0 for one a GPU or CPU slot. address: of a cluster, "" for this machine.

    split: how the image of a single job is split (`sharing`), None where it is not.
    """

    def __init__(self, size: int, address: str, show: Show, split: Borders | None = None) -> None:
        self.size, self.address, self.show, self.split = size, address, show, split

    def __call__(self, jobs: Sequence[Job], work: Work) -> Iterator[Outcome]:
        """Outcomes as they come. Raises ConfigError without Ray, or without its cluster."""
        name = name_of_work(work)
        ray = connected(self.address)
        there = ray.cluster_resources()
        slots = int(there.get("GPU", 0) or there.get("CPU", 1))
        size = max(1, min(self.size or slots, slots))
        alone = len(jobs) == 1
        members, helpers = (1, size - 1) if alone else (min(size, len(jobs)), 0)
        crew = RayCrew(ray, members, name, helpers, self.split)
        return spread(jobs, crew, self.show)


def connected(address: str) -> Any:
    """Ray, connected to a cluster, or to one started on this machine; it sends no statistics of use.

    Raises ConfigError.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = load_extra("ray", "ray", "--engine ray")
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", include_dashboard=None if address else False,
                 log_to_driver=False, configure_logging=False)  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"the cluster at {address}" if address else "a cluster on this machine"
        raise ConfigError(
            f"--engine ray cannot reach {where} ({_first_line(error)}); `ray status` says whether it runs"
        ) from error
    signal.signal(signal.SIGTERM, before)  # Ray's own would end the process without tidying up
    return ray


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
