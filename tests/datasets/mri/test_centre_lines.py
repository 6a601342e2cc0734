"""How many lines of the centre a mask holds, as a calibration of intervals asks."""

from __future__ import annotations

import numpy as np
import pytest

from restore.datasets.mri.calibration import centre_lines


@pytest.mark.parametrize(("missing", "lines"), [((), 9), ((0, 8), 7), ((1, 2), 6), ((4,), 0)])
def test_lines_around_the_zero_frequency(missing, lines):
    mask = np.ones(9, bool)
    mask[[*missing]] = False
    assert centre_lines(mask, (16, 9)) == lines
