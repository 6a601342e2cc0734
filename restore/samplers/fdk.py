"""FDK: filtered backprojection of a cone beam, by Feldkamp, Davis and Kress."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from restore.samplers.fbp import FBP


@dataclasses.dataclass(frozen=True)
class FDK(FBP):
    """`fbp` under the name that it has for cones: cosine and redundancy weights, ramp along the rows, backprojection.

    Feldkamp, Davis, Kress, "Practical cone-beam algorithm", JOSA A 1984.
    """

    reference: ClassVar[str] = "Feldkamp, Davis, Kress: practical cone-beam algorithm, JOSA A 1984"
