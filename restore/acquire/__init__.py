"""Active sampling: which line of a measurement to take next, and a known volume measured so.

    lines = restore.acquire.next_measurements(problem, prior, 4)

Used by scripts and by `restore simulate --policy`. Above the front door, whose posterior draws it compares; below the
pipelines. It writes one picture (`order_picture`) and nothing else.
"""

from restore.acquire.candidates import Candidates
from restore.acquire.choosing import Particles, next_measurements
from restore.acquire.measuring import Plan, measured_lines, order_of_lines

__all__ = [
    "Candidates",
    "Particles",
    "Plan",
    "measured_lines",
    "next_measurements",
    "order_of_lines",
]
