"""What a task of `restore volume` is: its options, and how a volume becomes problems for `restore.solve` and back.

One file a task stands beside this one (`known.py` finds them). A task is a frozen dataclass of options declared by
`restore.config.setting`; `prepare` looks at the whole volume once and gives a `Prepared`, which makes the problem of
each block. The job knows neither operators nor noise.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.config import check_settings
from restore.datasets.volume.volume import Volume
from restore.pipelines.volume.blocks import Block, blocks_of
from restore.problem import Problem
from restore.registry import usual_sampler
from restore.samplers.base import OperatorTraits


@dataclasses.dataclass(frozen=True)
class VolumeTask(ABC):
    """Abstract task. A field that holds a `Path` names a file that is read besides; None: none.

    name: the word of `--task`. inputs: how many volumes it takes, at least and at most. Raises ConfigError for options
    out of range.
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[int, int]] = (1, 1)

    def __post_init__(self) -> None:
        check_settings(self)
        self._check_together()

    def _check_together(self) -> None:  # noqa: B027  (most have none)
        """Refuse options that contradict each other. Raises ConfigError."""

    @property
    def files(self) -> dict[str, Path]:
        """What is read besides the volumes, by option."""
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: path for name, path in named.items() if isinstance(path, Path)}

    @property
    def told(self) -> dict[str, Any]:
        """The options that are no files, by name."""
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in named.items() if not isinstance(value, Path)}

    @property
    @abstractmethod
    def traits(self) -> OperatorTraits:
        """Of its operators: for checks and presets before the volumes are read."""

    def usual(self, samples: int) -> tuple[str, str]:
        """Sampler and preset of whoever names neither."""
        return usual_sampler(samples), "tuned"

    @abstractmethod
    def prepare(self, volumes: tuple[Volume, ...]) -> Prepared:
        """Look at the volumes once: other files, noise, units, what has to be refused. Raises InputError, ConfigError.

        volumes: real, finite, not constant, as many as `inputs` says.
        """


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Prepared(ABC):
    """A task made ready for its volumes.

    result: an empty result: grid, place, units, header; its data are not to be looked at (`empty_like`). level: of the
    noise, in unit intensities, 0 where there is none. record: what was chosen and estimated, in plain values for the
    sidecar. notes: what a user must know. preset: of the task's usual sampler, where what was found asks for another
    than `VolumeTask.usual` says. unchanged: the result (D, H, W), where there is nothing to do.
    """

    first_look: ClassVar[str] = ""
    direct_explains: ClassVar[bool] = True
    suspects: ClassVar[str] = (
        "a noise level that is too small, or a blur, a mask or a slice profile that is another one"
    )

    result: Volume
    level: float
    record: dict[str, Any]
    notes: tuple[str, ...] = ()
    preset: str = ""
    unchanged: NDArray[np.floating] | None = None

    @property
    def made_anew(self) -> NDArray[np.bool_] | None:
        """Voxels (D, H, W) of which the source's values count for nothing; None where all count."""
        return None

    def blocks(self) -> list[Block]:
        """The parts of the result that are restored one by one: slabs of slices that overlap."""
        return blocks_of(self.result.data.shape)

    @abstractmethod
    def problem(self, block: Block, device: torch.device) -> Problem:
        """The problem of one block, an item (D, H, W) with its `planes`, named by `block.name`."""

    @abstractmethod
    def in_source_units(self, samples: Tensor, block: Block) -> NDArray[np.float32]:
        """Images (K, D, H, W) in the units of the measurement as intensities of the result."""

    @property
    def difficulty(self) -> dict[str, float | str]:
        """What decides how hard it is: volumes that agree in it are alike but for noise."""
        return {}


def empty_like(volume: Volume, shape: tuple[int, int, int] | None = None) -> Volume:
    """The volume without its intensities, which take no memory: all zero and not to be written to."""
    zeros = np.broadcast_to(np.float32(0), volume.data.shape if shape is None else shape)
    return dataclasses.replace(volume, data=zeros)
