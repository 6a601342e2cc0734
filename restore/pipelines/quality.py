"""What `--quality best` means: the mean of several samples of the tuned sampler, in place of one.

Used by the jobs of `restore recon` and `restore image`, before any work.
"""

from __future__ import annotations

from typing import Literal

from restore.errors import ConfigError

Quality = Literal["standard", "best"]
BEST_SAMPLES, BEST_SAMPLER = 4, "dds"
"""The mean of 4 samples of dds lies 0.4 dB (CT, 30 views) and 0.7 dB (MRI, 4x) above one, for 4 times the calls."""


def sampler_of_quality(
    quality: str, sampler: str, preset: str, samples: int, words: str = "--samples"
) -> tuple[str, int]:
    """Sampler and number of samples of a run; the deviation of those of "best" is not right and not written.

    sampler, preset, samples: as asked for. words: what samples are called. Raises ConfigError.
    """
    if quality == "standard":
        return sampler, samples
    if quality != "best":
        raise ConfigError(f"--quality is '{quality}'; it is standard or best")
    if samples > 1:
        raise ConfigError(
            f"--quality best is the mean of {BEST_SAMPLES} samples of {BEST_SAMPLER} and tells no deviation; "
            f"{words} {samples} asks for one: give one of the two"
        )
    if sampler not in ("auto", BEST_SAMPLER) or preset != "tuned":
        raise ConfigError(
            f"--quality best takes {BEST_SAMPLER} with its tuned settings, not {sampler} with '{preset}': leave "
            f"--sampler and --preset out, or ask for the mean of your own: {words} {BEST_SAMPLES}"
        )
    return BEST_SAMPLER, BEST_SAMPLES


def quality_record(quality: str) -> dict[str, str]:
    """What a record says of it; nothing of the standard."""
    said = f"best: the mean of {BEST_SAMPLES} samples of {BEST_SAMPLER}"
    return {"quality": said} if quality == "best" else {}
