"""What a picture carries besides its pixels: orientation, ICC profile, EXIF, resolution.

Called by the decoders. The place where a photograph was taken never goes on, nor does the thumbnail, which would show
the picture as it was.
"""

from __future__ import annotations

import math

from PIL import Image

from restore.datasets.picture.raster import Tags

_ORIENTATION, _GPS, _EXIF_GROUP = 0x0112, 0x8825, 0x8769
_ABOUT_THE_PHOTOGRAPH = (
    *(0x010E, 0x010F, 0x0110),  # description, make, model
    *(0x0131, 0x0132, 0x013B, 0x8298),  # software, date, artist, copyright
)
_MAKER_NOTE, _INTEROPERABILITY = 0x927C, 0xA005  # hold offsets into the old file

PROFILE_KEPT = "the colour profile is carried over; the values are restored as they are stored"


def tags_of(picture: Image.Image) -> tuple[Tags, int, tuple[str, ...]]:
    """Tags, orientation (1 to 8) and notes on what was left out."""
    exif, notes = picture.getexif(), []
    orientation = exif.get(_ORIENTATION, 1)
    if _GPS in exif:
        notes.append("the place in the EXIF block (GPS) is not carried over")
    kept = _without_place(exif)
    profile = picture.info.get("icc_profile") or b""
    if profile:
        notes.append(PROFILE_KEPT)
    tags = Tags(profile, kept.tobytes() if len(kept) else b"", _resolution(picture))
    known = isinstance(orientation, int) and 1 <= orientation <= 8
    return tags, orientation if known else 1, tuple(notes)


def _without_place(exif: Image.Exif) -> Image.Exif:
    kept = Image.Exif()
    for tag in _ABOUT_THE_PHOTOGRAPH:
        if isinstance(exif.get(tag), str):
            kept[tag] = exif[tag]
    group = exif.get_ifd(_EXIF_GROUP)
    left_out = (_MAKER_NOTE, _INTEROPERABILITY)
    if group:
        kept[_EXIF_GROUP] = {k: v for k, v in group.items() if k not in left_out}
    return kept


def _resolution(picture: Image.Image) -> tuple[float, float] | None:
    found = picture.info.get("dpi")
    if not found:
        return None
    across, down = float(found[0]), float(found[1])
    sound = all(math.isfinite(v) and 1 <= v <= 1e5 for v in (across, down))
    return (across, down) if sound else None
