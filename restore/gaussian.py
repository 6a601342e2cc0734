"""Numbers of the Gaussian distribution. May be imported by every layer; imports nothing."""

from __future__ import annotations

MAD_TO_STD = 1.4826
"""Standard deviation over median absolute deviation, 1 / (the 3/4 quantile)."""
