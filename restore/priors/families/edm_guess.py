"""The settings of an EDM network from the names and shapes of its state dict. Used by `edm.py`."""

from __future__ import annotations

import re
from typing import Any

from restore.priors.families.base import Weights
from restore.priors.nets.edm_precond import IDDPM

_USUAL_TAPS = {2: [1, 1], 4: [1, 3, 3, 1]}
"""By their number; the values themselves are a buffer of the file."""


def guessed(weights: Weights) -> dict[str, Any]:
    """All arguments of the network, and the preconditioning where a table of levels tells it; nothing for a block."""
    names = {n.removeprefix("model."): t.shape for n, t in weights.items()}
    if "map_layer0.weight" not in names:
        return _of_block(names) if "affine.weight" in names else {}
    song = "out_conv.weight" not in names
    sides = sorted({int(m[1]) for n in names if (m := re.match(r"enc\.(\d+)x", n))}, reverse=True)
    first = next(s for n, s in names.items() if re.fullmatch(r"enc\.\d+x\d+_conv\.weight", n))
    emb, noise = names["map_layer0.weight"]
    width = first[0] if song else noise
    blocks = [
        n for n in names if re.match(rf"dec\.{sides[0]}x{sides[0]}_block\d+\.conv0\.weight", n)
    ]
    found: dict[str, Any] = {
        "model_type": "SongUNet" if song else "DhariwalUNet", "img_resolution": sides[0], "img_channels": first[1],
        "model_channels": width, "channel_mult_emb": emb // width, "num_blocks": len(blocks) - 1,
        "channel_mult": [names[f"dec.{s}x{s}_block0.conv0.weight"][0] // width for s in sides],
        "attn_resolutions": [
            s for s in sides
            if any(n.startswith((f"enc.{s}x{s}_block", f"dec.{s}x{s}_block")) and ".qkv." in n for n in names)
        ],
        "label_dim": names["map_label.weight"][1] if "map_label.weight" in names else 0,
        "augment_dim": names["map_augment.weight"][1] if "map_augment.weight" in names else 0,
    }  # fmt: skip
    if "u" in names:
        found |= {"precond": IDDPM, "M": names["u"][0] - 1}
    return found | (_of_song(names, noise // width) if song else {})


def _of_block(names: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    out, channels = names["conv0.weight"][:2]
    rows, emb = names["affine.weight"]
    return {
        "cls": "UNetBlock", "in_channels": channels, "out_channels": out, "emb_channels": emb,
        "attention": "qkv.weight" in names, "adaptive_scale": rows == 2 * out,
    }  # fmt: skip


def _of_song(names: dict[str, tuple[int, ...]], noise: int) -> dict[str, Any]:
    encoder = "residual" if any("aux_residual" in n for n in names) else "standard"
    encoder = "skip" if any("aux_skip" in n for n in names) else encoder
    taps = next((s[-1] for n, s in names.items() if n.endswith("resample_filter")), 2)
    return {
        "embedding_type": "fourier" if "map_noise.freqs" in names else "positional",
        "channel_mult_noise": noise, "encoder_type": encoder,
        "decoder_type": "skip" if sum("aux_conv.weight" in n for n in names) > 1 else "standard",
        "resample_filter": _USUAL_TAPS.get(taps, [1] * taps),
    }  # fmt: skip
