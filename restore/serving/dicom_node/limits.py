"""How much the node takes and how long it waits. Made by the command line, read by all parts of the node."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds.

    instance_bytes, study_bytes, study_images: the largest that are taken; studies: that may be coming in at a time;
    free_bytes: that stay free on the spool's disk; associations: open at a time; quiet_s: without a new image, after
    which a study is complete; patience_s: after which one that lacks images fails; silence_s: after which a peer that
    says nothing is hung up on; tries: of sending, and of working on a full disk; pause_s: before the second try, twice
    as long before each further one up to longest_pause_s.
    """

    instance_bytes: int = 512 << 20
    study_bytes: int = 8 << 30
    study_images: int = 20_000
    studies: int = 100
    free_bytes: int = 2 << 30
    associations: int = 10
    quiet_s: float = 60.0
    patience_s: float = 3600.0
    silence_s: float = 60.0
    tries: int = 8
    pause_s: float = 10.0
    longest_pause_s: float = 600.0

    def pause_after(self, tries: int) -> float:
        """Seconds to wait after the n-th failure, from 1."""
        return float(min(self.pause_s * 2 ** min(tries - 1, 32), self.longest_pause_s))
