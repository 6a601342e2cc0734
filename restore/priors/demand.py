"""What a run asks of its prior, before there is one.

Made by `restore.solve` and the pipelines from sampler and measurement; read by `restore.priors.choosing`, which finds a
model, and `restore.priors.matching`, which says whether it serves.
"""

from __future__ import annotations

import dataclasses

from restore.priors.acquisition import Seen
from restore.priors.auto import automatic
from restore.priors.operator_family import Strength


@dataclasses.dataclass(frozen=True)
class Demand:
    """What a run asks of its prior.

    sampler: its name. kinds: the kinds of prior that it can use, the usual one first; none for classical ones. kind,
    task, operator: what the measurement is of, as `Operator` has them, and its operator in words. item_shape: of one
    image, (H, W) or (C, H, W), or (D, H, W) where `volume`; empty where it is not known yet. planes: of a volume, as
    `Problem` has them. is_complex: of the images.
    levels: the lowest and the highest noise at which a denoiser will be asked, None where that is not known before.
    gradients: it is differentiated. error, images: it uses what the denoiser knows of its own error, of its images.
    bridge, heads, intensity: of conditional samplers: the chain, what the model may predict (any where empty), and the
    range in which it runs. strength, noise: of the measurement, as `Operator.strength` has it and in unit intensities
    (None: unknown), and evaluations: of the sampler; for distilled models, which know one of each.
    wrap: of conditional samplers: pixels that the network is shown beyond each border, from the opposite one.
    measured: of samplers of cascades: how the data were, None where that is not known yet.
    """

    sampler: str
    kinds: tuple[str, ...]
    kind: str = "image"
    task: str = ""
    operator: str = "this measurement"
    item_shape: tuple[int, ...] = ()
    volume: bool = False
    planes: tuple[int, ...] = ()
    is_complex: bool = False
    levels: tuple[float, float] | None = None
    gradients: bool = False
    error: bool = False
    images: bool = False
    bridge: str = ""
    heads: tuple[str, ...] = ()
    intensity: tuple[float, float] = (0.0, 1.0)
    strength: Strength = dataclasses.field(default_factory=dict)
    noise: float | None = None
    evaluations: int = 0
    wrap: int = 0
    measured: Seen | None = None

    @property
    def picture_shape(self) -> tuple[int, ...]:
        """Of what a prior sees: an item, or the slices of a volume."""
        return self.item_shape[-2:] if self.volume else self.item_shape


def bundled_for(demand: Demand) -> str:
    """The bundled prior of the first kind that there is one of (`restore.priors.auto`), or ""."""
    subject = demand.kind
    if demand.kind == "image" and not demand.is_complex:
        colour = len(demand.item_shape) == 3 and demand.item_shape[0] == 3
        subject = "colour" if colour else "grey"
    return automatic(demand.kinds, subject, demand.task)
