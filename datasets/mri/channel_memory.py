"""What the channels of k-space hold in memory while images are made of them, for plans before the work.

Called by the kinds of scan; numbers alone, nothing is read.
"""

from __future__ import annotations

from restore.datasets.mri.receivers.virtual_coils import VirtualCoils
from restore.datasets.scan import SetupOptions

NUMBER = 8
"""Bytes of a sample, single precision."""

CHANNELS = 3
"""Arrays of all channels that a forward projection and its residual hold, and readers before them."""

ESPIRIT_BYTES = 200 * 10**6
"""What ESPIRiT of one slice takes at most beside its maps: blocks of a fixed size."""


def held_channels(
    coils: int, samples: int, pixels: int, options: SetupOptions, estimated: bool
) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes all the time and for a while, by what they hold.

    coils: channels as measured; virtual ones stand in their place. samples, pixels: of one channel, and of the images
    made of it. estimated: whether maps are made by ESPIRiT.
    """
    virtual = VirtualCoils.parse(options.coils_virtual)
    coils = coils if virtual is None else virtual.number
    measured, maps = NUMBER * coils * samples, NUMBER * coils * pixels * max(1, options.maps_sets)
    kept = {
        f"samples of {coils} coils, as measured and as the prior's": 2 * measured,
        "coil maps": maps,
    }
    passing = {"transforms of the coils, and what they leave": CHANNELS * max(measured, maps)}
    return kept, passing | ({"ESPIRiT of a slice": ESPIRIT_BYTES} if estimated else {})
