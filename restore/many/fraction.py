"""How far the job at work in this process is, for whoever draws one bar of many.

Told by the verbs' progress (`cli/console`), read by the members of engines; one number of this process.
"""

from __future__ import annotations

_far = 0.0


def tell(fraction: float) -> None:
    """Say how far the job is, 0 to 1."""
    global _far
    _far = min(max(fraction, 0.0), 1.0)


def heard() -> float:
    """What was said last."""
    return _far
