"""A standard deviation that a few outliers do not move.

May be called by the noise estimates; touches nothing but its arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.gaussian import MAD_TO_STD


def std_by_median(deviations: NDArray[Any], axis: int | None = None) -> Any:
    """The standard deviation of Gaussian `deviations` from their centre, from their median size along an axis."""
    return MAD_TO_STD * np.median(np.abs(deviations), axis=axis)
